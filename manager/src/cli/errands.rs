//! `errands`: what became of messages that people or policies asked for, and taking them back.

use anyhow::bail;
use clap::{Args, Subcommand};
use fvm_ipld_encoding::from_slice;
use serde_json::{Value, json};

use super::{ConfigArg, person::By, print_json, table};
use crate::{
    chain::params::{CreateMinerReturn, WithdrawBalanceReturn},
    errands::{create::CREATE, fil::shown, money::WITHDRAW},
    store::{AuditEntry, Errand, ErrandId, ErrandState},
};

/// How many errands are listed with --all.
const LISTED: u32 = 200;

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Errands {
    /// List errands that may still land.
    List(List),
    /// Take errands back. One that is signed may land before something harmless takes its nonce.
    Cancel(Cancel),
}

/// Which errands to list.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    config: ConfigArg,
    /// Also those that have ended, of the newest 200.
    #[arg(long)]
    all: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Which errands to take back.
#[derive(Debug, Args)]
pub struct Cancel {
    #[command(flatten)]
    config: ConfigArg,
    /// The errands' numbers, as `errands list` shows them.
    #[arg(required = true)]
    ids: Vec<i64>,
    #[command(flatten)]
    by: By,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Errands {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Errands::List(list) => list.run().await,
            Errands::Cancel(cancel) => cancel.run().await,
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let errands = self.config.store().await?.errands(self.all.then_some(LISTED)).await?;
        if self.json {
            return print_json(&errands.iter().map(describe).collect::<Vec<_>>());
        }
        if errands.is_empty() {
            outln!("no errand is open{}", if self.all { "" } else { " (--all shows those that have ended)" });
            return Ok(());
        }
        let row = |errand: &Errand| {
            let Errand { id, asked, asked_at, state, .. } = errand;
            let what = asked.detail["what"].as_str().unwrap_or(&asked.kind);
            vec![
                id.0.to_string(),
                asked.miner.to_string(),
                state.name().to_owned(),
                asked_at.clone(),
                asked.asked_by.clone(),
                match outcome(errand) {
                    Some(outcome) => format!("{what}: {outcome}"),
                    None => what.to_owned(),
                },
            ]
        };
        let rows: Vec<Vec<String>> = errands.iter().map(row).collect();
        table::print(&["ERRAND", "MINER", "STATE", "ASKED", "BY", "WHAT"], &rows);
        Ok(())
    }
}

impl Cancel {
    async fn run(self) -> anyhow::Result<()> {
        let store = self.config.store().await?;
        let person = self.by.person();
        let mut tx = store.begin().await?;
        let mut cancelled = Vec::new();
        for id in &self.ids {
            let Some(errand) = store.errand(ErrandId(*id)).await? else {
                bail!("there is no errand {id} (see `sealbus-manager errands list --all`)");
            };
            if !errand.state.is_open() {
                bail!("errand {id} is {} already", errand.state.name());
            }
            let why = if person.why.is_empty() { format!("taken back by {}", person.name) } else { person.why.clone() };
            let state = tx.cancel_errand(ErrandId(*id), &why).await?.unwrap_or(errand.state);
            let (target, detail) = (errand.asked.miner.to_string(), json!({ "errand": id, "was": errand.state }));
            tx.add_audit(&AuditEntry::new(&person.name, "errands cancel", target, &person.why, detail)).await?;
            cancelled.push((*id, state));
        }
        tx.commit().await?;
        if self.json {
            let values = cancelled.iter().map(|(id, state)| json!({ "errand": id, "state": state }));
            return print_json(&values.collect::<Vec<_>>());
        }
        for (id, state) in cancelled {
            match state {
                ErrandState::Withdrawn => outln!("errand {id} is signed: it may still land before its nonce is taken"),
                state => outln!("errand {id} is {}", state.name()),
            }
        }
        Ok(())
    }
}

/// What an errand returned, or why it ended, in words.
fn outcome(errand: &Errand) -> Option<String> {
    let returned = errand.returned.as_deref().unwrap_or_default();
    match (errand.state, errand.asked.kind.as_str()) {
        (ErrandState::Landed, CREATE) => {
            let created: CreateMinerReturn = from_slice(returned).ok()?;
            Some(format!("the miner is {}", created.id_address))
        }
        (ErrandState::Landed, WITHDRAW) => {
            let withdrawn: WithdrawBalanceReturn = from_slice(returned).ok()?;
            Some(format!("{} FIL were withdrawn", shown(&withdrawn.amount_withdrawn)))
        }
        _ => errand.error.clone(),
    }
}

fn describe(errand: &Errand) -> Value {
    let Errand { id, asked, asked_at, state, epoch, exit_code, returned, error } = errand;
    json!({
        "errand": id, "miner": asked.miner, "kind": asked.kind, "state": state, "sender": asked.sender,
        "receiver": asked.receiver, "method": asked.method, "params": hex::encode(&asked.params),
        "value_atto": asked.value_atto, "detail": asked.detail, "asked_by": asked.asked_by, "asked_at": asked_at,
        "epoch": epoch, "exit_code": exit_code, "returned": returned.as_ref().map(hex::encode), "error": error,
        "outcome": outcome(errand),
    })
}
