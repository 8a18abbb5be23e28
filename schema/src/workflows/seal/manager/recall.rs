//! What the log says that the manager had decided, for a manager whose database is older than the log.
//!
//! Each fact was an answer, so it leads to the state that the answer led to. What the facts do not say follows from the chain.

use super::{Active, PreCommitted, Seeded, State, Stored};
use crate::{
    error::{ErrorCode, ErrorReport},
    machine::manager::Life,
    parts::{PreCommitInfo, Seed},
    workflows::seal::Fact,
};

pub(super) fn recalled(state: State, fact: &Fact, seed_delay: i64) -> Option<State> {
    match (state, fact) {
        (State::DrawingTicket { draw }, Fact::Ticket { ticket }) if ticket.draw == draw => {
            Some(State::Sealing { ticket: *ticket })
        }
        (State::PreCommitting(sealed), Fact::PrecommitLanded { precommit, .. }) => {
            Some(State::Persisting(PreCommitted { sealed, precommit: *precommit, seeds_drawn: 0 }))
        }
        // It was told again, and had moved before.
        (State::Persisting(known), Fact::PrecommitLanded { precommit, .. }) if known.precommit != *precommit => {
            Some(State::Persisting(PreCommitted { precommit: *precommit, ..known }))
        }
        (State::CheckingFiles(stored), Fact::PersistChecked {}) => Some(State::AwaitingSeed(stored)),
        (state, Fact::Seed { seed }) => {
            let stored = state.stored().filter(|_| state.traits().life == Life::Going)?;
            let is_new = seed.draw > stored.precommitted.seeds_drawn && !matches!(state, State::Cleaning(_));
            is_new.then(|| State::Committing(Seeded { stored: of_seed(stored.clone(), seed, seed_delay), seed: *seed }))
        }
        (State::VerifyingProof(proven) | State::ProveCommitting(proven), Fact::ProveLanded { activation_epoch }) => {
            Some(State::Cleaning(Active { proven, activation_epoch: *activation_epoch }))
        }
        _ => None,
    }
}

/// The sector with the PreCommit that a seed was drawn for. It may have moved since it was told.
fn of_seed(mut stored: Stored, seed: &Seed, seed_delay: i64) -> Stored {
    let PreCommitted { precommit, seeds_drawn, .. } = &mut stored.precommitted;
    let epoch = seed.epoch - seed_delay;
    let prove_by_epoch = precommit.prove_by_epoch + epoch - precommit.epoch;
    *precommit = PreCommitInfo { epoch, prove_by_epoch, ..*precommit };
    *seeds_drawn = seed.draw;
    stored
}

/// The chain no longer takes what is bound to an expired ticket, so another attempt follows. Any other order to drop an
/// attempt is for good.
pub(super) fn dropped(state: &State, cause: ErrorReport) -> Option<State> {
    if state.traits().life != Life::Going || matches!(state, State::Cleaning(_)) {
        return None;
    }
    Some(match cause.code == ErrorCode::TICKET_EXPIRED {
        true => State::Aborting { cause },
        false => State::Abandoning { cause },
    })
}
