//! `proving faults`: a miner's faulty sectors as the chain has them, and why they were left out of proofs.

use std::collections::BTreeMap;

use clap::Args;
use sealbus_schema::MinerId;
use serde_json::{Value, json};

use super::super::{ConfigArg, errand::Site, print_json, table};
use crate::{drive::address, proving::proof::PartitionProof};

/// How many of the last proofs are searched for causes.
const PROOFS: u32 = 2000;

/// Whose faults.
#[derive(Debug, Args)]
pub struct Faults {
    #[command(flatten)]
    config: ConfigArg,
    /// The miner, such as f01000.
    miner: MinerId,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A faulty sector.
struct Fault {
    number: u64,
    deadline: u64,
    partition: u64,
    recovering: bool,
    cause: Option<String>,
}

impl Faults {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let site = Site::open(&self.config).await?;
        site.miner(self.miner).await?;
        let causes = causes(site.store.last_proofs(Some(self.miner), PROOFS).await?);
        let (miner, head) = (address(self.miner), &site.head.key);
        let deadlines = site.node.miner_proving_deadline(&miner, head).await?.period_deadlines;
        let mut faults = Vec::new();
        for deadline in 0..deadlines {
            let partitions = site.node.miner_partitions(&miner, deadline, head).await?;
            for (partition, index) in partitions.iter().zip(0..) {
                faults.extend(partition.faulty_sectors.iter().map(|number| Fault {
                    number,
                    deadline,
                    partition: index,
                    recovering: partition.recovering_sectors.contains(number),
                    cause: causes.get(&number).cloned(),
                }));
            }
        }
        if self.json {
            return print_json(&faults.iter().map(|fault| describe(self.miner, fault)).collect::<Vec<_>>());
        }
        if faults.is_empty() {
            outln!("{} has no faulty sectors", self.miner);
            return Ok(());
        }
        let rows = faults.into_iter().map(|fault| {
            vec![
                format!("{}/{}", self.miner, fault.number),
                format!("{}/{}", fault.deadline, fault.partition),
                if fault.recovering { "recovering" } else { "faulty" }.to_owned(),
                fault
                    .cause
                    .unwrap_or_else(|| "its whole partition was not proven, or another system left it out".to_owned()),
            ]
        });
        table::print(&["sector", "part", "state", "cause"], &rows.collect::<Vec<_>>());
        Ok(())
    }
}

/// Why sectors were left out last.
fn causes(newest_first: Vec<PartitionProof>) -> BTreeMap<u64, String> {
    let mut causes = BTreeMap::new();
    for skipped in newest_first.into_iter().flat_map(|proof| proof.skipped) {
        causes.entry(skipped.number.0).or_insert(skipped.cause);
    }
    causes
}

fn describe(miner: MinerId, fault: &Fault) -> Value {
    json!({
        "miner": miner, "sector": fault.number, "deadline": fault.deadline, "partition": fault.partition,
        "recovering": fault.recovering, "cause": fault.cause,
    })
}
