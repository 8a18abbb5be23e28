//! `sectors resubmit` and `sectors abandon`: orders about sectors, one transaction each.
//!
//! They are stored in the database, so they work while the manager, NATS or the worker is away. The output says when
//! they take effect.

use std::time::Duration;

use anyhow::bail;
use clap::{Args, builder::TypedValueParser};
use sealbus_schema::{Phase, SectorId, Workflow, lease::Ownership, machine::manager::AttemptPolicy};
use serde_json::{Value, json};

use super::{
    super::{
        ConfigArg,
        fleet::{Fleet, Presence, counted},
        person::{By, Usage, Who, confirm},
        pledge, print_json, table,
    },
    select::{Filter, blocked_by, named},
};
use crate::{
    commands::{self, AfterRelease, Command, Person, Refusal},
    drive::attempt_policy,
    store::{AuditEntry, Job, MessageKind, Outcome, Outgoing, Store},
};

/// How long a command waits for the running manager to publish its orders.
const PUBLISH_LIMIT: Duration = Duration::from_secs(4);
const PUBLISH_LOOK: Duration = Duration::from_millis(100);

/// The sectors, and whether to ask for confirmation.
#[derive(Debug, Args)]
pub struct Which {
    #[command(flatten)]
    config: ConfigArg,
    /// The sectors, such as f01000/42. Without this, those that the filters select.
    sectors: Vec<SectorId>,
    #[command(flatten)]
    filter: Filter,
    /// Show what would be done, but do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask for confirmation.
    #[arg(long, short)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Continue blocked sectors.
#[derive(Debug, Args)]
pub struct Resubmit {
    #[command(flatten)]
    which: Which,
    /// The phase to go back to; without it a sector continues where it is.
    #[arg(long, conflicts_with = "elsewhere", value_name = "PHASE", value_parser = phases())]
    from: Option<Phase>,
    /// Take the sector from its worker, blocked or not, so that another one starts it over.
    #[arg(long)]
    elsewhere: bool,
    #[command(flatten)]
    by: By,
}

/// Give sectors up.
#[derive(Debug, Args)]
pub struct Abandon {
    #[command(flatten)]
    which: Which,
    /// Also give up sectors whose PreCommit may be on chain; their deposits are burnt.
    #[arg(long)]
    lose_deposit: bool,
    /// Keep a miner's pledges even if its whole queue is given up; they will fill the queue again.
    #[arg(long)]
    keep_pledges: bool,
    /// The reason, for those who read the audit later.
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    why: String,
    #[command(flatten)]
    who: Who,
}

fn phases() -> impl TypedValueParser<Value = Phase> {
    clap::builder::PossibleValuesParser::new(Phase::of(Workflow::ALL).into_iter().map(Phase::name))
        .try_map(|text| text.parse::<Phase>())
}

impl Resubmit {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let command = if self.elsewhere { Command::Elsewhere } else { Command::Resubmit { from: self.from } };
        order(self.which, command, self.by.person(), true).await
    }
}

impl Abandon {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let command = Command::Abandon { lose_deposit: self.lose_deposit };
        order(self.which, command, self.who.because(&self.why), self.keep_pledges).await
    }
}

/// An order about one sector, and its outcome.
struct Ordered {
    before: Job,
    outcome: Result<Outcome, Refusal>,
}

async fn order(which: Which, command: Command, person: Person, keep_pledges: bool) -> anyhow::Result<()> {
    if which.sectors.is_empty() && which.filter.is_empty() {
        return Err(Usage("name sectors, such as f01000/42, or select some: --miner --state --class …".into()).into());
    }
    if !which.sectors.is_empty() && !which.filter.is_empty() {
        return Err(Usage("name sectors or select them by filters, not both".into()).into());
    }
    let config = which.config.load()?;
    let policy = attempt_policy(&config);
    let store = which.config.store().await?;
    let fleet = Fleet::look(&config).await;
    fleet.warn();
    which.filter.check(&config, &store, &fleet).await?;
    let selected = select(&which, &command, &store, &fleet, policy).await?;
    let trial = |before: &Job| commands::carry_out(before.clone(), &command, &person, policy);
    let mut tried: Vec<Ordered> =
        selected.iter().map(|before| Ordered { before: before.clone(), outcome: trial(before) }).collect();
    // Giving up a whole queue is pointless while open pledges fill it again.
    let refilling = if which.sectors.is_empty() && matches!(command, Command::Abandon { .. }) {
        pledge::refilling(&selected, &config, &store, keep_pledges).await?
    } else {
        Vec::new()
    };
    if which.dry_run {
        return report(&tried, &command, &fleet, policy, which.json, None);
    }
    if tried.is_empty() {
        return report(&tried, &command, &fleet, policy, which.json, None);
    }
    if !which.filter.is_empty() || tried.len() > 1 {
        err!("{}", preview(&tried, &command, &fleet, policy));
        if !confirm(&format!("`{}` {}?", command.verb(), counted(tried.len() as u64, "sector")), which.yes)? {
            return Ok(());
        }
    }
    if !refilling.is_empty() {
        pledge::cancel(&store, &refilling, &person, command.verb()).await?;
        // Sectors that were numbered after the selection are not wanted either.
        let late = select(&which, &command, &store, &fleet, policy).await?;
        let late = late.into_iter().filter(|sector| selected.iter().all(|known| known.id != sector.id));
        tried.extend(late.map(|before| Ordered { outcome: trial(&before), before }));
    }
    let mut done = Vec::with_capacity(tried.len());
    for Ordered { before, .. } in tried {
        done.push(store_one(&store, before, &command, &person, policy).await?);
    }
    let ids: Vec<SectorId> = done.iter().filter(|o| o.outcome.is_ok()).map(|o| o.before.id).collect();
    let published = wait_until_published(&store, &ids).await?;
    report(&done, &command, &fleet, policy, which.json, Some(published))
}

