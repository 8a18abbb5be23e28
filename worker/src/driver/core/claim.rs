//! What a slot does with an intent, step by step.

use sealbus_nats::lease::ClaimOutcome;
use sealbus_schema::{machine::worker::State, message::Intent};

use crate::{driver::board::Verdict, journal::Journal};

/// One step; each is done before the next.
#[derive(Clone, Debug, PartialEq)]
pub enum ClaimStep {
    /// Publish the claim, and ask [`claimed`] about its outcome.
    Claim,
    /// Write the slot's journal. What follows is done when it is on the disk.
    Persist(Box<Journal>),
    /// The slot has the sector.
    Hold,
    /// The slot is free again.
    Release,
    /// Take the intent out of the queue.
    Accept,
    /// Leave the intent in the queue, and wait a little.
    Pause,
}

/// What to do with an intent, by what the other slots hold.
pub fn offered(verdict: Verdict) -> Vec<ClaimStep> {
    match verdict {
        Verdict::Claim => vec![ClaimStep::Claim],
        Verdict::Held => vec![ClaimStep::Accept],
        Verdict::Leave => vec![ClaimStep::Pause],
    }
}

/// What to do after a claim. None of its outcome: it could not be published. `finished` says whether this process brought
/// the lease to its end already, so that the intent is only a late copy.
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
                // Nothing but the journal says that the job is ours: only then may the intent go.
                vec![ClaimStep::Persist(journal), ClaimStep::Hold, ClaimStep::Accept]
            }
            // Never claimed: an intent of a newer version is left in the queue.
            None => vec![ClaimStep::Release, ClaimStep::Pause],
        },
        Some(ClaimOutcome::Won(_) | ClaimOutcome::Lost) => vec![ClaimStep::Release, ClaimStep::Accept],
        None => vec![ClaimStep::Release, ClaimStep::Pause],
    }
}
