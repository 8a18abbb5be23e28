//! The `sealbus-devnet-params` executable: generates the Groth16 parameters of a devnet.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context;
use clap::Parser;
use sealbus_devnet_params::{DevnetRequest, Kind, SectorSize, make};
use sealbus_params_dir::{DEFAULT_DIR, DIR_VARIABLE};
use tracing_subscriber::EnvFilter;

/// The log filter if `RUST_LOG` is not set: our own messages, and the warnings of the libraries.
const DEFAULT_LOG_FILTER: &str = "info,filecoin_proofs=warn,storage_proofs_core=warn";

/// Generate Groth16 parameters for a devnet. Whoever has the seed can forge proofs
///
/// Never use them for a network where something is at stake. Generates the parameters and verifying keys of PoRep,
/// window PoSt, winning PoSt and empty-sector update, and the SRS for aggregates of up to 1024 proofs, from a trapdoor
/// derived from the seed. Generates only what is missing or broken. Refuses a directory that contains other parameters,
/// and leaves a marker file in its own.
#[derive(Debug, Parser)]
#[command(name = "sealbus-devnet-params", version)]
struct Arguments {
    /// The sector size: 2KiB, 8MiB or 512MiB
    #[arg(long, default_value_t = SectorSize::KiB2)]
    sector_size: SectorSize,
    /// The directory for the parameters
    #[arg(long, env = DIR_VARIABLE, default_value = DEFAULT_DIR)]
    out: PathBuf,
    /// The seed for the trapdoor; by default the directory's own, or 0, which everybody knows
    #[arg(long)]
    seed: Option<u64>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG_FILTER));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If stderr is closed there is nowhere to report the error.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(Arguments { sector_size, out, seed, json }: Arguments) -> anyhow::Result<()> {
    let request = DevnetRequest { dir: out, sector_size, kinds: Kind::ALL.to_vec(), seed, progress: !json };
    let report = make(&request)?;
    let text = if json { serde_json::to_string_pretty(&report)? } else { report.to_string() };
    writeln!(io::stdout(), "{text}").context("cannot write to stdout")
}
