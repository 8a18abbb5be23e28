//! Describes the sealing of a sector for people, and the cost of waiting.

use serde_json::{Map, Value, json};

use super::{Rebuild, State};
use crate::{machine::manager::AtStake, parts::Ticket};

/// The ticket that the work is bound to.
fn ticket(state: &State) -> Option<Ticket> {
    match state {
        State::Sealing { ticket } => Some(*ticket),
        state => state.sealed().map(|sealed| sealed.ticket),
    }
}

pub(super) fn at_stake(state: &State) -> AtStake {
    match state {
        State::Queued | State::Proving(_) | State::Aborted { .. } => AtStake::Nothing,
        State::Packing
        | State::DrawingTicket { .. }
        | State::Cleaning(_)
        | State::Aborting { .. }
        | State::Abandoning { .. } => AtStake::Slot,
        state => match (state.precommitted(), ticket(state)) {
            (Some(precommitted), _) => AtStake::Deposit(precommitted.precommit),
            (None, Some(ticket)) => AtStake::Ticket(ticket),
            (None, None) => AtStake::Slot,
        },
    }
}

pub(super) fn describe(state: &State) -> Map<String, Value> {
    let rebuild = match state {
        State::Requeued(rebuild) | State::Rebuilding(rebuild) => Some(rebuild),
        _ => None,
    };
    let activation_epoch = match state {
        State::Cleaning(active) | State::Proving(active) => Some(active.activation_epoch),
        _ => None,
    };
    let sealed = state.sealed();
    let fields = [
        ("comm_r", json!(sealed.map(|sealed| sealed.comm_r))),
        ("comm_d", json!(sealed.map(|sealed| sealed.comm_d))),
        ("ticket", json!(sealed.map(|sealed| sealed.ticket))),
        ("precommit", json!(state.precommitted().map(|known| known.precommit))),
        ("stored", json!(state.stored().map(|stored| &stored.files))),
        ("seed", json!(state.seeded().map(|seeded| seeded.seed))),
        ("activation_epoch", json!(activation_epoch)),
        ("rebuild", json!(rebuild.map(rebuild_in_words))),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn rebuild_in_words(rebuild: &Rebuild) -> String {
    let precommit = match rebuild {
        Rebuild::Sent(_) => "its PreCommit is on its way".to_owned(),
        Rebuild::Landed(landed) => {
            format!("its PreCommit stands and expires at epoch {}", landed.precommit.prove_by_epoch)
        }
    };
    format!("to CommR {}; {precommit}", rebuild.sealed().comm_r)
}
