//! A pipeline of sealing in numbers: the steps that a sector goes through, and the resources for them.
//!
//! [`bound`] is the highest throughput that a pipeline can reach in any order of work. [`simulate()`] gives the
//! throughput in the worker's order.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use sealbus_schema::Phase;
use serde::{Deserialize, Serialize};

use crate::schedule::SetupError;

pub mod simulate;

pub use simulate::{Steady, simulate};

/// A day in milliseconds.
pub const DAY_MS: u64 = 24 * 3600 * 1000;

/// Up to this many locks, the bound considers every combination of them.
const LOCKS_COMBINED_MAX: usize = 8;

/// Slots, and the steps that a sector goes through in a slot, in order. A free slot takes the next sector at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineSpec {
    /// The number of slots, which is the number of sectors at the same time.
    pub slots: usize,
    /// The steps of each sector.
    pub steps: Vec<Step>,
    /// The locks, with their units.
    #[serde(default)]
    pub locks: BTreeMap<String, usize>,
}

/// A step of a sector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Step {
    /// A phase, which needs a processor.
    Work(Work),
    /// A wait, for the chain for example. It needs only the slot.
    Wait(Wait),
}

/// A phase and its processors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The phase.
    pub stage: Phase,
    /// The processors; at least one.
    pub servers: Vec<Servers>,
    /// How many requests may run at the same time, if that is fewer than the processors could.
    #[serde(default)]
    pub concurrent: Option<usize>,
    /// The shortest time between two starts.
    #[serde(default)]
    pub staggered_ms: u64,
}

/// Processors of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Servers {
    /// How many sectors they work on at the same time.
    pub count: usize,
    /// How long a request takes.
    pub time_ms: u64,
    /// The locks that each request holds.
    #[serde(default)]
    pub locks: BTreeSet<String>,
}

/// A wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// What is awaited.
    pub name: String,
    /// Its length in milliseconds.
    pub time_ms: u64,
    /// The step from whose end the time counts, by index; `None` for the preceding step.
    #[serde(default)]
    pub since: Option<usize>,
}

/// A resource that may be the bottleneck of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", content = "name", rename_all = "snake_case")]
pub enum Resource {
    /// The processors of a phase.
    Processors(Phase),
    /// The configured shortest time between two starts of a phase.
    Staggered(Phase),
    /// One lock, or several together.
    Locks(Vec<String>),
    /// A lock, together with the shortest time between two starts of a phase that needs it.
    StaggeredLock(Phase, String),
    /// Slots.
    Slots,
}

/// The throughput that a resource allows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// The resource.
    pub resource: Resource,
    /// Sectors a day.
    pub per_day: f64,
}

/// Why a pipeline is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// There are no slots.
    #[error("slots = 0: a sector needs a slot, give at least 1")]
    NoSlot,
    /// A phase has no processor.
    #[error("{0} has no processor: give it at least 1, or leave the phase out")]
    NoServer(Phase),
    /// A phase needs a lock that has no units.
    #[error("{stage} needs the lock {lock}, of which there is none: give it in locks")]
    NoLock {
        /// The phase.
        stage: Phase,
        /// The lock.
        lock: String,
    },
    /// A phase appears twice.
    #[error("{0} stands there twice: a sector goes through each phase once, so give all its processors together")]
    PhaseTwice(Phase),
    /// Processors and limits contradict each other.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A wait counts from itself or from a later step.
    #[error("the wait {0} counts from a step that is not before it: name an earlier one")]
    SinceLater(String),
    /// All times are 0.
    #[error("all times are 0: give at least one phase a time")]
    NoTime,
}

impl PipelineSpec {
    /// Checks whether the pipeline is valid.
    pub fn check(&self) -> Result<(), SpecError> {
        if self.slots == 0 {
            return Err(SpecError::NoSlot);
        }
        for (position, step) in self.steps.iter().enumerate() {
            match step {
                Step::Work(work) => {
                    let before = &self.steps[..position];
                    if before.iter().any(|step| matches!(step, Step::Work(other) if other.stage == work.stage)) {
                        return Err(SpecError::PhaseTwice(work.stage));
                    }
                    self.check_work(work)?;
                }
                Step::Wait(wait) if wait.since.is_some_and(|since| since >= position) => {
                    return Err(SpecError::SinceLater(wait.name.clone()));
                }
                Step::Wait(_) => {}
            }
        }
        if self.residence_ms() == 0 { Err(SpecError::NoTime) } else { Ok(()) }
    }

