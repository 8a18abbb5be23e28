//! `proving forecast`: what the last proofs say about the next ones.

use clap::Args;
use sealbus_schema::MinerId;

use super::super::{ConfigArg, known::insist_on_miner, print_json, table};
use crate::proving::forecast::forecasts;

/// How many of the last proofs are looked at: four periods of a large miner.
const PROOFS: u32 = 4000;

/// Whose proofs.
#[derive(Debug, Args)]
pub struct ShowForecast {
    #[command(flatten)]
    config: ConfigArg,
    /// The miner, such as f01000.
    miner: MinerId,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl ShowForecast {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let (config, store) = (self.config.load()?, self.config.store().await?);
        insist_on_miner(self.miner, &config, &store).await?;
        let forecasts = forecasts(&store.last_proofs(Some(self.miner), PROOFS).await?);
        if self.json {
            return print_json(&forecasts);
        }
        if forecasts.is_empty() {
            outln!("nothing of {} was proven by this manager yet", self.miner);
            return Ok(());
        }
        let rows = forecasts.into_iter().map(|forecast| {
            let or_none = |number: Option<String>| number.unwrap_or_else(|| "-".to_owned());
            vec![
                format!("{}/{}", forecast.deadline, forecast.partition),
                forecast.turns.to_string(),
                forecast.missed.to_string(),
                or_none(forecast.margin.map(|epochs| epochs.to_string())),
                or_none(forecast.reading.map(|epochs| epochs.to_string())),
                or_none(forecast.prove_ms.map(|ms| ms.to_string())),
                forecast.skipped.to_string(),
                or_none(forecast.slowest.map(|(number, ms)| format!("sector {number}, {ms} ms"))),
            ]
        });
        let headings = ["part", "turns", "missed", "margin", "reading", "snark ms", "skipped", "slowest"];
        table::print(&headings, &rows.collect::<Vec<_>>());
        outln!(
            "margin: the least epochs between a proof and the close; reading: the most epochs from challenge to read"
        );
        Ok(())
    }
}
