//! What must not happen and happens all the same is counted, once.

use sealbus_schema::{IntentKind, SealProof, SectorId, Token, message::Intent, workflows::seal};

use super::*;

/// A sector that was just claimed.
fn core() -> Core {
    let sector: SectorId = "f01000/1".parse().expect("sector");
    let kind = IntentKind::Seal;
    let intent = Intent { sector, kind, proof: SealProof::StackedDrg2KiBV1_1, lease_sequence: 0, attempt: 1 };
    let journal = Journal::new(None, intent, Token(5), State::claimed(kind).expect("a known kind"));
    Core::new(journal, Arrivals::default(), RetryPolicy { max_retries: 3 }, Place::default())
}

/// The violations among these actions.
fn counted(todo: &[Do]) -> Vec<(Invariant, &str)> {
    let mut counted = Vec::new();
    for action in todo {
        if let Do::Count(violation) = action {
            counted.push((violation.invariant, violation.seen.as_str()));
        }
    }
    counted
}

#[test]
fn a_result_that_the_table_refuses_is_counted_and_blocks_the_sector() {
    let mut core = core();
    let todo = core.handle(Happened::Worked(Input::from(seal::worker::Progress::Pc1Done)), 0);
    let [(Invariant::NothingIllegal, seen)] = counted(&todo)[..] else { panic!("{todo:?}") };
    assert!(seen.starts_with("f01000/1 in step add_pieces: "), "{seen}");
    let State::Blocked { error, .. } = &core.journal().state else { panic!("{:?}", core.journal()) };
    assert_eq!(error.code, ErrorCode::PROTOCOL_VIOLATED);
    let todo = core.handle(Happened::Reported { number: 1, sequence: 6 }, 0);
    assert_eq!(counted(&todo), []);
}

#[test]
fn a_sector_that_is_blocked_without_a_word_of_why_is_counted() {
    for (message, expected) in [(None, 1), (Some("the disk is full"), 0)] {
        let mut error = ErrorReport::new(ErrorClass::Perm, ErrorCode::PROOFS_FAILED, "");
        error.causes = Vec::from_iter(message.map(str::to_owned));
        let todo = core().handle(Happened::Worked(Input::Failed { error }), 0);
        let counted = counted(&todo);
        assert_eq!(counted.len(), expected);
        let told = (Invariant::BlockedWithCause, "f01000/1 is blocked with PROOFS_FAILED and no word of why");
        assert!(counted.iter().all(|violation| *violation == told), "{counted:?}");
    }
}
