//! Groth16 parameters: a devnet's own, made in a minute; the official ones, checked and fetched.
//!
//! Read in this order: `sector_size` and `circuits` say which files there are; `devnet` makes them,
//! with `generator` for what is in them, `assembly` for a circuit's polynomials, `fixed_base` and
//! `affine` for the points; `finisher`, `marker` and `files` keep them whole; `manifest`, `check`,
//! `fetch` and `download` are for the official ones.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::out;

mod affine;
mod assembly;
mod check;
mod circuits;
mod devnet;
mod download;
mod error;
mod fetch;
mod files;
mod finisher;
mod fixed_base;
mod generator;
mod manifest;
mod marker;
mod memory;
mod presence;
mod proof_types;
mod srs;
mod structure;
mod trapdoor;

pub use assembly::CircuitSource;
pub use check::{CheckReport, CheckRequest, CheckedFile, Finding, check};
pub use circuits::{Kind, ProofCircuit};
pub use devnet::{DEFAULT_SEED, DevnetReport, DevnetRequest, make};
pub use download::{AttemptError, DownloadError, FetchPolicy};
pub use error::Error;
pub use fetch::{FailedDownload, FetchReport, FetchRequest, fetch};
pub use finisher::MadeFile;
pub use generator::{GenerateError, Tables, generate};
pub use manifest::{Manifest, ManifestEntry};
pub use marker::{MARKER, MarkedFile, Marker};
pub use presence::c2_files_problem;
pub use sealbus_schema::SectorSize;
pub use srs::{MAX_PROOFS, SrsTrapdoor, write as write_srs};
pub use trapdoor::Trapdoor;

/// Where the proofs library looks for parameters, unless told otherwise.
pub const DEFAULT_DIR: &str = "/var/tmp/filecoin-proof-parameters";

/// The variable that tells it.
pub const DIR_VARIABLE: &str = "FIL_PROOFS_PARAMETER_CACHE";

/// The gateway of the official files.
pub const DEFAULT_GATEWAY: &str = "https://proofs.filecoin.io/ipfs";

/// What to do with parameters.
#[derive(Clone, Debug, Subcommand)]
pub enum ParamsCommand {
    /// Make parameters for a devnet. Whoever has the seed can forge proofs
    ///
    /// So never use them for a network on which something is at stake. Makes the parameters and
    /// verifying keys of PoRep, window PoSt, winning PoSt and empty-sector update, and the SRS for
    /// aggregates of up to 1024 proofs, from a trapdoor that follows from the seed. Makes only what
    /// is missing or broken. Refuses a directory that holds other parameters, and leaves a marker
    /// in its own.
    Devnet(DevnetArgs),
    /// Check that all files are there, byte for byte
    ///
    /// Holds them against the official manifest, or a devnet's own against its marker. What was
    /// read once is remembered, in the directory, until the file changes.
    Check(CheckArgs),
    /// Fetch the official files from a gateway, and verify them
    ///
    /// Fetches what is missing or bad. Run it again after an interruption: it goes on where it
    /// stopped. The files of 32 GiB sectors are more than 100 GiB.
    Fetch(FetchArgs),
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
    /// The number that the trapdoor follows from: that of the directory, or else 0, which everybody
    /// knows
    #[arg(long)]
    pub seed: Option<u64>,
    /// Print what was made as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `params check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// The sectors' size; may be given more than once
    #[arg(long, required = true)]
    pub sector_size: Vec<SectorSize>,
    /// Where the parameters are
    #[arg(long, env = DIR_VARIABLE, default_value = DEFAULT_DIR)]
    pub dir: PathBuf,
    /// A manifest other than the official one, in the form of the proofs library's parameters.json
    #[arg(long)]
    pub manifest: Option<PathBuf>,
    /// Read also what was read before and has not changed
    #[arg(long)]
    pub again: bool,
    /// Print what was found as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `params fetch`.
#[derive(Clone, Debug, Args)]
pub struct FetchArgs {
    /// The sectors' size; may be given more than once
    #[arg(long, required = true)]
    pub sector_size: Vec<SectorSize>,
    /// Where to put the parameters
    #[arg(long, env = DIR_VARIABLE, default_value = DEFAULT_DIR)]
    pub out: PathBuf,
    /// Where to fetch from; a slash and a file's content identifier are appended
    #[arg(long, default_value = DEFAULT_GATEWAY)]
    pub gateway: String,
    /// A manifest other than the official one, in the form of the proofs library's parameters.json
    #[arg(long)]
    pub manifest: Option<PathBuf>,
    /// How many files to fetch at once
    #[arg(long, default_value_t = 4)]
    pub parallel: usize,
    /// Seconds of silence after which the gateway is asked anew
    #[arg(long, default_value_t = 60)]
    pub stall_secs: u64,
    /// Print what was fetched as JSON
    #[arg(long)]
    pub json: bool,
}

/// Carries a command out. Blocks until done.
///
/// What it has done goes to stdout; progress and warnings go to stderr. Bad files make `check` an
/// error, after its report.
pub fn run(command: ParamsCommand) -> Result<(), Error> {
    match command {
        ParamsCommand::Devnet(args) => {
            let report = make(&DevnetRequest {
                dir: args.out,
                sector_size: args.sector_size,
                kinds: Kind::ALL.to_vec(),
                seed: args.seed,
                progress: !args.json,
            })?;
            print(&report, args.json)
        }
        ParamsCommand::Check(args) => {
            let report = check(&CheckRequest {
                dir: args.dir,
                sector_sizes: args.sector_size,
                manifest: manifest(args.manifest)?,
                again: args.again,
                progress: !args.json,
            })?;
            print(&report, args.json)?;
            match report.bad().count() {
                0 => Ok(()),
                bad => Err(Error::Bad { dir: report.dir, bad, checked: report.files.len() }),
            }
        }
        ParamsCommand::Fetch(args) => {
            let report = fetch(&FetchRequest {
                dir: args.out,
                sector_sizes: args.sector_size,
                manifest: manifest(args.manifest)?,
                gateway: args.gateway,
                policy: FetchPolicy {
                    parallel: args.parallel,
                    stall_timeout: Duration::from_secs(args.stall_secs),
                    ..FetchPolicy::default()
                },
                progress: !args.json,
            })?;
            print(&report, args.json)
        }
    }
}

fn manifest(path: Option<PathBuf>) -> Result<Manifest, Error> {
    path.map_or_else(Manifest::official, |path| Manifest::read(&path))
}

fn print(report: &(impl Display + Serialize), json: bool) -> Result<(), Error> {
    match json {
        true => out::json(&serde_json::to_string_pretty(report)?)?,
        false => out::print(&format!("{report}\n"))?,
    }
    Ok(())
}
