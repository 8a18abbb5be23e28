//! `workers list`: one row a slot.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use sealbus_nats::heartbeats::Seen;
use sealbus_schema::{WorkerName, lease::Ownership, message::SlotStatus};
use serde_json::{Value, json};

use super::{
    super::{
        ConfigArg,
        fleet::{Fleet, age_secs, lasting},
        print_json, table,
    },
    followed, wanted,
};
use crate::store::WorkerOrders;

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
        let mut held: BTreeMap<WorkerName, usize> = BTreeMap::new();
        for sector in store.live_sectors().await? {
            if let Ownership::Held { worker, .. } = sector.ownership {
                *held.entry(worker).or_default() += 1;
            }
        }
        let seen = fleet.all().iter().map(|seen| seen.heartbeat.worker.clone());
        let with_orders = orders.iter().filter(|(_, o)| o.orders.drain || !o.orders.release.is_empty());
        let names: BTreeSet<WorkerName> =
            seen.chain(held.keys().cloned()).chain(with_orders.map(|(name, _)| name.clone())).collect();
        let sectors = |name: &WorkerName| held.get(name).copied().unwrap_or_default();
        if self.json {
            let values: Vec<Value> = names
                .iter()
                .map(|name| describe(name, fleet.worker(name), orders.get(name), sectors(name), &fleet))
                .collect();
            return print_json(&values);
        }
        let mut rows = Vec::new();
        for name in &names {
            let (seen, orders) = (fleet.worker(name), orders.get(name));
            rows.extend(rows_of(name, seen, orders, sectors(name), fleet.is_known()));
        }
        table::print(&["WORKER", "HOST", "SEEN", "ORDERS", "SLOT", "SECTOR", "STEP"], &rows);
        Ok(())
    }
}

fn rows_of(
    name: &WorkerName,
    seen: Option<&Seen>,
    orders: Option<&WorkerOrders>,
    sectors: usize,
    known: bool,
) -> Vec<Vec<String>> {
    let ordered = match wanted(orders).as_str() {
        "none" => "-".to_owned(),
        wanted => format!("{wanted} ({})", followed(orders, seen.map(|seen| seen.heartbeat.orders))),
    };
    let row = |host: &str, age: String, slot: &str, sector: String, step: String| {
        vec![name.to_string(), host.to_owned(), age, ordered.clone(), slot.to_owned(), sector, step]
    };
    let Some(seen) = seen else {
        let age = if known { "> 3 min" } else { "unknown" };
        return vec![row("-", age.to_owned(), "-", format!("{sectors} sector(s)"), "-".to_owned())];
    };
    let (beat, age) = (&seen.heartbeat, lasting(age_secs(seen)));
    if beat.slots.is_empty() {
        return vec![row(&beat.host, age, "-", "-".to_owned(), "-".to_owned())];
    }
    let of_slot = |slot: &SlotStatus| {
        let (sector, step) = content(slot, beat.draining);
        row(&beat.host, age.clone(), &slot.path, sector, step)
    };
    beat.slots.iter().map(of_slot).collect()
}

/// What a slot holds, and what it does.
pub(super) fn content(slot: &SlotStatus, draining: bool) -> (String, String) {
    let sector = slot.holding.as_ref().map_or("-".to_owned(), |held| held.sector.to_string());
    let step = match (&slot.blocked, &slot.holding) {
        (Some(error), _) => format!("BLOCKED {} {}", error.class, error.code),
        (None, Some(holding)) => holding.step.clone(),
        (None, None) if slot.unreadable => "BLOCKED: unreadable".to_owned(),
        (None, None) if draining => "free, takes nothing".to_owned(),
        (None, None) => "free".to_owned(),
    };
    (sector, step)
}

/// A worker for scripts: its last sign of life, if there is one, and what the manager knows.
pub(super) fn describe(
    name: &WorkerName,
    seen: Option<&Seen>,
    orders: Option<&WorkerOrders>,
    sectors: usize,
    fleet: &Fleet,
) -> Value {
    let mut value = seen.map_or(json!({ "worker": name }), |seen| json!(seen.heartbeat));
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
        })
    }));
    value
}
