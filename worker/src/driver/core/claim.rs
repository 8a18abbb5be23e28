//! Decides, step by step, what a slot does with an intent.

use sealbus_nats::lease::ClaimOutcome;
use sealbus_schema::{machine::worker::State, message::Intent};

use crate::{driver::board::Verdict, journal::Journal};

/// One step. Each is completed before the next one begins.
#[derive(Clone, Debug, PartialEq)]
pub enum ClaimStep {
    /// Publish the claim, and pass its outcome to [`claimed`].
    Claim,
    /// Write the slot's journal. Later steps are carried out once it is on disk.
    Persist(Box<Journal>),
    /// Show that the slot holds the sector.
    Hold,
    /// Show that the slot is free again.
    Release,
    /// Take the intent out of the queue.
    Accept,
    /// Leave the intent in the queue, and wait a little.
    Pause,
}

/// What to do with an intent, depending on what the other slots hold.
pub fn offered(verdict: Verdict) -> Vec<ClaimStep> {
    match verdict {
        Verdict::Claim => vec![ClaimStep::Claim],
        Verdict::Held => vec![ClaimStep::Accept],
        Verdict::Leave => vec![ClaimStep::Pause],
    }
}

/// What to do after a claim. The outcome is `None` if the claim could not be published. `finished` says whether this
/// process has already finished the lease, so that the intent is only a late copy.
pub fn claimed(
    outcome: Option<ClaimOutcome>,
    finished: impl FnOnce(sealbus_schema::Token) -> bool,
    stream: Option<String>,
    intent: &Intent,
) -> Vec<ClaimStep> {
    match outcome {
        Some(ClaimOutcome::Won(token)) if !finished(token) => match State::claimed(intent.kind) {
            Some(state) => {
                let journal = Box::new(Journal::new(stream, intent.clone(), token, state));
                // Only the journal says that the job is ours, so write it before the intent is removed.
                vec![ClaimStep::Persist(journal), ClaimStep::Hold, ClaimStep::Accept]
            }
            // Never claimed. An intent of a newer version stays in the queue.
            None => vec![ClaimStep::Release, ClaimStep::Pause],
        },
        Some(ClaimOutcome::Won(_) | ClaimOutcome::Lost) => vec![ClaimStep::Release, ClaimStep::Accept],
        None => vec![ClaimStep::Release, ClaimStep::Pause],
    }
}
