//! `miners`: the storage providers: what each has in which place, how they share the workers, and their owners' errands.

mod create;
mod info;
mod keys;
mod money;
mod owner;
mod peer;
mod weight;

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use sealbus_schema::MinerId;
use serde_json::{Value, json};

use super::{ConfigArg, print_json, table};
use crate::weights;

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Miners {
    /// List the miners: their weights, and how many sectors they have where.
    List(List),
    /// Set a miner's weight: how many new sectors it gets from shared workers, relative to the other miners' weights.
    Weight(weight::Weight),
    /// Show a miner's addresses on chain, and what is pending.
    Info(info::Info),
    /// Create a miner.
    Create(create::Create),
    /// Withdraw what is available.
    Withdraw(money::Withdraw),
    /// Repay what a miner owes.
    RepayDebt(money::RepayDebt),
    /// Set the control addresses.
    Control {
        #[command(subcommand)]
        verb: keys::Control,
    },
    /// Change the worker, in two steps.
    Worker {
        #[command(subcommand)]
        verb: keys::Worker,
    },
    /// Change the owner, in two steps.
    Owner {
        #[command(subcommand)]
        verb: owner::Owner,
    },
    /// Change who gets what is withdrawn.
    Beneficiary {
        #[command(subcommand)]
        verb: owner::Beneficiary,
    },
    /// Set the peer id.
    PeerId(peer::SetPeerId),
    /// Set the multiaddresses.
    Multiaddrs(peer::SetMultiaddrs),
}

/// How to list them.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    config: ConfigArg,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Miners {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Miners::List(list) => list.run().await,
            Miners::Weight(weight) => weight.run().await,
            Miners::Info(info) => info.run().await,
            Miners::Create(create) => create.run().await,
            Miners::Withdraw(withdraw) => withdraw.run().await,
            Miners::RepayDebt(repay) => repay.run().await,
            Miners::Control { verb } => verb.run().await,
            Miners::Worker { verb } => verb.run().await,
            Miners::Owner { verb } => verb.run().await,
            Miners::Beneficiary { verb } => verb.run().await,
            Miners::PeerId(peer) => peer.run().await,
            Miners::Multiaddrs(addresses) => addresses.run().await,
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let (config, store) = (self.config.load()?, self.config.store().await?);
        let (ordered, counts) = (store.ordered_weights().await?, store.counts_by_miner().await?);
        let in_force = weights::in_force(&config.miners, &ordered);
        let parts = weights::parts(&config.miners, &in_force);
        let names: BTreeSet<MinerId> =
            config.miners.iter().map(|miner| miner.id).chain(counts.keys().copied()).collect();
        let (mut rows, mut all) = (Vec::new(), Vec::new());
        for id in names {
            let (miner, part) = (config.miner(id), parts.get(&id).copied());
            let counts = counts.get(&id).copied().unwrap_or_default();
            let weight = miner.map(|_| in_force.of(id));
            let mut value = json!(counts);
            value["miner"] = json!(id);
            value["sector_size"] = json!(miner.map(|miner| miner.sector_size));
            value["weight"] = json!(weight);
            value["configured_weight"] = json!(miner.map(|miner| miner.weight));
            value["ordered_weight"] = json!(miner.and(ordered.get(&id)));
            value["share"] = json!(part);
            all.push(value);
            let mut row = match miner {
                Some(miner) => vec![
                    id.to_string(),
                    miner.sector_size.to_string(),
                    weight_in_words(in_force.of(id), miner.weight),
                    percent(part.unwrap_or_default()),
                ],
                None => vec![format!("{id} (not configured)"), "-".to_owned(), "-".to_owned(), "-".to_owned()],
            };
            let numbers = [counts.pledged, counts.queued, counts.in_work, counts.proving];
            row.extend(numbers.map(|number| number.to_string()));
            rows.push(row);
        }
        if self.json {
            return print_json(&Value::Array(all));
        }
        if rows.is_empty() {
            outln!("no miner is configured, and none ever had a sector");
            return Ok(());
        }
        table::print(&["MINER", "SIZE", "WEIGHT", "SHARE", "PLEDGED", "QUEUED", "IN WORK", "PROVING"], &rows);
        Ok(())
    }
}

fn weight_in_words(weight: u32, configured: u32) -> String {
    match weight == configured {
        true => weight.to_string(),
        false => format!("{weight} (configured: {configured})"),
    }
}

fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}
