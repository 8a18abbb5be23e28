//! What happens to a sector after the loss of the log.
//!
//! The database knows the owner and its token, and no later owner can exist: only a record of the manager takes a sector
//! from its owner, and the manager has folded its own records. So the manager names the owner again in the new log, with
//! the number of the last event that it knows. It also repeats the facts that the owner may not have read before the
//! loss.

use sealbus_schema::{
    lease::Ownership,
    message::{CommonFact, Fact},
};

use super::{carry_out, reinstate};
use crate::store::{Happening, Job, Outcome, Outgoing, Verdict};

/// Whether a sector continues in its owner's slot after the loss of the log.
pub fn goes_on(sector: &Job) -> bool {
    matches!(sector.ownership, Ownership::Held { .. }) && sector.state.told_so_far().is_some()
}

/// The outcome for a sector when a new log replaces the `lost` one.
pub fn recovered(mut sector: Job, lost: &str, why: &str, happening: Happening) -> Outcome {
    let goes_on = goes_on(&sector);
    // A person has ordered the recovery, so the count of offers starts again.
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
    outcome.outbox.extend(last_order(&outcome.sector).filter(|_| goes_on));
    for effect in effects {
        carry_out(&mut outcome, effect);
    }
    outcome
}

/// Repeats the last order to resubmit, which may have been lost unread, with the phase that the manager waits for. An
/// owner that has already carried it out recognises its serial and ignores it.
fn last_order(sector: &Job) -> Option<Outgoing> {
    let Ownership::Held { worker, token, .. } = &sector.ownership else { return None };
    if sector.resubmits == 0 || sector.blocked.is_some() {
        return None;
    }
    let order = CommonFact::Resubmit { from: sector.state.awaited_phase() };
    let fact = Fact::new(*token, sector.resubmits, order);
    Some(Outgoing::Fact { worker: worker.clone(), token: *token, fact })
}

#[cfg(test)]
mod tests {
    use sealbus_schema::{
        Phase, SealProof, Token,
        message::FactBody,
        workflows::{State, seal},
    };

    use super::*;

    fn packing(resubmits: u32) -> Job {
        let worker = "w1".parse().expect("worker name");
        Job {
            id: "f01000/7".parse().expect("sector"),
            proof: SealProof::StackedDrg2KiBV1_1,
            attempt: 1,
            issues: 1,
            resubmits,
            signed: false,
            created_at: String::new(),
            changed_at: String::new(),
            ownership: Ownership::Held { worker, token: Token(9), stream: None, last_lease: 11, last_event: 4 },
            leased_at: None,
            state: State::Seal(seal::manager::State::Packing),
            blocked: None,
        }
    }

    #[test]
    fn the_last_order_is_told_again_under_its_serial_because_its_owner_may_not_have_read_it() {
        for resubmits in [0, 2] {
            let happening = Happening::of_manager("queue_recovered", serde_json::Value::Null);
            let outcome = recovered(packing(resubmits), "SEAL_SECTORS@1", "a test", happening);
            let orders: Vec<_> = outcome
                .outbox
                .iter()
                .filter_map(|outgoing| match outgoing {
                    Outgoing::Fact {
                        fact: Fact { token, serial, body: FactBody::Common(CommonFact::Resubmit { from }) },
                        ..
                    } => Some((*token, *serial, *from)),
                    _ => None,
                })
                .collect();
            let expected = (resubmits > 0).then_some((Token(9), resubmits, Some(Phase::AddPieces)));
            assert_eq!(orders, Vec::from_iter(expected));
            assert!(
                matches!(outcome.outbox.first(), Some(Outgoing::Reinstate { after: 0, .. })),
                "the owner comes first"
            );
            assert_eq!(outcome.sector.resubmits, resubmits, "no order was added");
        }
    }
}
