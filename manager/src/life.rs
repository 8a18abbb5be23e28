//! How one input changes one sector: the machine's answer, and its effects.
//!
//! [`decide`] is pure: it reads and writes nothing, so the same inputs always lead to the same outcome.
//! [`Tx::store_outcomes`] stores an outcome.

mod recovered;

use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, Invariant, Transition, Violation,
    lease::Ownership,
    machine::manager::{AttemptPolicy, Released},
    message::{CommonFact, Fact, FactBody, Intent, LeaseRecord},
    workflows::{Effect, Input},
};

use crate::store::{Happening, Job, Outcome, Outgoing, StoreError, Tx, Verdict, WantedMessage};

pub use recovered::{goes_on, recovered};

/// What an input does to a sector. It always adds one line of history, which says what happened and with which verdict.
pub fn decide(mut sector: Job, input: Input, happening: Happening, policy: AttemptPolicy) -> Outcome {
    let from_worker = matches!(input, Input::Event(_));
    if matches!(input, Input::Resubmitted { .. }) {
        // A person has decided, so the count of offers starts again.
        sector.issues = 0;
    }
    let (mut follows, mut broken) = (Vec::new(), Vec::new());
    let was_blocked = sector.blocked.is_some();
    let verdict = match sector.apply(input, policy) {
        Transition::Advance { next, effects } => {
            if next.at.name() != sector.state.name() {
                tracing::info!(sector = %sector.id, from = sector.state.name(), to = next.at.name(), on = %happening.kind, "sector");
            }
            sector.stand(next);
            follows = effects;
            follows.extend(release_unowned(&mut sector, policy));
            Verdict::Applied
        }
        Transition::Ignore(why) => {
            tracing::debug!(sector = %sector.id, kind = %happening.kind, why, "without effect");
            Verdict::Noted
        }
        Transition::Illegal(why) => {
            let message = format!("{} in state {}: {why}", happening.kind, sector.state.name());
            broken.push(Violation::new(Invariant::NothingIllegal, format!("{}: {message}", sector.id)));
            if from_worker {
                let cause = ErrorReport::new(ErrorClass::Perm, ErrorCode::PROTOCOL_VIOLATED, message);
                if let Transition::Advance { next, .. } = sector.apply(Input::Refused(cause), policy) {
                    sector.stand(next);
                }
            }
            Verdict::Illegal
        }
    };
    if let Some(cause) = sector.blocked.as_ref().filter(|cause| !was_blocked && cause.causes.is_empty()) {
        let seen = format!("{} is blocked with {} and no word of why", sector.id, cause.code);
        broken.push(Violation::new(Invariant::BlockedWithCause, seen));
    }
    sector.changed_at.clone_from(&happening.at);
    let mut outcome = Outcome { history: vec![(happening, verdict)], broken, ..Outcome::unchanged(sector) };
    for effect in follows {
        carry_out(&mut outcome, effect);
    }
    outcome
}

/// A sector that needs a worker and has none is treated as released, whatever led to that.
fn release_unowned(sector: &mut Job, policy: AttemptPolicy) -> Vec<Effect> {
    let held = matches!(sector.ownership, Ownership::Held { .. });
    if sector.blocked.is_some() || !sector.state.traits().needs_owner || held {
        return Vec::new();
    }
    match sector.apply(Input::Released(released(sector)), policy) {
        Transition::Advance { next, effects } => {
            sector.stand(next);
            effects
        }
        Transition::Ignore(_) | Transition::Illegal(_) => Vec::new(),
    }
}

/// What the machine must know about a sector whose lease ends.
pub fn released(sector: &Job) -> Released {
    Released { attempt: sector.attempt, issues: sector.issues, signed: sector.signed }
}

/// Applies an input to a sector that was read in this transaction, and stores the outcome.
pub async fn apply(
    tx: &mut Tx,
    sector: Job,
    input: Input,
    happening: Happening,
    policy: AttemptPolicy,
) -> Result<(), StoreError> {
    tx.store_outcomes(vec![decide(sector, input, happening, policy)]).await
}

/// Offers a sector without an owner to the workers.
pub fn offer(sector: Job, happening: Happening) -> Outcome {
    let outbox = Vec::from_iter(intent_of(&sector).map(Outgoing::Intent));
    Outcome { history: vec![(happening, Verdict::Applied)], outbox, ..Outcome::unchanged(sector) }
}

/// The lease record that names a sector's owner again. `None` if it has no owner.
pub fn reinstate(sector: &Job, reason: &str) -> Option<Outgoing> {
    let Ownership::Held { worker, token, stream, last_lease, last_event } = &sector.ownership else { return None };
    let (worker, token, stream, last_event) = (worker.clone(), *token, stream.clone(), *last_event);
    let record = LeaseRecord::Reinstate { worker, token, stream, last_event, reason: reason.to_owned() };
    Some(Outgoing::Reinstate { after: *last_lease, record })
}

/// The intent of an offered job. `None` if the job is not offered.
pub fn intent_of(sector: &Job) -> Option<Intent> {
    Some(Intent {
        sector: sector.id,
        kind: sector.state.traits().offered?,
        proof: sector.proof,
        lease_sequence: sector.ownership.last_lease(),
        attempt: sector.attempt,
    })
}

/// Turns an effect into rows: everything that leaves the manager goes through the outbox or the table of wants.
fn carry_out(outcome: &mut Outcome, effect: Effect) {
    match effect {
        Effect::Offer { another_attempt } => {
            if another_attempt {
                outcome.sector.attempt += 1;
                outcome.sector.signed = false;
            }
            outcome.sector.issues += 1;
            if let Ownership::Held { worker, token, .. } = &outcome.sector.ownership {
                let seen = format!("{} is offered while {worker} owns it under {token}", outcome.sector.id);
                outcome.broken.push(Violation::new(Invariant::IntentsComeFromTheFold, seen));
            }
            outcome.outbox.extend(intent_of(&outcome.sector).map(Outgoing::Intent));
        }
        Effect::Want(purpose) => {
            outcome.messages.push(WantedMessage { kind: purpose.into(), attempt: outcome.sector.attempt });
        }
        Effect::CloseLease => {
            let sector = &outcome.sector;
            let reason = format!("{} after attempt {}", sector.state.name(), sector.attempt);
            outcome.outbox.push(Outgoing::Release { lease_sequence: sector.ownership.lease(), reason });
        }
        Effect::Tell(body) => tell(outcome, body),
        Effect::TellResubmit { from } => {
            outcome.sector.resubmits += 1;
            tell(outcome, CommonFact::Resubmit { from });
        }
    }
}

fn tell(outcome: &mut Outcome, body: impl Into<FactBody>) {
    let sector = &outcome.sector;
    let Ownership::Held { worker, token, .. } = &sector.ownership else {
        // There is no owner to tell. The fold of the release that ended the lease decides what happens now.
        tracing::debug!(sector = %sector.id, state = sector.state.name(), "nobody owns the job; a fact is dropped");
        return;
    };
    let fact = Fact::new(*token, sector.resubmits, body);
    outcome.outbox.push(Outgoing::Fact { worker: worker.clone(), token: *token, fact });
}
