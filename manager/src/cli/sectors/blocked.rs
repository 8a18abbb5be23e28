//! `sectors blocked`: what waits for a person or by itself, why, the cost of waiting, and the possible orders.

use std::collections::BTreeSet;

use anyhow::bail;
use clap::Args;
use sealbus_schema::{
    ErrorCode, Phase, SectorId, Workflow, lease::Ownership, machine::manager::AttemptPolicy, message::SlotStatus,
};
use serde_json::{Value, json};

use super::{
    super::{
        ConfigArg,
        fleet::{Fleet, lasting},
        print_json,
        waiting::{ChainTime, Cost},
    },
    echo::{self, Echo},
    select::{Filter, blocked_by, slot_of},
    waits::{Concerned, NAMED, Waiting},
};
use crate::{
    commands::{self, Command, Person},
    drive::attempt_policy,
    store::{HistoryEntry, Job, Store},
    why::find,
};

/// Shows what waits for a person.
#[derive(Debug, Args)]
pub struct Blocked {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    filter: Filter,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// After how many seconds without a sign of life the manager counts as not working. It gives one every 10 s.
const MANAGER_AWAY_SECS: i64 = 60;

/// A blocked slot whose sector, if it has one, is not blocked.
struct BlockedSlot<'a> {
    worker: String,
    host: &'a str,
    slot: &'a SlotStatus,
    /// Its sector, if the slot's worker owns it, and what the log says about it.
    sector: Option<(&'a Job, Echo)>,
}

impl Blocked {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        let store = self.config.store().await?;
        let fleet = Fleet::look(&config).await;
        fleet.warn();
        self.filter.check(&config, &store, &fleet).await?;
        let sectors = self.filter.select(&store, &fleet, true).await?;
        let now = ChainTime::look(&config, &sectors).await;
        let policy = attempt_policy(&config);
        let mut waiting = Waiting::look(&store).await?;
        let live = concerned(&store, &fleet, &waiting).await?;
        let slots = match self.filter.is_empty() {
            true => blocked_slots(&store, &fleet, &sectors, &live.named).await?,
            false => Vec::new(),
        };
        waiting.retain(|wait| {
            let sector = wait.subject.sector().and_then(|id| find(&live.named, id));
            self.filter.selects(wait, sector, &fleet)
        });
        let unknown = unknown(&store, &fleet).await?;
        let mut described = Vec::with_capacity(sectors.len());
        for sector in &sectors {
            let since = since(sector, &store.history(sector.id).await?);
            described.push((sector, since, orders(sector, policy)));
        }
        if self.json {
            let sectors: Vec<Value> = described
                .iter()
                .map(|(sector, since, orders)| json_of(sector, since.as_deref(), orders, &fleet, now))
                .collect();
            let slots: Vec<Value> = slots.iter().map(|blocked| json_of_slot(blocked, policy)).collect();
            let waits: Vec<Value> = waiting.all().iter().map(|wait| waiting.json_of(wait, &live, now)).collect();
            print_json(&json!({ "sectors": sectors, "slots": slots, "waits": waits, "unknown": unknown }))?;
            return complete(&unknown);
        }
        for (sector, since, orders) in &described {
            show(sector, since.as_deref(), orders, &fleet, now);
        }
        for blocked in &slots {
            show_slot(blocked, policy, now);
        }
        waiting.show(&live, now);
        let is_empty = described.is_empty() && slots.is_empty() && waiting.all().is_empty();
        if is_empty && unknown.is_empty() {
            outln!("nothing is blocked");
        } else if !described.is_empty() || !waiting.all().is_empty() {
            outln!("{}", now.words());
        }
        complete(&unknown)
    }
}

/// The unfinished jobs that a wait or a blocked slot is about. The others are not read: there may be 100,000 of them.
async fn concerned(store: &Store, fleet: &Fleet, waiting: &Waiting) -> anyhow::Result<Concerned> {
    let mut ids: BTreeSet<SectorId> = fleet.in_blocked_slots().collect();
    ids.extend(waiting.all().iter().filter_map(|wait| wait.subject.sector()));
    let mut named = store.sectors_among(&ids.into_iter().collect::<Vec<_>>()).await?;
    named.retain(|sector| !sector.state.is_terminal());
    // A miner, a store or the node may hold up any job.
    let alike = match waiting.all().iter().any(|wait| wait.subject.holds_up_many()) {
        true => store.alike(NAMED as u32).await?,
        false => Vec::new(),
    };
    Ok(Concerned { named, alike })
}