    fn check_work(&self, work: &Work) -> Result<(), SpecError> {
        let stage = work.stage;
        if work.servers.iter().all(|servers| servers.count == 0) || work.concurrent == Some(0) {
            return Err(SpecError::NoServer(stage));
        }
        for lock in work.servers.iter().flat_map(|servers| &servers.locks) {
            if self.locks.get(lock).copied().unwrap_or(0) == 0 {
                return Err(SpecError::NoLock { stage, lock: lock.clone() });
            }
        }
        Ok(())
    }

    /// How long a sector is in its slot if it never waits for a processor.
    #[must_use]
    pub fn residence_ms(&self) -> u64 {
        let mut ends = Vec::with_capacity(self.steps.len());
        let mut now = 0_u64;
        for step in &self.steps {
            now = match step {
                Step::Work(work) => now.saturating_add(work.least_ms()),
                Step::Wait(wait) => now.max(wait.until(&ends, now)),
            };
            ends.push(now);
        }
        now
    }

    /// The phases in order.
    pub fn works(&self) -> impl Iterator<Item = &Work> {
        self.steps.iter().filter_map(|step| match step {
            Step::Work(work) => Some(work),
            Step::Wait(_) => None,
        })
    }
}

impl Work {
    /// How many requests can run at the same time.
    #[must_use]
    pub fn capacity(&self) -> usize {
        let all = self.servers.iter().fold(0_usize, |sum, servers| sum.saturating_add(servers.count));
        self.concurrent.map_or(all, |most| most.min(all))
    }

    fn least_ms(&self) -> u64 {
        let able = self.servers.iter().filter(|servers| servers.count > 0);
        able.map(|servers| servers.time_ms).min().unwrap_or(0)
    }

    /// Sectors a day if all processors selected by `is_meant` are always busy. Limits on starts are ignored.
    fn per_day(&self, is_meant: impl Fn(&Servers) -> bool) -> f64 {
        let mut left = self.capacity();
        let mut fastest: Vec<&Servers> = self.servers.iter().filter(|servers| is_meant(servers)).collect();
        fastest.sort_by_key(|servers| servers.time_ms);
        let mut sum = 0.0;
        for servers in fastest {
            let taken = servers.count.min(left);
            left -= taken;
            if taken > 0 {
                sum += taken as f64 * a_day(servers.time_ms);
            }
        }
        sum
    }
}

impl Servers {
    /// How long a sector holds locks in `among`, summed over these locks.
    fn held_ms(&self, among: &BTreeSet<&String>) -> u64 {
        let held = self.locks.iter().filter(|lock| among.contains(lock)).count() as u64;
        self.time_ms.saturating_mul(held)
    }
}

impl Wait {
    /// When the wait is over. `ends` are the end times of the steps before it, and the last one ended at `now`.
    #[must_use]
    pub fn until(&self, ends: &[u64], now: u64) -> u64 {
        let begin = self.since.and_then(|since| ends.get(since).copied()).unwrap_or(now);
        begin.saturating_add(self.time_ms)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resource::Processors(stage) => write!(f, "{stage} processors"),
            Resource::Staggered(stage) => write!(f, "limits.staggered_secs of {stage}"),
            Resource::Locks(names) if names.len() == 1 => write!(f, "lock {}", names[0]),
            Resource::Locks(names) => write!(f, "locks {}", names.join(" and ")),
            Resource::StaggeredLock(stage, name) => write!(f, "lock {name} with limits.staggered_secs of {stage}"),
            Resource::Slots => f.write_str("slots"),
        }
    }
}

