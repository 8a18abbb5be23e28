//! `sectors compact`: partitions without their dead sectors, so that fewer of them need a window PoSt.

use clap::Args;
use sealbus_schema::MinerId;
use serde_json::json;

use super::super::{errand::Asking, person::Usage};
use crate::{
    care::{compact::plan, look::look},
    chain::types::Partition,
    drive::address,
    errands::sectors::of_compaction,
};

/// The deadlines.
#[derive(Debug, Args)]
pub struct Compact {
    /// The miner, such as f01000.
    miner: MinerId,
    /// Only these deadlines. By default all that have dead sectors.
    #[arg(long = "deadline", value_name = "INDEX")]
    deadlines: Vec<u64>,
    #[command(flatten)]
    asking: Asking,
}

impl Compact {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let site = self.asking.site().await?;
        let info = site.miner(self.miner).await?;
        let look = look(&site.node, &address(self.miner), |_| false).await?;
        if let Some(index) = self.deadlines.iter().find(|index| **index >= look.now.deadline.period_deadlines) {
            let last = look.now.deadline.period_deadlines.saturating_sub(1);
            return Err(Usage(format!("--deadline {index}: the deadlines are 0 to {last}")).into());
        }
        let numbered = look.deadlines.iter().enumerate().map(|(index, partitions)| (index as u64, &partitions[..]));
        let is_wanted = |(index, _): &(u64, &[Partition])| self.deadlines.is_empty() || self.deadlines.contains(index);
        let (compactions, not_now) = plan(numbered.filter(is_wanted), info.partition_sectors, &look.now);
        if !self.asking.json() {
            for left in &not_now {
                errln!("deadline {}: {}", left.deadline, left.why);
            }
            if compactions.is_empty() && not_now.is_empty() {
                errln!("no partition of {} has dead sectors that can be removed", self.miner);
            }
        }
        let sender = site.sender(self.miner, &info).await?;
        let drafts = compactions.iter().map(|compaction| of_compaction(self.miner, sender, compaction));
        let drafts = drafts.collect::<Result<_, _>>()?;
        let left_out = not_now.iter().map(|left| json!({ "deadline": left.deadline, "why": left.why.to_string() }));
        let notes = json!({ "left_out": left_out.collect::<Vec<_>>() });
        self.asking.carry_out(&site, "sectors compact", drafts, notes).await
    }
}
