//! Whether a journal's sector is still ours, and what a slot does when it is done with one.

use sealbus_schema::{WorkerName, lease::Right, machine::worker::State};

use crate::{driver::core::End, journal::Journal};

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

/// The right that a journal has, where the log's stream has this identity, as far as it can be told.
pub fn right<'a>(journal: &'a Journal, worker: &'a WorkerName, stream: Option<&str>) -> Right<'a> {
    let known = journal.stream.as_deref();
    let foreign = known.filter(|known| stream.is_some_and(|found| found != *known));
    Right { worker, token: journal.token, foreign }
}

/// What to do with a slot whose sector came to an end, or is not ours any more.
pub fn left(journal: &Journal, end: End) -> &'static [LeaveStep] {
    match (end, &journal.state) {
        // Its last event may have been stored and the lease closed before the acknowledgement came.
        (End::Over, _) | (End::Fenced, State::Over { .. }) => &[LeaveStep::ClearJournal, LeaveStep::Finish],
        (End::Fenced, _) => &[LeaveStep::Quarantine, LeaveStep::ClearJournal, LeaveStep::Finish],
    }
}
