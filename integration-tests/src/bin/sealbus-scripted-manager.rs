//! `sealbus-scripted-manager <configuration>`: the manager, for sectors that hold scripted replicas and proofs. As
//! `sealbus-scripted-manager check-files` it is what the manager starts to check files.

use std::{path::PathBuf, sync::Arc};

use clap::Parser;
use sealbus_integration_tests::scripted::verifier::Scripted;
use sealbus_manager::{config::Config, files, out, serve};
use tracing_subscriber::EnvFilter;

/// The manager with scripted proofs. Everything else is what `sealbus-manager run` is.
#[derive(Debug, Parser)]
struct Arguments {
    /// The manager's configuration.
    config: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,async_nats=off"));
    out::start_log(filter);
    if arguments.config.as_os_str() == files::COMMAND {
        return files::here::answer(&Scripted);
    }
    match serve::run_with(Config::load(&arguments.config)?, Arc::new(Scripted)).await? {}
}
