use sealbus_schema::{
    Commitment, ProofBytes, SealProof,
    lease::Ownership,
    parts::StoredSector,
    workflows::seal::manager::{Answer, Seeded},
};

use super::*;
use crate::store::MessageState;

/// Epochs: the ticket is good until 5000, the PreCommit stands at 2000 and must be proven by 90_000.
fn now(head: i64) -> Now {
    Now { head, lagged: head - 5, rules: Rules::new(10).expect("a delay"), epoch_millis: 1 }
}

fn sealed() -> Sealed {
    let ticket = Ticket {
        draw: 1,
        randomness: Randomness([1; 32]),
        epoch: 1220,
        expires_epoch: 5000,
        head_epoch: 2120,
        epoch_millis: 1,
    };
    Sealed { ticket, comm_r: Commitment([1; 32]), comm_d: Commitment([2; 32]) }
}

fn proven() -> Proven {
    let precommit = PreCommitInfo { epoch: 2000, prove_by_epoch: 90_000, head_epoch: 2001, epoch_millis: 1 };
    let precommitted = PreCommitted { sealed: sealed(), precommit, seeds_drawn: 1 };
    let stored = Stored { precommitted, files: StoredSector { store: "main".into(), files: vec![], identity: None } };
    let seed = Seed { draw: 1, randomness: Randomness([3; 32]), epoch: 2010 };
    Proven { seeded: Seeded { stored, seed }, proof: ProofBytes(vec![0; 192]) }
}

fn sector(state: State) -> Job {
    Job {
        id: "f01000/1".parse().expect("a sector"),
        proof: SealProof::StackedDrg2KiBV1_1,
        attempt: 1,
        issues: 1,
        resubmits: 0,
        signed: true,
        created_at: String::new(),
        changed_at: String::new(),
        ownership: Ownership::Free { last_lease: 0 },
        leased_at: None,
        state: state.into(),
        blocked: None,
    }
}

fn message(kind: MessageKind, tries: Tries) -> Message {
    let sector: sealbus_schema::SectorId = "f01000/1".parse().expect("a sector");
    Message { key: kind.key(sector, 1, 1), attempt: 1, kind, sector, state: MessageState::Wanted, tries }
}

fn cause() -> ErrorReport {
    ErrorReport::new(ErrorClass::Abort, ErrorCode::ABANDONED, "a test")
}

fn failed_with(exit: u32, failures: u32) -> Followed {
    let precommit = message(MessageKind::PreCommit, Tries { failures, ..Tries::default() });
    let seen = Seen::Executed { height: 2100, exit: ExitCode::from(exit), gas_limit: 100 };
    now(2200).followed(&precommit, Some(&sector(State::PreCommitting(sealed()))), 2090, 10, seen, "it")
}

#[test]
fn out_of_gas_is_signed_again_with_more_and_blocks_after_some_tries() {
    let Followed::Again { exit: Some(7), tries, .. } = failed_with(7, 0) else { panic!("again") };
    assert_eq!(tries, Tries { failures: 1, gas_limit_min: Some(150), refused_epoch: None });
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
    let seen = Seen::Executed { height: 2100, exit: ExitCode::Ok, gas_limit: 1 };
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
}

#[test]
fn a_ticket_that_expired_while_the_message_waited_leads_to_another_one_once_nothing_can_land() {
    let sealed = sealed();
    let found = |head, state: &State| now(head).precommit_found(&sector(state.clone()), &sealed, None);
    let waiting = State::PreCommitting(sealed.clone());
    assert_eq!(found(5005, &waiting), None, "it may have been included in the last epoch");
    let Some(Input::Answer(workflows::Answer::Seal(Answer::Expired(error)))) = found(5006, &waiting) else {
        panic!("expired")
    };
    assert_eq!((error.class, error.code), (ErrorClass::Abort, ErrorCode::TICKET_EXPIRED));
    let rebuilding = State::Rebuilding(Rebuild::Sent(sealed.clone()));
    assert!(matches!(found(5006, &rebuilding), Some(Input::Answer(workflows::Answer::Seal(Answer::Expired(_))))));
    assert_eq!(found(5006, &State::Requeued(Rebuild::Sent(sealed.clone()))), None, "a worker must be told");
    let landed =
        now(9000).precommit_found(&sector(waiting.clone()), &sealed, Some(Found { is_ours: true, epoch: 4999 }));
    assert!(matches!(landed, Some(Input::Answer(workflows::Answer::Seal(Answer::PreCommitLanded(_))))));
    let precommit = message(MessageKind::PreCommit, Tries::default());
    let wanted = |head| now(head).wanted(&precommit, &sector(waiting.clone()));
    assert_eq!(wanted(4996), Wanted::Sign);
    assert!(matches!(wanted(4997), Wanted::GiveUp(_)), "it could not land in time");
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

#[test]
fn a_precommit_that_moved_behind_a_proof_on_its_way_is_heard_of() {
    let proven = proven();
    let at = |epoch| Some(Found { is_ours: true, epoch });
    let found = |head, sector, precommit| now(head).sector_found(&proven, sector, precommit);
    assert_eq!(found(2100, None, at(2000)), None);
    let Some(Input::Answer(workflows::Answer::Seal(Answer::PreCommitMoved(to)))) = found(2100, None, at(2003)) else {
        panic!("moved")
    };
    assert_eq!(to.epoch, 2003);
    assert_eq!(found(2100, None, None), None);
    assert_eq!(found(2100, at(2050), None), Some(Input::from(Answer::ProveLanded { activation_epoch: 2050 })));
    assert_eq!(found(90_005, None, None), None, "it may have been included in the last epoch");
    let Some(Input::Answer(workflows::Answer::Seal(Answer::Expired(error)))) = found(90_006, None, at(2000)) else {
        panic!("expired")
    };
    assert_eq!(error.code, ErrorCode::PRECOMMIT_EXPIRED);
}

#[test]
fn a_sector_is_looked_at_again_when_the_chain_can_have_something_new_for_it() {
    let proven = proven();
    let stored = proven.seeded.stored.clone();
    let next = |state: State, settled| now(2200).look_at(&sector(state), settled, 5);
    let waiting = [State::PreCommitting(sealed()), State::ProveCommitting(proven.clone())];
    for state in waiting {
        assert_eq!((next(state.clone(), false), next(state, true)), (Some(2201), Some(2201)), "each epoch");
    }
    let watched = State::Committing(proven.seeded.clone());
    assert_eq!(next(watched.clone(), true), Some(90_001), "it stands until it has run out");
    assert_eq!(next(watched, false), Some(2201), "it is missing");
    assert_eq!(
        now(2001).look_at(&sector(State::AwaitingSeed(stored.clone())), true, 5),
        Some(2015),
        "its seed is confident"
    );
    assert_eq!(next(State::AwaitingSeed(stored.clone()), true), Some(2201), "its epoch had no block");
    for state in [State::DrawingTicket { draw: 1 }, State::CheckingFiles(stored), State::VerifyingProof(proven)] {
        assert_eq!(next(state, false), Some(0), "tried at each tick");
    }
    assert_eq!(next(State::Packing, true), None);
    let blocked = Job { blocked: Some(cause()), ..sector(State::PreCommitting(sealed())) };
    assert_eq!(now(2200).look_at(&blocked, true, 5), None);
}
