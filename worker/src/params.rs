//! Groth16 parameters: a devnet's own, made in a minute; the official ones, checked and fetched.
//!
//! Read in this order: [`sector_size`] and [`circuits`] say which files there are; [`devnet`] makes them, with [`generator`] for what is in them,
//! [`assembly`] for a circuit's polynomials, [`fixed_base`] and [`affine`] for the points; [`marker`] and [`files`] keep them whole.

use std::path::PathBuf;

use clap::{Args, Subcommand};

mod affine;
mod assembly;
mod circuits;
mod devnet;
mod error;
mod files;
mod fixed_base;
mod generator;
mod marker;
mod memory;
mod sector_size;
mod srs;
mod trapdoor;

pub use assembly::CircuitSource;
pub use circuits::{Kind, ProofCircuit};
pub use devnet::{DEFAULT_SEED, DevnetReport, DevnetRequest, MadeFile, make};
pub use error::Error;
pub use generator::{GenerateError, Tables, generate};
pub use marker::{MARKER, MarkedFile, Marker};
pub use sector_size::{ParseSectorSizeError, SectorSize};
pub use srs::{MAX_PROOFS, SrsTrapdoor, write as write_srs};
pub use trapdoor::Trapdoor;

/// Where the proofs library looks for parameters, unless told otherwise.
const DEFAULT_DIR: &str = "/var/tmp/filecoin-proof-parameters";

/// The variable that tells it.
const DIR_VARIABLE: &str = "FIL_PROOFS_PARAMETER_CACHE";

/// What to do with parameters.
#[derive(Clone, Debug, Subcommand)]
pub enum ParamsCommand {
    /// Make parameters for a devnet. Whoever has the seed can forge proofs: never for a network on which something is at stake
    ///
    /// Makes the parameters and verifying keys of PoRep, window PoSt, winning PoSt and empty-sector update, and the SRS for aggregates of up to 1024
    /// proofs, from a trapdoor that follows from the seed. Makes only what is missing or broken. Refuses a directory that holds other parameters,
    /// and leaves a marker in its own.
    Devnet(DevnetArgs),
}

/// Arguments of `params devnet`.
#[derive(Clone, Debug, Args)]
pub struct DevnetArgs {
    /// The sectors' size: 2KiB, 8MiB or 512MiB
    #[arg(long, default_value_t = SectorSize::KiB2)]
    pub sector_size: SectorSize,
    /// Where to put the parameters
    #[arg(long, env = DIR_VARIABLE, default_value = DEFAULT_DIR)]
    pub out: PathBuf,
    /// The number that the trapdoor follows from: that of the directory, or else 0, which everybody knows
    #[arg(long)]
    pub seed: Option<u64>,
    /// Print what was made as JSON
    #[arg(long)]
    pub json: bool,
}

/// Carries a command out. Blocks until done; call it from where blocking is allowed.
pub fn run(command: ParamsCommand) -> Result<(), Error> {
    match command {
        ParamsCommand::Devnet(args) => {
            let request = DevnetRequest {
                dir: args.out,
                sector_size: args.sector_size,
                kinds: Kind::ALL.to_vec(),
                seed: args.seed,
                progress: !args.json,
            };
            let report = make(&request)?;
            if args.json {
                println!(
                    "{}",
                    serde_json::to_string_pretty(&report).unwrap_or_default()
                );
            } else {
                println!("{report}");
            }
        }
    }
    Ok(())
}