/// The upper bound on sectors a day in the long run; 0 if the pipeline is not valid.
#[must_use]
pub fn bound(spec: &PipelineSpec) -> f64 {
    if spec.check().is_err() {
        return 0.0;
    }
    bounds(spec).first().map_or(0.0, |bound| bound.per_day)
}

/// The throughput that each resource allows, scarcest first. Resources that set no limit are left out.
#[must_use]
pub fn bounds(spec: &PipelineSpec) -> Vec<Bound> {
    let mut all = Vec::new();
    let mut push = |resource, per_day: f64| {
        if per_day.is_finite() {
            all.push(Bound { resource, per_day });
        }
    };
    for work in spec.works() {
        push(Resource::Processors(work.stage), work.per_day(|_| true));
        push(Resource::Staggered(work.stage), a_day(work.staggered_ms));
    }
    for names in combinations(spec) {
        let per_day = locks_per_day(spec, &names);
        push(Resource::Locks(names.into_iter().cloned().collect()), per_day);
    }
    for (work, name) in spec.works().flat_map(|work| spec.locks.keys().map(move |name| (work, name))) {
        if let Some(per_day) = staggered_lock_per_day(spec, work, name) {
            push(Resource::StaggeredLock(work.stage, name.clone()), per_day);
        }
    }
    push(Resource::Slots, spec.slots as f64 * a_day(spec.residence_ms()));
    all.sort_by(|a, b| a.per_day.total_cmp(&b.per_day));
    all
}

/// The sectors a day that a set of locks together has time for.
///
/// Consider the least of these bounds over all sets of locks and all phases. If a phase takes the same time on all its
/// processors and none of them holds two locks, this least bound is exact: it is the minimum cut of the flow through
/// phases, processors and locks. It ignores only the cost of limits on starts; for a single lock,
/// [`staggered_lock_per_day`] adds that.
fn locks_per_day(spec: &PipelineSpec, among: &BTreeSet<&String>) -> f64 {
    let units =
        among.iter().filter_map(|name| spec.locks.get(*name)).fold(0_usize, |sum, &units| sum.saturating_add(units));
    costs_per_day(spec, units as f64, |_, servers| servers.held_ms(among) as f64)
}

/// The sectors a day that a lock allows if a phase that needs it may start only every so often; `None` if that sets no
/// limit.
///
/// Notation: starts of the phase are at least `s` apart. The lock has `u` units. The phase holds one of them for at
/// least `h`. So `k = h / s`, rounded up, of its sectors overlap if it starts as often as it may.
///
/// The other phases disturb it while they hold `m = u - k + 1` units or more. Then at most `k - 1` of its sectors can
/// overlap, and its rate is `(k - 1) / h` instead of `1 / s`. So a disturbance costs the part `d / h` of its length,
/// with `d = h - (k - 1) s`. Its first `w = k s - h` are free, because that much time is between two groups of `k`
/// sectors anyway. In a day, therefore,
///
/// ```text
/// s x + (O - n w) d / h <= 1
/// ```
///
/// for `x` starts of the phase with the lock, and `n` disturbances of total length `O`. A disturbance begins with a
/// start of another phase, so `n` is at most the number of such starts. The other phases have `q` seats. Outside of
/// disturbances they hold at most `m - 1` units, and during disturbances at most `min(u, q)`. So the time for which
/// they hold the lock gives a lower bound on `O`. This results in a price for each start, as for locks alone. Phases
/// with short times may be ignored; then their seats do not count either. So the bound is computed for each shortest
/// time that counts, and the least one is taken.
fn staggered_lock_per_day(spec: &PipelineSpec, staggered: &Work, name: &String) -> Option<f64> {
    let holds = |servers: &Servers| servers.count > 0 && servers.locks.contains(name);
    let apart = staggered.staggered_ms;
    let held = staggered.servers.iter().filter(|servers| holds(servers)).map(|servers| servers.time_ms).min()?;
    let overlap = usize::try_from(held.checked_div(apart)?).ok()? + usize::from(held % apart > 0);
    let units = spec.locks[name];
    if !(1..=units).contains(&overlap) {
        return None;
    }
    let others = || spec.works().filter(|work| !std::ptr::eq(*work, staggered));
    let disturbing = units - overlap + 1;
    let (room, missing) = (overlap as u64 * apart - held, held - (overlap as u64 - 1) * apart);
    let missing = missing as f64 / held as f64;
    let per_day = |shortest: u64| {
        let counts = |servers: &Servers| holds(servers) && servers.time_ms >= shortest;
        let seats = others().map(|work| {
            let seats = work.servers.iter().filter(|servers| counts(servers)).map(|servers| servers.count).sum();
            work.concurrent.map_or(seats, |most| most.min(seats))
        });
        // The units that they can hold at most during a disturbance, minus the `m - 1` that they can always hold.
        let above = (units.min(seats.sum()) + 1).checked_sub(disturbing).filter(|above| *above > 0)? as f64;
        let days = 1.0 + missing * (disturbing - 1) as f64 / above;
        Some(costs_per_day(spec, days, |work, servers| match std::ptr::eq(work, staggered) {
            true if holds(servers) => apart as f64,
            false if counts(servers) => (missing * (servers.time_ms as f64 / above - room as f64)).max(0.0),
            _ => 0.0,
        }))
    };
    let lengths: BTreeSet<u64> = others()
        .flat_map(|work| &work.servers)
        .filter(|servers| holds(servers))
        .map(|servers| servers.time_ms)
        .collect();
    lengths.into_iter().filter_map(per_day).reduce(f64::min)
}

