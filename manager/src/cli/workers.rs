//! `workers`: which workers are alive, what they hold, and their orders.

mod list;
mod order;
mod processors;
mod show;

use clap::{Args, Subcommand};
use sealbus_schema::{WorkerName, message::Heartbeat};

use super::{ConfigArg, person::By};
use crate::store::WorkerOrders;
pub(super) use order::when;
pub(super) use show::sectors_of;

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Workers {
    /// List the workers that were seen in the last three minutes, and those with sectors or orders.
    List(list::List),
    /// Show one worker: slots, processors, sectors, orders.
    Show(show::Show),
    /// Let workers finish what they have and take nothing new, before maintenance.
    Drain(Drain),
    /// Let workers take sectors again.
    Resume(Drain),
}

/// The workers.
#[derive(Debug, Args)]
pub struct Drain {
    #[command(flatten)]
    config: ConfigArg,
    /// The workers' names.
    #[arg(required = true)]
    workers: Vec<WorkerName>,
    #[command(flatten)]
    by: By,
    /// Also accept workers that were never seen.
    #[arg(long, short)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Workers {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Workers::List(list) => list.run().await,
            Workers::Show(show) => show.run().await,
            Workers::Drain(drain) => drain.run(true).await,
            Workers::Resume(resume) => resume.run(false).await,
        }
    }
}

/// A worker's standing orders in words. An order about a slot that it does not have can only be withdrawn.
fn wanted(orders: Option<&WorkerOrders>, seen: Option<&Heartbeat>) -> String {
    let Some(orders) = orders else { return "none".to_owned() };
    let has = |slot: &str| seen.is_none_or(|beat| beat.slots.iter().any(|status| status.path == slot));
    let releases = orders.orders.release.iter().map(|release| {
        format!("release {}{}", release.slot, if has(&release.slot) { "" } else { ", which it has not" })
    });
    let drain = orders.orders.drain.then(|| "drain".to_owned());
    let weights = (!orders.orders.weights.are_equal()).then(|| "weights of the miners".to_owned());
    let all: Vec<String> = drain.into_iter().chain(releases).chain(weights).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// Whether a worker follows its orders, in words.
fn followed(orders: Option<&WorkerOrders>, seen: Option<u64>) -> &'static str {
    match (orders, seen) {
        (None, _) => "-",
        (Some(orders), Some(revision)) if revision >= orders.orders.revision => "followed",
        (Some(orders), _) if !orders.is_published() => "not on the bus yet",
        (Some(_), Some(_)) => "not followed yet",
        (Some(_), None) => "when it is back",
    }
}
