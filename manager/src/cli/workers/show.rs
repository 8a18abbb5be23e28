//! `workers show`: one machine.

use clap::Args;
use sealbus_nats::heartbeats::Seen;
use sealbus_schema::WorkerName;
use serde_json::{Value, json};

use super::{
    super::{
        ConfigArg,
        fleet::{Fleet, age_secs},
        known::insist_on_workers,
        print_json,
        sectors::select::{blocked_by, slot_of},
        table,
        waiting::{ChainTime, Cost},
    },
    followed,
    list::{content, describe},
    processors, wanted,
};
use crate::store::{Job, Store, WorkerOrders};

/// Which worker to show.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    config: ConfigArg,
    /// The worker's name.
    worker: WorkerName,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        let store = self.config.store().await?;
        let fleet = Fleet::look(&config).await;
        fleet.warn();
        insist_on_workers(std::slice::from_ref(&self.worker), &store, &fleet).await?;
        let sectors = sectors_of(&store, &self.worker).await?;
        let now = ChainTime::look(&config, &sectors).await;
        let orders = store.orders_of(&self.worker).await?;
        let seen = fleet.worker(&self.worker);
        if self.json {
            let mut value = describe(&self.worker, seen, orders.as_ref(), sectors.len(), &sectors, &fleet);
            value["holds"] = json!(remaining_json(&sectors, &fleet, now));
            return print_json(&value);
        }
        outln!("worker     {}; {}", self.worker, fleet.presence(&self.worker).words());
        let follows = followed(orders.as_ref(), seen.map(|seen| seen.heartbeat.orders));
        outln!("orders     {} ({follows})", wanted(orders.as_ref(), seen.map(|seen| &seen.heartbeat)));
        if let Some(seen) = seen {
            show_machine(seen, &sectors);
        }
        outln!();
        show_remaining(&sectors, &fleet, now);
        Ok(())
    }
}

fn show_machine(seen: &Seen, sectors: &[Job]) {
    let beat = &seen.heartbeat;
    outln!("host       {}", beat.host);
    outln!("version    {}", beat.version);
    outln!("takes      {}", if beat.draining { "nothing new" } else { "sectors" });
    let (busy, all) = (beat.processors.iter().filter(|p| p.busy).count(), beat.processors.len());
    outln!("processors {busy} of {all} busy");
    let rows: Vec<Vec<String>> = beat
        .slots
        .iter()
        .map(|slot| {
            let (sector, step) = content(slot, beat.draining, sectors);
            let why = slot.blocked.as_ref().map(|error| error.message()).unwrap_or_default();
            vec![slot.path.clone(), sector, step, why]
        })
        .collect();
    outln!();
    table::print(&["SLOT", "SECTOR", "STEP", "WHY"], &rows);
    if !beat.processors.is_empty() {
        outln!();
        table::print(&processors::HEADINGS, &processors::rows(beat, age_secs(seen)));
    }
}

/// The unfinished sectors that belong to a worker.
pub(in super::super) async fn sectors_of(store: &Store, worker: &WorkerName) -> anyhow::Result<Vec<Job>> {
    Ok(store.sectors_of_worker(worker).await?)
}

/// Prints what is still on a machine, and when each sector's time runs out.
pub(super) fn show_remaining(sectors: &[Job], fleet: &Fleet, now: ChainTime) {
    if sectors.is_empty() {
        outln!("no unfinished sector belongs to it");
        return;
    }
    let rows: Vec<Vec<String>> = sectors
        .iter()
        .map(|sector| {
            vec![
                sector.id.to_string(),
                sector.state.name().to_owned(),
                blocked_by(sector).map_or("-".to_owned(), |cause| cause.code.to_string()),
                slot_of(sector, fleet).unwrap_or_else(|| "-".to_owned()),
                Cost::of(sector).words(now),
            ]
        })
        .collect();
    table::print(&["SECTOR", "STATE", "BLOCKED", "SLOT", "WAITING COSTS"], &rows);
    outln!("{}", now.words());
}

pub(super) fn remaining_json(sectors: &[Job], fleet: &Fleet, now: ChainTime) -> Vec<Value> {
    let describe = |sector: &Job| {
        json!({
            "sector": sector.id.to_string(),
            "state": sector.state.name(),
            "blocked": blocked_by(sector).map(|cause| cause.code.to_string()),
            "slot": slot_of(sector, fleet),
            "waiting": Cost::of(sector).json(now),
        })
    };
    sectors.iter().map(describe).collect()
}

/// Whether a worker already follows its orders.
pub(super) fn is_followed(seen: Option<&Seen>, orders: &WorkerOrders) -> bool {
    seen.is_some_and(|seen| seen.heartbeat.orders >= orders.orders.revision)
}
