//! The manager's side of sealing.
//!
//! [`State`] says where a sector stands, [`table`] what progress and answers lead to, [`release`] what the end of a lease
//! does, [`orders`] what a person may order. What is alike in all jobs is [`crate::machine::manager`].

mod describe;
mod orders;
mod release;
mod state;
mod table;

#[cfg(test)]
mod tests;

pub use state::{Active, PreCommitted, Proven, Rebuild, Sealed, Seeded, State, Stored};

use super::{Event, Fact};
use crate::{
    error::ErrorReport,
    machine::manager::{
        Abandon, AtStake, AttemptPolicy, Effect, Machine, OnRelease, Refused, Released, StateTraits, Step,
    },
    parts::{PreCommitInfo, Seed, Ticket},
    phase::Phase,
};

/// The manager's half of sealing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal;

/// What the chain, the stores and the proofs library answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The ticket is drawn.
    TicketDrawn(Ticket),
    /// The ticket or the PreCommit can no longer be used.
    Expired(ErrorReport),
    /// The PreCommit is on chain, with confidence.
    PreCommitLanded(PreCommitInfo),
    /// The chain has the PreCommit at another epoch than before, or did not keep it there.
    PreCommitMoved(PreCommitInfo),
    /// The files in the permanent store prove.
    FilesChecked,
    /// The seed is drawn, with confidence.
    SeedDrawn(Seed),
    /// The proof verifies.
    ProofVerified,
    /// The sector is active on chain, with confidence.
    ProveLanded {
        /// Since when.
        activation_epoch: i64,
    },
}

impl Machine for Seal {
    type State = State;
    type Event = Event;
    type Answer = Answer;
    type Fact = Fact;

    const NAMES: &'static [&'static str] = &State::NAMES;

    fn start() -> State {
        State::Queued
    }

    fn traits(state: &State) -> StateTraits {
        state.traits()
    }

    fn claimed(state: &State) -> Option<State> {
        match state {
            State::Queued => Some(State::Packing),
            State::Requeued(rebuild) => Some(State::Rebuilding(rebuild.clone())),
            _ => None,
        }
    }

    fn released(state: &State, released: Released, policy: AttemptPolicy) -> OnRelease<State> {
        release::released(state, released, policy)
    }

    fn reported(state: &State, event: Event) -> Step<Seal> {
        table::reported(state.clone(), event)
    }

    fn finished(state: &State) -> Option<State> {
        match state {
            State::Cleaning(active) => Some(State::Proving(active.clone())),
            _ => None,
        }
    }

    fn aborted(state: &State, cause: ErrorReport) -> State {
        release::aborted(state, cause)
    }

    fn answered(state: &State, answer: Answer) -> Step<Seal> {
        table::answered(state.clone(), answer)
    }

    fn resubmitted(state: &State, from: Option<Phase>) -> Option<(State, Vec<Effect<Seal>>)> {
        orders::resubmitted(state, from)
    }

    fn told_so_far(state: &State) -> Option<Vec<Effect<Seal>>> {
        release::told_so_far(state)
    }

    fn awaited_phase(state: &State) -> Option<Phase> {
        match state {
            State::Packing => Some(Phase::AddPieces),
            State::Rebuilding(_) => Some(Phase::Pc2),
            State::Persisting(_) => Some(Phase::Transfer),
            State::Committing(_) => Some(Phase::C2),
            _ => None,
        }
    }

    fn needed_again(state: &State) -> Option<Phase> {
        // Only a worker can make another proof.
        matches!(state, State::VerifyingProof(_) | State::ProveCommitting(_)).then_some(Phase::C1)
    }

    fn cause(state: &State) -> Option<&ErrorReport> {
        match state {
            State::Aborting { cause } | State::Abandoning { cause } | State::Aborted { cause } => Some(cause),
            _ => None,
        }
    }

    fn at_stake(state: &State) -> AtStake {
        describe::at_stake(state)
    }

    fn describe(state: &State) -> serde_json::Map<String, serde_json::Value> {
        describe::describe(state)
    }

    fn abandoned(state: &State, order: Abandon) -> Result<State, Refused> {
        orders::abandoned(state, order)
    }
}

const fn tell(fact: Fact) -> Effect<Seal> {
    Effect::Tell(fact)
}

/// That a PreCommit has landed. Which stores are known is added when it is published: that may change until then.
const fn landed(precommit: PreCommitInfo) -> Fact {
    Fact::PrecommitLanded { precommit, stores: Vec::new() }
}
