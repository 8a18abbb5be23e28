//! `sealbus-worker params`: checks parameters and fetches them.

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

/// The subcommands for parameters.
#[derive(Clone, Debug, Subcommand)]
pub enum ParamsCommand {
    /// Check that all files are there, byte for byte
    ///
    /// Compares them with the official manifest, or a devnet's own with its marker file. A file that was read once is
    /// remembered in the directory until it changes.
    Check(CheckArgs),
    /// Fetch the official files from a gateway, and verify them
    ///
    /// Fetches what is missing or bad. After an interruption, run it again: it resumes where it stopped. The files for
    /// 32 GiB sectors are more than 100 GiB.
    Fetch(FetchArgs),
    /// Points to the program that has replaced this subcommand.
    #[command(hide = true)]
    Devnet {
        /// Any arguments; they are ignored.
        #[arg(num_args = 0.., allow_hyphen_values = true, trailing_var_arg = true)]
        rest: Vec<String>,
    },
}

/// Arguments of `params check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// The sector size; may be given more than once
    #[arg(long, required = true)]
    pub sector_size: Vec<SectorSize>,
    /// The directory with the parameters
    #[arg(long, env = DIR_VARIABLE, default_value = DEFAULT_DIR)]
    pub dir: PathBuf,
    /// A manifest other than the official one, in the form of the proofs library's parameters.json
    #[arg(long)]
    pub manifest: Option<PathBuf>,
    /// Also read files that have not changed since they were last read
    #[arg(long)]
    pub again: bool,
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `params fetch`.
#[derive(Clone, Debug, Args)]
pub struct FetchArgs {
    /// The sector size; may be given more than once
    #[arg(long, required = true)]
    pub sector_size: Vec<SectorSize>,
    /// Where to put the parameters
    #[arg(long, env = DIR_VARIABLE, default_value = DEFAULT_DIR)]
    pub out: PathBuf,
    /// The gateway's URL; a slash and a file's content identifier are appended
    #[arg(long, default_value = DEFAULT_GATEWAY)]
    pub gateway: String,
    /// A manifest other than the official one, in the form of the proofs library's parameters.json
    #[arg(long)]
    pub manifest: Option<PathBuf>,
    /// How many files to fetch at once
    #[arg(long, default_value_t = 4)]
    pub parallel: usize,
    /// Seconds of silence after which a request to the gateway is repeated
    #[arg(long, default_value_t = 60)]
    pub stall_secs: u64,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

impl ParamsCommand {
    /// Runs the command. Blocks until it is done.
    ///
    /// The report goes to stdout; progress and warnings go to stderr. If files are bad, `check` prints its report and
    /// then fails.
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
