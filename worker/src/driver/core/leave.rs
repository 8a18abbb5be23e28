//! Whether a journal's sector is still ours, and what a slot does when it is done with one.

use sealbus_nats::lease::Lease;
use sealbus_schema::{WorkerName, seal::worker::State};

use crate::{
    driver::{core::End, facts::has_moved, resume::Right},
    journal::Journal,
};

/// One step; each is done before the next, and repeated until it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaveStep {
    /// Move the sector's files out of the way.
    Quarantine,
    /// Remove the journal: the slot is free.
    ClearJournal,
    /// Show the slot as free.
    Finish,
}

/// Whether a restarted slot must ask for its lease at all. If not, the sector is [`Right::Gone`].
pub fn must_ask(journal: &Journal) -> bool {
    // Otherwise all is said; the manager may have closed the lease already.
    !(matches!(journal.state, State::Over { .. }) && journal.pending.is_empty())
}

/// Whose a journal's sector is, by the sector's last lease record and the stream's identity, as far as it can be told.
///
/// Only what the log has after our token is evidence that the sector was taken from us. That it gives our token to
/// another name is none: then the worker was renamed, or the disk moved. That it does not have our token is none either.
pub fn right(journal: &Journal, worker: &WorkerName, lease: Option<&Lease>, stream: Option<&str>) -> Right {
    if is_other_stream(journal, stream) {
        return Right::OtherStream;
    }
    match lease {
        Some(_) if has_moved(lease, journal.token) => Right::Gone,
        Some(Lease { sequence, owner: Some(owner), .. }) if *sequence == journal.token.0 => {
            if owner == worker {
                Right::Ours
            } else {
                Right::Anothers(owner.clone())
            }
        }
        _ => Right::OtherStream,
    }
}

/// Whether the stream is another one than the token is of.
pub fn is_other_stream(journal: &Journal, stream: Option<&str>) -> bool {
    matches!((journal.stream.as_deref(), stream), (Some(known), Some(found)) if known != found)
}

/// What to do with a slot whose sector came to an end, or is not ours any more.
pub fn left(journal: &Journal, end: End) -> &'static [LeaveStep] {
    match (end, &journal.state) {
        // Its last event may have been stored and the lease closed before the acknowledgement came.
        (End::Over, _) | (End::Fenced, State::Over { .. }) => &[LeaveStep::ClearJournal, LeaveStep::Finish],
        (End::Fenced, _) => &[LeaveStep::Quarantine, LeaveStep::ClearJournal, LeaveStep::Finish],
    }
}

#[cfg(test)]
mod tests {
    use sealbus_schema::{
        Plan, SealProof, Token,
        message::{Intent, LeaseRecord},
    };

    use super::*;

    #[test]
    fn only_a_later_lease_record_says_that_a_sector_was_taken_from_us() {
        let name = |text: &str| text.parse::<WorkerName>().expect("name");
        let sector = "f01000/1".parse().expect("sector");
        let intent =
            Intent { sector, plan: Plan::Seal, proof: SealProof::StackedDrg2KiBV1_1, lease_sequence: 0, attempt: 1 };
        let journal = Journal::new(Some("log@1".to_owned()), intent, Token(7));
        let lease = |sequence, owner: Option<&str>| {
            let record = LeaseRecord::Release { reason: String::new() };
            Some(Lease { sequence, owner: owner.map(name), record })
        };
        for (lease, stream, expected) in [
            (lease(7, Some("w1")), "log@1", Right::Ours),
            (lease(9, Some("w2")), "log@1", Right::Gone),
            (lease(9, None), "log@1", Right::Gone),
            (lease(9, Some("w1")), "log@1", Right::Gone),
            (lease(7, Some("w2")), "log@1", Right::Anothers(name("w2"))),
            (lease(5, Some("w2")), "log@1", Right::OtherStream),
            (lease(7, None), "log@1", Right::OtherStream),
            (None, "log@1", Right::OtherStream),
            (lease(9, Some("w2")), "log@2", Right::OtherStream),
        ] {
            assert_eq!(right(&journal, &name("w1"), lease.as_ref(), Some(stream)), expected, "{lease:?}");
        }
    }
}
