//! `bus`: recovery after the queue has lost its data.

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use sealbus_schema::machine::manager::AttemptPolicy;
use serde_json::json;

use super::{
    ConfigArg,
    person::{By, confirm},
    print_json,
    sectors::order::will,
    table,
};
use crate::{
    commands::{self, Command, Person},
    drive::attempt_policy,
    life,
    store::{AuditEntry, Happening, Job, Outcome, Store},
};

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum BusVerbs {
    /// Continue with this database after the stream SEAL_SECTORS was lost or created anew.
    Recover(Recover),
}

/// How to recover.
#[derive(Debug, Args)]
pub struct Recover {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    by: By,
    /// Delete the records that are in the present stream already. It is named, so that no other one is emptied.
    #[arg(long, value_name = "STREAM")]
    delete_records: Option<String>,
    /// Show what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask for confirmation.
    #[arg(long, short)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl BusVerbs {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let BusVerbs::Recover(recover) = self;
        recover.run().await
    }
}

impl Recover {
    async fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        let store = self.config.store().await?;
        let policy = attempt_policy(&config);
        let Some(known) = fold_state(&store).await? else {
            bail!("this database has never been used with a queue, so there is nothing to recover: start the manager");
        };
        let bus = config.nats.connect("manager").await?;
        if bus.sectors_identity().await.is_ok_and(|found| found.as_str() == known) {
            return self.nothing_to_do();
        }
        let sectors = store.sectors_to_recover().await?;
        let person = self.by.person();
        err!("{}", preview(&sectors, |sector| after_loss(sector, &person, policy)));
        if self.dry_run && self.json {
            return print_json(&json!({ "recovered": false, "old": known, "sectors": sectors.len() }));
        }
        if self.dry_run || !confirm("Give up the old queue and go on with the present one?", self.yes)? {
            return Ok(());
        }

        bus.ensure_streams(config.streams.layout()).await.context("cannot make the streams")?;
        let found = bus.sectors_identity().await?;
        let mut tx = store.begin().await?;
        // Another command may have come first.
        let lost = match tx.fold_state().await? {
            Some(fold) if fold.stream != found.as_str() => fold.last_sequence,
            _ => return self.nothing_to_do(),
        };
        self.check_records(bus.sectors_records().await?, found.as_str())?;
        let before = bus.begin_sectors_behind(lost).await?;
        let why = format!("the queue was lost; recovered by {}", person.name);
        let detail = json!({ "why": person.why, "old": known, "new": found.as_str() });
        let ids = sectors.iter().map(|sector| sector.id).collect();
        let outcomes = tx.sectors(&ids).await?.into_iter().map(|sector| {
            let happening =
                Happening { actor: person.name.clone(), ..Happening::of_manager("queue_recovered", detail.clone()) };
            life::recovered(sector, &known, &why, happening)
        });
        let outcomes: Vec<Outcome> = outcomes.collect();
        let held = outcomes.iter().filter(|outcome| life::goes_on(&outcome.sector)).count();
        let count = outcomes.len();
        tx.restart_fold(found.as_str(), before, outcomes, &why).await?;
        let detail = json!({ "old": known, "new": found.as_str(), "sectors": count });
        let entry = AuditEntry::new(&person.name, "bus recover", found.as_str().to_owned(), &person.why, detail);
        tx.add_audit(&entry).await?;
        tx.commit().await?;
        if self.json {
            return print_json(
                &json!({ "recovered": true, "old": known, "new": found.as_str(), "sectors": count, "held": held }),
            );
        }
        outln!(
            "recovered: as soon as the manager runs, {held} sector(s) go on in their slots and {} are offered again or are at \
             their end; start it now",
            count - held
        );
        Ok(())
    }

    /// What is in the present stream may be another manager's.
    fn check_records(&self, records: u64, stream: &str) -> anyhow::Result<()> {
        if records == 0 || self.delete_records.as_deref() == Some(stream) {
            return Ok(());
        }
        bail!(
            "the present stream {stream} holds {records} record(s), and recovery deletes them. Does the manager of another \
             database use this queue? Then use another one. If not, add --delete-records {stream}"
        );
    }

    fn nothing_to_do(&self) -> anyhow::Result<()> {
        if self.json {
            return print_json(&json!({ "recovered": false }));
        }
        outln!("this database belongs to the present queue: nothing to recover");
        Ok(())
    }
}

async fn fold_state(store: &Store) -> anyhow::Result<Option<String>> {
    let mut tx = store.begin().await?;
    Ok(tx.fold_state().await?.map(|fold| fold.stream))
}

/// What the loss of its lease means for a sector, in words.
fn after_loss(sector: &Job, person: &Person, policy: AttemptPolicy) -> String {
    if life::goes_on(sector) {
        return "goes on in the slot of its worker".to_owned();
    }
    if sector.state.is_terminal() {
        return "has come to its end; a slot that still holds it is freed".to_owned();
    }
    let command = Command::SlotReleased { slot: String::new() };
    match commands::carry_out(sector.clone(), &command, person, policy) {
        Ok(outcome) => will(&command, &outcome, policy),
        Err(_) => "offered again".to_owned(),
    }
}

fn preview(sectors: &[Job], what: impl Fn(&Job) -> String) -> String {
    let mut kinds: BTreeMap<(String, String), usize> = BTreeMap::new();
    for sector in sectors {
        *kinds.entry((sector.state.name().to_owned(), what(sector))).or_default() += 1;
    }
    let rows: Vec<Vec<String>> =
        kinds.into_iter().map(|((state, what), count)| vec![count.to_string(), state, what]).collect();
    table::render(&["SECTORS", "STATE", "WHAT HAPPENS"], &rows)
}
