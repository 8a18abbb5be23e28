//! A sector after the loss of the log.
//!
//! The database says who owned it and under which token, and that is whose journal is the later one: only a record of the
//! manager takes a sector from its owner, and the manager folds its own records. So the owner is named again in the new log,
//! with the number of the last event that is known, and is told what it may not have read before the loss.

use sealbus_schema::{
    lease::Ownership,
    message::Ticket,
    seal::manager::{Effect, State},
};

use super::{carry_out, reinstate};
use crate::store::{Happening, Outcome, Sector, Verdict};

/// Whether a sector goes on in the slot of its owner after the loss of the log.
pub const fn goes_on(sector: &Sector) -> bool {
    // Of these, only the end of the lease was to come.
    let ends = matches!(sector.state, State::Proving(_) | State::Aborted { .. } | State::Aborting { .. });
    matches!(sector.ownership, Ownership::Held { .. }) && !ends
}

/// A sector in the log that takes the place of the `lost` one.
pub fn recovered(mut sector: Sector, lost: &str, why: &str, happening: Happening) -> Outcome {
    let goes_on = goes_on(&sector);
    // A person has looked.
    sector.issues = 0;
    sector.ownership = match sector.ownership {
        Ownership::Held { worker, token, stream, last_event, .. } if goes_on => {
            let stream = stream.or_else(|| Some(lost.to_owned()));
            Ownership::Held { worker, token, stream, last_lease: 0, last_event }
        }
        _ => {
            sector.leased_at = None;
            Ownership::Free { last_lease: 0 }
        }
    };
    let effects = if goes_on { told(&sector.state) } else { Vec::new() };
    let outbox = Vec::from_iter(reinstate(&sector, why));
    let mut outcome = Outcome { history: vec![(happening, Verdict::Noted)], outbox, ..Outcome::unchanged(sector) };
    for effect in effects {
        carry_out(&mut outcome, effect);
    }
    outcome
}

/// What the owner of a sector in a state was told. Orders to go on are a person's to repeat.
fn told(state: &State) -> Vec<Effect> {
    match state {
        State::Blocked { at, .. } => return told(at),
        State::Sealing { ticket } => return vec![Effect::TellTicket(*ticket)],
        State::Rebuilding(rebuild) => {
            let ticket = Ticket { expires_epoch: i64::MAX, ..rebuild.sealed().ticket };
            return vec![Effect::TellTicket(ticket)];
        }
        State::Abandoning { cause } => return vec![Effect::TellAbandon(cause.clone())],
        _ => {}
    }
    let mut effects = Vec::new();
    effects.extend(state.precommitted().map(|known| Effect::TellPreCommitLanded(known.precommit)));
    if !matches!(state, State::CheckingFiles(_)) {
        effects.extend(state.stored().map(|_| Effect::TellPersistChecked));
    }
    effects.extend(state.seeded().map(|known| Effect::TellSeed(known.seed)));
    if let State::Cleaning(active) = state {
        effects.push(Effect::TellProveLanded { activation_epoch: active.activation_epoch });
    }
    effects
}
