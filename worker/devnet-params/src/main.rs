//! The `sealbus-devnet-params` executable: makes the Groth16 parameters of a devnet.

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

/// What is logged when `RUST_LOG` says nothing: what happens here, and what is wrong in the libraries.
const DEFAULT_LOG_FILTER: &str = "info,filecoin_proofs=warn,storage_proofs_core=warn";

/// Make Groth16 parameters for a devnet. Whoever has the seed can forge proofs
///
/// So never use them for a network on which something is at stake. Makes the parameters and verifying keys of PoRep, window
/// PoSt, winning PoSt and empty-sector update, and the SRS for aggregates of up to 1024 proofs, from a trapdoor that follows
/// from the seed. Makes only what is missing or broken. Refuses a directory that holds other parameters, and leaves a marker
/// in its own.
#[derive(Debug, Parser)]
#[command(name = "sealbus-devnet-params", version)]
struct Arguments {
    /// The sectors' size: 2KiB, 8MiB or 512MiB
    #[arg(long, default_value_t = SectorSize::KiB2)]
    sector_size: SectorSize,
    /// Where to put the parameters
    #[arg(long, env = DIR_VARIABLE, default_value = DEFAULT_DIR)]
    out: PathBuf,
    /// The number that the trapdoor follows from: that of the directory, or else 0, which everybody knows
    #[arg(long)]
    seed: Option<u64>,
    /// Print what was made as JSON
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
            // There is nobody else to tell if stderr is gone.
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
