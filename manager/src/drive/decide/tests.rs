use sealbus_schema::workflows::seal::manager::{Rebuild, State};

use super::*;
use crate::{
    store::{MessageState, Place, Ready, WantId},
    workflows::seal::tests::{cause, now, proven, sealed, sector},
};

fn message(kind: MessageKind, tries: Tries) -> Message {
    let sector: sealbus_schema::SectorId = "f01000/1".parse().expect("a sector");
    Message {
        key: kind.key(sector, 1, 1),
        want: Some(WantId(1)),
        errand: None,
        is_of_last_job: true,
        attempt: 1,
        kind,
        miner: sector.miner,
        sector: Some(sector),
        state: MessageState::Wanted,
        place: Place::default(),
        ready: Ready::default(),
        tries,
    }
}

fn failed_with(exit: u32, failures: u32) -> Followed {
    let precommit = message(MessageKind::PreCommit, Tries { failures, ..Tries::default() });
    let seen = Seen::Executed { height: 2100, exit: ExitCode::from(exit), gas_limit: 100, shared_by: 1 };
    now(2200).followed(&precommit, Some(&sector(State::PreCommitting(sealed()))), 2090, 10, seen, "it")
}

#[test]
fn out_of_gas_is_signed_again_with_more_and_blocks_after_some_tries() {
    let Followed::Again { exit: Some(7), tries, .. } = failed_with(7, 0) else { panic!("again") };
    assert_eq!(tries, Tries { failures: 1, gas_limit_min: Some(150), batch_max: Some(1), ..Tries::default() });
    let Followed::GiveUp { exit: Some(7), error } = failed_with(7, FAILURES_MAX - 1) else { panic!("gives up") };
    assert_eq!((error.class, error.code), (ErrorClass::Perm, ErrorCode::MESSAGE_OUT_OF_GAS));
}

#[test]
fn the_exit_class_decides_what_follows_and_which_code() {
    for exit in [6, 16, 17, 18, 19] {
        assert!(matches!(failed_with(exit, 0), Followed::Again { tries: Tries { failures: 1, .. }, .. }), "{exit}");
    }
    for (exit, code) in [
        (6, ErrorCode::FUNDS_MISSING),
        (19, ErrorCode::FUNDS_MISSING),
        (16, ErrorCode::PRECOMMIT_REFUSED),
        (18, ErrorCode::PRECOMMIT_REFUSED),
    ] {
        let Followed::GiveUp { error, .. } = failed_with(exit, FAILURES_MAX - 1) else { panic!("{exit} gives up") };
        assert_eq!(error.code, code, "{exit}");
    }
    for exit in [4, 20, 21, 22, 1001] {
        let Followed::GiveUp { error, .. } = failed_with(exit, 0) else { panic!("{exit} gives up") };
        assert_eq!(error.code, ErrorCode::PRECOMMIT_REFUSED, "{exit}");
    }
}

#[test]
fn a_nonce_that_another_message_used_is_signed_anew_only_where_somebody_wants_it() {
    let seen = Seen::Absent { nonce_used: true };
    let precommit = message(MessageKind::PreCommit, Tries { failures: 3, refused_epoch: Some(1), ..Tries::default() });
    let waiting = sector(State::PreCommitting(sealed()));
    let Followed::Again { exit: None, tries, .. } = now(9).followed(&precommit, Some(&waiting), 0, 10, seen, "it")
    else {
        panic!("again")
    };
    assert_eq!((tries.failures, tries.refused_epoch), (3, None), "it cost nothing");
    let given_up = sector(State::Abandoning { cause: cause() });
    let over = now(9).followed(&precommit, Some(&given_up), 0, 10, seen, "it");
    assert!(matches!(over, Followed::Replaced { .. }));
    let unused = Seen::Absent { nonce_used: false };
    assert_eq!(now(9).followed(&precommit, Some(&waiting), 0, 10, unused, "it"), Followed::Wait, "it may still land");
}

#[test]
fn a_message_that_lands_for_a_sector_that_was_given_up_is_over() {
    let seen = Seen::Executed { height: 2100, exit: ExitCode::Ok, gas_limit: 1, shared_by: 1 };
    let precommit = message(MessageKind::PreCommit, Tries::default());
    let followed = |state| now(2200).followed(&precommit, Some(&sector(state)), 2090, 500, seen, "it");
    assert_eq!(followed(State::Aborted { cause: cause() }), Followed::Landed { height: 2100 });
    assert_eq!(followed(State::PreCommitting(sealed())), Followed::Wait, "its state tells");
    let filler = message(MessageKind::Filler, Tries::default());
    let followed = now(2200).followed(&filler, None, 2090, 10, Seen::Absent { nonce_used: true }, "it");
    assert!(matches!(followed, Followed::Replaced { .. }));
}

#[test]
fn a_signed_message_is_unwanted_when_its_sector_cannot_use_it() {
    let precommit = message(MessageKind::PreCommit, Tries::default());
    let prove = message(MessageKind::ProveCommit, Tries::default());
    let blocked = |at| Job { blocked: Some(cause()), ..sector(at) };
    for (message, job, expected) in [
        (&precommit, sector(State::PreCommitting(sealed())), false),
        (&precommit, blocked(State::PreCommitting(sealed())), false),
        (&precommit, sector(State::Requeued(Rebuild::Sent(sealed()))), false),
        (&precommit, sector(State::Abandoning { cause: cause() }), true),
        (&precommit, sector(State::Aborting { cause: cause() }), true),
        (&precommit, sector(State::Aborted { cause: cause() }), true),
        (&prove, sector(State::ProveCommitting(proven())), false),
        (&prove, blocked(State::ProveCommitting(proven())), false),
        (&prove, sector(State::VerifyingProof(proven())), true),
        (&prove, sector(State::AwaitingSeed(proven().seeded.stored)), true),
        (&prove, sector(State::Aborted { cause: cause() }), true),
    ] {
        assert_eq!(unwanted(message, &job), expected, "{job:?}");
    }
    let next_attempt = Job { attempt: 2, ..sector(State::PreCommitting(sealed())) };
    assert!(unwanted(&precommit, &next_attempt));
    let of_an_earlier_job = Message { is_of_last_job: false, ..precommit };
    let next_job = sector(State::PreCommitting(sealed()));
    assert!(unwanted(&of_an_earlier_job, &next_job));
    let not_signed = wanted(&of_an_earlier_job, &next_job, &now(9), &Known::default());
    assert!(matches!(not_signed, Ok(Wanted::Over(_))));
}

#[test]
fn a_refusal_that_depends_on_the_epoch_counts_only_when_it_stays() {
    let first = Tries::default();
    assert_eq!(now(100).refused(&first, ExitCode::IllegalArgument), Refusal::ForNow { since: 100, until: 105 });
    let since = Tries { refused_epoch: Some(100), ..first };
    for exit in [ExitCode::IllegalArgument, ExitCode::NotFound, ExitCode::Forbidden] {
        assert!(matches!(now(104).refused(&since, exit), Refusal::ForNow { .. }), "{exit}");
        assert_eq!(now(105).refused(&since, exit), Refusal::Final, "{exit}");
    }
    assert_eq!(now(100).refused(&first, ExitCode::UnhandledMessage), Refusal::Final);
}
