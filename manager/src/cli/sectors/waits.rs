//! What waits without being blocked: why, since when, when it is retried, the cost, and what a person can do.

use std::collections::BTreeMap;

use sealbus_schema::SectorId;
use serde_json::{Value, json};

use super::super::{
    fleet::lasting,
    waiting::{ChainTime, Cost},
};
use crate::{
    store::{Alike, Job, Store, secs_between},
    waits::{Subject, Wait, advice, is_mended_by_a_person},
    why::held_up,
};

/// How many subjects with the same cause, and how many sectors that one of them holds up, are named.
pub const NAMED: usize = 5;

/// All waits, read at one time.
pub struct Waiting {
    waits: Vec<Wait>,
    /// The database's present time, by the clock that the waits' times are taken from.
    now: String,
}

/// The unfinished jobs that waits and blocked slots are about.
pub struct Concerned {
    /// Those that one of them names, by miner and number.
    pub named: Vec<Job>,
    /// All that are not blocked, in groups, if a miner, a store or the node holds some of them up.
    pub alike: Vec<Alike>,
}

impl Concerned {
    /// One sector, whatever holds it up.
    pub fn only(sector: &Job) -> Concerned {
        let alike = vec![Alike { count: 1, first: vec![sector.clone()] }];
        Concerned { named: vec![sector.clone()], alike }
    }

    /// The groups that a wait holds up. `None` if the wait is about a single sector.
    fn groups(&self, wait: &Wait) -> impl Iterator<Item = &Alike> {
        let holds = move |group: &&Alike| wait.subject.holds_up_many() && held_up(wait, &group.first[..1]).count() > 0;
        self.alike.iter().filter(holds)
    }

    /// The sectors that a wait holds up; of those that it holds up together, the first few.
    fn first(&self, wait: &Wait) -> impl Iterator<Item = &Job> {
        let named = if wait.subject.holds_up_many() { &[][..] } else { &self.named };
        held_up(wait, named).chain(self.groups(wait).flat_map(|group| &group.first))
    }

    /// How many sectors a wait holds up.
    fn count(&self, wait: &Wait) -> u64 {
        match wait.subject.holds_up_many() {
            true => self.groups(wait).map(|group| group.count).sum(),
            false => held_up(wait, &self.named).count() as u64,
        }
    }
}

impl Waiting {
    /// Reads the waits.
    pub async fn look(store: &Store) -> anyhow::Result<Waiting> {
        Ok(Waiting { waits: store.waits().await?, now: store.clock_now().await? })
    }

    /// All waits.
    pub fn all(&self) -> &[Wait] {
        &self.waits
    }

    /// Keeps the waits that a filter selects.
    pub fn retain(&mut self, keep: impl Fn(&Wait) -> bool) {
        self.waits.retain(keep);
    }

    /// For scripts.
    pub fn json_of(&self, wait: &Wait, sectors: &Concerned, now: ChainTime) -> Value {
        json!({
            "waits": wait.subject.kind(),
            "name": wait.subject.name(),
            "sector": wait.subject.sector().map(|sector| sector.to_string()),
            "class": wait.cause.class,
            "code": wait.cause.code,
            "cause": wait.cause.text,
            "since": wait.since,
            "since_secs": secs_between(&wait.since, &self.now),
            "tried_at": wait.tried_at,
            "tries": wait.tries,
            "retry_ms": wait.retry.as_millis() as u64,
            "needs_a_person": is_mended_by_a_person(&wait.cause),
            "advice": advice(&wait.cause.code),
            "holds_up": sectors.count(wait),
            "waiting": dearest(std::slice::from_ref(&wait), sectors, now).map(|cost| cost.json(now)),
        })
    }

    /// Since when it waits, and when it is retried, in words.
    pub fn times(&self, wait: &Wait) -> String {
        let since = secs_between(&wait.since, &self.now).map(|secs| format!(", {}", lasting(secs.max(0))));
        format!(
            "{}{}; tried {} time(s), the next time within {}",
            wait.since,
            since.unwrap_or_default(),
            wait.tries,
            lasting(wait.retry.as_secs_f64().ceil() as i64)
        )
    }

    /// Prints for people: grouped by cause, beginning with those that need a person.
    pub fn show(&self, sectors: &Concerned, now: ChainTime) {
        let mut alike: BTreeMap<(bool, &str, &str), Vec<&Wait>> = BTreeMap::new();
        for wait in &self.waits {
            let key = (!is_mended_by_a_person(&wait.cause), wait.cause.code.as_str(), wait.subject.kind());
            alike.entry(key).or_default().push(wait);
        }
        for ((by_itself, code, _), mut waits) in alike {
            waits.sort_by(|a, b| a.since.cmp(&b.since));
            let Some(oldest) = waits.first() else { continue };
            let whose = if by_itself { "by itself" } else { "needs a person" };
            outln!("{}  waits, {whose}  {} {code}", names(&waits), oldest.cause.class);
            outln!("  why      {}", oldest.cause.text.lines().collect::<Vec<_>>().join(" "));
            outln!("  since    {}", self.times(oldest));
            if let Some(held) = held(&waits, sectors) {
                outln!("  holds up {held}");
            }
            if let Some(cost) = dearest(&waits, sectors, now) {
                outln!("  waiting  costs: {}", cost.words(now));
            }
            outln!("  do       {}", advice(&oldest.cause.code));
            outln!();
        }
    }
}

fn names(waits: &[&Wait]) -> String {
    let mut named: Vec<String> = waits.iter().take(NAMED).map(|wait| name(&wait.subject)).collect();
    if waits.len() > NAMED {
        named.push(format!("and {} more", waits.len() - NAMED));
    }
    named.join(", ")
}

fn name(subject: &Subject) -> String {
    match subject {
        Subject::Sector(id) => id.to_string(),
        Subject::Message { sector: Some(sector), key } => {
            format!("{sector} ({})", key.split('/').next().unwrap_or_default())
        }
        Subject::Message { sector: None, key } => key.clone(),
        other => other.to_string(),
    }
}

/// How many sectors the waits hold up together, and the first few, beginning with those that expire first.
fn held(waits: &[&Wait], sectors: &Concerned) -> Option<String> {
    let together = || waits.iter().filter(|wait| wait.subject.holds_up_many());
    let count: u64 = together().map(|wait| sectors.count(wait)).sum();
    let mut first: Vec<&Job> = together().flat_map(|wait| sectors.first(wait)).collect();
    first.sort_by_key(|sector| (Cost::of(sector).until_epoch().unwrap_or(i64::MAX), sector.id));
    let mut named: Vec<String> = first.iter().take(NAMED).map(|sector| sector.id.to_string()).collect();
    if count > named.len() as u64 {
        named.push(format!("and {} more", count - named.len() as u64));
    }
    (count > 0).then(|| format!("{count} sector(s): {}", named.join(", ")))
}

/// The cost of waiting for the held-up sector that has the least time left.
fn dearest(waits: &[&Wait], sectors: &Concerned, now: ChainTime) -> Option<Cost> {
    let mut seen: BTreeMap<SectorId, Cost> = BTreeMap::new();
    for wait in waits {
        seen.extend(sectors.first(wait).map(|sector| (sector.id, Cost::of(sector))));
    }
    seen.into_values()
        .min_by_key(|cost| (cost.until_epoch().unwrap_or(i64::MAX), cost.secs_left(now).unwrap_or(i64::MAX)))
}