async fn select(
    which: &Which,
    command: &Command,
    store: &Store,
    fleet: &Fleet,
    policy: AttemptPolicy,
) -> anyhow::Result<Vec<Job>> {
    if !which.sectors.is_empty() {
        return named(store, &which.sectors).await;
    }
    let only_blocked = matches!(command, Command::Resubmit { .. });
    let mut sectors = which.filter.select(store, fleet, only_blocked).await?;
    // With filters, sectors for which the order makes no sense are left out; only named sectors are refused. A refusal
    // because of a deposit is reported in any case.
    let tried = match command {
        Command::Abandon { .. } => Command::Abandon { lose_deposit: true },
        command => command.clone(),
    };
    let nobody = Person { name: String::new(), why: String::new() };
    let makes_sense = |sector: &Job| commands::carry_out(sector.clone(), &tried, &nobody, policy).is_ok();
    sectors.retain(|sector| only_blocked || makes_sense(sector));
    Ok(sectors)
}

/// Gives the order to the sector in its present state, which may have changed since the selection.
async fn store_one(
    store: &Store,
    before: Job,
    command: &Command,
    person: &Person,
    policy: AttemptPolicy,
) -> anyhow::Result<Ordered> {
    let mut tx = store.begin_order().await?;
    let Some(before) = tx.sector(before.id).await? else { bail!("sector {} is gone", before.id) };
    let outcome = commands::carry_out(before.clone(), command, person, policy);
    if let Ok(outcome) = &outcome {
        tx.store_outcomes(vec![outcome.clone()]).await?;
        let mut detail = command.detail();
        detail["state"] = json!(before.state.name());
        detail["blocked"] = json!(blocked_by(&before).map(|cause| cause.code.to_string()));
        let target = before.id.to_string();
        tx.add_audit(&AuditEntry::new(&person.name, command.verb(), target, &person.why, detail)).await?;
        tx.commit().await?;
    }
    Ok(Ordered { before, outcome })
}

/// Waits a moment for the running manager, so that the output can say whether the orders are on the bus.
pub(in super::super) async fn wait_until_published(store: &Store, sectors: &[SectorId]) -> anyhow::Result<bool> {
    let deadline = tokio::time::Instant::now() + PUBLISH_LIMIT;
    loop {
        if !store.waits_in_outbox(sectors).await? {
            return Ok(true);
        }
        if tokio::time::Instant::now() >= deadline {
            return Ok(false);
        }
        tokio::time::sleep(PUBLISH_LOOK).await;
    }
}

fn preview(tried: &[Ordered], command: &Command, fleet: &Fleet, policy: AttemptPolicy) -> String {
    let rows: Vec<Vec<String>> = tried
        .iter()
        .map(|Ordered { before, outcome }| {
            let (worker, seen) = match &before.ownership {
                Ownership::Held { worker, .. } => (worker.to_string(), fleet.presence(worker).words()),
                Ownership::Free { .. } => ("-".to_owned(), "-".to_owned()),
            };
            vec![
                before.id.to_string(),
                before.state.name().to_owned(),
                blocked_by(before).map_or("-".to_owned(), |cause| cause.code.to_string()),
                worker,
                seen,
                match outcome {
                    Ok(outcome) => will(command, outcome, policy),
                    Err(why) => refused(before, command, *why, policy),
                },
            ]
        })
        .collect();
    table::render(&["SECTOR", "STATE", "BLOCKED", "WORKER", "SEEN", "WHAT HAPPENS"], &rows)
}

