//! `pledge`: ask for sectors without data.

use anyhow::bail;
use clap::Args;
use sealbus_schema::MinerId;

use super::ConfigArg;
use crate::store::Store;

/// Records that sectors are wanted. A running manager gives them numbers and offers them to the workers.
#[derive(Debug, Args)]
pub struct Pledge {
    #[command(flatten)]
    config: ConfigArg,
    /// The miner, such as f01000.
    #[arg(long)]
    miner: MinerId,
    /// How many sectors.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    count: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Pledge {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        if config.miner(self.miner).is_none() {
            bail!("miner {} is not in the configuration (configured: {})", self.miner, config.miner_names());
        }
        let store = Store::open_existing(&config.database).await?;
        let by = std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned());
        let mut tx = store.begin().await?;
        tx.add_pledge(&self.miner.to_string(), self.count, &by).await?;
        tx.commit().await?;
        if self.json {
            return super::print_json(&serde_json::json!({ "miner": self.miner, "count": self.count }));
        }
        outln!("{} sector(s) of {} are wanted; `sealbus-manager sectors list` shows them", self.count, self.miner);
        Ok(())
    }
}
