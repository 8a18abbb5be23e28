//! The outbox: what the database decided, onto the bus.
//!
//! A row goes only when the server has it. Sending a row twice is harmless: every message has an id, and every message
//! but an intent is fenced.

use std::{collections::BTreeSet, time::Duration};

use sealbus_nats::{Bus, publish::PublishError};
use sealbus_schema::{
    ErrorCode, codec,
    message::{Fact, Intent},
    seal::manager::State,
};
use tokio::sync::Notify;

use crate::{
    drive::chain_of,
    life,
    store::{OutboxKind, OutboxRow, Store, StoreError},
    waits::{Cause, Subject, Waits},
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
    waits: &Waits,
) -> Result<std::convert::Infallible, StoreError> {
    let mut reoffer = tokio::time::interval(REOFFER_PERIOD);
    loop {
        tokio::select! {
            () = changed.notified() => {}
            () = tokio::time::sleep(PERIOD) => {}
            _ = reoffer.tick() => reoffer_queued(bus, store, epoch).await?,
        }
        drain(bus, store, epoch, waits).await?;
    }
}

/// Publishes what is there, in order, until nothing more can be or the bus does not answer. A row that the bus refuses
/// for good stays, for a person to see; the rows behind it go on.
async fn drain(bus: &Bus, store: &Store, epoch: i64, waits: &Waits) -> Result<(), StoreError> {
    let (mut after, mut kept) = (0, BTreeSet::new());
    let of_bus = Subject::Bus("outbox".to_owned());
    loop {
        // The next holder has its own reader of these rows.
        store.check_epoch(epoch).await?;
        let rows = store.outbox(after, BATCH).await?;
        if rows.is_empty() {
            waits.keep_only(&["outbox"], &kept);
            if bus.is_connected() {
                waits.goes_on(&of_bus);
            }
            return Ok(());
        }
        for row in rows {
            after = row.id;
            let outcome = publish(bus, &row).await;
            let treatment = treat(&outcome);
            if let Err(error) = outcome {
                let of_row = Subject::Outbox { row: row.id, sector: row.sector };
                let text = format!("about sector {}: {}", row.sector, chain_of(&error));
                match treatment {
                    Treatment::Remove => tracing::info!(sector = %row.sector, %error, "no longer true; dropped"),
                    Treatment::Stop => {
                        waits.waits(&of_bus, Cause::passing(ErrorCode::BUS_UNAVAILABLE, text), PERIOD);
                    }
                    Treatment::Keep => {
                        waits.waits(&of_row, Cause::to_mend(ErrorCode::RECORD_REFUSED, text), PERIOD);
                        kept.insert(of_row);
                    }
                }
            }
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

async fn publish(bus: &Bus, row: &OutboxRow) -> Result<(), PublishError> {
    match &row.kind {
        OutboxKind::Intent => {
            let intent: Intent = codec::decode(&row.payload)?;
            bus.offer(&intent).await.map(drop)
        }
        OutboxKind::Fact { worker } => {
            let fact: Fact = codec::decode(&row.payload)?;
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
