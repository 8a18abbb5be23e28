//! The command line: data on stdout, everything else on stderr. Exit codes: 0 done; 1 it failed; 2 the command line is wrong;
//! 75 something that the configuration names is not there now; 78 the configuration is wrong; 141 nobody reads stdout any more.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use sealbus_schema::text;
use sealbus_worker::{
    config::{Config, ConfigError},
    out::{self, OutError},
    processor::{
        child::{
            self, Engine,
            damocles::{Damocles, Program},
        },
        exec_child, orphans,
    },
    run::{self, RunError},
    stage::{Stage, foreign, huge_pages},
};
use tracing_subscriber::EnvFilter;

mod calc;
mod check;
mod exec_bound;
mod params;
mod plan;
mod topology;

/// What is logged when `RUST_LOG` says nothing: what changes here, and what is wrong in the libraries.
const DEFAULT_LOG_FILTER: &str = "info,async_nats=off,filecoin_proofs=warn,storage_proofs_core=warn";

/// `EX_CONFIG` of sysexits(3): a person must change the configuration. The unit does not start the worker again then.
const MISCONFIGURED: u8 = 78;
/// `EX_TEMPFAIL`: the configuration makes sense, and something that it names is not there.
const NOT_THERE: u8 = 75;
/// Of a program whose reader went away: 128 and SIGPIPE, as of one that the signal ends.
const READER_GONE: u8 = 141;

/// The arguments.
#[derive(Debug, Parser)]
#[command(name = "sealbus-worker", version, about = "Seals Filecoin sectors on one machine")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Seal: take sectors into the slots and bring them to their end.
    ///
    /// Stops at SIGTERM or SIGINT, quickly; what was being worked on goes on at the next start.
    Run {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Check a configuration and print what it means; then look whether all is there that it names.
    Check(check::Check),
    /// Groth16 parameters: check or fetch the official ones.
    #[command(subcommand)]
    Params(params::ParamsCommand),
    /// Serve one stage on stdin and stdout (started by the worker itself).
    Processor {
        /// add_pieces, tree_d, pc1, pc2, transfer, c1 or c2.
        stage: Stage,
        /// An executable made for damocles that does the work; what comes before and after is done here.
        #[arg(long, value_name = "BIN")]
        damocles: Option<PathBuf>,
        /// How long that executable may take until it says that it is ready.
        #[arg(long, value_name = "MS", default_value_t = 60_000, requires = "damocles")]
        stable_wait_ms: u64,
        #[command(flatten)]
        options: ForeignOptions,
        /// Its arguments.
        #[arg(last = true, requires = "damocles")]
        args: Vec<String>,
    },
    /// Become another program that dies with this one's parent (used by the worker itself).
    #[command(hide = true)]
    ExecChild {
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        program: Vec<String>,
    },
    /// Print what this machine, or one that is described, consists of.
    Topology(topology::TopologyArguments),
    /// Work out what to start where on this machine, or on one that is described.
    ///
    /// Prints processors, limits and slots, what they come to in sectors a day, and what they are short of.
    Plan(Box<plan::PlanArguments>),
    /// Calculate what given processors, times and slots come to.
    Calc(calc::CalcArguments),
    /// Bind this process and become an executable (started by the worker itself).
    #[command(hide = true)]
    ExecBound(exec_bound::ExecBoundArguments),
    /// Print a completion script.
    Completion {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

/// What is to be known of an executable made for damocles.
#[derive(Debug, clap::Args)]
struct ForeignOptions {
    /// pc2: what it is told of the rows of tree D that are not kept.
    #[arg(long, value_name = "ROWS", requires = "damocles")]
    rows_to_discard: Option<usize>,
    /// pc1: it does without the library's cache of parents.
    #[arg(long, requires = "damocles")]
    own_parents: bool,
    /// c2: it does without the library's parameters.
    #[arg(long, requires = "damocles")]
    own_params: bool,
}

impl From<ForeignOptions> for foreign::Options {
    fn from(options: ForeignOptions) -> Self {
        let ForeignOptions { rows_to_discard, own_parents, own_params } = options;
        Self { rows_to_discard, own_parents, own_params }
    }
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The configuration, TOML; see docs/configuration-worker.md.
    #[arg(long = "config", value_name = "FILE", env = "SEALBUS_WORKER_CONFIG")]
    path: PathBuf,
}

impl Arguments {
    /// Carries out the command.
    pub fn execute(self) -> ExitCode {
        if let Command::ExecBound(arguments) = self.command {
            return arguments.execute();
        }
        match self.carry_out() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) if error.downcast_ref().is_some_and(OutError::is_reader_gone) => ExitCode::from(READER_GONE),
            Err(error) => {
                out::note(in_one_block(&error).trim_end());
                ExitCode::from(exit_code(&error))
            }
        }
    }

    fn carry_out(self) -> anyhow::Result<()> {
        match self.command {
            Command::Run { config } => {
                out::start_log(default_filter());
                run_worker(&config.path)
            }
            Command::Check(check) => check.run(),
            Command::Params(command) => {
                out::start_log(default_filter());
                command.run()
            }
            Command::Processor { stage, damocles, stable_wait_ms, options, args } => {
                out::start_log(EnvFilter::from_default_env());
                if stage == Stage::Pc1
                    && damocles.is_none()
                    && let Err(error) = huge_pages::start_again_until_asked_for()
                {
                    tracing::warn!(%error, "labels may lie on small pages, which costs time only");
                }
                let engine = match damocles {
                    None => Engine::BuiltIn,
                    Some(bin) => {
                        let ready_wait = Duration::from_millis(stable_wait_ms);
                        Engine::Damocles(Damocles::new(Program { bin, args, stage, ready_wait }), options.into())
                    }
                };
                Ok(child::serve(stage, engine)?)
            }
            Command::ExecChild { program } => {
                let (program, args) = program.split_first().context("no program")?;
                match exec_child::exec(Path::new(program), args)? {}
            }
            Command::Topology(arguments) => arguments.run(),
            Command::Plan(arguments) => arguments.run(),
            Command::Calc(arguments) => arguments.run(),
            // Became another executable, or ended.
            Command::ExecBound(_) => Ok(()),
            Command::Completion { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Arguments::command(), "sealbus-worker", &mut script);
                Ok(out::bytes(&script)?)
            }
        }
    }
}

