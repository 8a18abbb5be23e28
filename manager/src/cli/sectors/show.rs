//! `sectors show`: one sector with its history.

use anyhow::{Context, bail};
use clap::Args;
use sealbus_schema::{ErrorReport, SectorId, parts::StoredSector};
use serde_json::{Map, Value, json};

use super::{
    super::{ConfigArg, fleet::counted, waiting::ChainTime},
    blocked, describe, owner, print_json, table,
    waits::{Concerned, Waiting},
};
use crate::{
    drive::attempt_policy,
    store::{HistoryEntry, Job},
    waits::{Wait, advice},
    why::{Why, why},
};

/// Which sector to show.
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

impl Show {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let policy = attempt_policy(&self.config.load()?);
        let store = self.config.store().await?;
        let Some(sector) = store.sector(self.sector).await? else {
            bail!("there is no sector {} (see `sealbus-manager sectors list`)", self.sector);
        };
        let history = store.history(self.sector).await?;
        let orders = blocked::orders(&sector, policy);
        let waits = store.waits_in_outbox(&[sector.id]).await?;
        let waiting = Waiting::look(&store).await?;
        let why = why(&sector, waiting.all());
        let ahead = store.reads_ahead(Some(sector.id.miner)).await?;
        let at_risk = ahead.iter().find_map(|ahead| Some((ahead, ahead.unread_of(sector.id.number)?)));
        if self.json {
            let mut value = describe(&sector);
            value["orders"] = json!(orders);
            value["blocked_since"] = json!(blocked::since(&sector, &history));
            value["waits_for_the_bus"] = json!(waits);
            value["waits_for"] = json!(why.waits_for);
            let nobody_knows = ChainTime { epoch: None, live: false };
            let alone = Concerned::only(&sector);
            let describe_wait = |wait: &&Wait| waiting.json_of(wait, &alone, nobody_knows);
            value["held_by"] = why.held_by.iter().map(describe_wait).collect();
            value["unread_ahead"] = json!(at_risk.map(|(ahead, unread)| {
                json!({ "deadline": ahead.id.deadline, "opens": ahead.open, "store": unread.store, "cause": unread.cause })
            }));
            value["history"] = serde_json::to_value(&history).context("cannot print the history")?;
            return print_json(&value);
        }
        if let Some((ahead, unread)) = at_risk {
            let (deadline, open) = (ahead.id.deadline, ahead.open);
            outln!("at risk   it cannot be read for the proof of deadline {deadline}, which opens at epoch {open}");
            outln!("  because {}", unread.cause);
        }
        show(&sector, &history, &orders, waits, &|| show_why(&why, &waiting));
        Ok(())
    }
}

fn show_why(why: &Why<'_>, waiting: &Waiting) {
    outln!("waits     for {}", why.waits_for);
    for wait in &why.held_by {
        outln!("held up   {} {}: {}", wait.cause.class, wait.cause.code, wait.subject);
        outln!("  because {}", wait.cause.text.lines().collect::<Vec<_>>().join(" "));
        outln!("  since   {}", waiting.times(wait));
        outln!("  do      {}", advice(&wait.cause.code));
    }
}

fn show(sector: &Job, history: &[HistoryEntry], orders: &[String], waits: bool, tell_why: &dyn Fn()) {
    outln!("sector    {}", sector.id);
    outln!("proof     {}", sector.proof);
    outln!("state     {}", sector.state.name());
    outln!(
        "attempt   {}; offered {} since a person last looked, resubmitted {}",
        sector.attempt,
        counted(u64::from(sector.issues), "time"),
        counted(u64::from(sector.resubmits), "time")
    );
    match owner(sector) {
        Some((worker, token)) => outln!("worker    {worker} (lease {token})"),
        None => outln!("worker    none"),
    }
    let known = sector.state.describe();
    show_rebuild(sector, &known);
    show_files(&known);
    if let Some(cause) = &sector.blocked {
        outln!("since     {}", blocked::since(sector, history).unwrap_or_else(|| "unknown".to_owned()));
        show_error("blocked", cause);
    }
    if let Some(cause) = sector.state.cause() {
        show_error("cause", cause);
    }
    if !sector.state.is_terminal() {
        tell_why();
        outln!("orders    {}", blocked::in_words(orders));
    }
    if waits {
        outln!("waits     something for it is decided and not on the bus yet");
    }
    outln!();
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

fn show_rebuild(sector: &Job, known: &Map<String, Value>) {
    let Some(what) = known.get("rebuild").and_then(Value::as_str) else { return };
    let stage = match sector.state.traits().offered {
        Some(_) => "waits for a worker",
        None => "a worker seals it again",
    };
    outln!("rebuild   {stage}, {what}");
}

fn show_files(known: &Map<String, Value>) {
    let Some(Ok(stored)) = known.get("stored").cloned().map(serde_json::from_value::<StoredSector>) else { return };
    outln!("store     {}", stored.store);
    for file in &stored.files {
        outln!("file      {} ({} bytes)", file.path, file.bytes);
    }
}

/// Prints an error with all its details.
fn show_error(heading: &str, error: &ErrorReport) {
    outln!("{heading:9} {} {}", error.class, error.code);
    for cause in &error.causes {
        outln!("  because {cause}");
    }
    if let Some(phase) = error.phase {
        outln!("  phase   {phase}, try {}", error.attempt);
    }
    for (name, value) in [("host", &error.host), ("slot", &error.slot)] {
        if !value.is_empty() {
            outln!("  {name:7} {value}");
        }
    }
    if let Some(processor) = &error.processor {
        outln!("  process {processor}");
    }
    if let Some(exit) = &error.exit {
        outln!("  ended   {exit}");
    }
    for line in error.stderr_tail.lines() {
        outln!("  stderr  {line}");
    }
}

/// A detail, truncated to one line; `--json` prints all of it.
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
