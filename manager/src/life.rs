//! How one input changes one sector: machine, effects, history, all in the caller's transaction.

use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, Plan, Transition, codec,
    lease::Ownership,
    message::{Fact, Intent},
    seal::manager::{AttemptPolicy, Effect, Input},
};

use crate::store::{Happening, MessageKind, OutboxKind, Sector, StoreError, Tx, Verdict};

/// Applies an input to a sector that was read in this transaction, stores the outcome and queues the effects.
pub async fn apply(
    tx: &mut Tx,
    sector: &mut Sector,
    input: Input,
    happening: Happening,
    policy: AttemptPolicy,
) -> Result<Verdict, StoreError> {
    let from_worker = matches!(input, Input::Event(_));
    let verdict = match sector.state.apply(input, policy) {
        Transition::Advance { next, effects } => {
            if next.name() != sector.state.name() {
                tracing::info!(sector = %sector.id, from = sector.state.name(), to = next.name(), on = %happening.kind, "sector");
            }
            sector.state = next;
            for effect in effects {
                carry_out(tx, sector, effect).await?;
            }
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
    tx.save_sector(sector).await?;
    tx.add_history(sector.id, &happening, verdict).await?;
    Ok(verdict)
}

/// Queues an effect: everything that leaves the manager goes through the outbox or the table of messages.
async fn carry_out(tx: &mut Tx, sector: &mut Sector, effect: Effect) -> Result<(), StoreError> {
    match effect {
        Effect::PublishIntent => {
            sector.attempt += 1;
            offer(tx, sector).await
        }
        Effect::SendPreCommit => tx.want_message(MessageKind::PreCommit, sector.id, sector.attempt).await,
        Effect::SendProveCommit => tx.want_message(MessageKind::ProveCommit, sector.id, sector.attempt).await,
        Effect::CloseLease => {
            let reason = format!("{} after attempt {}", sector.state.name(), sector.attempt).into_bytes();
            tx.add_to_outbox(&OutboxKind::Release, sector.id, sector.ownership.last_lease(), reason).await
        }
        Effect::TellTicket(ticket) => tell(tx, sector, |token| Fact::Ticket { token, ticket }).await,
        Effect::TellPreCommitLanded(precommit) => {
            tell(tx, sector, |token| Fact::PrecommitLanded { token, precommit }).await
        }
        Effect::TellPersistChecked => tell(tx, sector, |token| Fact::PersistChecked { token }).await,
        Effect::TellSeed(seed) => tell(tx, sector, |token| Fact::Seed { token, seed }).await,
        Effect::TellProveLanded { activation_epoch } => {
            tell(tx, sector, |token| Fact::ProveLanded { token, activation_epoch }).await
        }
        Effect::TellAbandon(error) => tell(tx, sector, |token| Fact::Abandon { token, error }).await,
    }
}

/// Queues the intent of a sector that nobody owns.
pub async fn offer(tx: &mut Tx, sector: &Sector) -> Result<(), StoreError> {
    let intent = intent_of(sector);
    let payload = pack(sector, &intent)?;
    tx.add_to_outbox(&OutboxKind::Intent, sector.id, intent.lease_sequence, payload).await
}

/// The intent that a queued sector has outstanding.
pub fn intent_of(sector: &Sector) -> Intent {
    Intent {
        sector: sector.id,
        plan: Plan::Seal,
        proof: sector.proof,
        lease_sequence: sector.ownership.last_lease(),
        attempt: sector.attempt,
    }
}

async fn tell(
    tx: &mut Tx,
    sector: &Sector,
    fact: impl FnOnce(sealbus_schema::Token) -> Fact,
) -> Result<(), StoreError> {
    let Ownership::Held { worker, token, .. } = &sector.ownership else {
        // Nobody to tell: the fold of the release that made it so says what happens now.
        tracing::warn!(sector = %sector.id, state = sector.state.name(), "nobody owns the sector; a fact is dropped");
        return Ok(());
    };
    let payload = pack(sector, &fact(*token))?;
    tx.add_to_outbox(&OutboxKind::Fact { worker: worker.clone() }, sector.id, token.0, payload).await
}

fn pack<T: serde::Serialize>(sector: &Sector, message: &T) -> Result<Vec<u8>, StoreError> {
    codec::encode(message)
        .map_err(|e| StoreError::BadRow { what: format!("sector {}", sector.id), problem: e.to_string() })
}
