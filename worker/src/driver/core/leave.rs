//! Whether a journal's sector is still ours, and what a slot does when it is done with one.

use sealbus_nats::lease::Lease;
use sealbus_schema::{WorkerName, seal::worker::State};

use crate::{
    driver::{core::End, facts::is_ours, resume::Right},
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
pub fn right(journal: &Journal, worker: &WorkerName, lease: Option<&Lease>, stream: Option<&str>) -> Right {
    if is_other_stream(journal, stream) {
        Right::OtherStream
    } else if is_ours(lease, worker, journal.token) {
        Right::Ours
    } else {
        Right::Gone
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
