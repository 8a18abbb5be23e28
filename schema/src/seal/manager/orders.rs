//! What a person orders about a sector.

use super::{Effect, Rebuild, State, release::offering};
use crate::{Transition, error::ErrorReport, phase::Phase};

type Answer = Transition<State, Effect>;

/// Goes on. The worker is told as well, wherever the cause lay: it ignores what does not concern it.
pub(super) fn resubmit(state: &State, from: Option<Phase>) -> Answer {
    let State::Blocked { at, .. } = state else {
        return Transition::Illegal("it is not blocked, so there is nothing to resubmit");
    };
    let next = match from {
        None => Some((**at).clone()),
        Some(phase) => back_to(at, phase),
    };
    let Some(next) = next else {
        return Transition::Illegal("it has not come to that phase, or nobody works on it");
    };
    let mut effects = offering(&next);
    if effects.is_empty() {
        effects.push(Effect::TellResubmit { from });
    }
    effects.extend(again(&next));
    Transition::with(next, effects)
}

/// What the manager itself does again in a state. What the worker was told and may not have taken is told again, because
/// an order to go back withdraws what was told before it.
fn again(state: &State) -> Option<Effect> {
    match state {
        State::PreCommitting(_) => Some(Effect::SendPreCommit),
        State::ProveCommitting(_) => Some(Effect::SendProveCommit),
        State::Committing(seeded) => Some(Effect::TellSeed(seeded.seed)),
        // With it the worker hears which stores are known by now.
        State::Persisting(precommitted) => Some(Effect::TellPreCommitLanded(precommitted.precommit)),
        _ => None,
    }
}

/// The state in which the worker does a phase again.
fn back_to(at: &State, phase: Phase) -> Option<State> {
    match at {
        State::Queued
        | State::Requeued(_)
        | State::Cleaning(_)
        | State::Proving(_)
        | State::Aborting { .. }
        | State::Abandoning { .. }
        | State::Aborted { .. }
        | State::Blocked { .. } => return None,
        _ => {}
    }
    match phase {
        Phase::AddPieces | Phase::TreeD | Phase::Pc1 | Phase::Pc2 => {
            let rebuild = at.precommitted().cloned().map(Rebuild::Landed);
            let rebuild = rebuild.or_else(|| at.sealed().cloned().map(Rebuild::Sent));
            match (rebuild, phase) {
                (Some(rebuild), _) => Some(State::Rebuilding(rebuild)),
                (None, Phase::AddPieces | Phase::TreeD) => Some(State::Packing),
                (None, _) => matches!(at, State::Sealing { .. }).then(|| at.clone()),
            }
        }
        Phase::Transfer if matches!(at, State::Rebuilding(_)) => None,
        Phase::Transfer => at.precommitted().cloned().map(State::Persisting),
        Phase::C1 | Phase::C2 => at.seeded().cloned().map(State::Committing),
    }
}

/// Gives the sector up.
pub(super) fn abandon(state: &State, cause: ErrorReport, lose_deposit: bool) -> Answer {
    let (at, blocked) = match state {
        State::Blocked { at, .. } => (&**at, true),
        at => (at, false),
    };
    match at {
        State::Proving(_) | State::Aborted { .. } => return Transition::Illegal("it has come to its end already"),
        State::Cleaning(_) => return Transition::Illegal("it is active on chain already"),
        State::Abandoning { .. } => return Transition::Ignore("it is being abandoned already"),
        State::ProveCommitting(_) if !blocked && !lose_deposit => {
            return Transition::Illegal(
                "its ProveCommit may be on its way and land though the sector is given up, and else the deposit is lost: say so to go on",
            );
        }
        _ if at.sealed().is_some() && !lose_deposit => {
            return Transition::Illegal(
                "its PreCommit may be on its way or on chain, and abandoning it loses the deposit: say so to go on",
            );
        }
        _ => {}
    }
    Transition::with(State::Abandoning { cause: cause.clone() }, [Effect::TellAbandon(cause)])
}
