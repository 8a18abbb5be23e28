//! Publishes a person's orders to whole machines, and records when they are carried out.
//!
//! A reconciler: it publishes whatever the bus lacks, as often as needed. Publishing orders twice is harmless.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use sealbus_nats::{Bus, heartbeats::Seen};
use sealbus_schema::{
    ErrorCode,
    message::{Orders, SlotRelease},
};
use serde_json::json;

use crate::{
    config::Miner,
    drive::chain_of,
    slots,
    store::{AuditEntry, Store, StoreError, WorkerOrders},
    waits::{Cause, Subject, Waits},
    wake::Wake,
    weights,
};

/// How often the orders are checked if nothing wakes this task.
const PERIOD: Duration = Duration::from_secs(1);
/// How often the orders on the bus are compared with those in the database.
const COMPARE_PERIOD: Duration = Duration::from_secs(30);
/// How often the heartbeats are read while a worker has something to carry out.
const HEARTBEATS_PERIOD: Duration = Duration::from_secs(3);
/// How many workers' orders are published at the same time.
const PARALLEL: usize = 16;
/// How often the heartbeats are read to remember slots.
const SLOTS_PERIOD: Duration = Duration::from_secs(10);

/// Publishes orders forever, for the manager that took over with this epoch.
pub async fn run(
    bus: &Bus,
    store: &Store,
    epoch: i64,
    miners: &[Miner],
    changed: &Wake,
    waits: &Waits,
) -> Result<std::convert::Infallible, StoreError> {
    // Orders that an earlier manager published may be lost with a server's disk.
    for orders in store.worker_orders().await? {
        publish(bus, store, &orders, waits).await?;
    }
    let mut heartbeats = tokio::time::interval(HEARTBEATS_PERIOD);
    heartbeats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut slots = tokio::time::interval(SLOTS_PERIOD);
    slots.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut compare = tokio::time::interval(COMPARE_PERIOD);
    compare.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut changes = changed.listen();
    loop {
        let look = tokio::select! {
            _ = slots.tick() => {
                slots::remember(bus, store, epoch).await?;
                false
            }
            () = changes.woken() => false,
            () = tokio::time::sleep(PERIOD) => false,
            _ = heartbeats.tick() => true,
            _ = compare.tick() => {
                withdraw_forged(bus, store, epoch).await?;
                false
            }
        };
        let all = with_weights(store, epoch, miners).await?;
        // A change of a weight concerns every worker.
        let unpublished = all.iter().filter(|orders| !orders.is_published());
        let publishing = unpublished.map(|orders| publish(bus, store, orders, waits));
        stream::iter(publishing).buffer_unordered(PARALLEL).try_collect::<()>().await?;
        if bus.is_connected() && all.iter().all(|orders| orders.is_published() && orders.orders.release.is_empty()) {
            waits.goes_on(&of_orders());
        }
        if look && all.iter().any(|orders| !orders.orders.release.is_empty()) {
            note_releases(bus, store, epoch, &all, waits).await?;
        }
    }
}

/// Every worker's standing orders, with the weights that are in force.
async fn with_weights(store: &Store, epoch: i64, miners: &[Miner]) -> Result<Vec<WorkerOrders>, StoreError> {
    let all = store.worker_orders().await?;
    let weights = weights::in_force(miners, &store.ordered_weights().await?);
    if all.iter().all(|orders| orders.orders.weights == weights) {
        return Ok(all);
    }
    let mut tx = store.begin_as(epoch).await?;
    tx.tell_weights(&weights).await?;
    tx.commit().await?;
    store.worker_orders().await
}

/// Orders on the bus that were not given here are reported, and replaced by the ones that were given.
pub async fn withdraw_forged(bus: &Bus, store: &Store, epoch: i64) -> Result<(), StoreError> {
    let standing = match bus.all_orders().await {
        Ok(standing) => standing,
        // The lost connection is already reported.
        Err(_) if !bus.is_connected() => return Ok(()),
        Err(error) => {
            tracing::warn!(%error, "the orders on the bus cannot be read; they are compared later");
            return Ok(());
        }
    };
    // Read after the bus, so that an order given meanwhile is not taken for a forged one.
    let given = store.worker_orders().await?;
    for (worker, found) in standing {
        let ours = given.iter().find(|orders| orders.worker == worker);
        let (published, wanted) = match ours {
            Some(orders) => (orders.is_published(), orders.orders.clone()),
            None => (true, Orders::default()),
        };
        if !published || found.as_ref() == Some(&wanted) {
            continue;
        }
        tracing::error!(
            %worker, ?found, revision = wanted.revision,
            "orders stand on the bus that this manager has not given; they are withdrawn. Somebody has a key that may write them"
        );
        let mut tx = store.begin_as(epoch).await?;
        tx.order_again(&worker).await?;
        let detail = json!({ "found": found, "given": wanted });
        let why = "they stood on the bus, and nobody had given them here";
        tx.add_audit(&AuditEntry::new("manager", "workers withdraw-orders", worker.to_string(), why, detail)).await?;
        tx.commit().await?;
    }
    Ok(())
}

async fn publish(bus: &Bus, store: &Store, orders: &WorkerOrders, waits: &Waits) -> Result<(), StoreError> {
    let (worker, revision) = (&orders.worker, orders.orders.revision);
    match bus.order(worker, &orders.orders).await {
        Ok(_) => {
            tracing::info!(%worker, revision, drain = orders.orders.drain, "orders published");
            store.mark_orders_published(worker, revision).await
        }
        Err(error) => {
            let text = format!("orders to worker {worker}: {}", chain_of(&error));
            waits.waits(&of_orders(), Cause::passing(ErrorCode::BUS_UNAVAILABLE, text), PERIOD);
            Ok(())
        }
    }
}

/// Records which slots were released, according to the heartbeats.
async fn note_releases(
    bus: &Bus,
    store: &Store,
    epoch: i64,
    all: &[WorkerOrders],
    waits: &Waits,
) -> Result<(), StoreError> {
    let seen = match bus.workers().await {
        Ok(seen) => seen,
        Err(error) => {
            let text = format!("the heartbeats, to see which slots are freed: {}", chain_of(&error));
            waits.waits(&of_orders(), Cause::passing(ErrorCode::BUS_UNAVAILABLE, text), HEARTBEATS_PERIOD);
            return Ok(());
        }
    };
    waits.goes_on(&of_orders());
    for orders in all {
        let Some(seen) = seen.iter().find(|seen| seen.heartbeat.worker == orders.worker) else { continue };
        let done: Vec<u64> =
            orders.orders.release.iter().filter(|release| is_released(seen, release)).map(|r| r.id).collect();
        if done.is_empty() {
            continue;
        }
        let mut tx = store.begin_as(epoch).await?;
        tx.mark_released(&orders.worker, &done).await?;
        tx.commit().await?;
        tracing::info!(worker = %orders.worker, slots = done.len(), "slots released");
    }
    Ok(())
}

fn of_orders() -> Subject {
    Subject::Bus("orders".to_owned())
}

/// Whether a worker reports that it has carried out an order to release a slot.
pub fn is_released(seen: &Seen, release: &SlotRelease) -> bool {
    seen.heartbeat
        .slots
        .iter()
        .any(|slot| slot.path == release.slot && !SlotRelease::comes_after(release.id, slot.released))
}
