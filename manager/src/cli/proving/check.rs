//! `proving check`: what the chain has against what is in the stores.

use anyhow::bail;
use clap::Args;
use sealbus_schema::MinerId;

use super::super::{ConfigArg, errand::Site, print_json};
use crate::proving::compare::look;

/// How many findings of a kind are printed.
const SHOWN: usize = 50;

/// Whose sectors.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    config: ConfigArg,
    /// The miner, such as f01000.
    miner: MinerId,
    /// Print JSON, with everything that was found.
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let site = Site::open(&self.config).await?;
        site.miner(self.miner).await?;
        let found = look(&site.node, &site.store, &site.config, self.miner).await?;
        if self.json {
            print_json(&found)?;
        } else {
            outln!("{} has {} sectors on chain that have not ended", self.miner, found.live);
            for (number, why) in found.unreadable.iter().take(SHOWN) {
                outln!("  {}/{number} cannot be read: {why}", self.miner);
            }
            for (store, names) in &found.unneeded {
                outln!("the store `{store}` has {} that no sector needs; nothing is deleted:", names.len());
                names.iter().take(SHOWN).for_each(|name| outln!("  {name}"));
            }
            for (store, why) in &found.not_listed {
                outln!("the store `{store}` cannot be listed: {why}");
            }
            let more = found.unreadable.len().saturating_sub(SHOWN);
            if more > 0 {
                outln!("and {more} more that cannot be read; --json has all");
            }
        }
        match found.unreadable.len() {
            0 => Ok(()),
            count => bail!("{count} of {} sectors cannot be read", found.live),
        }
    }
}
