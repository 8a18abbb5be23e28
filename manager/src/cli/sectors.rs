//! `sectors`: list them, show one.

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use sealbus_schema::{MinerId, SectorId, lease::Ownership, seal::manager::State};
use serde_json::{Value, json};

use super::{ConfigArg, print_json, table};
use crate::store::{HistoryEntry, Sector, SectorFilter};

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Sectors {
    /// List sectors.
    List(List),
    /// Show one sector with its history.
    Show(Show),
}

/// Which to list.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    config: ConfigArg,
    /// Only those of this miner.
    #[arg(long)]
    miner: Option<MinerId>,
    /// Only those in this state.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(State::NAMES))]
    state: Option<String>,
    /// Only those that a person must look at.
    #[arg(long)]
    blocked: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Which to show.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    config: ConfigArg,
    /// The sector, such as f01000/42.
    sector: SectorId,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Sectors {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Sectors::List(list) => list.run().await,
            Sectors::Show(show) => show.run().await,
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let store = self.config.store().await?;
        let filter = SectorFilter { miner: self.miner, state: self.state, blocked: self.blocked };
        let sectors = store.sectors(&filter).await?;
        if self.json {
            return print_json(&sectors.iter().map(describe).collect::<Vec<_>>());
        }
        let rows: Vec<Vec<String>> = sectors
            .iter()
            .map(|sector| {
                vec![
                    sector.id.to_string(),
                    sector.state.name().to_owned(),
                    blocked_by(sector).unwrap_or("-").to_owned(),
                    owner(sector).map_or("-".to_owned(), |(worker, _)| worker),
                    sector.attempt.to_string(),
                    sector.changed_at.clone(),
                ]
            })
            .collect();
        table::print(&["SECTOR", "STATE", "BLOCKED", "WORKER", "ATTEMPT", "CHANGED"], &rows);
        Ok(())
    }
}

impl Show {
    async fn run(self) -> anyhow::Result<()> {
        let store = self.config.store().await?;
        let Some(sector) = store.sector(self.sector).await? else {
            bail!("there is no sector {} (see `sealbus-manager sectors list`)", self.sector);
        };
        let history = store.history(self.sector).await?;
        if self.json {
            let mut value = describe(&sector);
            value["history"] = serde_json::to_value(&history).context("cannot print the history")?;
            return print_json(&value);
        }
        show(&sector, &history);
        Ok(())
    }
}

fn show(sector: &Sector, history: &[HistoryEntry]) {
    println!("sector    {}", sector.id);
    println!("proof     {}", sector.proof);
    println!("state     {}", sector.state.name());
    println!("attempt   {}", sector.attempt);
    match owner(sector) {
        Some((worker, token)) => println!("worker    {worker} (lease {token})"),
        None => println!("worker    none"),
    }
    if let Some(stored) = sector.state.stored() {
        println!("store     {}", stored.files.store);
        for file in &stored.files.files {
            println!("file      {} ({} bytes)", file.path, file.bytes);
        }
    }
    if let State::Blocked { cause, .. } = &sector.state {
        println!("blocked   {} {}: {}", cause.class, cause.code, cause.message());
    }
    if let State::Aborting { cause } | State::Aborted { cause } = &sector.state {
        println!("cause     {} {}: {}", cause.class, cause.code, cause.message());
    }
    println!();
    let rows: Vec<Vec<String>> = history
        .iter()
        .map(|entry| {
            vec![
                entry.happening.at.clone(),
                entry.happening.actor.clone(),
                entry.happening.kind.clone(),
                entry.verdict.clone(),
                brief(&entry.happening.detail),
            ]
        })
        .collect();
    table::print(&["AT", "BY", "WHAT", "VERDICT", "DETAIL"], &rows);
}

/// A detail in one line that fits a terminal; `--json` has the whole.
fn brief(detail: &Value) -> String {
    let Some(fields) = detail.as_object() else { return detail.to_string() };
    let short = |value: &Value| match value {
        Value::String(text) if text.chars().count() > 24 => format!("{}…", text.chars().take(24).collect::<String>()),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.len()),
        Value::Object(fields) if fields.contains_key("code") => {
            let causes = fields.get("causes").and_then(Value::as_array);
            let first = causes.and_then(|c| c.first()).and_then(Value::as_str).unwrap_or_default();
            format!("{} {first}", fields["code"].as_str().unwrap_or_default())
        }
        Value::Object(_) => "{…}".to_owned(),
        other => other.to_string(),
    };
    fields.iter().map(|(name, value)| format!("{name}={}", short(value))).collect::<Vec<_>>().join(" ")
}

fn describe(sector: &Sector) -> Value {
    json!({
        "sector": sector.id.to_string(),
        "miner": sector.id.miner,
        "number": sector.id.number,
        "proof": sector.proof,
        "state": sector.state.name(),
        "attempt": sector.attempt,
        "worker": owner(sector).map(|(worker, _)| worker),
        "token": owner(sector).map(|(_, token)| token),
        "created_at": sector.created_at,
        "changed_at": sector.changed_at,
        "blocked": match &sector.state { State::Blocked { cause, .. } => json!(cause), _ => Value::Null },
        "cause": match &sector.state {
            State::Aborting { cause } | State::Aborted { cause } => json!(cause),
            _ => Value::Null,
        },
        "comm_r": sector.state.sealed().map(|sealed| sealed.comm_r),
        "comm_d": sector.state.sealed().map(|sealed| sealed.comm_d),
        "ticket": sector.state.sealed().map(|sealed| sealed.ticket),
        "precommit": sector.state.precommitted().map(|p| p.precommit),
        "stored": sector.state.stored().map(|stored| stored.files.clone()),
        "seed": sector.state.seeded().map(|seeded| seeded.seed),
        "activation_epoch": match &sector.state {
            State::Cleaning(active) | State::Proving(active) => Some(active.activation_epoch),
            _ => None,
        },
    })
}

fn owner(sector: &Sector) -> Option<(String, u64)> {
    match &sector.ownership {
        Ownership::Held { worker, token, .. } => Some((worker.to_string(), token.0)),
        Ownership::Free { .. } => None,
    }
}

fn blocked_by(sector: &Sector) -> Option<&str> {
    match &sector.state {
        State::Blocked { cause, .. } => Some(cause.code.as_str()),
        _ => None,
    }
}
