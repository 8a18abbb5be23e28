//! `pledge` and `pledges`: requesting sectors without data, listing and cancelling the requests.

use std::collections::BTreeMap;

use anyhow::bail;
use clap::{Args, Subcommand};
use sealbus_schema::{IntentKind, MinerId};
use serde_json::{Value, json};

use super::{
    ConfigArg,
    fleet::counted,
    known::insist_on_miner,
    person::{By, confirm},
    print_json, table,
};
use crate::{
    commands::Person,
    config::Config,
    store::{AuditEntry, Job, Pledge as Pledged, Store},
};

/// Records a request for sectors. The running manager numbers them and offers them to workers.
#[derive(Debug, Args)]
pub struct Pledge {
    #[command(flatten)]
    config: ConfigArg,
    /// The miner, such as f01000.
    #[arg(long)]
    miner: MinerId,
    /// How many sectors.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    count: u64,
    #[command(flatten)]
    by: By,
    /// Do not ask for confirmation, however many they are.
    #[arg(long, short)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Pledges {
    /// List pledges whose sectors do not all have a number yet.
    List(List),
    /// Take back sectors without a number. To give up those that have one, use `sectors abandon`.
    Cancel(Cancel),
}

/// Which pledges to list.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    config: ConfigArg,
    /// Only pledges of this miner.
    #[arg(long)]
    miner: Option<MinerId>,
    /// Also pledges of which nothing is left.
    #[arg(long)]
    all: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Which pledges to take back.
#[derive(Debug, Args)]
pub struct Cancel {
    #[command(flatten)]
    config: ConfigArg,
    /// The pledges' numbers, as `pledges list` shows them.
    #[arg(required_unless_present = "all")]
    ids: Vec<i64>,
    /// All pledges of which something is left.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// With --all, only pledges of this miner.
    #[arg(long, requires = "all")]
    miner: Option<MinerId>,
    #[command(flatten)]
    by: By,
    /// Do not ask for confirmation.
    #[arg(long, short)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Pledge {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        let Some(miner) = config.miner(self.miner) else {
            bail!("miner {} is not in the configuration (configured: {})", self.miner, config.miner_names());
        };
        let (count, sectors) = (self.count, counted(self.count, "sector"));
        if count > miner.max_queued {
            errln!(
                "{sectors} are more than wait in the queue at once (max_queued = {}): the others get their numbers as workers \
                 take the first",
                miner.max_queued
            );
            if !confirm(&format!("Pledge {sectors} of {}?", self.miner), self.yes)? {
                return Ok(());
            }
        }
        let store = Store::open_existing(&config.database).await?;
        let person = self.by.person();
        let mut tx = store.begin_order().await?;
        let id = tx.add_pledge_because(&self.miner.to_string(), count, &person.name, &person.why).await?;
        let detail = json!({ "pledge": id, "count": count });
        tx.add_audit(&AuditEntry::new(&person.name, "pledge", self.miner.to_string(), &person.why, detail)).await?;
        tx.commit().await?;
        if self.json {
            return print_json(&json!({ "miner": self.miner, "count": count, "pledge": id }));
        }
        outln!("{sectors} of {} {} wanted (pledge {id})", self.miner, if count == 1 { "is" } else { "are" });
        outln!(
            "  `sealbus-manager sectors list` shows them, `sealbus-manager pledges cancel {id}` takes back what has no number yet"
        );
        Ok(())
    }
}

impl Pledges {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Pledges::List(list) => list.run().await,
            Pledges::Cancel(cancel) => cancel.run().await,
        }
    }
}

impl List {
    async fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        let store = Store::open_existing(&config.database).await?;
        if let Some(miner) = self.miner {
            insist_on_miner(miner, &config, &store).await?;
        }
        let mut pledges = if self.all { store.all_pledges().await? } else { store.open_pledges().await? };
        pledges.retain(|pledge| self.miner.is_none_or(|miner| pledge.miner == miner.to_string()));
        if self.json {
            return print_json(&pledges.iter().map(|pledge| describe(pledge, &config)).collect::<Vec<_>>());
        }
        if pledges.is_empty() {
            outln!("nothing is pledged that has no number yet");
            return Ok(());
        }
        let row = |pledge: &Pledged| {
            let numbers = [pledge.id as u64, pledge.asked, pledge.numbered(), pledge.cancelled, pledge.remaining];
            let [id, asked, numbered, cancelled, left] = numbers.map(|number| number.to_string());
            let (at, by, why) = (pledge.asked_at.clone(), pledge.asked_by.clone(), pledge.why.clone());
            let miner = match is_configured(pledge, &config) {
                true => pledge.miner.clone(),
                false => format!("{} (not configured)", pledge.miner),
            };
            vec![id, miner, asked, numbered, cancelled, left, at, by, why]
        };
        let rows: Vec<Vec<String>> = pledges.iter().map(row).collect();
        table::print(&["PLEDGE", "MINER", "ASKED", "NUMBERED", "CANCELLED", "LEFT", "AT", "BY", "WHY"], &rows);
        Ok(())
    }
}

