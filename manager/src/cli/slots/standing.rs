//! Pending orders to release a slot: listing them, and taking them back.

use anyhow::bail;
use clap::Args;
use sealbus_schema::{WorkerName, message::SlotRelease};
use serde_json::{Value, json};

use super::super::{
    ConfigArg,
    fleet::{Fleet, Presence},
    person::By,
    print_json, table,
    workers::when,
};
use crate::{
    orders::is_released,
    store::{AuditEntry, AuditFilter, Store, WorkerOrders},
};

/// Which order to take back.
#[derive(Debug, Args)]
pub struct Withdraw {
    #[command(flatten)]
    config: ConfigArg,
    /// The worker's name.
    worker: WorkerName,
    /// The slot's directory, as in the order.
    slot: String,
    #[command(flatten)]
    by: By,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How to list.
#[derive(Debug, Args)]
pub struct Orders {
    #[command(flatten)]
    config: ConfigArg,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A pending order.
struct Standing {
    worker: WorkerName,
    release: SlotRelease,
    at: String,
    by: String,
    why: String,
    state: String,
}

impl Withdraw {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let Withdraw { worker, slot, .. } = &self;
        let config = self.config.load()?;
        let store = self.config.store().await?;
        let fleet = Fleet::look(&config).await;
        fleet.warn();
        let person = self.by.person();
        let mut tx = store.begin_order().await?;
        let Some(id) = tx.withdraw_release(worker, slot).await? else {
            tx.rollback().await?;
            let orders = standing(&store, &fleet).await?;
            let names: Vec<String> = orders.iter().map(|o| format!("{} {}", o.worker, o.release.slot)).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            bail!("no order to free slot {slot} of worker {worker} stands; standing are: {names}");
        };
        let detail = json!({ "id": id });
        let target = format!("{worker} {slot}");
        tx.add_audit(&AuditEntry::new(&person.name, "slots withdraw", target, &person.why, detail)).await?;
        tx.commit().await?;
        let carried_out = fleet.worker(worker).is_some_and(|seen| is_released(seen, &release(id, slot)));
        let when = when(worker, store.orders_of(worker).await?.as_ref(), &fleet);
        let when = if carried_out { "the worker had already released the slot".to_owned() } else { when };
        if self.json {
            return print_json(&json!({
                "worker": worker, "slot": slot, "order": id, "carried_out_before": carried_out, "when": when,
            }));
        }
        outln!("the order to free slot {slot} of worker {worker} is taken back (order {id})\n  {when}");
        outln!("  a sector that was taken from the worker with it stays taken");
        Ok(())
    }
}

impl Orders {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        let store = self.config.store().await?;
        let fleet = Fleet::look(&config).await;
        fleet.warn();
        let orders = standing(&store, &fleet).await?;
        if self.json {
            return print_json(&orders.iter().map(Standing::json).collect::<Vec<_>>());
        }
        if orders.is_empty() {
            outln!("no order to free a slot stands");
            return Ok(());
        }
        let row = |order: &Standing| {
            let Standing { worker, release, at, by, why, state } = order;
            let text = [worker.as_str(), &release.slot, at, by, why, state].map(str::to_owned);
            std::iter::once(release.id.to_string()).chain(text).collect()
        };
        let rows: Vec<Vec<String>> = orders.iter().map(row).collect();
        table::print(&["ORDER", "WORKER", "SLOT", "AT", "BY", "WHY", "STATE"], &rows);
        Ok(())
    }
}

impl Standing {
    fn json(&self) -> Value {
        let Standing { worker, release, at, by, why, state } = self;
        json!({
            "order": release.id, "worker": worker, "slot": release.slot, "at": at, "by": by, "why": why, "state": state,
        })
    }
}

/// All pending orders to release a slot, by worker.
async fn standing(store: &Store, fleet: &Fleet) -> anyhow::Result<Vec<Standing>> {
    let times = store.release_times().await?;
    let mut all = Vec::new();
    for orders in store.worker_orders().await? {
        for release in &orders.orders.release {
            let target = Some(format!("{} {}", orders.worker, release.slot));
            let audit = store.audit(&AuditFilter { target, since: None }).await?;
            let told =
                audit.into_iter().find(|entry| entry.verb == "slots release" && entry.detail["id"] == release.id);
            let (by, why) = told.map_or(("-".to_owned(), String::new()), |entry| (entry.actor, entry.why));
            all.push(Standing {
                worker: orders.worker.clone(),
                release: release.clone(),
                at: times.get(&release.id).cloned().unwrap_or_default(),
                by,
                why,
                state: state(&orders, release, fleet),
            });
        }
    }
    Ok(all)
}

/// What an order waits for.
fn state(orders: &WorkerOrders, release: &SlotRelease, fleet: &Fleet) -> String {
    let worker = &orders.worker;
    let Some(seen) = fleet.worker(worker) else {
        return match fleet.presence(worker) {
            Presence::Unknown => "nobody can say: NATS does not answer".to_owned(),
            presence => format!("{}: when it is back", presence.words()),
        };
    };
    if is_released(seen, release) {
        return "carried out".to_owned();
    }
    if seen.heartbeat.slots.iter().all(|slot| slot.path != release.slot) {
        return "the worker has no such slot: withdraw the order".to_owned();
    }
    match (fleet.presence(worker), orders.is_published()) {
        (_, false) => "not on the bus yet".to_owned(),
        (Presence::Here(_), true) => "told, not carried out yet".to_owned(),
        (presence, true) => format!("{}: when it is back", presence.words()),
    }
}

fn release(id: u64, slot: &str) -> SlotRelease {
    SlotRelease { id, slot: slot.to_owned() }
}
