//! `proving`: deadlines, proofs of partitions, faults.

mod blocks;
mod check;
mod deadlines;
mod faults;
mod forecast;
mod hand;
mod history;
mod recover;
mod simulate;

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
    /// Show what is known of the next deadlines: how their last proofs went, what reads ahead have found, whether workers and
    /// funds are there.
    Forecast(forecast::ShowForecast),
    /// Read a deadline's sectors now, and prove them if asked, with made-up randomness. Nothing is sent. Exits with 1 if a
    /// proof would be missing or leave a sector out.
    Simulate(simulate::Simulate),
    /// Read faulty sectors now, and declare those as recovered that can be read.
    Recover(recover::Recover),
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
            Proving::Simulate(simulate) => simulate.run().await,
            Proving::Recover(recover) => recover.run().await,
        }
    }
}
