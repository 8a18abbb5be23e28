//! The manager's side of sealing.
//!
//! [`State`] has the states, [`table`] the transitions by progress and answers, [`release`] those by the end of a
//! lease, [`orders`] those by a person's orders, and [`recall`] those by what the log says that we decided. What all jobs share is in [`crate::machine::manager`].

mod describe;
mod orders;
mod recall;
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

/// An answer of the chain, the stores or the proofs library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The ticket is drawn.
    TicketDrawn(Ticket),
    /// The ticket or the PreCommit can no longer be used.
    Expired(ErrorReport),
    /// The PreCommit is on chain at a confident tipset.
    PreCommitLanded(PreCommitInfo),
    /// The PreCommit is now at another epoch, after a reorganisation.
    PreCommitMoved(PreCommitInfo),
    /// The files in the permanent store have answered a challenge.
    FilesChecked,
    /// The seed is drawn from a confident tipset.
    SeedDrawn(Seed),
    /// The proof is valid.
    ProofVerified,
    /// The sector is active on chain at a confident tipset.
    ProveLanded {
        /// The epoch of its activation.
        activation_epoch: i64,
    },
    /// The sector was active, and a reorganisation has taken its ProveCommit from the chain.
    ProveReverted,
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

    fn recalled(state: &State, fact: &Fact, seed_delay: i64) -> Option<State> {
        recall::recalled(state.clone(), fact, seed_delay)
    }

    fn dropped(state: &State, cause: ErrorReport) -> Option<State> {
        recall::dropped(state, cause)
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

/// The fact that a PreCommit has landed. The known stores are added when it is published, because they may change until
/// then.
const fn landed(precommit: PreCommitInfo) -> Fact {
    Fact::PrecommitLanded { precommit, stores: Vec::new() }
}
