//! The consequences of a lease's end. An unfinished job is offered again only here and by a person's order.

use super::{PreCommitted, Rebuild, Seal, State, landed, tell};
use crate::{
    error::ErrorReport,
    machine::manager::{AttemptPolicy, Effect, OnRelease, Released},
    parts::Ticket,
    workflows::seal::Fact,
};

pub(super) fn released(state: &State, released: Released, policy: AttemptPolicy) -> OnRelease<State> {
    match state {
        State::Proving(_) | State::Aborted { .. } => OnRelease::Ended,
        State::Cleaning(active) => OnRelease::To(State::Proving(active.clone())),
        State::Abandoning { cause } => OnRelease::To(State::Aborted { cause: cause.clone() }),
        State::Aborting { cause } if released.attempt >= policy.max_attempts => {
            OnRelease::To(State::Aborted { cause: cause.clone() })
        }
        State::Queued
        | State::Packing
        | State::DrawingTicket { .. }
        | State::Sealing { .. }
        | State::Aborting { .. } => OnRelease::Restart(State::Queued),
        // Nothing of this attempt can be on chain, so a new attempt loses only work, which is lost anyway.
        State::PreCommitting(_) if !released.signed => OnRelease::Restart(State::Queued),
        State::PreCommitting(sealed) => OnRelease::Offer(State::Requeued(Rebuild::Sent(sealed.clone()))),
        State::Persisting(precommitted) => rebuild(precommitted),
        State::CheckingFiles(stored) | State::AwaitingSeed(stored) => rebuild(&stored.precommitted),
        State::Committing(seeded) => rebuild(&seeded.stored.precommitted),
        State::Requeued(rebuild) | State::Rebuilding(rebuild) => OnRelease::Offer(State::Requeued(rebuild.clone())),
        // The files are stored and checked, and the manager has the proof, so no worker is needed.
        State::VerifyingProof(_) | State::ProveCommitting(_) => OnRelease::Kept,
    }
}

/// C1 needs the layers, and they are lost with the lease. So the sector must be sealed again.
fn rebuild(precommitted: &PreCommitted) -> OnRelease<State> {
    OnRelease::Offer(State::Requeued(Rebuild::Landed(precommitted.clone())))
}

pub(super) fn aborted(state: &State, cause: ErrorReport) -> State {
    match state {
        State::Packing | State::DrawingTicket { .. } | State::Sealing { .. } => State::Aborting { cause },
        // A PreCommit may be on chain, so the sector is sealed again.
        at => at.clone(),
    }
}

pub(super) fn told_so_far(state: &State) -> Option<Vec<Effect<Seal>>> {
    match state {
        // Only the end of the lease was still to come.
        State::Proving(_) | State::Aborted { .. } | State::Aborting { .. } => return None,
        State::Abandoning { cause } => return Some(vec![Effect::TellAbandon(cause.clone())]),
        State::Sealing { ticket } => return Some(vec![tell(Fact::Ticket { ticket: *ticket })]),
        State::Rebuilding(rebuild) => {
            let ticket = Ticket { expires_epoch: i64::MAX, ..rebuild.sealed().ticket };
            return Some(vec![tell(Fact::Ticket { ticket })]);
        }
        _ => {}
    }
    let mut told = Vec::new();
    told.extend(state.precommitted().map(|known| landed(known.precommit)));
    if !matches!(state, State::CheckingFiles(_)) {
        told.extend(state.stored().map(|_| Fact::PersistChecked {}));
    }
    told.extend(state.seeded().map(|known| Fact::Seed { seed: known.seed }));
    if let State::Cleaning(active) = state {
        told.push(Fact::ProveLanded { activation_epoch: active.activation_epoch });
    }
    Some(told.into_iter().map(tell).collect())
}
