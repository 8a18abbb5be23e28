//! The outbox publishes the records that are stored in the database.
//!
//! A row is removed only when the server has stored its message. Sending a row twice is harmless: every message has an
//! id, and every message except an intent is fenced.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use sealbus_nats::{Bus, publish::PublishError};
use sealbus_schema::{
    ErrorCode, SectorId, codec,
    identity::KnownStore,
    lease::Ownership,
    message::{Fact, Intent, LeaseRecord},
};
use serde_json::json;

use crate::{
    drive::chain_of,
    life,
    store::{Happening, Job, OutboxKind, OutboxRow, Outcome, Store, StoreError, Verdict},
    waits::{Cause, Subject, Waits},
    wake::Wake,
};

/// How long the outbox sleeps if nothing wakes it.
const PERIOD: Duration = Duration::from_secs(1);
/// How often the intents of all queued sectors are published again, in case the queue has lost one.
const REOFFER_PERIOD: Duration = Duration::from_secs(120);
/// How many rows are read in one query.
const BATCH: u32 = 500;
/// How many sectors' rows are published at the same time.
const PARALLEL: usize = 64;

/// What happens to a row of the outbox after an attempt to publish it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// It is removed.
    Remove,
    /// It stays, for a person to see. Later rows continue.
    Keep,
    /// It stays, together with later rows of the same sector, until the fold knows why the lease has moved.
    Wait,
    /// It stays, together with all later rows, until the bus answers.
    Stop,
}

/// What the fold knows about the lease of a row that the fence refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The lease is over, so the row is out of date.
    Over,
    /// The lease is in force, and the fold has not yet read what came after it.
    NotFolded,
    /// The lease is in force, and writes under it must expect this record.
    Behind(u64),
}

/// Publishes forever, for the manager that took over with this epoch.
pub async fn run(
    bus: &Bus,
    store: &Store,
    epoch: i64,
    changed: &Wake,
    waits: &Waits,
) -> Result<std::convert::Infallible, StoreError> {
    tokio::select! {
        ended = publish_for_ever(bus, store, epoch, changed, waits) => ended,
        ended = reoffer_for_ever(bus, store, epoch) => ended,
    }
}

