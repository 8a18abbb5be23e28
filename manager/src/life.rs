//! How one input changes one sector: the machine's answer, and what follows from it.
//!
//! [`decide`] is pure: it reads and writes nothing, so the same inputs always lead to the same outcome.
//! [`Tx::store_outcomes`] makes an outcome true.

mod recovered;

use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, Plan, Token, Transition,
    lease::Ownership,
    message::{Fact, Intent, LeaseRecord},
    seal::manager::{AttemptPolicy, Effect, Input, Released, State},
};

use crate::store::{Happening, MessageKind, Outcome, Outgoing, Sector, StoreError, Tx, Verdict, WantedMessage};

pub use recovered::{goes_on, recovered};

/// What an input does to a sector. There is always one line of history: what happened, and what became of it.
pub fn decide(mut sector: Sector, input: Input, happening: Happening, policy: AttemptPolicy) -> Outcome {
    let from_worker = matches!(input, Input::Event(_));
    if matches!(input, Input::Resubmitted { .. }) {
        // A person has looked: the count of offers starts anew.
        sector.issues = 0;
    }
    let mut follows = Vec::new();
    let verdict = match sector.state.apply(input, policy) {
        Transition::Advance { next, effects } => {
            if next.name() != sector.state.name() {
                tracing::info!(sector = %sector.id, from = sector.state.name(), to = next.name(), on = %happening.kind, "sector");
            }
            sector.state = next;
            follows = effects;
            follows.extend(release_unowned(&mut sector, policy));
            Verdict::Applied
        }
        Transition::Ignore(why) => {
            tracing::debug!(sector = %sector.id, kind = %happening.kind, why, "without effect");
            Verdict::Noted
        }
        Transition::Illegal(why) => {
            tracing::error!(sector = %sector.id, state = sector.state.name(), kind = %happening.kind, why, "must not happen");
            if from_worker {
                let message = format!("{} in state {}: {why}", happening.kind, sector.state.name());
                let cause = ErrorReport::new(ErrorClass::Perm, ErrorCode::PROTOCOL_VIOLATED, message);
                if let Transition::Advance { next, .. } = sector.state.apply(Input::Refused(cause), policy) {
                    sector.state = next;
                }
            }
            Verdict::Illegal
        }
    };
    sector.changed_at.clone_from(&happening.at);
    let mut outcome = Outcome { history: vec![(happening, verdict)], ..Outcome::unchanged(sector) };
    for effect in follows {
        carry_out(&mut outcome, effect);
    }
    outcome
}

/// A sector that needs a worker and has none is as good as released, whatever brought it there.
fn release_unowned(sector: &mut Sector, policy: AttemptPolicy) -> Vec<Effect> {
    let blocked = matches!(sector.state, State::Blocked { .. });
    if blocked || !sector.state.needs_owner() || matches!(sector.ownership, Ownership::Held { .. }) {
        return Vec::new();
    }
    match sector.state.apply(Input::Released(released(sector)), policy) {
        Transition::Advance { next, effects } => {
            sector.state = next;
            effects
        }
        Transition::Ignore(_) | Transition::Illegal(_) => Vec::new(),
    }
}

/// What the end of a sector's lease means for it.
pub fn released(sector: &Sector) -> Released {
    Released { attempt: sector.attempt, issues: sector.issues, precommit_signed: sector.precommit_signed }
}

/// Applies an input to a sector that was read in this transaction, and stores the outcome.
pub async fn apply(
    tx: &mut Tx,
    sector: Sector,
    input: Input,
    happening: Happening,
    policy: AttemptPolicy,
) -> Result<(), StoreError> {
    tx.store_outcomes(vec![decide(sector, input, happening, policy)]).await
}

/// The outcome of offering a sector that nobody owns to the workers.
pub fn offer(sector: Sector, happening: Happening) -> Outcome {
    let intent = Outgoing::Intent(intent_of(&sector));
    Outcome { history: vec![(happening, Verdict::Applied)], outbox: vec![intent], ..Outcome::unchanged(sector) }
}

/// The record that says again whose a sector is; none if it is nobody's.
pub fn reinstate(sector: &Sector, reason: &str) -> Option<Outgoing> {
    let Ownership::Held { worker, token, stream, last_lease, last_event } = &sector.ownership else { return None };
    let (worker, token, stream, last_event) = (worker.clone(), *token, stream.clone(), *last_event);
    let record = LeaseRecord::Reinstate { worker, token, stream, last_event, reason: reason.to_owned() };
    Some(Outgoing::Reinstate { after: *last_lease, record })
}

/// The intent that a sector in the queue has outstanding.
pub fn intent_of(sector: &Sector) -> Intent {
    Intent {
        sector: sector.id,
        plan: if matches!(sector.state, State::Requeued(_)) { Plan::Rebuild } else { Plan::Seal },
        proof: sector.proof,
        lease_sequence: sector.ownership.last_lease(),
        attempt: sector.attempt,
    }
}

/// Everything that leaves the manager goes through the outbox or the table of messages.
fn carry_out(outcome: &mut Outcome, effect: Effect) {
    let serial = outcome.sector.resubmits;
    match effect {
        Effect::OfferAttempt => {
            outcome.sector.attempt += 1;
            outcome.sector.issues += 1;
            outcome.sector.precommit_signed = false;
            outcome.outbox.push(Outgoing::Intent(intent_of(&outcome.sector)));
        }
        Effect::OfferRebuild => {
            outcome.sector.issues += 1;
            outcome.outbox.push(Outgoing::Intent(intent_of(&outcome.sector)));
        }
        Effect::SendPreCommit => want(outcome, MessageKind::PreCommit),
        Effect::SendProveCommit => want(outcome, MessageKind::ProveCommit),
        Effect::CloseLease => {
            let sector = &outcome.sector;
            let reason = format!("{} after attempt {}", sector.state.name(), sector.attempt);
            outcome.outbox.push(Outgoing::Release { lease_sequence: sector.ownership.lease(), reason });
        }
        Effect::TellTicket(ticket) => tell(outcome, |token| Fact::Ticket { token, ticket }),
        Effect::TellPreCommitLanded(precommit) => {
            tell(outcome, |token| Fact::PrecommitLanded { token, serial, precommit, stores: Vec::new() });
        }
        Effect::TellPersistChecked => tell(outcome, |token| Fact::PersistChecked { token, serial }),
        Effect::TellSeed(seed) => tell(outcome, |token| Fact::Seed { token, serial, seed }),
        Effect::TellProveLanded { activation_epoch } => {
            tell(outcome, |token| Fact::ProveLanded { token, serial, activation_epoch });
        }
        Effect::TellResubmit { from } => {
            outcome.sector.resubmits += 1;
            let serial = outcome.sector.resubmits;
            tell(outcome, |token| Fact::Resubmit { token, serial, from });
        }
        Effect::TellAbandon(error) => tell(outcome, |token| Fact::Abandon { token, error }),
    }
}

fn want(outcome: &mut Outcome, kind: MessageKind) {
    outcome.messages.push(WantedMessage { kind, attempt: outcome.sector.attempt });
}

fn tell(outcome: &mut Outcome, fact: impl FnOnce(Token) -> Fact) {
    let sector = &outcome.sector;
    let Ownership::Held { worker, token, .. } = &sector.ownership else {
        // Nobody to tell: the fold of the release that made it so says what happens now.
        tracing::debug!(sector = %sector.id, state = sector.state.name(), "nobody owns the sector; a fact is dropped");
        return;
    };
    let fact = Outgoing::Fact { worker: worker.clone(), token: *token, fact: fact(*token) };
    outcome.outbox.push(fact);
}
