//! `stores`: the permanent stores and their identity files.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{ConfigArg, person::By, print_json, table};
use crate::{
    store::AuditEntry,
    stores::{self, Look, Users},
};

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Stores {
    /// Show each configured store, its id, and whether its directory really is the store.
    List(List),
    /// Declare that a configured directory is the store: its id is created, or remembered if it has one.
    ///
    /// At the first use of an empty directory the manager does this by itself.
    Init(Init),
}

/// How to show them.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    config: ConfigArg,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The store.
#[derive(Debug, Args)]
pub struct Init {
    #[command(flatten)]
    config: ConfigArg,
    /// The store's name in the configuration.
    name: String,
    /// Also if the store is known under another id: from now on this directory is the store.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    by: By,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Stores {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Stores::List(list) => list.run().await,
            Stores::Init(init) => init.run().await,
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let (config, store) = (self.config.load()?, self.config.store().await?);
        let users = Users { network: String::new(), miners: config.miners.iter().map(|miner| miner.id).collect() };
        let known = store.known_stores().await?;
        let (mut rows, mut all) = (Vec::new(), Vec::new());
        for configured in &config.stores {
            let (condition, problem) = match stores::look(&store, configured, &users).await? {
                Look::Ready(_) => ("ready", None),
                Look::Unknown(_) | Look::New => ("new", None),
                Look::Away(cause) => ("away", Some(cause.text)),
            };
            let id = known.iter().find(|store| store.name == configured.name).map(|store| store.id.as_str());
            let path = configured.path.display().to_string();
            all.push(
                json!({ "name": configured.name, "path": path, "id": id, "condition": condition, "problem": problem }),
            );
            let words = problem.map_or(condition.to_owned(), |problem| format!("{condition}: {problem}"));
            rows.push(vec![configured.name.clone(), path, id.unwrap_or("-").to_owned(), words]);
        }
        if self.json {
            return print_json(&all);
        }
        out!("{}", table::render(&["STORE", "PATH", "ID", "CONDITION"], &rows));
        Ok(())
    }
}

impl Init {
    async fn run(self) -> anyhow::Result<()> {
        let (config, store, person) = (self.config.load()?, self.config.store().await?, self.by.person());
        let before = store.known_stores().await?;
        let made = stores::init(&store, &config, &self.name, self.replace, &person.name).await?;
        let is_new = !before.contains(&made);
        if is_new {
            let mut tx = store.begin().await?;
            let detail = json!({ "id": made.id, "replace": self.replace });
            tx.add_audit(&AuditEntry::new(&person.name, "stores init", made.name.clone(), &person.why, detail)).await?;
            tx.commit().await?;
        }
        if self.json {
            return print_json(&json!({ "name": made.name, "id": made.id, "new": is_new }));
        }
        let what = if is_new { "is now known" } else { "was already known" };
        outln!("store {} {what}, by the id {}", made.name, made.id);
        Ok(())
    }
}
