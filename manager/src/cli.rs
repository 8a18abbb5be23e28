//! The command line: a noun, then a verb. Tables for people, `--json` for scripts.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 done; 1 failed; 2 the command line is wrong; 75
//! something that the configuration names is unavailable now (`check`); 78 the configuration is invalid; 141 nobody
//! reads stdout any more.

mod audit;
mod backup;
mod broken;
mod bus;
mod check;
mod costs;
mod decode;
mod errand;
mod fleet;
mod funds;
mod known;
mod messages;
mod miners;
mod person;
mod pledge;
mod proving;
mod sectors;
mod slots;
mod stores;
mod table;
mod waiting;
mod workers;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

pub use person::Usage;

use crate::{
    aggregates,
    config::{Config, ConfigError},
    files, out,
    proofs::Library,
    serve,
    serve::ServeError,
    store::Store,
};

/// `EX_CONFIG` of sysexits(3): a person must change the configuration. The unit does not restart the manager then.
const MISCONFIGURED: u8 = 78;
/// `EX_TEMPFAIL`: the configuration is valid, but something that it names is unavailable.
const NOT_THERE: u8 = 75;

/// The manager of Sealbus: decides which sectors are sealed, and talks to the chain.
#[derive(Debug, Parser)]
#[command(name = "sealbus-manager", version = sealbus_schema::VERSION)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the manager until it is stopped.
    Run(ConfigArg),
    /// Check a configuration without starting anything.
    Check(check::Check),
    /// Request sectors without data.
    Pledge(pledge::Pledge),
    /// List and cancel pledges.
    Pledges {
        #[command(subcommand)]
        verb: pledge::Pledges,
    },
    /// List sectors, show their history, and decide about them.
    Sectors {
        #[command(subcommand)]
        verb: sectors::Sectors,
    },
    /// List the miners, set their weights, and run their owners' errands.
    Miners {
        #[command(subcommand)]
        verb: miners::Miners,
    },
    /// Show what the miners have, what is locked, and what their sectors will need.
    Funds(funds::Funds),
    /// List and show messages to the chain, and send what waits for others.
    Messages {
        #[command(subcommand)]
        verb: messages::Messages,
    },
    /// Show deadlines, proofs of partitions, and faults.
    Proving {
        #[command(subcommand)]
        verb: proving::Proving,
    },
    /// Add up what left and came, from the chain: deposits, pledges, gas, fees, penalties, rewards.
    Costs(costs::Costs),
    /// List, show, drain and resume workers.
    Workers {
        #[command(subcommand)]
        verb: workers::Workers,
    },
    /// Release slots.
    Slots {
        #[command(subcommand)]
        verb: slots::Slots,
    },
    /// Recover after the queue was lost.
    Bus {
        #[command(subcommand)]
        verb: bus::BusVerbs,
    },
    /// Manage the permanent stores.
    Stores {
        #[command(subcommand)]
        verb: stores::Stores,
    },
    /// Copy the database into a backup, while the manager runs.
    Backup(backup::Backup),
    /// Put a backup in the database's place.
    Restore(backup::Restore),
    /// List the orders that people gave.
    Audit {
        #[command(subcommand)]
        verb: audit::Audit,
    },
    /// Read one message of the bus on stdin and print it as JSON, for `nats … --translate`.
    Decode(decode::Decode),
    /// Check a sector's files for the running manager: a request on stdin, the outcome on stdout.
    #[command(name = files::COMMAND, hide = true)]
    CheckFiles,
    /// Aggregate proofs for the running manager: a request on stdin, the aggregate on stdout.
    #[command(name = aggregates::COMMAND, hide = true)]
    AggregateProofs,
    /// Print a completion script.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one for each command, for packages.
    #[command(hide = true)]
    Man {
        /// The directory to write them to.
        directory: PathBuf,
    },
}

impl Cli {
    /// The log filter without `RUST_LOG`: a running manager logs changes, a command only problems.
    pub const fn default_log_filter(&self) -> &'static str {
        match self.command {
            Command::Run(_) => "info,async_nats=off,filecoin_proofs=warn,storage_proofs_core=warn",
            _ => "warn",
        }
    }
}

/// The path of the configuration.
#[derive(Debug, Args)]
pub struct ConfigArg {
    /// The configuration file.
    #[arg(long, short, env = "SEALBUS_MANAGER_CONFIG", default_value = "/etc/sealbus/manager.toml")]
    config: PathBuf,
}

impl ConfigArg {
    fn load(&self) -> anyhow::Result<Config> {
        Ok(Config::load(&self.config)?)
    }

    async fn store(&self) -> anyhow::Result<Store> {
        Ok(Store::open_existing(&self.load()?.database).await?)
    }
}

/// Runs the command.
pub async fn main(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Run(config) => run(config.load()?).await,
        Command::Check(check) => check.run().await,
        Command::Pledge(pledge) => pledge.run().await,
        Command::Pledges { verb } => verb.run().await,
        Command::Sectors { verb } => verb.run().await,
        Command::Miners { verb } => verb.run().await,
        Command::Funds(funds) => funds.run().await,
        Command::Messages { verb } => verb.run().await,
        Command::Proving { verb } => verb.run().await,
        Command::Costs(costs) => costs.run().await,
        Command::Workers { verb } => verb.run().await,
        Command::Slots { verb } => verb.run().await,
        Command::Bus { verb } => verb.run().await,
        Command::Stores { verb } => verb.run().await,
        Command::Backup(backup) => backup.run().await,
        Command::Restore(restore) => restore.run().await,
        Command::Audit { verb } => verb.run().await,
        Command::Decode(decode) => decode.run(),
        Command::CheckFiles => files::here::answer(&Library),
        Command::AggregateProofs => aggregates::answer(&Library),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "sealbus-manager", &mut script);
            out::bytes(&script);
            Ok(())
        }
        Command::Man { directory } => Ok(clap_mangen::generate_to(Cli::command(), directory)?),
    }
}

/// The exit code for a failure.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Usage>() {
        return 2;
    }
    if error.is::<check::NotAllThere>() {
        return NOT_THERE;
    }
    let misconfigured = error.downcast_ref::<ServeError>().is_some_and(ServeError::is_misconfigured);
    // A file that cannot be read counts as unavailable; an invalid one must be changed.
    let bad_file = error.downcast_ref::<ConfigError>().is_some_and(|error| !matches!(error, ConfigError::Read { .. }));
    if misconfigured || bad_file { MISCONFIGURED } else { 1 }
}

async fn run(config: Config) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = serve::run(config) => match ended {
            Ok(never) => match never {},
            Err(error) => Err(error.into()),
        },
        _ = terminate.recv() => { tracing::info!("stopped by SIGTERM"); Ok(()) }
        _ = tokio::signal::ctrl_c() => { tracing::info!("stopped by SIGINT"); Ok(()) }
    }
}

/// Prints a value as JSON on stdout.
fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    out::json(&serde_json::to_string_pretty(value)?);
    Ok(())
}
