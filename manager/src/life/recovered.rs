//! A sector after the loss of the log.
//!
//! The database says who owned it and under which token, and that is whose journal is the later one: only a record of the
//! manager takes a sector from its owner, and the manager folds its own records. So the owner is named again in the new log,
//! with the number of the last event that is known, and is told what it may not have read before the loss.

use sealbus_schema::lease::Ownership;

use super::{carry_out, reinstate};
use crate::store::{Happening, Job, Outcome, Verdict};

/// Whether a sector goes on in the slot of its owner after the loss of the log.
pub fn goes_on(sector: &Job) -> bool {
    matches!(sector.ownership, Ownership::Held { .. }) && sector.state.told_so_far().is_some()
}

/// A sector in the log that takes the place of the `lost` one.
pub fn recovered(mut sector: Job, lost: &str, why: &str, happening: Happening) -> Outcome {
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
    let effects = if goes_on { sector.state.told_so_far().unwrap_or_default() } else { Vec::new() };
    let outbox = Vec::from_iter(reinstate(&sector, why));
    let mut outcome = Outcome { history: vec![(happening, Verdict::Noted)], outbox, ..Outcome::unchanged(sector) };
    for effect in effects {
        carry_out(&mut outcome, effect);
    }
    outcome
}