async fn publish_for_ever(
    bus: &Bus,
    store: &Store,
    epoch: i64,
    changed: &Wake,
    waits: &Waits,
) -> Result<std::convert::Infallible, StoreError> {
    let mut changes = changed.listen();
    loop {
        changes.answer();
        drain(bus, store, epoch, waits).await?;
        tokio::select! {
            () = changes.woken() => {}
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

/// The outcome of publishing a sector's rows.
#[derive(Debug, Default)]
struct Published {
    /// Rows that are on the bus or out of date.
    gone: Vec<i64>,
    /// Rows that the bus refuses for good.
    kept: Vec<Subject>,
    /// Whether the rest waits for the fold.
    waits: bool,
    /// Why the bus does not answer, if it does not.
    stopped: Option<Cause>,
}

/// Publishes rows until none is left that can be published, or the bus does not answer. Rows of one sector are
/// published in order, those of different sectors concurrently. A row that the bus refuses for good stays, for a person
/// to see, and later rows continue.
async fn drain(bus: &Bus, store: &Store, epoch: i64, waits: &Waits) -> Result<(), StoreError> {
    let (mut after, mut kept) = (0, BTreeSet::new());
    // Sectors whose rows wait for the fold. Later batches must not overtake these rows.
    let mut waiting = BTreeSet::new();
    let of_bus = Subject::Bus("outbox".to_owned());
    loop {
        // Another manager may have taken over, and it reads these rows itself.
        store.check_epoch(epoch).await?;
        let rows = store.outbox(after, BATCH).await?;
        let Some(last) = rows.last() else {
            waits.keep_only(&["outbox"], &kept);
            // An empty outbox says nothing about the bus unless we are connected.
            if bus.is_connected() {
                waits.goes_on(&of_bus);
            }
            return Ok(());
        };
        after = last.id;
        let known = store.known_stores().await?;
        let publishing =
            by_sector(rows).into_iter().map(|(sector, rows)| {
                let (waits_already, known) = (waiting.contains(&sector), &known);
                async move {
                    publish_in_order(bus, store, waits, rows, known, waits_already).await.map(|done| (sector, done))
                }
            });
        let published: Vec<(SectorId, Published)> =
            stream::iter(publishing).buffer_unordered(PARALLEL).try_collect().await?;
        let gone: Vec<i64> = published.iter().flat_map(|(_, done)| done.gone.iter().copied()).collect();
        store.remove_from_outbox(&gone).await?;
        let mut stopped = None;
        for (sector, done) in published {
            kept.extend(done.kept);
            if done.waits {
                waiting.insert(sector);
            }
            stopped = stopped.or(done.stopped);
        }
        if let Some(cause) = stopped {
            waits.waits(&of_bus, cause, PERIOD);
            return Ok(());
        }
    }
}

/// The rows grouped by sector, ordered by each sector's first row.
fn by_sector(rows: Vec<OutboxRow>) -> Vec<(SectorId, Vec<OutboxRow>)> {
    let mut sectors: Vec<(SectorId, Vec<OutboxRow>)> = Vec::new();
    let mut places = HashMap::new();
    for row in rows {
        let place = *places.entry(row.sector).or_insert(sectors.len());
        match sectors.get_mut(place) {
            Some((_, rows)) => rows.push(row),
            None => sectors.push((row.sector, vec![row])),
        }
    }
    sectors
}

/// Publishes rows of one sector, one after the other.
async fn publish_in_order(
    bus: &Bus,
    store: &Store,
    waits: &Waits,
    rows: Vec<OutboxRow>,
    known: &[KnownStore],
    waits_already: bool,
) -> Result<Published, StoreError> {
    let mut done = Published { waits: waits_already, ..Published::default() };
    for row in rows {
        // An earlier row waits for the fold, and this one must not overtake it.
        if done.waits && keeps_order(&row.kind) {
            continue;
        }
        let (outcome, treatment) = publish(bus, store, &row, known).await?;
        if let Err(error) = &outcome {
            let text = format!("about sector {}: {}", row.sector, chain_of(error));
            match treatment {
                Treatment::Remove => tracing::info!(sector = %row.sector, %error, "out of date; dropped"),
                Treatment::Wait => tracing::debug!(sector = %row.sector, %error, "waits for the fold"),
                Treatment::Stop => done.stopped = Some(Cause::passing(ErrorCode::BUS_UNAVAILABLE, text)),
                Treatment::Keep => {
                    let of_row = Subject::Outbox { row: row.id, sector: row.sector };
                    waits.waits(&of_row, Cause::to_mend(ErrorCode::RECORD_REFUSED, text), PERIOD);
                    done.kept.push(of_row);
                }
            }
        }
        match treatment {
            Treatment::Remove => done.gone.push(row.id),
            Treatment::Keep => {}
            Treatment::Wait => done.waits = true,
            Treatment::Stop => break,
        }
    }
    Ok(done)
}

/// What happens to a row after an outcome.
pub const fn treat(outcome: &Result<(), PublishError>) -> Treatment {
    match outcome {
        // Fenced: the lease has moved, so the row is out of date; the fold decides what follows.
        Ok(()) | Err(PublishError::Fenced { .. }) => Treatment::Remove,
        // The bus is unavailable, so no other row can be published either.
        Err(error) if error.is_transient() => Treatment::Stop,
        Err(_) => Treatment::Keep,
    }
}

/// Why the fence refused a row of this lease, according to the fold's knowledge of the sector. `tried` is the record
/// that the row expected.
pub fn refused(lease: u64, tried: u64, ownership: Option<&Ownership>) -> Refused {
    match ownership {
        // We expected the record that the fold knows as the last one, so a newer record is in the log.
        Some(Ownership::Held { token, last_lease, .. }) if token.0 == lease && *last_lease == tried => {
            Refused::NotFolded
        }
        Some(Ownership::Held { token, last_lease, .. }) if token.0 == lease => Refused::Behind(*last_lease),
        _ => Refused::Over,
    }
}

/// Whether a row of this kind must not overtake a waiting row of its sector. Rows that repair the log must overtake.
pub const fn keeps_order(kind: &OutboxKind) -> bool {
    matches!(kind, OutboxKind::Fact { .. } | OutboxKind::Release)
}

/// Publishes a row, and returns what happens to it.
async fn publish(
    bus: &Bus,
    store: &Store,
    row: &OutboxRow,
    known: &[KnownStore],
) -> Result<(Result<(), PublishError>, Treatment), StoreError> {
    if matches!(row.kind, OutboxKind::Intent) {
        let freed = free_log(bus, store, row).await?;
        if !matches!(freed, Ok(false)) {
            let outcome = freed.map(drop);
            let treatment = treat(&outcome);
            return Ok((outcome, treatment));
        }
    }
    let mut fence = row.lease_sequence;
    loop {
        let outcome = publish_behind(bus, row, known, fence).await;
        let treatment = treat(&outcome);
        // Facts and releases belong to a lease that may be in force although the fence has moved: try behind the new
        // record.
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

/// Ends what somebody wrote into a sector's log before the sector was wanted. The server's fence stands behind that, and
/// nobody could claim the first intent. The fold offers the sector behind the record that is published here. Whether there
/// was anything.
async fn free_log(bus: &Bus, store: &Store, row: &OutboxRow) -> Result<Result<bool, PublishError>, StoreError> {
    if row.lease_sequence != 0 {
        return Ok(Ok(false));
    }
    let found = match bus.last_lease(row.sector).await {
        Ok(None) => return Ok(Ok(false)),
        Ok(Some(lease)) => lease.sequence,
        Err(error) => {
            let subject = format!("the log of {}", row.sector);
            return Ok(Err(PublishError::Unknown { subject, source: error.into() }));
        }
    };
    // Read in this order: what is folded after the sector was wanted moves the sector's own last lease record.
    let folded = store.fold_state().await?.map_or(0, |fold| fold.last_sequence);
    let sector = store.sector(row.sector).await?;
    let is_passed_over =
        folded >= found && sector.is_some_and(|sector| matches!(sector.ownership, Ownership::Free { last_lease: 0 }));
    if !is_passed_over {
        return Ok(Ok(false));
    }
    tracing::warn!(sector = %row.sector, sequence = found, "claimed before it was wanted; it has no effect");
    Ok(bus.release(row.sector, found, "claimed before it was wanted").await.map(|_| true))
}

async fn publish_behind(bus: &Bus, row: &OutboxRow, known: &[KnownStore], fence: u64) -> Result<(), PublishError> {
    match &row.kind {
        OutboxKind::Intent => {
            let intent: Intent = codec::decode(&row.payload)?;
            bus.offer(&intent).await.map(drop)
        }
        OutboxKind::Fact { worker } => {
            let mut fact: Fact = codec::decode(&row.payload)?;
            // Added only now, so that the ids are current: the worker is about to write into one of the stores.
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

/// Offers all queued sectors again from time to time.
async fn reoffer_for_ever(bus: &Bus, store: &Store, epoch: i64) -> Result<std::convert::Infallible, StoreError> {
    let mut reoffer = tokio::time::interval(REOFFER_PERIOD);
    loop {
        reoffer.tick().await;
        reoffer_queued(bus, store, epoch).await?;
    }
}

/// Publishes the intents of all queued sectors. The server refuses one that is still in the queue, and a stale one
/// cannot claim. If an intent was missing, somebody had taken it without claiming the sector, which is reported.
async fn reoffer_queued(bus: &Bus, store: &Store, epoch: i64) -> Result<(), StoreError> {
    store.check_epoch(epoch).await?;
    for sector in store.queued_sectors().await? {
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

/// Records that a sector's intent was not in the queue.
async fn note_missing(store: &Store, epoch: i64, sector: Job) -> Result<(), StoreError> {
    if store.waits_in_outbox(&[sector.id]).await? {
        return Ok(());
    }
    let mut tx = store.begin_as(epoch).await?;
    // It may have been claimed meanwhile.
    let Some(now) = tx.sector(sector.id).await?.filter(|now| *now == sector) else { return Ok(()) };
    tracing::warn!(sector = %sector.id, "its intent was missing from the queue, and nobody has claimed the sector; offered again");
    let why = json!({ "why": "its intent was missing from the queue, and nobody had claimed the sector" });
    let history = vec![(Happening::of_manager("offered_again", why), Verdict::Noted)];
    tx.store_outcomes(vec![Outcome { history, ..Outcome::unchanged(now) }]).await?;
    tx.commit().await
}
