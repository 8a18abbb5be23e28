//! `sectors`: list them, show one, and decide about those that wait for a person.

mod blocked;
mod echo;
pub(super) mod order;
pub(super) mod select;
mod show;
mod waits;

use clap::{Args, Subcommand};
use sealbus_schema::{MinerId, lease::Ownership, seal::manager::State};
use serde_json::{Value, json};

use super::{ConfigArg, known::insist_on_miner, print_json, table};
use crate::{
    store::{Sector, SectorFilter},
    why::why,
};
use select::blocked_by;

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Sectors {
    /// List sectors.
    List(List),
    /// Show one sector with its history.
    Show(show::Show),
    /// Show what waits for a person, why, and what can be ordered.
    Blocked(blocked::Blocked),
    /// Go on with blocked sectors, or give sectors to another worker.
    Resubmit(order::Resubmit),
    /// Give sectors up.
    Abandon(order::Abandon),
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

impl Sectors {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Sectors::List(list) => list.run().await,
            Sectors::Show(show) => show.run().await,
            Sectors::Blocked(blocked) => blocked.run().await,
            Sectors::Resubmit(resubmit) => resubmit.run().await,
            Sectors::Abandon(abandon) => abandon.run().await,
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let store = self.config.store().await?;
        if let Some(miner) = self.miner {
            insist_on_miner(miner, &self.config.load()?, &store).await?;
        }
        let filter = SectorFilter { miner: self.miner, state: self.state, blocked: self.blocked };
        let sectors = store.sectors(&filter).await?;
        let waits = store.waits().await?;
        if self.json {
            let with_waits = |sector: &Sector| {
                let mut value = describe(sector);
                let why = why(sector, &waits);
                value["waits_for"] = json!(why.waits_for);
                value["held_by"] = json!(why.held_by.iter().map(|wait| wait.cause.code.as_str()).collect::<Vec<_>>());
                value
            };
            return print_json(&sectors.iter().map(with_waits).collect::<Vec<_>>());
        }
        let rows: Vec<Vec<String>> = sectors
            .iter()
            .map(|sector| {
                vec![
                    sector.id.to_string(),
                    sector.state.name().to_owned(),
                    blocked_by(sector).map_or("-", |cause| cause.code.as_str()).to_owned(),
                    why(sector, &waits).word().unwrap_or("-").to_owned(),
                    owner(sector).map_or("-".to_owned(), |(worker, _)| worker),
                    sector.attempt.to_string(),
                    sector.changed_at.clone(),
                ]
            })
            .collect();
        table::print(&["SECTOR", "STATE", "BLOCKED", "WAITS", "WORKER", "ATTEMPT", "CHANGED"], &rows);
        Ok(())
    }
}

fn describe(sector: &Sector) -> Value {
    json!({
        "sector": sector.id.to_string(),
        "miner": sector.id.miner,
        "number": sector.id.number,
        "proof": sector.proof,
        "state": sector.state.name(),
        "attempt": sector.attempt,
        "issues": sector.issues,
        "resubmits": sector.resubmits,
        "precommit_signed": sector.precommit_signed,
        "worker": owner(sector).map(|(worker, _)| worker),
        "token": owner(sector).map(|(_, token)| token),
        "created_at": sector.created_at,
        "changed_at": sector.changed_at,
        "blocked": match &sector.state { State::Blocked { cause, .. } => json!(cause), _ => Value::Null },
        "cause": match &sector.state {
            State::Aborting { cause } | State::Abandoning { cause } | State::Aborted { cause } => json!(cause),
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
