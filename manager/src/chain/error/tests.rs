use super::*;

fn refused(code: i64, message: &str) -> Error {
    Error::refused("MpoolPush", code, message)
}

#[test]
fn exit_codes_are_found_in_the_words_of_all_nodes() {
    for (message, code) in [
        ("message execution failed: exit ErrIllegalArgument(16), reason: no (RetCode=16)", 16),
        ("message execution failed (exit=[USR_NOT_FOUND(17)], revert reason=[], vm error=[x 99])", 17),
        ("message execution failed: exit 18, reason: too early 150", 18),
        ("execution reverted: exit code 19", 19),
    ] {
        assert_eq!(refused(3, message).exit_code(), Some(ExitCode::from(code)), "{message}");
    }
    assert_eq!(refused(3, "no number here").exit_code(), None);
    assert_eq!(refused(3, "exit NoNumber, 16").exit_code(), None);
    assert_eq!(refused(2, "gas").exit_code(), Some(ExitCode::OutOfGas));
    assert_eq!(refused(1, "actor not found").exit_code(), None);
    // The code of an abort in those releases of Lotus in which 3 means a missing actor.
    assert_eq!(refused(11, "exit 16").exit_code(), Some(ExitCode::IllegalArgument));
}

#[test]
fn refusals_are_told_apart() {
    let same = refused(1, "message from f01 with nonce 3 already in mpool: message with nonce already exists");
    assert!(same.is_already_in_mpool() && !same.is_nonce_taken_by_another());
    let other = refused(
        1,
        "message from f01 with nonce 3 already in mpool, increase GasPremium to 9 from 5 to trigger replace by fee: \
         replace by fee has too low GasPremium",
    );
    assert!(!other.is_already_in_mpool() && other.is_nonce_taken_by_another());
    let either = refused(-32603, "Message with sequence already in mempool");
    assert!(either.is_nonce_in_mempool() && !either.is_already_in_mpool() && either.outcome_unknown());
    assert!(refused(1, "error publishing message: no peers").outcome_unknown());
    assert!(refused(-32603, "Message sequence too low").is_nonce_too_low());
    assert!(refused(1, "minimum expected nonce is 4: message nonce too low").is_nonce_too_low());
    assert!(refused(3, "actor not found").is_actor_not_found());
    assert!(!refused(3, "exit ErrNotFound(17), reason: actor not found").is_actor_not_found());
    assert!(refused(1, "resolve: actor not found").is_actor_not_found());
    assert!(!refused(1, "actor nonce not high").is_actor_not_found());
    assert!(!Error::TimedOut { url: String::new(), method: "X", limit: Duration::ZERO }.is_already_in_mpool());
}

#[test]
fn a_refused_push_is_known_and_a_lost_one_is_not() {
    let lost = Error::ConnectionLost { url: String::new(), method: "MpoolPush", source: "reset".into() };
    let unreachable = Error::Unreachable { url: String::new(), source: "refused".into() };
    assert!(lost.outcome_unknown() && lost.is_transient());
    assert!(!unreachable.outcome_unknown() && unreachable.is_transient());
    assert!(!refused(1, "not enough funds").outcome_unknown());
    assert!(Error::bad_answer("MpoolPush", "not a cid").outcome_unknown());
}

#[test]
fn long_messages_are_cut_at_a_character_and_keep_their_end() {
    let text = format!("{} (RetCode=18)", "é".repeat(MESSAGE_BYTES_MAX));
    let error = refused(3, &text);
    let Error::Refused { message, .. } = &error else { panic!() };
    assert!(message.len() < MESSAGE_BYTES_MAX + 64);
    assert_eq!(error.exit_code(), Some(ExitCode::Forbidden));
}

#[test]
fn a_text_of_several_lines_is_kept_and_shown_in_one() {
    let error = refused(3, "message execution failed\n--> caused by: x\n (RetCode=6)");
    assert!(error.to_string().contains("failed --> caused by: x (RetCode=6)"), "{error}");
    let Error::Refused { message, .. } = &error else { panic!() };
    assert_eq!(message.lines().count(), 3);
    assert!(error.is_not_enough_funds());
}

#[test]
fn why_a_pool_does_not_take_a_message_is_typed() {
    for (message, refusal) in [
        ("gas fee cap too low", PushRefusal::FeeCapTooLow),
        (
            "message nonce has too big a gap from expected nonce (Nonce: 9, nextNonce: 1): unfulfilled nonce gap",
            PushRefusal::NonceGap,
        ),
        ("mpool push: not enough funds: 1 < 2", PushRefusal::NotEnoughFunds),
        ("too many pending messages for actor", PushRefusal::PoolFull),
        ("Message with sequence already in mempool", PushRefusal::NonceTaken { premium_min_atto: None }),
        ("injected fault", PushRefusal::Other),
    ] {
        assert_eq!(refused(1, message).push_refusal(), Some(refusal), "{message}");
    }
    let lost = Error::ConnectionLost { url: String::new(), method: "MpoolPush", source: "reset".into() };
    assert_eq!(lost.push_refusal(), None);
}
