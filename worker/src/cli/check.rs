//! `sealbus-worker check`: whether a configuration makes sense and what it means, and whether all is there that it names.

use std::time::Duration;

use sealbus_nats::{ConnectError, NotThere};
use sealbus_worker::{
    config::{self, Config},
    out, placement, run,
};

use super::ConfigFile;

/// How long NATS may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// What to check.
#[derive(Debug, clap::Args)]
pub struct Check {
    #[command(flatten)]
    config: ConfigFile,
    /// Only whether the file makes sense on this machine: do not look whether all is there that it names, and ask no server.
    #[arg(long)]
    offline: bool,
}

/// The configuration makes sense, and something that it names is not there.
#[derive(Debug, thiserror::Error)]
#[error("the configuration makes sense, but not all is there that it names; a worker that runs waits for it")]
pub struct NotAllThere;

impl Check {
    /// Carries out the command.
    pub fn run(self) -> anyhow::Result<()> {
        let mut config = Config::load(&self.config.path)?;
        let warnings = placement::settle(&mut config)?;
        let no_huge_pages = run::huge_pages_not_to_be_had(&config.processors)?;
        let found = if self.offline { Vec::new() } else { not_there(&config)? };
        let missing: String = found.iter().map(|missing| format!("not there now: {missing}\n")).collect();
        out::print(&format!("{}{missing}", config::summary(&config)))?;
        for warning in warnings {
            out::note(format_args!("warning: {warning}"));
        }
        for (field, reason) in no_huge_pages {
            out::note(format_args!("warning: {field}: {reason}"));
        }
        if found.is_empty() { Ok(()) } else { Err(NotAllThere.into()) }
    }
}

/// What is not there of all that the configuration names, NATS included.
fn not_there(config: &Config) -> anyhow::Result<Vec<NotThere>> {
    super::install_tls();
    let mut found = config.not_there();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asking = async { tokio::time::timeout(LIMIT, config.nats.connect(config.name.as_str())).await };
    let problem = match runtime.block_on(asking) {
        Ok(Ok(_)) => return Ok(found),
        // Said with its file already.
        Ok(Err(ConnectError::Identity(_))) => return Ok(found),
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!("{error}{cause}")
        }
        Err(_) => format!("no answer within {} s", LIMIT.as_secs()),
    };
    found.push(NotThere { field: "nats.url".to_owned(), problem });
    Ok(found)
}
