//! `sectors`: list sectors, show one, and decide about those that wait for a person.

mod blocked;
mod care;
mod compact;
mod echo;
mod extend;
pub(super) mod order;
pub(super) mod select;
mod show;
mod terminate;
mod upgrade;
mod waits;

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use sealbus_schema::{MinerId, SectorId, lease::Ownership, workflows::State};
use serde_json::{Value, json};

use super::{
    ConfigArg,
    known::insist_on_miner,
    print_json,
    table::{self, Pages},
};
use crate::{
    store::{Job, SectorFilter},
    waits::Wait,
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
    /// Show what waits for a person, why, and the possible orders.
    Blocked(blocked::Blocked),
    /// Continue blocked sectors, or give sectors to another worker.
    Resubmit(order::Resubmit),
    /// Give sectors up.
    Abandon(order::Abandon),
    /// Let proven sectors go on for longer.
    Extend(extend::Extend),
    /// End proven sectors before their time.
    Terminate(terminate::Terminate),
    /// Raise proven sectors to tenfold quality.
    UpgradeQuality(upgrade::Upgrade),
    /// Pack partitions anew without their dead sectors.
    Compact(compact::Compact),
}

/// Which sectors to list.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    config: ConfigArg,
    /// Only sectors of this miner.
    #[arg(long)]
    miner: Option<MinerId>,
    /// Only sectors in this state.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(State::names()))]
    state: Option<String>,
    /// Only sectors that wait for a person.
    #[arg(long)]
    blocked: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What waits, by sector, so that a list of a million sectors does not search all waits for each one.
struct WaitsOfSectors {
    /// For each sector with waits of its own: these, and those that hold up many.
    of_sectors: BTreeMap<SectorId, Vec<Wait>>,
    /// The waits that may hold up many sectors.
    of_many: Vec<Wait>,
}

impl Sectors {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Sectors::List(list) => list.run().await,
            Sectors::Show(show) => show.run().await,
            Sectors::Blocked(blocked) => blocked.run().await,
            Sectors::Resubmit(resubmit) => resubmit.run().await,
            Sectors::Abandon(abandon) => abandon.run().await,
            Sectors::Extend(extend) => extend.run().await,
            Sectors::Terminate(terminate) => terminate.run().await,
            Sectors::UpgradeQuality(upgrade) => upgrade.run().await,
            Sectors::Compact(compact) => compact.run().await,
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
        let waits = WaitsOfSectors::of(store.waits().await?);
        if self.json {
            let mut values = Vec::new();
            let with_waits = |sector: Job| {
                let mut value = describe(&sector);
                let why = why(&sector, waits.of_sector(sector.id));
                value["waits_for"] = json!(why.waits_for);
                value["held_by"] = json!(why.held_by.iter().map(|wait| wait.cause.code.as_str()).collect::<Vec<_>>());
                values.push(value);
            };
            store.each_sector(&filter, with_waits).await?;
            return print_json(&values);
        }
        let mut table = Pages::new(&["SECTOR", "STATE", "BLOCKED", "WAITS", "WORKER", "ATTEMPT", "CHANGED"]);
        let row = |sector: Job| {
            table.push(vec![
                sector.id.to_string(),
                sector.state.name().to_owned(),
                blocked_by(&sector).map_or("-", |cause| cause.code.as_str()).to_owned(),
                why(&sector, waits.of_sector(sector.id)).word().unwrap_or("-").to_owned(),
                owner(&sector).map_or("-".to_owned(), |(worker, _)| worker),
                sector.attempt.to_string(),
                sector.changed_at.clone(),
            ]);
        };
        store.each_sector(&filter, row).await?;
        table.finish();
        Ok(())
    }
}

impl WaitsOfSectors {
    fn of(waits: Vec<Wait>) -> WaitsOfSectors {
        let (of_one, of_many): (Vec<Wait>, Vec<Wait>) =
            waits.into_iter().partition(|wait| wait.subject.sector().is_some());
        let mut of_sectors: BTreeMap<SectorId, Vec<Wait>> = BTreeMap::new();
        for wait in of_one {
            if let Some(id) = wait.subject.sector() {
                of_sectors.entry(id).or_insert_with(|| of_many.clone()).push(wait);
            }
        }
        WaitsOfSectors { of_sectors, of_many }
    }

    /// All waits that may hold up a sector.
    fn of_sector(&self, id: SectorId) -> &[Wait] {
        self.of_sectors.get(&id).unwrap_or(&self.of_many)
    }
}

fn describe(sector: &Job) -> Value {
    let mut value = json!({
        "sector": sector.id.to_string(),
        "miner": sector.id.miner,
        "number": sector.id.number,
        "workflow": sector.state.workflow(),
        "proof": sector.proof,
        "state": sector.state.name(),
        "attempt": sector.attempt,
        "issues": sector.issues,
        "resubmits": sector.resubmits,
        "precommit_signed": sector.signed,
        "worker": owner(sector).map(|(worker, _)| worker),
        "token": owner(sector).map(|(_, token)| token),
        "created_at": sector.created_at,
        "changed_at": sector.changed_at,
        "blocked": sector.blocked,
        "cause": sector.state.cause(),
    });
    if let Value::Object(fields) = &mut value {
        fields.extend(sector.state.describe());
    }
    value
}

fn owner(sector: &Job) -> Option<(String, u64)> {
    match &sector.ownership {
        Ownership::Held { worker, token, .. } => Some((worker.to_string(), token.0)),
        Ownership::Free { .. } => None,
    }
}
