//! `workers drain` and `workers resume`: standing orders, which the running manager publishes.

use std::{collections::BTreeSet, time::Duration};

use sealbus_schema::WorkerName;
use serde_json::{Value, json};

use super::{
    super::{
        fleet::{Fleet, Presence},
        known::insist_on_workers,
        print_json,
        waiting::ChainTime,
    },
    Drain,
    show::{is_followed, remaining_json, sectors_of, show_remaining},
};
use crate::{
    config::Config,
    store::{AuditEntry, Store, WorkerOrders},
};

/// How long a command waits for a worker to confirm its orders.
const FOLLOW_LIMIT: Duration = Duration::from_secs(5);
const FOLLOW_LOOK: Duration = Duration::from_millis(500);

impl Drain {
    pub(super) async fn run(self, drain: bool) -> anyhow::Result<()> {
        let config = self.config.load()?;
        let store = self.config.store().await?;
        let fleet = Fleet::look(&config).await;
        fleet.warn();
        if !self.yes {
            insist_on_workers(&self.workers, &store, &fleet).await?;
        }
        let person = self.by.person();
        let verb = if drain { "workers drain" } else { "workers resume" };
        let mut changed = BTreeSet::new();
        for worker in &self.workers {
            let mut tx = store.begin_order().await?;
            let (revision, is_new) = tx.order_drain(worker, drain).await?;
            if is_new {
                changed.insert(worker);
                let detail = json!({ "revision": revision });
                tx.add_audit(&AuditEntry::new(&person.name, verb, worker.to_string(), &person.why, detail)).await?;
            }
            tx.commit().await?;
        }
        let fleet = wait_until_followed(&config, &store, &self.workers, fleet).await?;
        let mut values: Vec<Value> = Vec::new();
        for worker in &self.workers {
            let orders = store.orders_of(worker).await?;
            let when = when(worker, orders.as_ref(), &fleet);
            let what = match (drain, changed.contains(worker)) {
                (true, true) => "drains: it finishes what it has and takes nothing new",
                (true, false) => "was ordered to drain already",
                (false, true) => "takes sectors again",
                (false, false) => "was not ordered to drain",
            };
            let sectors = sectors_of(&store, worker).await?;
            let now = if drain { Some(ChainTime::look(&config, &sectors).await) } else { None };
            if self.json {
                let holds = now.map(|now| remaining_json(&sectors, &fleet, now));
                values.push(json!({ "worker": worker, "what": what, "when": when, "holds": holds }));
                continue;
            }
            outln!("worker {worker} {what}\n  {when}");
            if let Some(now) = now {
                show_remaining(&sectors, &fleet, now);
            }
        }
        if self.json { print_json(&values) } else { Ok(()) }
    }
}

/// Waits a moment until the heartbeats of present workers confirm their orders.
async fn wait_until_followed(
    config: &Config,
    store: &Store,
    workers: &[WorkerName],
    mut fleet: Fleet,
) -> anyhow::Result<Fleet> {
    let deadline = tokio::time::Instant::now() + FOLLOW_LIMIT;
    while fleet.is_known() && tokio::time::Instant::now() < deadline {
        let mut waits = false;
        for orders in store.worker_orders().await?.iter().filter(|orders| workers.contains(&orders.worker)) {
            let here = matches!(fleet.presence(&orders.worker), Presence::Here(_));
            waits |= here && !is_followed(fleet.worker(&orders.worker), orders);
        }
        if !waits {
            break;
        }
        tokio::time::sleep(FOLLOW_LOOK).await;
        fleet = Fleet::look(config).await;
    }
    Ok(fleet)
}

/// When a worker's orders take effect.
pub(in super::super) fn when(worker: &WorkerName, orders: Option<&WorkerOrders>, fleet: &Fleet) -> String {
    let Some(orders) = orders else { return "it was never given an order".to_owned() };
    let presence = fleet.presence(worker);
    if is_followed(fleet.worker(worker), orders) {
        return "it follows already".to_owned();
    }
    let words = presence.words();
    match presence {
        _ if !orders.is_published() => {
            "the order is stored, but not on the bus yet: it takes effect when a manager runs and reaches NATS"
                .to_owned()
        }
        Presence::Here(_) => format!("it has been told, {words}, and has not said yet that it follows"),
        Presence::Away(_) => format!("{words}: it follows when it is back"),
        Presence::Unknown => format!("it has been told; {words}"),
    }
}
