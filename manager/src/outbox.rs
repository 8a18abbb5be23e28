//! The outbox: what the database decided, onto the bus.
//!
//! A row goes only when the server has it. Sending a row twice is harmless: every message has an id, and every message
//! but an intent is fenced.

use std::{collections::BTreeSet, time::Duration};

use sealbus_nats::{Bus, publish::PublishError};
use sealbus_schema::{
    ErrorCode, codec,
    identity::KnownStore,
    lease::Ownership,
    message::{Fact, Intent, LeaseRecord},
};
use serde_json::json;
use tokio::sync::Notify;

use crate::{
    drive::chain_of,
    life,
    store::{Happening, Job, OutboxKind, OutboxRow, Outcome, Store, StoreError, Verdict},
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
    /// It stays, and so does what is behind it of the same sector, until the fold knows why the lease has moved.
    Wait,
    /// It stays, and so do the rows behind it until the bus answers.
    Stop,
}

/// What the fold knows of a lease by which a row was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The lease is over: what the row says is not true any more.
    Over,
    /// The lease stands, and the fold does not know yet what came after it.
    NotFolded,
    /// The lease stands, and what is written under it must expect this record.
    Behind(u64),
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
    let mut waiting = BTreeSet::new();
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
        let known = store.known_stores().await?;
        for row in rows {
            after = row.id;
            if keeps_order(&row.kind) && waiting.contains(&row.sector) {
                continue;
            }
            let (outcome, treatment) = publish(bus, store, &row, &known).await?;
            if let Err(error) = outcome {
                let of_row = Subject::Outbox { row: row.id, sector: row.sector };
                let text = format!("about sector {}: {}", row.sector, chain_of(&error));
                match treatment {
                    Treatment::Remove => tracing::info!(sector = %row.sector, %error, "no longer true; dropped"),
                    Treatment::Wait => tracing::debug!(sector = %row.sector, %error, "waits for the fold"),
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
                Treatment::Wait => drop(waiting.insert(row.sector)),
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

/// What a row was refused by that names this lease, by what the fold knows of the sector. `tried` is what it expected.
pub fn refused(lease: u64, tried: u64, ownership: Option<&Ownership>) -> Refused {
    match ownership {
        Some(Ownership::Held { token, last_lease, .. }) if token.0 == lease && *last_lease == tried => {
            Refused::NotFolded
        }
        Some(Ownership::Held { token, last_lease, .. }) if token.0 == lease => Refused::Behind(*last_lease),
        _ => Refused::Over,
    }
}

/// Whether a row of this kind must not overtake another one of its sector that waits. What puts the log right must.
pub const fn keeps_order(kind: &OutboxKind) -> bool {
    matches!(kind, OutboxKind::Fact { .. } | OutboxKind::Release)
}

/// Publishes a row, and says what becomes of it.
async fn publish(
    bus: &Bus,
    store: &Store,
    row: &OutboxRow,
    known: &[KnownStore],
) -> Result<(Result<(), PublishError>, Treatment), StoreError> {
    let mut fence = row.lease_sequence;
    loop {
        let outcome = publish_behind(bus, row, known, fence).await;
        let treatment = treat(&outcome);
        if !keeps_order(&row.kind) || !matches!(outcome, Err(PublishError::Fenced { .. })) {
            return Ok((outcome, treatment));
        }
        let sector = store.sector(row.sector).await?;
        match refused(row.lease_sequence, fence, sector.as_ref().map(|sector| &sector.ownership)) {
            Refused::Over => return Ok((outcome, treatment)),
            Refused::NotFolded => return Ok((outcome, Treatment::Wait)),
            Refused::Behind(moved) => fence = moved,
        }
    }
}

async fn publish_behind(bus: &Bus, row: &OutboxRow, known: &[KnownStore], fence: u64) -> Result<(), PublishError> {
    match &row.kind {
        OutboxKind::Intent => {
            let intent: Intent = codec::decode(&row.payload)?;
            bus.offer(&intent).await.map(drop)
        }
        OutboxKind::Fact { worker } => {
            let mut fact: Fact = codec::decode(&row.payload)?;
            // As they are known now: the worker is about to write into one of them.
            fact.body.note_stores(known);
            bus.tell_behind(row.sector, worker, &fact, &row.id.to_string(), fence).await.map(drop)
        }
        OutboxKind::Release => {
            let reason = String::from_utf8_lossy(&row.payload);
            bus.release(row.sector, fence, &reason).await.map(drop)
        }
        OutboxKind::Reinstate => {
            let record: LeaseRecord = codec::decode(&row.payload)?;
            bus.reinstate(row.sector, fence, &record).await.map(drop)
        }
        OutboxKind::Purge => bus.purge(row.sector).await,
    }
}

/// Offers every sector again that waits for a worker. An intent that is in the queue stays alone; a stale one cannot
/// claim. One that is not there was taken away by somebody who did not claim it, which is shown.
async fn reoffer_queued(bus: &Bus, store: &Store, epoch: i64) -> Result<(), StoreError> {
    store.check_epoch(epoch).await?;
    for sector in store.live_sectors().await? {
        let Some(intent) = life::intent_of(&sector).filter(|_| sector.blocked.is_none()) else { continue };
        match bus.offer(&intent).await {
            Ok(Some(stored)) if !stored.duplicate => note_missing(store, epoch, sector).await?,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(sector = %sector.id, %error, "not offered again");
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A sector's intent was not in the queue.
async fn note_missing(store: &Store, epoch: i64, sector: Job) -> Result<(), StoreError> {
    if store.waits_in_outbox(&[sector.id]).await? {
        return Ok(());
    }
    let mut tx = store.begin_as(epoch).await?;
    // It may have been claimed meanwhile.
    let Some(now) = tx.sector(sector.id).await?.filter(|now| *now == sector) else { return Ok(()) };
    tracing::warn!(sector = %sector.id, "its intent was not in the queue, and nobody has claimed it; offered again");
    let why = json!({ "why": "its intent was not in the queue, and nobody had claimed it" });
    let history = vec![(Happening::of_manager("offered_again", why), Verdict::Noted)];
    tx.store_outcomes(vec![Outcome { history, ..Outcome::unchanged(now) }]).await?;
    tx.commit().await
}
