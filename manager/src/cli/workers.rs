//! `workers`: who is alive and what it holds.

use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{ConfigArg, print_json, table};

/// How long connecting may take before the command gives up.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Workers {
    /// List the workers that gave a sign of life in the last three minutes.
    List(List),
}

/// How to list.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    config: ConfigArg,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Workers {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let Workers::List(list) = self;
        list.run().await
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let nats = self.config.load()?.nats;
        let bus = tokio::time::timeout(CONNECT_LIMIT, nats.connect("manager"))
            .await
            .with_context(|| format!("NATS at {} did not answer within {} s", nats.url, CONNECT_LIMIT.as_secs()))??;
        let seen = bus.workers().await.context("is the manager running? it makes the streams")?;
        if self.json {
            let workers: Vec<_> = seen
                .iter()
                .map(|seen| {
                    let mut value = json!(seen.heartbeat);
                    value["age_secs"] = json!((seen.now - seen.at).whole_seconds().max(0));
                    value
                })
                .collect();
            return print_json(&workers);
        }
        let mut rows = Vec::new();
        for seen in &seen {
            let beat = &seen.heartbeat;
            let age = format!("{} s", (seen.now - seen.at).whole_seconds().max(0));
            for slot in &beat.slots {
                let (sector, step) = match (&slot.holding, &slot.blocked) {
                    (holding, Some(error)) => {
                        let sector = holding.as_ref().map_or("-".to_owned(), |h| h.sector.to_string());
                        (sector, format!("BLOCKED {} {}", error.class, error.code))
                    }
                    (Some(holding), None) => (holding.sector.to_string(), holding.step.clone()),
                    (None, None) => ("-".to_owned(), "free".to_owned()),
                };
                rows.push(vec![
                    beat.worker.to_string(),
                    beat.host.clone(),
                    age.clone(),
                    slot.path.clone(),
                    sector,
                    step,
                ]);
            }
            if beat.slots.is_empty() {
                rows.push(vec![beat.worker.to_string(), beat.host.clone(), age, "-".into(), "-".into(), "-".into()]);
            }
        }
        table::print(&["WORKER", "HOST", "SEEN", "SLOT", "SECTOR", "STEP"], &rows);
        Ok(())
    }
}