/// What cannot be known now, so that an incomplete answer is not taken for good news.
async fn unknown(store: &Store, fleet: &Fleet) -> anyhow::Result<Vec<String>> {
    let mut unknown = Vec::new();
    match store.manager_seen().await? {
        Some(seen) if seen.age_secs < MANAGER_AWAY_SECS => {}
        Some(seen) => unknown.push(format!(
            "the manager was last seen working {} ago, at {} on {}: what came since is not known, and `sealbus-manager check` \
             says what it may wait for",
            lasting(seen.age_secs),
            seen.at,
            seen.host
        )),
        None => unknown.push(
            "no manager was seen working on this database yet; `sealbus-manager check` says what it may wait for".to_owned(),
        ),
    }
    if !fleet.is_known() {
        unknown.push("the bus cannot be read: which slots are blocked is not known".to_owned());
    }
    Ok(unknown)
}

/// An error if the answer is incomplete.
fn complete(unknown: &[String]) -> anyhow::Result<()> {
    if unknown.is_empty() { Ok(()) } else { bail!("this is not all: {}", unknown.join("; ")) }
}

/// Since when a sector is blocked for its present cause: the first record of the cause since the sector last made
/// progress.
pub(super) fn since(sector: &Job, history: &[HistoryEntry]) -> Option<String> {
    let cause = blocked_by(sector)?;
    let went_on = |entry: &HistoryEntry| {
        matches!(entry.happening.kind.as_str(), "claimed" | "released" | "resubmitted" | "phase_started")
    };
    let start = history.iter().rposition(went_on).unwrap_or(0);
    let tells = |entry: &&HistoryEntry| {
        let detail = &entry.happening.detail;
        let error = detail.get("error").unwrap_or(detail);
        error["code"] == json!(cause.code) && error["class"] == json!(cause.class)
    };
    // Some causes have no error record of their own, for example when a lease has ended once too often.
    let told = history[start..].iter().find(tells).or_else(|| history.iter().rfind(|e| e.verdict != "noted"));
    told.map(|entry| entry.happening.at.clone())
}

/// The orders that are possible now, as they are typed.
pub(super) fn orders(sector: &Job, policy: AttemptPolicy) -> Vec<String> {
    let nobody = Person { name: String::new(), why: String::new() };
    let possible = |command: Command| commands::carry_out(sector.clone(), &command, &nobody, policy).is_ok();
    let mut orders = Vec::new();
    if possible(Command::Resubmit { from: None }) {
        orders.push("resubmit".to_owned());
    }
    for phase in Phase::of(Workflow::ALL).into_iter().filter(|phase| possible(Command::Resubmit { from: Some(*phase) }))
    {
        orders.push(format!("resubmit --from {phase}"));
    }
    if possible(Command::Elsewhere) {
        orders.push("resubmit --elsewhere".to_owned());
    }
    if possible(Command::Abandon { lose_deposit: false }) {
        orders.push("abandon".to_owned());
    } else if possible(Command::Abandon { lose_deposit: true }) {
        orders.push("abandon --lose-deposit".to_owned());
    }
    orders
}

/// Blocked slots that no blocked sector accounts for.
async fn blocked_slots<'a>(
    store: &Store,
    fleet: &'a Fleet,
    sectors: &[Job],
    live: &'a [Job],
) -> anyhow::Result<Vec<BlockedSlot<'a>>> {
    let told = |slot: &SlotStatus| slot.holding.as_ref().is_some_and(|held| find(sectors, held.sector).is_some());
    let mut slots = Vec::new();
    for seen in fleet.all() {
        let beat = &seen.heartbeat;
        for slot in beat.slots.iter().filter(|slot| (slot.blocked.is_some() || slot.unreadable) && !told(slot)) {
            let mut sector = None;
            if let Some(holding) = &slot.holding {
                let echo = echo::echo(&store.history(holding.sector).await?, holding.token);
                if echo == Echo::WentOn {
                    continue;
                }
                let held = find(live, holding.sector).filter(|sector| echo::is_held(sector, holding.token));
                sector = held.map(|sector| (sector, echo));
            }
            slots.push(BlockedSlot { worker: beat.worker.to_string(), host: &beat.host, slot, sector });
        }
    }
    Ok(slots)
}

/// The possible orders about a slot; those that keep its sector come first.
fn slot_orders(blocked: &BlockedSlot<'_>, policy: AttemptPolicy) -> Vec<String> {
    let mut all = blocked.sector.map(|(sector, _)| orders(sector, policy)).unwrap_or_default();
    if goes_on_by_itself(blocked.slot) {
        return all;
    }
    all.push(format!("slots release {} {}", blocked.worker, blocked.slot.path));
    all
}

