//! A person's orders about a sector that is being sealed.

use super::{Rebuild, Seal, State, landed, tell};
use crate::{
    machine::manager::{Abandon, Effect, Purpose, Refused},
    phase::Phase,
    workflows::seal::Fact,
};

/// The state to continue in, and the effects to repeat there.
pub(super) fn resubmitted(at: &State, from: Option<Phase>) -> Option<(State, Vec<Effect<Seal>>)> {
    let next = match from {
        None => at.clone(),
        Some(phase) => back_to(at, phase)?,
    };
    let again = again(&next);
    Some((next, Vec::from_iter(again)))
}

/// The effect that the manager repeats in a state. Facts that the worker may not have acted on yet are told again,
/// because an order to resubmit withdraws earlier facts.
fn again(state: &State) -> Option<Effect<Seal>> {
    match state {
        State::Queued => Some(Effect::Offer { another_attempt: true }),
        State::Requeued(_) => Some(Effect::Offer { another_attempt: false }),
        State::PreCommitting(_) => Some(Effect::Want(Purpose::PreCommit)),
        State::ProveCommitting(_) => Some(Effect::Want(Purpose::ProveCommit)),
        State::Committing(seeded) => Some(tell(Fact::Seed { seed: seeded.seed })),
        // This also tells the worker the presently known stores.
        State::Persisting(precommitted) => Some(tell(landed(precommitted.precommit))),
        _ => None,
    }
}

/// The state in which the worker runs a phase again.
fn back_to(at: &State, phase: Phase) -> Option<State> {
    match at {
        State::Queued
        | State::Requeued(_)
        | State::Cleaning(_)
        | State::Proving(_)
        | State::Aborting { .. }
        | State::Abandoning { .. }
        | State::Aborted { .. } => return None,
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
        Phase::Own(_) => None,
    }
}

/// Gives the sector up.
pub(super) fn abandoned(at: &State, order: Abandon) -> Result<State, Refused> {
    let Abandon { cause, lose_deposit, blocked } = order;
    match at {
        State::Proving(_) | State::Aborted { .. } => return Err(Refused::Never("it has come to its end already")),
        State::Cleaning(_) => return Err(Refused::Never("it is active on chain already")),
        State::Abandoning { .. } => return Err(Refused::Already("it is being abandoned already")),
        State::ProveCommitting(_) if !blocked && !lose_deposit => {
            return Err(Refused::Never(
                "its ProveCommit may be on its way and land though the sector is given up, and else the deposit is lost: say so to go on",
            ));
        }
        _ if at.sealed().is_some() && !lose_deposit => {
            return Err(Refused::Never(
                "its PreCommit may be on its way or on chain, and abandoning it loses the deposit: say so to go on",
            ));
        }
        _ => {}
    }
    Ok(State::Abandoning { cause })
}
