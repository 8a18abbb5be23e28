//! The end of a lease, and what follows from it. A release of an unfinished sector is the only thing besides a person's
//! order that leads to another intent.

use super::{AttemptPolicy, Effect, PreCommitted, Rebuild, Released, Sealed, State, table::block};
use crate::{
    Transition,
    error::{ErrorClass, ErrorCode, ErrorReport},
};

type Answer = Transition<State, Effect>;

pub(super) fn on_release(state: &State, released: Released, policy: AttemptPolicy) -> Answer {
    match state {
        State::Proving(_) | State::Aborted { .. } => Transition::Ignore("the end of the lease of an ended sector"),
        State::Cleaning(active) => Transition::to(State::Proving(active.clone())),
        State::Abandoning { cause } => Transition::to(State::Aborted { cause: cause.clone() }),
        State::Aborting { cause } if released.attempt >= policy.max_attempts => {
            Transition::to(State::Aborted { cause: cause.clone() })
        }
        State::Queued
        | State::Packing
        | State::DrawingTicket { .. }
        | State::Sealing { .. }
        | State::Aborting { .. } => offer(State::Queued, released, policy),
        // Nothing of this attempt can be on chain: a new ticket costs nothing but the work that is lost anyway.
        State::PreCommitting(_) if !released.precommit_signed => offer(State::Queued, released, policy),
        State::PreCommitting(sealed) => offer(State::Requeued(Rebuild::Sent(sealed.clone())), released, policy),
        State::Persisting(precommitted) => rebuild(precommitted, released, policy),
        State::CheckingFiles(stored) | State::AwaitingSeed(stored) => rebuild(&stored.precommitted, released, policy),
        State::Committing(seeded) => rebuild(&seeded.stored.precommitted, released, policy),
        State::Requeued(rebuild) | State::Rebuilding(rebuild) => {
            offer(State::Requeued(rebuild.clone()), released, policy)
        }
        // The files are stored and checked and the proof is here: no worker is needed any more.
        State::VerifyingProof(_) | State::ProveCommitting(_) => Transition::to(state.clone()),
        State::Blocked { at, .. } => match &**at {
            // What blocks it is on the manager's side and does not go with the worker.
            State::VerifyingProof(_) | State::ProveCommitting(_) => Transition::to(state.clone()),
            at => on_release(at, released, policy),
        },
    }
}

/// Only a worker with the layers can answer the challenge, and they went with the lease.
fn rebuild(precommitted: &PreCommitted, released: Released, policy: AttemptPolicy) -> Answer {
    offer(State::Requeued(Rebuild::Landed(precommitted.clone())), released, policy)
}

/// Offers the sector again, unless it was offered too often already: a poisonous sector must not eat the fleet.
fn offer(next: State, released: Released, policy: AttemptPolicy) -> Answer {
    if released.issues >= policy.max_issues {
        let message = format!("offered {} times without coming to an end", released.issues);
        return block(&next, ErrorReport::new(ErrorClass::Perm, ErrorCode::REISSUED_TOO_OFTEN, message));
    }
    let effect = offering(&next);
    Transition::with(next, effect)
}

/// The effect that puts a state's intent into the queue, for the two states that have one.
pub(super) fn offering(state: &State) -> Vec<Effect> {
    match state {
        State::Queued => vec![Effect::OfferAttempt],
        State::Requeued(_) => vec![Effect::OfferRebuild],
        _ => Vec::new(),
    }
}

/// What a rebuild came to.
pub(super) fn rebuilt(rebuild: &Rebuild, again: &Sealed) -> Answer {
    let known = rebuild.sealed();
    if known.comm_r != again.comm_r || known.comm_d != again.comm_d {
        let message = format!(
            "sealed again, the sector came to CommR {} and CommD {}; its PreCommit has {} and {}",
            again.comm_r, again.comm_d, known.comm_r, known.comm_d
        );
        let cause = ErrorReport::new(ErrorClass::Perm, ErrorCode::COMM_R_MISMATCH, message);
        return block(&State::Rebuilding(rebuild.clone()), cause);
    }
    match rebuild.clone() {
        Rebuild::Sent(sealed) => Transition::with(State::PreCommitting(sealed), [Effect::SendPreCommit]),
        Rebuild::Landed(precommitted) => {
            let effect = Effect::TellPreCommitLanded(precommitted.precommit);
            Transition::with(State::Persisting(precommitted), [effect])
        }
    }
}
