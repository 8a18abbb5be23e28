//! `proving partitions` and `proving history`: proofs, as the manager's database has them.

use clap::Args;
use sealbus_schema::MinerId;
use serde_json::{Value, json};

use super::super::{ConfigArg, known::insist_on_miner, print_json, table};
use crate::proving::proof::PartitionProof;

/// What is being proven.
#[derive(Debug, Args)]
pub struct Partitions {
    #[command(flatten)]
    config: ConfigArg,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How proofs went.
#[derive(Debug, Args)]
pub struct History {
    #[command(flatten)]
    config: ConfigArg,
    /// Only this miner.
    #[arg(long)]
    miner: Option<MinerId>,
    /// How many, the newest first.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Partitions {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let proofs = self.config.store().await?.open_proofs().await?;
        if self.json {
            return print_json(&proofs.iter().map(describe).collect::<Vec<_>>());
        }
        if proofs.is_empty() {
            outln!("nothing is being proven: no deadline with sectors is open or challenged");
            return Ok(());
        }
        show(&proofs);
        Ok(())
    }
}

impl History {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let (config, store) = (self.config.load()?, self.config.store().await?);
        if let Some(miner) = self.miner {
            insist_on_miner(miner, &config, &store).await?;
        }
        let proofs = store.last_proofs(self.miner, self.limit).await?;
        if self.json {
            return print_json(&proofs.iter().map(describe).collect::<Vec<_>>());
        }
        if proofs.is_empty() {
            outln!("nothing was proven yet");
            return Ok(());
        }
        show(&proofs);
        Ok(())
    }
}

fn show(proofs: &[PartitionProof]) {
    let rows = proofs.iter().map(|proof| {
        let since = |epoch: Option<i64>| epoch.map_or("-".to_owned(), |epoch| format!("{:+}", epoch - proof.open));
        vec![
            proof.id.miner.to_string(),
            format!("{}/{}", proof.id.deadline, proof.id.partition),
            proof.open.to_string(),
            proof.state.name().to_owned(),
            proof.sectors.to_string(),
            proof.skipped.len().to_string(),
            since(proof.read_epoch),
            since(proof.proved_epoch),
            since(proof.landed_epoch),
            proof.problem.clone().or_else(|| slowest(proof)).unwrap_or_default(),
        ]
    });
    let headings = ["miner", "part", "opens", "state", "sectors", "skipped", "read", "proved", "seen", "told"];
    table::print(&headings, &rows.collect::<Vec<_>>());
    outln!("read, proved and seen: epochs after the opening; work begins before it");
}

fn slowest(proof: &PartitionProof) -> Option<String> {
    let (number, ms) = proof.told.slowest?;
    Some(format!("slowest: sector {number}, {ms} ms"))
}

/// A proof for programs.
pub fn describe(proof: &PartitionProof) -> Value {
    json!({
        "miner": proof.id.miner, "period": proof.id.period, "deadline": proof.id.deadline, "partition": proof.id.partition,
        "challenge": proof.challenge, "opens": proof.open, "closes": proof.close, "state": proof.state,
        "sectors": proof.sectors, "recovering": proof.recovering, "skipped": proof.skipped,
        "attempts": proof.attempts.len(), "errand": proof.errand, "read_epoch": proof.read_epoch,
        "proved_epoch": proof.proved_epoch, "landed_epoch": proof.landed_epoch, "told": proof.told,
        "problem": proof.problem,
    })
}
