//! `sealbus-devnet`: a test chain as a process. See `docs/devnet.md`.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::Parser;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::sector::SectorSize;
use sealbus_integration_tests::devnet::config::{ConfigError, DEADLINES_MAX, WINDOW_EPOCHS, parse_sector_size};
use sealbus_integration_tests::devnet::{Config, Devnet, ProofVerifier, ProofsApi, Server, files};
use sealbus_integration_tests::scripted::verifier::{Scripted, ScriptedProofs};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use tracing_subscriber::EnvFilter;

/// A stand-in for a Filecoin node, built on the real miner state machine, for tests and demos.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The loopback address of the RPC server; port 0 takes any free port.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The directory for the address, the tokens and the chain's description.
    #[arg(long)]
    data_dir: PathBuf,
    /// The sector size of all miners: 2KiB or 8MiB.
    #[arg(long, default_value = "2KiB", value_parser = sector_size)]
    sector_size: SectorSize,
    /// The number of miners that genesis creates, from t01000 upwards.
    #[arg(long, default_value_t = 1)]
    miners: u64,
    /// The real milliseconds of an epoch.
    #[arg(long, default_value_t = 1000)]
    epoch_millis: u64,
    /// The chain seconds of an epoch. By default those of its real time, rounded up.
    #[arg(long)]
    block_delay_secs: Option<u64>,
    /// How many seconds ago epoch 0 was.
    #[arg(long, default_value_t = 0)]
    genesis_secs_ago: u64,
    /// The seed of keys and randomness.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Start with the clock stopped.
    #[arg(long)]
    paused: bool,
    /// The network version: 28 or 29.
    #[arg(long, default_value_t = 29)]
    network_version: u32,
    /// The last epoch of network version 28, after which it is 29.
    #[arg(long)]
    upgrade_epoch: Option<ChainEpoch>,
    /// Let the base fee follow the demand for gas (FIP-0115).
    #[arg(long)]
    base_fee_follows: bool,
    /// Let sectors fail that nobody proves, and charge for faults and sectors.
    #[arg(long)]
    proving: bool,
    /// The deadlines of a proving period.
    #[arg(long, default_value_t = DEADLINES_MAX)]
    deadlines: u64,
    /// The epochs of a deadline. The other times of proving are scaled like it.
    #[arg(long, default_value_t = WINDOW_EPOCHS)]
    window_epochs: ChainEpoch,
    /// Give the miners here all of the network's power, so that they win blocks.
    #[arg(long)]
    elections: bool,
    /// The name of the network.
    #[arg(long, default_value = "sealbus-devnet")]
    network_name: String,
    /// Accept only the proofs of scripted sectors.
    #[arg(long)]
    scripted_proofs: bool,
    /// With `--scripted-proofs`: the replicas are real, and only the proofs are scripted.
    #[arg(long, requires = "scripted_proofs")]
    real_replicas: bool,
}

fn sector_size(text: &str) -> Result<SectorSize, ConfigError> {
    parse_sector_size(text)
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupted = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    files::prepare(&arguments.data_dir)?;
    let verifier: Arc<dyn ProofVerifier> = match (arguments.scripted_proofs, arguments.real_replicas) {
        (false, _) => Arc::new(ProofsApi),
        (true, false) => Arc::new(Scripted),
        (true, true) => Arc::new(ScriptedProofs),
    };
    let devnet = Devnet::new(config(&arguments)?, verifier)?;
    let server = Server::start(&devnet, arguments.listen).await?;
    let tokens = devnet.tokens();
    devnet.with_node(|node| files::write(&arguments.data_dir, node, &tokens, server.address()))?;
    info!(address = %server.address(), data_dir = %arguments.data_dir.display(), "devnet is up");
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    info!("devnet stops");
    files::retract(&arguments.data_dir)?;
    Ok(())
}

fn config(arguments: &Arguments) -> anyhow::Result<Config> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    Ok(Config {
        network_name: arguments.network_name.clone(),
        network_version: arguments.network_version,
        upgrade_epoch: arguments.upgrade_epoch,
        base_fee_follows: arguments.base_fee_follows,
        sector_size: arguments.sector_size,
        miners: arguments.miners,
        proving: arguments.proving,
        deadlines: arguments.deadlines,
        window_epochs: arguments.window_epochs,
        elections: arguments.elections,
        seed: arguments.seed,
        epoch_millis: if arguments.paused { 0 } else { arguments.epoch_millis },
        genesis_timestamp: now.as_secs().saturating_sub(arguments.genesis_secs_ago),
        block_delay_secs: arguments.block_delay_secs.unwrap_or(arguments.epoch_millis.div_ceil(1000)).max(1),
    })
}
