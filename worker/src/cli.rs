//! The command line. Data goes to stdout, everything else to stderr. Exit codes: 0 success; 1 failure; 2 wrong command
//! line; 75 something that the configuration names does not exist at present; 78 wrong configuration; 141 the reader of
//! stdout is gone.

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

/// The log filter if `RUST_LOG` is not set: our own changes of state, and the warnings of the libraries.
const DEFAULT_LOG_FILTER: &str = "info,async_nats=off,filecoin_proofs=warn,storage_proofs_core=warn";

/// `EX_CONFIG` of sysexits(3): a person must change the configuration. systemd then does not restart the unit.
const MISCONFIGURED: u8 = 78;
/// `EX_TEMPFAIL` of sysexits(3): the configuration is right, but something that it names does not exist at present.
const NOT_THERE: u8 = 75;
/// The reader of stdout is gone: 128 + SIGPIPE, as for a program killed by that signal.
const READER_GONE: u8 = 141;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "sealbus-worker", version = sealbus_schema::VERSION, about = "Seals Filecoin sectors on one machine")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Seal: take sectors into the slots and work on them until they are proven.
    ///
    /// Stops quickly at SIGTERM or SIGINT. Interrupted phases run again at the next start.
    Run {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Check a configuration and print what it means; then check that everything it names exists.
    Check(check::Check),
    /// Groth16 parameters: check them, or fetch the official ones.
    #[command(subcommand)]
    Params(params::ParamsCommand),
    /// Serve one stage on stdin and stdout (the worker starts this itself).
    Processor {
        /// add_pieces, tree_d, pc1, pc2, transfer, c1, c2, post_read, post_prove, win_read or win_prove.
        stage: Stage,
        /// An executable for damocles that does the computation; this process does what comes before and after.
        #[arg(long, value_name = "BIN")]
        damocles: Option<PathBuf>,
        /// How many milliseconds that executable may take to report that it is ready.
        #[arg(long, value_name = "MS", default_value_t = 60_000, requires = "damocles")]
        stable_wait_ms: u64,
        #[command(flatten)]
        options: ForeignOptions,
        /// The executable's arguments.
        #[arg(last = true, requires = "damocles")]
        args: Vec<String>,
    },
    /// Become another program that dies with this process's parent (the worker uses this itself).
    #[command(hide = true)]
    ExecChild {
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        program: Vec<String>,
    },
    /// Print the topology of this machine, or of a described one.
    Topology(topology::TopologyArguments),
    /// Plan which processors to run where, on this machine or on a described one.
    ///
    /// Prints processors, limits and slots, the resulting sectors a day, and the bottleneck.
    Plan(Box<plan::PlanArguments>),
    /// Calculate the throughput of given processors, times and slots.
    Calc(calc::CalcArguments),
    /// Bind this process to cpus and memory and become an executable (the worker starts this itself).
    #[command(hide = true)]
    ExecBound(exec_bound::ExecBoundArguments),
    /// Print a completion script.
    Completion {
        /// The shell to print it for.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one for each command, for packages.
    #[command(hide = true)]
    Man {
        /// The directory to write them to.
        directory: PathBuf,
    },
}

/// Properties of an executable made for damocles.
#[derive(Debug, clap::Args)]
struct ForeignOptions {
    /// pc2: the number of rows of tree D to discard, as told to the executable.
    #[arg(long, value_name = "ROWS", requires = "damocles")]
    rows_to_discard: Option<usize>,
    /// pc1: the executable does not use the library's parent cache.
    #[arg(long, requires = "damocles")]
    own_parents: bool,
    /// c2: the executable does not use the library's parameters.
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
    /// The configuration file, in TOML; see docs/configuration-worker.md.
    #[arg(long = "config", value_name = "FILE", env = "SEALBUS_WORKER_CONFIG")]
    path: PathBuf,
}

impl Arguments {
    /// Runs the command.
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
                    tracing::warn!(%error, "labels may lie on small pages, which costs only time");
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
            // On success it does not come back.
            Command::ExecBound(_) => Ok(()),
            Command::Man { directory } => Ok(clap_mangen::generate_to(Arguments::command(), directory)?),
            Command::Completion { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Arguments::command(), "sealbus-worker", &mut script);
                Ok(out::bytes(&script)?)
            }
        }
    }
}

/// Prints what the argument parser returned: requested help on stdout, an error on stderr.
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
    // File operations still in progress may be cut off, because each of them can be repeated.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    // The kernel kills the processors with this process, but not always what they have started.
    orphans::kill_all();
    Ok(outcome?)
}

/// Sets up TLS, for `tls://` addresses.
fn install_tls() {
    // An error only means that a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn default_filter() -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG_FILTER))
}

/// The exit code for the kind of failure.
fn exit_code(error: &anyhow::Error) -> u8 {
    let config = error.downcast_ref::<ConfigError>();
    let run = error.downcast_ref::<RunError>();
    if matches!(config, Some(ConfigError::NoExecutable { .. }))
        || error.is::<check::NotAllThere>()
        || run.is_some_and(RunError::is_not_there)
    {
        return NOT_THERE;
    }
    // A file that cannot be read may appear later; a file with a mistake must be changed.
    let bad_file = config.is_some_and(|error| !matches!(error, ConfigError::Read { .. }));
    if bad_file || run.is_some_and(RunError::is_misconfigured) { MISCONFIGURED } else { 1 }
}

/// An error with all its causes, one per line.
fn in_one_block(error: &anyhow::Error) -> String {
    let mut block = format!("error: {error}\n");
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // An error marked `transparent` shows the same text as its source.
        if cause != last {
            let words = text::printable(cause.trim_end()).replace('\n', "\n           ");
            block.push_str(&format!("  because: {words}\n"));
        }
        last = cause;
    }
    block
}
