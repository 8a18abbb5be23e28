//! `sealbus-scripted-manager <configuration>`: the manager, for sectors with scripted proofs, and optionally scripted
//! replicas. The manager starts `sealbus-scripted-manager check-files` to check files, and `aggregate-proofs` likewise.

use std::{path::PathBuf, sync::Arc};

use clap::Parser;
use sealbus_integration_tests::scripted::verifier::{Scripted, ScriptedProofs};
use sealbus_manager::{aggregates, config::Config, files, out, proofs::Verifier, serve};
use tracing_subscriber::EnvFilter;

/// The manager with scripted proofs. Everything else is as in `sealbus-manager run`.
#[derive(Debug, Parser)]
struct Arguments {
    /// The manager's configuration.
    config: PathBuf,
    /// Require real replicas; only the proofs are scripted.
    #[arg(long)]
    real_replicas: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,async_nats=off"));
    out::start_log(filter);
    let verifier: Arc<dyn Verifier> =
        if arguments.real_replicas { Arc::new(ScriptedProofs) } else { Arc::new(Scripted) };
    if arguments.config.as_os_str() == files::COMMAND {
        return files::here::answer(&*verifier);
    }
    if arguments.config.as_os_str() == aggregates::COMMAND {
        return aggregates::answer(&*verifier);
    }
    match serve::run_with(Config::load(&arguments.config)?, verifier).await? {}
}
