//! `sealbus-worker params`: whether parameters are whole, and where to get them.

use std::{fmt::Display, path::PathBuf, time::Duration};

use anyhow::bail;
use clap::{Args, Subcommand};
use sealbus_worker::{
    out,
    params::{
        CheckRequest, DEFAULT_DIR, DEFAULT_GATEWAY, DIR_VARIABLE, FetchPolicy, FetchRequest, Manifest, ManifestError,
        SectorSize, check, fetch,
    },
};
use serde::Serialize;

/// What to do with parameters.
#[derive(Clone, Debug, Subcommand)]
pub enum ParamsCommand {
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
    /// Says where this went: parameters are not made by the worker.
    #[command(hide = true)]
    Devnet {
        /// Whatever was asked for.
        #[arg(num_args = 0.., allow_hyphen_values = true, trailing_var_arg = true)]
        rest: Vec<String>,
    },
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

impl ParamsCommand {
    /// Carries the command out. Blocks until done.
    ///
    /// What it has done goes to stdout; progress and warnings go to stderr. Bad files make `check` an error, after its
    /// report.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Check(args) => {
                let report = check(&CheckRequest {
                    dir: args.dir,
                    sector_sizes: args.sector_size,
                    manifest: manifest(args.manifest)?,
                    again: args.again,
                    progress: !args.json,
                })?;
                print(&report, args.json)?;
                let (bad, checked, dir) = (report.bad().count(), report.files.len(), report.dir.display());
                if bad > 0 {
                    bail!(
                        "{bad} of {checked} files in {dir} are bad; get them with `params fetch`, or a devnet's with \
                         `sealbus-devnet-params`"
                    );
                }
                Ok(())
            }
            Self::Fetch(args) => {
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
            Self::Devnet { .. } => {
                bail!(
                    "the worker makes no parameters: a devnet's are made by `sealbus-devnet-params`, with the same arguments"
                )
            }
        }
    }
}

fn manifest(path: Option<PathBuf>) -> Result<Manifest, ManifestError> {
    path.map_or_else(Manifest::official, |path| Manifest::read(&path))
}

fn print(report: &(impl Display + Serialize), json: bool) -> anyhow::Result<()> {
    match json {
        true => out::json(&serde_json::to_string_pretty(report)?)?,
        false => out::print(&format!("{report}\n"))?,
    }
    Ok(())
}
