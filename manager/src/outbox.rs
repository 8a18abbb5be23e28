//! The outbox: what the database decided, onto the bus.
//!
//! A row goes only when the server has it. Sending a row twice is harmless: every message has an id, and every message
//! but an intent is fenced.

use std::time::Duration;

use sealbus_nats::{Bus, Patience, publish::PublishError};
use sealbus_schema::{
    codec,
    identity::KnownStore,
    message::{Fact, Intent},
    seal::manager::State,
};
use tokio::sync::Notify;

use crate::{
    drive::chain_of,
    life,
    store::{OutboxKind, OutboxRow, Store, StoreError},
};

/// How long the outbox sleeps when nobody wakes it.
const PERIOD: Duration = Duration::from_secs(1);
/// How often the intents of all queued sectors are offered again, in case one was lost from the queue.
const REOFFER_PERIOD: Duration = Duration::from_secs(120);
/// How many rows are read at once.
const BATCH: u32 = 100;

/// What becomes of a row of the outbox that was published, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// It goes.
    Remove,
    /// It stays, for a person to see; the rows behind it go on.
    Keep,
    /// It stays, and so do the rows behind it until the bus answers.
    Stop,
}

/// Publishes for ever, for the manager that took over with this epoch.
pub async fn run(
    bus: &Bus,
    store: &Store,
    epoch: i64,
    changed: &Notify,
) -> Result<std::convert::Infallible, StoreError> {
    let mut reoffer = tokio::time::interval(REOFFER_PERIOD);
    let mut patience = Patience::new(PERIOD, PERIOD);
    loop {
        tokio::select! {
            () = changed.notified() => {}
            () = tokio::time::sleep(PERIOD) => {}
            _ = reoffer.tick() => reoffer_queued(bus, store, epoch).await?,
        }
        drain(bus, store, epoch, &mut patience).await?;
    }
}

/// Publishes what is there, in order, until nothing more can be or the bus does not answer. A row that the bus refuses
/// for good stays, for a person to see; the rows behind it go on.
async fn drain(bus: &Bus, store: &Store, epoch: i64, patience: &mut Patience) -> Result<(), StoreError> {
    let mut after = 0;
    loop {
        // The next holder has its own reader of these rows.
        store.check_epoch(epoch).await?;
        let rows = store.outbox(after, BATCH).await?;
        if rows.is_empty() {
            return Ok(());
        }
        let known = store.known_stores().await?;
        for row in rows {
            after = row.id;
            let outcome = publish(bus, &row, &known).await;
            let treatment = treat(&outcome);
            log_outcome(&row, outcome, treatment, patience);
            match treatment {
                Treatment::Remove => store.remove_from_outbox(row.id).await?,
                Treatment::Keep => {}
                Treatment::Stop => return Ok(()),
            }
        }
    }
}

/// What becomes of a row, by what became of its content.
pub const fn treat(outcome: &Result<(), PublishError>) -> Treatment {
    match outcome {
        // Fenced: the lease has moved, and the fold says what is true now.
        Ok(()) | Err(PublishError::Fenced { .. }) => Treatment::Remove,
        Err(error) if error.is_transient() => Treatment::Stop,
        Err(_) => Treatment::Keep,
    }
}

fn log_outcome(row: &OutboxRow, outcome: Result<(), PublishError>, treatment: Treatment, patience: &mut Patience) {
    let Err(error) = outcome else { return patience.mended("the bus takes what was decided again") };
    match treatment {
        Treatment::Remove => tracing::info!(sector = %row.sector, %error, "no longer true; dropped"),
        Treatment::Stop => drop(patience.failed("what was decided is not on the bus yet", &chain_of(&error))),
        Treatment::Keep => tracing::error!(sector = %row.sector, %error, "cannot be published"),
    }
}

async fn publish(bus: &Bus, row: &OutboxRow, known: &[KnownStore]) -> Result<(), PublishError> {
    match &row.kind {
        OutboxKind::Intent => {
            let intent: Intent = codec::decode(&row.payload)?;
            bus.offer(&intent).await.map(drop)
        }
        OutboxKind::Fact { worker } => {
            let mut fact: Fact = codec::decode(&row.payload)?;
            if let Fact::PrecommitLanded { stores, .. } = &mut fact {
                // As they are known now: the worker is about to write into one of them.
                *stores = known.to_vec();
            }
            bus.tell(row.sector, worker, &fact, &row.id.to_string()).await.map(drop)
        }
        OutboxKind::Release => {
            let reason = String::from_utf8_lossy(&row.payload);
            bus.release(row.sector, row.lease_sequence, &reason).await.map(drop)
        }
        OutboxKind::Purge => bus.purge(row.sector).await,
    }
}

/// Offers every sector again that waits for a worker. An intent that is in the queue stays alone; a stale one cannot
/// claim.
async fn reoffer_queued(bus: &Bus, store: &Store, epoch: i64) -> Result<(), StoreError> {
    store.check_epoch(epoch).await?;
    for sector in store.live_sectors().await? {
        if !matches!(sector.state, State::Queued | State::Requeued(_)) {
            continue;
        }
        match bus.offer(&life::intent_of(&sector)).await {
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(sector = %sector.id, %error, "not offered again");
                return Ok(());
            }
        }
    }
    Ok(())
}
