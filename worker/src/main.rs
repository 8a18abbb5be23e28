//! The worker's command line.

use clap::Parser;
use sealbus_worker::params::{self, ParamsCommand};

/// Seals and proves sectors on this machine
#[derive(Parser)]
#[command(name = "sealbus-worker")]
struct Cli {
    #[command(subcommand)]
    noun: Noun,
}

#[derive(clap::Subcommand)]
enum Noun {
    /// Proof parameters: make a devnet's own, check or fetch the official ones
    #[command(subcommand)]
    Params(ParamsCommand),
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let Noun::Params(command) = Cli::parse().noun;
    Ok(params::run(command)?)
}
