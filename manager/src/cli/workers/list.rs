//! `workers list`: one row per slot.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use sealbus_nats::heartbeats::Seen;
use sealbus_schema::{SectorId, WorkerName, message::SlotStatus};
use serde_json::{Value, json};

use super::{
    super::{
        ConfigArg,
        fleet::{Fleet, Presence, REMEMBERED_SECS, age_secs, counted, lasting},
        print_json, table,
    },
    followed, wanted,
};
use crate::{
    store::{Job, WorkerOrders},
    why::find,
};

/// How to list.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    config: ConfigArg,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        let store = self.config.store().await?;
        let fleet = Fleet::look(&config).await;
        fleet.warn();
        let orders: BTreeMap<WorkerName, WorkerOrders> =
            store.worker_orders().await?.into_iter().map(|orders| (orders.worker.clone(), orders)).collect();
        let held = store.held_by_workers().await?;
        let in_blocked_slots: BTreeSet<SectorId> = fleet.in_blocked_slots().collect();
        let blocked = store.sectors_among(&in_blocked_slots.into_iter().collect::<Vec<_>>()).await?;
        let seen = fleet.all().iter().map(|seen| seen.heartbeat.worker.clone());
        let with_orders = orders.iter().filter(|(_, o)| o.orders.drain || !o.orders.release.is_empty());
        let names: BTreeSet<WorkerName> =
            seen.chain(held.keys().cloned()).chain(with_orders.map(|(name, _)| name.clone())).collect();
        let sectors = |name: &WorkerName| held.get(name).copied().unwrap_or_default();
        if self.json {
            let values: Vec<Value> = names
                .iter()
                .map(|name| describe(name, fleet.worker(name), orders.get(name), sectors(name), &blocked, &fleet))
                .collect();
            return print_json(&values);
        }
        // For absent workers without sectors: find out whether they ever had any.
        let strange = names.iter().any(|name| fleet.worker(name).is_none() && sectors(name) == 0);
        let workers_of_old = if strange { store.workers_with_history().await? } else { BTreeSet::new() };
        let mut rows = Vec::new();
        for name in &names {
            let (seen, orders) = (fleet.worker(name), orders.get(name));
            let age = match fleet.presence(name) {
                Presence::Here(secs) => lasting(secs),
                Presence::Unknown => "unknown".to_owned(),
                Presence::Away(_)
                    if seen.is_none() && sectors(name) == 0 && !workers_of_old.contains(name.as_str()) =>
                {
                    "never".to_owned()
                }
                Presence::Away(Some(secs)) if seen.is_some() => lasting(secs),
                Presence::Away(Some(secs)) => format!("> {}", lasting(secs)),
                Presence::Away(None) => format!("> {}", lasting(REMEMBERED_SECS)),
            };
            rows.extend(rows_of(name, seen, &age, orders, sectors(name), &blocked));
        }
        table::print(&["WORKER", "HOST", "SEEN", "ORDERS", "SLOT", "SECTOR", "STEP"], &rows);
        Ok(())
    }
}

fn rows_of(
    name: &WorkerName,
    seen: Option<&Seen>,
    age: &str,
    orders: Option<&WorkerOrders>,
    sectors: usize,
    known: &[Job],
) -> Vec<Vec<String>> {
    let ordered = match wanted(orders, seen.map(|seen| &seen.heartbeat)).as_str() {
        "none" => "-".to_owned(),
        wanted => format!("{wanted} ({})", followed(orders, seen.map(|seen| seen.heartbeat.orders))),
    };
    let row = |host: &str, slot: &str, sector: String, step: String| {
        vec![name.to_string(), host.to_owned(), age.to_owned(), ordered.clone(), slot.to_owned(), sector, step]
    };
    let Some(seen) = seen else {
        return vec![row("-", "-", counted(sectors as u64, "sector"), "-".to_owned())];
    };
    let beat = &seen.heartbeat;
    if beat.slots.is_empty() {
        return vec![row(&beat.host, "-", "-".to_owned(), "-".to_owned())];
    }
    let of_slot = |slot: &SlotStatus| {
        let (sector, step) = content(slot, beat.draining, known);
        row(&beat.host, &slot.path, sector, step)
    };
    beat.slots.iter().map(of_slot).collect()
}

/// What a slot holds, and what it is doing. `known` has the sectors in blocked slots from the database, by miner and number.
pub(super) fn content(slot: &SlotStatus, draining: bool, known: &[Job]) -> (String, String) {
    let sector = slot.holding.as_ref().map_or("-".to_owned(), |held| held.sector.to_string());
    let step = match (&slot.blocked, &slot.holding) {
        (Some(_), _) if is_resubmitted(slot, known) => "resubmitted, not taken up yet".to_owned(),
        (Some(error), _) => format!("BLOCKED {} {}", error.class, error.code),
        (None, Some(holding)) => holding.step.clone(),
        (None, None) if slot.unreadable => "BLOCKED: unreadable".to_owned(),
        (None, None) if slot.checking => "starting: looks at disk, store and parameters".to_owned(),
        (None, None) if draining => "free, takes nothing".to_owned(),
        (None, None) => "free".to_owned(),
    };
    (sector, step)
}

/// Whether a slot's sector was resubmitted after the slot's last report.
fn is_resubmitted(slot: &SlotStatus, known: &[Job]) -> bool {
    let sector = slot.holding.as_ref().and_then(|held| find(known, held.sector));
    sector.is_some_and(|sector| Fleet::is_before_the_order(sector, slot))
}

/// A worker for scripts: its last heartbeat, if there is one, and what the manager knows.
pub(super) fn describe(
    name: &WorkerName,
    seen: Option<&Seen>,
    orders: Option<&WorkerOrders>,
    sectors: usize,
    known: &[Job],
    fleet: &Fleet,
) -> Value {
    let mut value = seen.map_or(json!({ "worker": name }), |seen| json!(seen.heartbeat));
    let slots = seen.map(|seen| &seen.heartbeat.slots[..]).unwrap_or_default();
    for (at, slot) in slots.iter().enumerate().filter(|(_, slot)| slot.blocked.is_some()) {
        value["slots"][at]["resubmitted"] = json!(is_resubmitted(slot, known));
    }
    value["age_secs"] = json!(seen.map(age_secs));
    value["presence"] = fleet.presence(name).json()["presence"].clone();
    value["sectors"] = json!(sectors);
    value["ordered"] = json!(orders.map(|orders| {
        json!({
            "revision": orders.orders.revision,
            "published": orders.is_published(),
            "followed": seen.map(|seen| seen.heartbeat.orders >= orders.orders.revision),
            "drain": orders.orders.drain,
            "release": orders.orders.release,
            "weights": orders.orders.weights,
        })
    }));
    value
}
