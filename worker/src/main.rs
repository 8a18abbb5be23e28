//! The `sealbus-worker` executable.

use clap::{Parser, Subcommand};
use sealbus_worker::processor::child;
use sealbus_worker::stage::Stage;

#[derive(Debug, Parser)]
#[command(version, about = "Seals Filecoin sectors on one machine")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve one stage on stdin and stdout (started by the worker itself).
    Processor {
        /// add_pieces, tree_d, pc1, pc2, transfer, c1 or c2.
        stage: Stage,
    },
}

fn main() -> anyhow::Result<()> {
    let Command::Processor { stage } = Arguments::parse().command;
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    Ok(child::serve(stage)?)
}