/// Whether the cause must be fixed elsewhere, so that giving up the slot's contents would not help.
fn goes_on_by_itself(slot: &SlotStatus) -> bool {
    const BEFORE_A_SECTOR: [ErrorCode; 3] =
        [ErrorCode::PARAMS_MISSING, ErrorCode::STORE_FULL, ErrorCode::CONFIGURATION_WRONG];
    let is_free = slot.holding.is_none() && !slot.unreadable;
    slot.blocked
        .as_ref()
        .is_some_and(|error| error.code.is_waited_for() || (is_free && BEFORE_A_SECTOR.contains(&error.code)))
}

fn json_of_slot(blocked: &BlockedSlot<'_>, policy: AttemptPolicy) -> Value {
    json!({
        "worker": blocked.worker,
        "host": blocked.host,
        "slot": blocked.slot,
        "sector": blocked.sector.map(|(sector, _)| sector.id.to_string()),
        "note": blocked.sector.map(|(_, echo)| echo.words()),
        "orders": slot_orders(blocked, policy),
    })
}

fn show(sector: &Job, since: Option<&str>, orders: &[String], fleet: &Fleet, now: ChainTime) {
    let Some(cause) = blocked_by(sector) else { return };
    outln!("{}  {}  {} {}", sector.id, sector.state.name(), cause.class, cause.code);
    outln!("  why      {}", first_line(&cause.message()));
    outln!("  since    {}", since.unwrap_or("unknown"));
    outln!("  where    {}", place(sector, fleet));
    outln!("  waiting  costs: {}", Cost::of(sector).words(now));
    outln!("  orders   {}", in_words(orders));
    outln!();
}

/// The orders in one line, with the phases to go back to joined by `|`.
pub(super) fn in_words(orders: &[String]) -> String {
    const FROM: &str = "resubmit --from ";
    let phases: Vec<&str> = orders.iter().filter_map(|order| order.strip_prefix(FROM)).collect();
    let mut all: Vec<String> = orders.iter().filter(|order| !order.starts_with(FROM)).cloned().collect();
    if !phases.is_empty() {
        all.insert(1.min(all.len()), format!("{FROM}{}", phases.join("|")));
    }
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

fn show_slot(blocked: &BlockedSlot<'_>, policy: AttemptPolicy, now: ChainTime) {
    let BlockedSlot { worker, host, slot, sector } = blocked;
    let (class, code, why) = match &slot.blocked {
        Some(error) => (error.class.name(), error.code.as_str(), first_line(&error.message())),
        None => ("crit", "JOURNAL_UNREADABLE", "nobody can say what it holds".to_owned()),
    };
    outln!("slot {} of worker {worker}  {class} {code}", slot.path);
    outln!("  why      {why}");
    outln!("  where    host {host}");
    let holds = slot.holding.as_ref().map_or("no sector".to_owned(), |held| held.sector.to_string());
    outln!("  holds    {}", if slot.unreadable { "nobody can say what".to_owned() } else { holds });
    let cost = sector.as_ref().map_or(Cost::Slot, |(sector, _)| Cost::of(sector));
    outln!("  waiting  costs: {}", cost.words(now));
    if let Some((sector, echo)) = sector {
        outln!("  note     {}: {}", sector.id, echo.words());
    }
    let orders = slot_orders(blocked, policy);
    outln!(
        "  orders   {}",
        match orders.is_empty() {
            true => "none needed: it goes on by itself when that is mended".to_owned(),
            false => in_words(&orders),
        }
    );
    outln!();
}

/// Where a sector is, and whether its worker is present.
pub(super) fn place(sector: &Job, fleet: &Fleet) -> String {
    let Ownership::Held { worker, .. } = &sector.ownership else { return "no worker has it".to_owned() };
    let seen = fleet.slot_of(sector).map(|(seen, _)| seen.heartbeat.host.clone());
    let host = seen.or_else(|| blocked_by(sector).map(|c| c.host.clone())).filter(|host| !host.is_empty());
    let slot = slot_of(sector, fleet).map(|slot| format!(", slot {slot}")).unwrap_or_default();
    let host = host.map(|host| format!(", host {host}")).unwrap_or_default();
    format!("worker {worker}{slot}{host}; {}", fleet.presence(worker).words())
}

fn json_of(sector: &Job, since: Option<&str>, orders: &[String], fleet: &Fleet, now: ChainTime) -> Value {
    let mut value = super::describe(sector);
    let worker = match &sector.ownership {
        Ownership::Held { worker, .. } => fleet.presence(worker).json(),
        Ownership::Free { .. } => Value::Null,
    };
    value["since"] = json!(since);
    value["slot"] = json!(slot_of(sector, fleet));
    value["worker_seen"] = worker;
    value["waiting"] = Cost::of(sector).json(now);
    value["orders"] = json!(orders);
    value
}

/// A text's first line, truncated to a few terminal lines.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}