/// Why an order is not possible, and how to make it possible.
fn refused(before: &Job, command: &Command, why: Refusal, policy: AttemptPolicy) -> String {
    let at_a_loss = Command::Abandon { lose_deposit: true };
    let nobody = Person { name: String::new(), why: String::new() };
    let would = matches!(command, Command::Abandon { lose_deposit: false })
        && commands::carry_out(before.clone(), &at_a_loss, &nobody, policy).is_ok();
    format!("not possible: {why}{}", if would { " (--lose-deposit)" } else { "" })
}

/// The effect of an order, in words.
pub(in super::super) fn will(command: &Command, outcome: &Outcome, policy: AttemptPolicy) -> String {
    let released = outcome.outbox.iter().any(|o| matches!(o, Outgoing::Release { .. }));
    let offered = outcome.outbox.iter().any(|o| matches!(o, Outgoing::Intent(_)));
    let again = |kind: MessageKind| outcome.messages.iter().any(|message| message.kind == kind);
    match command {
        Command::Abandon { lose_deposit } => {
            let cost = if *lose_deposit { "; a deposit on chain is lost" } else { "" };
            format!("given up, its number is not used again{cost}")
        }
        Command::Elsewhere | Command::SlotReleased { .. } => {
            let next = match commands::after_release(outcome, policy) {
                AfterRelease::NewAttempt => "another worker begins it again, with a new ticket: its sealing is lost",
                AfterRelease::Rebuilt => {
                    "another worker seals it again from the beginning, with the same ticket and to the same CommR: hours"
                }
                AfterRelease::GoesOn => "it goes on without a worker",
                AfterRelease::Ends => "nothing is left to do for it",
            };
            if released { format!("taken from its worker; {next}") } else { next.to_owned() }
        }
        Command::Resubmit { from } => {
            let mut text = match from {
                Some(phase) => format!("goes on from {phase}"),
                None if offered => "offered to the workers again".to_owned(),
                None => format!("goes on in {}", outcome.sector.state.name()),
            };
            if again(MessageKind::PreCommit) {
                text.push_str("; another PreCommit if the last one has failed");
            }
            if again(MessageKind::ProveCommit) {
                text.push_str("; another ProveCommit if the last one has failed");
            }
            text
        }
    }
}

/// When an order takes effect.
fn when(command: &Command, outcome: &Outcome, fleet: &Fleet, published: Option<bool>) -> (&'static str, String) {
    if published == Some(false) {
        let text = "the order is stored, but not on the bus yet: it takes effect when a manager runs and reaches NATS";
        return ("when_manager_is_back", text.to_owned());
    }
    let to_worker = outcome.outbox.iter().find_map(|outgoing| match outgoing {
        Outgoing::Fact { worker, .. } => Some(worker),
        _ => None,
    });
    let Some(worker) = to_worker else { return ("now", "in effect".to_owned()) };
    let presence = fleet.presence(worker);
    let words = presence.words();
    match (presence, command) {
        (Presence::Here(_), _) => ("now", format!("worker {worker} is told, {words}")),
        (Presence::Away(_), Command::Resubmit { .. }) => (
            "when_worker_is_back",
            format!(
                "worker {worker}, {words}, takes the order when it is back; `--elsewhere` gives the sector to another one"
            ),
        ),
        (Presence::Away(_), _) => {
            ("when_worker_is_back", format!("worker {worker}, {words}, takes the order when it is back"))
        }
        (Presence::Unknown, _) => ("unknown", format!("worker {worker} is told; {words}")),
    }
}

/// Prints what was, or would be, done. An error if any order was refused.
fn report(
    all: &[Ordered],
    command: &Command,
    fleet: &Fleet,
    policy: AttemptPolicy,
    as_json: bool,
    published: Option<bool>,
) -> anyhow::Result<()> {
    let mut values = Vec::<Value>::with_capacity(all.len());
    for Ordered { before, outcome } in all {
        let mut value = json!({ "sector": before.id.to_string(), "state": before.state.name() });
        let line = match outcome {
            Ok(outcome) => {
                let text = will(command, outcome, policy);
                let (takes_effect, when) = when(command, outcome, fleet, published);
                value["what"] = json!(text);
                if published.is_some() {
                    value["takes_effect"] = json!(takes_effect);
                    value["when"] = json!(when);
                    format!("{}: {text}\n  {when}", before.id)
                } else {
                    format!("{}: would be: {text}", before.id)
                }
            }
            Err(why) => {
                value["refused"] = json!(why.to_string());
                format!("{}: {}", before.id, refused(before, command, *why, policy))
            }
        };
        values.push(value);
        if !as_json {
            outln!("{line}");
        }
    }
    if as_json {
        print_json(&values)?;
    } else if all.is_empty() {
        outln!("no sector is selected");
    }
    let refused = all.iter().filter(|ordered| ordered.outcome.is_err()).count();
    if refused > 0 {
        bail!("{refused} of {} could not be ordered", counted(all.len() as u64, "sector"));
    }
    Ok(())
}