/// What the command line's parser says: the help that was asked for on stdout, or what is wrong on stderr.
pub fn told(words: &clap::Error) -> ExitCode {
    match words.print() {
        Err(error) if !words.use_stderr() => match error.kind() {
            std::io::ErrorKind::BrokenPipe => ExitCode::from(READER_GONE),
            _ => {
                out::note(format_args!("error: cannot write to stdout: {error}"));
                ExitCode::FAILURE
            }
        },
        _ => ExitCode::from(u8::try_from(words.exit_code()).unwrap_or(2)),
    }
}

fn run_worker(path: &Path) -> anyhow::Result<()> {
    install_tls();
    let config = Config::load(path)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(run::run(config));
    // File operations that are under way may finish, or not: all of them can be repeated.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    // Processors die with this process; what came out of them need not.
    orphans::kill_all();
    Ok(outcome?)
}

/// For tls:// addresses.
fn install_tls() {
    // It fails only if one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn default_filter() -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG_FILTER))
}

/// The exit code that tells what kind of failure it was.
fn exit_code(error: &anyhow::Error) -> u8 {
    let config = error.downcast_ref::<ConfigError>();
    let run = error.downcast_ref::<RunError>();
    if matches!(config, Some(ConfigError::NoExecutable { .. }))
        || error.is::<check::NotAllThere>()
        || run.is_some_and(RunError::is_not_there)
    {
        return NOT_THERE;
    }
    // A file that cannot be read is not there; a file that says something wrong must be changed.
    let bad_file = config.is_some_and(|error| !matches!(error, ConfigError::Read { .. }));
    if bad_file || run.is_some_and(RunError::is_misconfigured) { MISCONFIGURED } else { 1 }
}

/// An error with all its causes, one a line.
fn in_one_block(error: &anyhow::Error) -> String {
    let mut block = format!("error: {error}\n");
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // A transparent error repeats its source.
        if cause != last {
            let words = text::printable(cause.trim_end()).replace('\n', "\n           ");
            block.push_str(&format!("  because: {words}\n"));
        }
        last = cause;
    }
    block
}