impl Cancel {
    async fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        let store = Store::open_existing(&config.database).await?;
        if let Some(miner) = self.miner {
            insist_on_miner(miner, &config, &store).await?;
        }
        let mut open = store.open_pledges().await?;
        if self.all {
            open.retain(|pledge| self.miner.is_none_or(|miner| pledge.miner == miner.to_string()));
        } else {
            insist_on_open(&self.ids, &open, &store).await?;
            open.retain(|pledge| self.ids.contains(&pledge.id));
        }
        for pledge in &open {
            errln!("{}", in_words(pledge));
        }
        if self.all
            && !open.is_empty()
            && !confirm(&format!("Take back {}?", counted(open.len() as u64, "pledge")), self.yes)?
        {
            return Ok(());
        }
        let cancelled = cancel(&store, &open, &self.by.person(), "pledges cancel").await?;
        if self.json {
            return print_json(&cancelled.iter().map(|pledge| describe(pledge, &config)).collect::<Vec<_>>());
        }
        if cancelled.is_empty() {
            outln!("nothing is pledged that has no number yet: nothing was taken back");
        }
        for pledge in &cancelled {
            outln!("pledge {}: {} of {} taken back", pledge.id, counted(pledge.cancelled, "sector"), pledge.miner);
        }
        let numbered: u64 = cancelled.iter().map(Pledged::numbered).sum();
        if numbered > 0 {
            outln!(
                "  {} of them had a number before; those that no worker has yet are given up with `sealbus-manager sectors abandon \
                 --state queued --miner …`",
                counted(numbered, "sector")
            );
        }
        Ok(())
    }
}

/// The open pledges of miners whose whole queue is about to be given up. They would fill the queue again at once. Says
/// on stderr what happens to them, and what else fills the queue.
pub(super) async fn refilling(
    selected: &[Job],
    config: &Config,
    store: &Store,
    keep: bool,
) -> anyhow::Result<Vec<Pledged>> {
    let mut queued: BTreeMap<MinerId, u64> = BTreeMap::new();
    for sector in selected
        .iter()
        .filter(|sector| sector.blocked.is_none() && sector.state.traits().offered == Some(IntentKind::Seal))
    {
        *queued.entry(sector.id.miner).or_default() += 1;
    }
    let mut refilling = Vec::new();
    for (miner, count) in queued {
        if count < store.queued_count(miner).await? {
            continue;
        }
        let open = store.open_pledges().await?;
        for pledge in open.into_iter().filter(|pledge| pledge.miner == miner.to_string()) {
            if keep {
                errln!("{}: offers others in their place", in_words(&pledge));
            } else {
                errln!("{}: taken back as well, or it would offer others in their place", in_words(&pledge));
                refilling.push(pledge);
            }
        }
        if let Some(keep_queued) = config.miner(miner).map(|miner| miner.keep_queued).filter(|count| *count > 0) {
            errln!("note: miner[].keep_queued = {keep_queued} of {miner} offers others in their place");
        }
    }
    Ok(refilling)
}

/// Takes back sectors without a number, with an audit entry for each pledge. Returns the pledges of which something was
/// left, in their new state.
pub(super) async fn cancel(
    store: &Store,
    pledges: &[Pledged],
    person: &Person,
    verb: &str,
) -> anyhow::Result<Vec<Pledged>> {
    let mut cancelled = Vec::new();
    for pledge in pledges {
        let mut tx = store.begin_order().await?;
        let Some(before) = tx.cancel_pledge(pledge.id).await? else { continue };
        let detail = json!({ "pledge": before.id, "taken_back": before.remaining, "asked": before.asked });
        tx.add_audit(&AuditEntry::new(&person.name, verb, before.miner.clone(), &person.why, detail)).await?;
        tx.commit().await?;
        cancelled.push(Pledged { cancelled: before.cancelled + before.remaining, remaining: 0, ..before });
    }
    Ok(cancelled)
}

/// Refuses numbers of pledges that do not exist or have nothing left.
async fn insist_on_open(ids: &[i64], open: &[Pledged], store: &Store) -> anyhow::Result<()> {
    let missing = |pledges: &[Pledged]| ids.iter().copied().find(|id| pledges.iter().all(|pledge| pledge.id != *id));
    let Some(id) = missing(open) else { return Ok(()) };
    let numbers: Vec<String> = open.iter().map(|pledge| pledge.id.to_string()).collect();
    let numbers = if numbers.is_empty() { "none".to_owned() } else { numbers.join(", ") };
    match store.all_pledges().await?.iter().find(|pledge| pledge.id == id) {
        Some(pledge) => {
            bail!("{}: nothing is left to take back (open pledges: {numbers})", in_words(pledge))
        }
        None => bail!("there is no pledge {id} (open pledges: {numbers})"),
    }
}

/// Whether the pledge's miner is configured. If not, its sectors get no numbers.
fn is_configured(pledge: &Pledged, config: &Config) -> bool {
    pledge.miner.parse().is_ok_and(|miner| config.miner(miner).is_some())
}

fn describe(pledge: &Pledged, config: &Config) -> Value {
    let mut value = json!(pledge);
    value["numbered"] = json!(pledge.numbered());
    value["configured"] = json!(is_configured(pledge, config));
    value
}

fn in_words(pledge: &Pledged) -> String {
    let Pledged { id, miner, asked, remaining, cancelled, .. } = pledge;
    format!(
        "pledge {id}: {} of {miner} asked for, {} numbered, {cancelled} taken back, {remaining} left",
        counted(*asked, "sector"),
        pledge.numbered()
    )
}
