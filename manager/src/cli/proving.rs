//! `proving`: deadlines, proofs of partitions, faults.

mod blocks;
mod check;
mod deadlines;
mod faults;
mod forecast;
mod history;

use clap::Subcommand;

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Proving {
    /// Show a miner's deadlines: when they open, what they have, and how their last proofs went.
    Deadlines(deadlines::Deadlines),
    /// Show what is being proven, and how far it is.
    Partitions(history::Partitions),
    /// Show how proofs went: durations, margins, sectors that were left out.
    History(history::History),
    /// Show the last won epochs: blocks with their margins, losses with their causes, and the last rehearsals.
    Blocks(blocks::Blocks),
    /// Compare what the chain has with what is in the stores. Exits with 1 if a sector cannot be read.
    Check(check::Check),
    /// Show a miner's faulty sectors, and why they were left out.
    Faults(faults::Faults),
    /// Show what the last proofs say about the next ones: durations, the least margin, the slowest sectors.
    Forecast(forecast::ShowForecast),
}

impl Proving {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Proving::Deadlines(show) => show.run().await,
            Proving::Partitions(show) => show.run().await,
            Proving::History(show) => show.run().await,
            Proving::Blocks(show) => show.run().await,
            Proving::Check(check) => check.run().await,
            Proving::Faults(show) => show.run().await,
            Proving::Forecast(show) => show.run().await,
        }
    }
}
