//! Decides whether a journal's sector is still ours, and what a slot does after a sector's end.

use sealbus_schema::{WorkerName, lease::Right, machine::worker::State, message::Event};

use crate::{driver::core::End, journal::Journal};

/// One step. Each is repeated until it succeeds, before the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaveStep {
    /// Move the sector's files to quarantine.
    Quarantine,
    /// Remove the journal, which frees the slot.
    ClearJournal,
    /// Show the slot as free.
    Finish,
}

/// Whether a restarted slot must ask whether its lease is still in force. If not, the sector is [`Right::Gone`].
pub fn must_ask(journal: &Journal) -> bool {
    // If the end is reported and acknowledged, the manager may have closed the lease already.
    !(matches!(journal.state, State::Over { .. }) && journal.pending.is_empty())
}

/// The right that a journal gives in a stream with this identity, as far as known.
pub fn right<'a>(journal: &'a Journal, worker: &'a WorkerName, stream: Option<&str>) -> Right<'a> {
    let known = journal.stream.as_deref();
    let foreign = known.filter(|known| stream.is_some_and(|found| found != *known));
    Right { worker, token: journal.token, foreign }
}

/// The number of the log's last event under the journal's token, if the journal does not know that event. A journal is
/// written before its events are published, so such a journal is an older state: a backup, a snapshot, or the content of
/// a disk that lost confirmed writes.
pub fn told_later(journal: &Journal, known: Option<u64>, reported: Option<&Event>) -> Option<u64> {
    let reported = reported.filter(|event| event.token == journal.token).map(|event| event.number);
    reported.max(known).filter(|number| *number >= journal.next_event)
}

/// What to do with a slot whose sector has ended or is no longer ours.
pub fn left(journal: &Journal, end: End) -> &'static [LeaveStep] {
    match (end, &journal.state) {
        // The last event may have been stored, and the lease closed, before the acknowledgement arrived.
        (End::Over, _) | (End::Fenced, State::Over { .. }) => &[LeaveStep::ClearJournal, LeaveStep::Finish],
        (End::Fenced, _) => &[LeaveStep::Quarantine, LeaveStep::ClearJournal, LeaveStep::Finish],
    }
}

#[cfg(test)]
mod tests {
    use sealbus_schema::{
        IntentKind, SealProof, Token,
        message::{CommonEvent, Intent},
    };

    use super::*;

    #[test]
    fn a_journal_is_behind_if_the_log_has_an_event_that_it_has_not_made() {
        let sector = "f01000/1".parse().expect("sector");
        let intent = Intent {
            sector,
            kind: IntentKind::Seal,
            proof: SealProof::StackedDrg2KiBV1_1,
            lease_sequence: 0,
            attempt: 1,
        };
        let state = State::claimed(IntentKind::Seal).expect("a known kind");
        let mut journal = Journal::new(None, intent, Token(7), state);
        journal.next_event = 4;
        let event = |token, number| Event { token: Token(token), number, body: CommonEvent::Finished {}.into() };
        assert_eq!(told_later(&journal, None, None), None);
        assert_eq!(told_later(&journal, Some(3), Some(&event(7, 3))), None, "all of it is ours");
        assert_eq!(told_later(&journal, None, Some(&event(6, 9))), None, "of an earlier lease");
        assert_eq!(told_later(&journal, None, Some(&event(7, 4))), Some(4));
        assert_eq!(
            told_later(&journal, Some(5), Some(&event(6, 9))),
            Some(5),
            "by the manager's word in another stream"
        );
    }
}