/// Sectors a day, if each sector costs the price of the servers that it uses, in milliseconds, and `days` days are
/// available to pay.
///
/// Let there be `x` sectors a day. Whatever the order, a phase can give at most `served(p)` of them to servers with a
/// price of `p` or less, because that is what these can serve. The others cost more. So the phase costs at least the
/// integral of `x - served(p)` over `p`, up to the price at which all are served. All phases together cost at most what
/// is available.
///
/// As `served` is a step function, the integral is a sum of terms `(x - served) * width`. Negative terms do not count.
/// Leaving out further terms only weakens the bound. So with the terms sorted by `served`, every prefix gives a bound
/// on `x`, and the prefix of all terms that are not negative gives the best one.
fn costs_per_day(spec: &PipelineSpec, days: f64, price: impl Fn(&Work, &Servers) -> f64) -> f64 {
    let mut lines: Vec<(f64, f64)> = Vec::new();
    for work in spec.works() {
        let able = work.servers.iter().filter(|servers| servers.count > 0);
        let mut prices: Vec<f64> = able.map(|servers| price(work, servers)).filter(|price| *price > 0.0).collect();
        prices.sort_by(f64::total_cmp);
        prices.dedup();
        let mut from = 0.0;
        for to in prices {
            let served = work.per_day(|servers| price(work, servers) <= from).min(a_day(work.staggered_ms));
            lines.push((served, to - from));
            from = to;
        }
    }
    lines.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let (mut time_ms, mut sector_ms) = (days * DAY_MS as f64, 0.0);
    let bounds = lines.into_iter().map(|(served, width_ms)| {
        time_ms += served * width_ms;
        sector_ms += width_ms;
        time_ms / sector_ms
    });
    bounds.fold(f64::INFINITY, f64::min)
}

/// The sets of locks to consider. Sets matter, because a sector that may take either of two locks needs time of the two
/// together.
fn combinations(spec: &PipelineSpec) -> Vec<BTreeSet<&String>> {
    let names: Vec<&String> = spec.locks.keys().collect();
    if names.len() > LOCKS_COMBINED_MAX {
        let each = names.iter().map(|name| BTreeSet::from([*name]));
        return each.chain([names.iter().copied().collect()]).collect();
    }
    let chosen = |mask: usize| (0..names.len()).filter(move |bit| mask & (1 << bit) != 0);
    (1..1_usize << names.len()).map(|mask| chosen(mask).map(|bit| names[bit]).collect()).collect()
}

/// How often a time fits into a day.
fn a_day(time_ms: u64) -> f64 {
    if time_ms == 0 { f64::INFINITY } else { DAY_MS as f64 / time_ms as f64 }
}
