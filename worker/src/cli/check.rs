//! `sealbus-worker check`: whether a configuration is right, what it means, and whether everything that it names
//! exists.

use std::time::Duration;

use sealbus_nats::{ConnectError, NotThere};
use sealbus_worker::{
    causes::in_words,
    config::{self, Config},
    identity, out, placement,
    run::{self, RunError},
    sandbox,
};

use super::ConfigFile;

/// How long NATS may take to answer all requests. A request without permission gets no answer and takes 5 s.
const LIMIT: Duration = Duration::from_secs(20);

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Check {
    #[command(flatten)]
    config: ConfigFile,
    /// Only check the file against this machine: do not look for what it names, and do not connect to any server.
    #[arg(long)]
    offline: bool,
}

/// The configuration is right, but something that it names does not exist at present.
#[derive(Debug, thiserror::Error)]
#[error("the configuration is valid, but something that it names does not exist; a running worker waits for it")]
pub struct NotAllThere;

impl Check {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<()> {
        let mut config = Config::load(&self.config.path)?;
        let warnings = placement::settle(&mut config).map_err(RunError::from)?;
        let no_huge_pages = run::huge_pages_not_to_be_had(&config.processors)?;
        config.sandbox.admit(sandbox::kernel()).map_err(RunError::Sandbox)?;
        let found = if self.offline { Vec::new() } else { not_there(&config)? };
        let missing: String = found.iter().map(|missing| format!("not there now: {missing}\n")).collect();
        out::print(&format!("{}{missing}", config::summary(&config)))?;
        for warning in warnings {
            out::note(format_args!("warning: {warning}"));
        }
        for (field, reason) in no_huge_pages {
            out::note(format_args!("warning: {field}: {reason}"));
        }
        for exposed in config.exposed() {
            out::note(format_args!("warning: {exposed}"));
        }
        if found.is_empty() { Ok(()) } else { Err(NotAllThere.into()) }
    }
}

/// Everything that the configuration names and that does not exist or is unusable, NATS and its queues included.
fn not_there(config: &Config) -> anyhow::Result<Vec<NotThere>> {
    super::install_tls();
    let mut found = config.not_there();
    let store = &config.store;
    if store.path.is_dir()
        && let Err(error) = identity::check_store(&store.path, &store.name, None)
    {
        found.push(NotThere { field: "store.path".to_owned(), problem: error.message });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asking = async { tokio::time::timeout(LIMIT, ask(config)).await };
    match runtime.block_on(asking) {
        Ok(asked) => found.extend(asked),
        Err(_) => {
            let problem = format!("no answer within {} s", LIMIT.as_secs());
            found.push(NotThere { field: "nats.url".to_owned(), problem });
        }
    }
    Ok(found)
}

/// What is missing in NATS of what the configuration names.
async fn ask(config: &Config) -> Vec<NotThere> {
    let lacks = |field: &str, problem: String| NotThere { field: field.to_owned(), problem };
    let bus = match config.nats.connect(config.name.as_str()).await {
        Ok(bus) => bus,
        // Reported already, with the credential's file.
        Err(ConnectError::Identity(_)) => return Vec::new(),
        Err(error) => return vec![lacks("nats.url", in_words(&error))],
    };
    let mut missing = Vec::new();
    // A worker's key may read only its own orders, so this shows whether the key belongs to the name.
    if let Err(error) = bus.orders(&config.name).await {
        let problem = format!("our key may not read the orders of {}, or NATS does not answer", config.name);
        missing.push(lacks("worker.name", format!("{problem}: {}", in_words(&error))));
        return missing;
    }
    for queue in config.queues() {
        if let Err(error) = bus.find_queue(queue).await {
            missing.push(lacks("worker.miners", in_words(&error)));
        }
    }
    missing
}
