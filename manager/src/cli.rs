//! The command line: nouns, then verbs; tables for people, `--json` for scripts.
//!
//! Data goes to stdout, everything else to stderr. Exit code 0: done; 1: it failed; 2: the command is wrong.

mod audit;
mod bus;
mod decode;
mod fleet;
mod person;
mod pledge;
mod sectors;
mod slots;
mod surroundings;
mod table;
mod waiting;
mod workers;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

pub use person::Usage;

use crate::{config::Config, serve, store::Store};

/// The manager of Sealbus: intents, chain, records.
#[derive(Debug, Parser)]
#[command(name = "sealbus-manager", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the manager until it is stopped.
    Run(ConfigArg),
    /// Check a configuration without starting anything.
    Check(Check),
    /// Ask for sectors without data.
    Pledge(pledge::Pledge),
    /// The sectors and what happened to them.
    Sectors {
        #[command(subcommand)]
        verb: sectors::Sectors,
    },
    /// The machines that seal.
    Workers {
        #[command(subcommand)]
        verb: workers::Workers,
    },
    /// The directories in which machines seal.
    Slots {
        #[command(subcommand)]
        verb: slots::Slots,
    },
    /// The queue.
    Bus {
        #[command(subcommand)]
        verb: bus::BusVerbs,
    },
    /// What people ordered.
    Audit {
        #[command(subcommand)]
        verb: audit::Audit,
    },
    /// Read one message of the bus on stdin and print it as JSON, for `nats … --translate`.
    Decode(decode::Decode),
    /// Print a completion script.
    Completion {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

impl Cli {
    /// What is logged when `RUST_LOG` says nothing: a running manager tells what changes, a command only what is wrong.
    pub const fn default_log_filter(&self) -> &'static str {
        match self.command {
            Command::Run(_) => "info,async_nats=warn,filecoin_proofs=warn,storage_proofs_core=warn",
            _ => "warn",
        }
    }
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub struct ConfigArg {
    /// The configuration file.
    #[arg(long, short, env = "SEALBUS_MANAGER_CONFIG", default_value = "/etc/sealbus/manager.toml")]
    config: PathBuf,
}

/// What to check.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    config: ConfigArg,
    /// Also ask what the manager would need now: the node, its wallet, the senders, the stores, the verifying keys.
    #[arg(long)]
    surroundings: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl ConfigArg {
    fn load(&self) -> anyhow::Result<Config> {
        Ok(Config::load(&self.config)?)
    }

    async fn store(&self) -> anyhow::Result<Store> {
        Ok(Store::open(&self.load()?.database).await?)
    }
}

/// Does what the command line asks for.
pub async fn main(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Run(config) => run(config.load()?).await,
        Command::Check(check) => check.run().await,
        Command::Pledge(pledge) => pledge.run().await,
        Command::Sectors { verb } => verb.run().await,
        Command::Workers { verb } => verb.run().await,
        Command::Slots { verb } => verb.run().await,
        Command::Bus { verb } => verb.run().await,
        Command::Audit { verb } => verb.run().await,
        Command::Decode(decode) => decode.run(),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "sealbus-manager", &mut std::io::stdout());
            Ok(())
        }
    }
}

impl Check {
    async fn run(self) -> anyhow::Result<()> {
        let (path, loaded) = (self.config.config.display(), self.config.load()?);
        if self.surroundings {
            surroundings::report(&loaded, self.json).await?;
        }
        if self.json {
            let miners: Vec<_> = loaded.miners.iter().map(|miner| miner.id).collect();
            let stores: Vec<_> = loaded.stores.iter().map(|store| &store.name).collect();
            return print_json(
                &serde_json::json!({ "config": path.to_string(), "good": true, "miners": miners, "stores": stores }),
            );
        }
        println!("{path} is good: miners {}", loaded.miner_names());
        Ok(())
    }
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
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}
