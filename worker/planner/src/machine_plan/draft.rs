//! Chooses the numbers of PC1s and GPUs that allow the most sectors a day.
//!
//! All numbers that fit are tried, and each number of producers unless it is given. They are compared by the upper
//! bound of their pipeline. Among equals, more producers win, then fewer PC1s, then fewer GPUs, which leaves more to
//! the rest.

use std::collections::{BTreeMap, BTreeSet};

use sealbus_schema::Phase;

use super::{
    budget::{Budget, Sharing},
    gpus::{self, Chosen},
    multicore::{self, Outcome},
    place::{Unit, Want, place, whole_cores},
    request::{CannotPlan, Request, WINDOW_POST},
    times::{On, UsedTime, is_large},
};
use crate::{
    calc::steps,
    machine::Machine,
    pipeline::{PipelineSpec, Servers, Step, Work, bound},
};

/// The number of processors for a phase that runs elsewhere: enough to never be the bottleneck.
const ELSEWHERE: usize = 10_000_000;
/// A number of slots that is never the bottleneck.
pub const SLOTS_MANY: usize = 10_000_000;
/// The numbers of producers that are tried, starting with the library's default. There is no measurement in which more
/// of them helped.
const PRODUCERS: [usize; 3] = [3, 2, 1];
/// Another choice must be better by this factor to be taken.
const BETTER: f64 = 1.0005;
/// How many cores are kept free of PC1 for each GPU, if the machine has enough: they feed the GPU.
const CORES_PER_GPU: usize = 4;
/// The highest number of processors for a small phase.
const SMALL_MAX: usize = 2;
/// Small phases get capacity for the expected rate times this.
const SMALL_SPARE: f64 = 1.25;
/// The lock that keeps PC1, PC2 and C2 from running at the same time if memory is short.
pub const MEMORY_LOCK: &str = "memory";
/// The lock held by C2s if there is not enough memory for a C2 on every GPU at the same time.
pub const C2_LOCK: &str = "c2_memory";
/// The lock that keeps PC2 and C2 from running at the same time if there is no GPU.
pub const CPU_LOCK: &str = "cpu";

/// A machine together with a request.
#[derive(Debug)]
pub struct Site<'a> {
    /// The machine, with the requested memory and GPUs.
    pub machine: Machine,
    /// The request.
    pub request: &'a Request,
    /// The machine's memory.
    pub budget: Budget,
    /// GPUs that the machine does not have, but the request assumes.
    pub imagined: Vec<String>,
    /// GPUs that are not used, with the reason.
    pub left_out: Vec<String>,
}

/// The choice.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The number of PC1s.
    pub pc1s: usize,
    /// The cores of each PC1; empty if PC1s share cores with everything else.
    pub units: Vec<Unit>,
    /// What each PC1 needs.
    pub want: Want,
    /// The number of GPUs used; 0 if PC2 and C2 run on cores.
    pub gpus: usize,
    /// How many C2s may run at the same time, limited by the number of GPUs and by memory.
    pub c2s: usize,
    /// How memory is shared.
    pub sharing: Sharing,
    /// The cores without a PC1, as indexes into `Machine::cores`.
    pub rest: Vec<usize>,
    /// The number of these cores.
    pub rest_cores: usize,
    /// How many PC1s fit into memory.
    pub fits_memory: usize,
    /// How many PC1s can have cores of one cache, with memory on the node of these cores.
    pub fits_cores: usize,
    /// How many PC1s could have cores if memory on the nodes were unlimited.
    pub fits_cores_alone: usize,
    /// The upper bound on sectors a day, with unlimited slots.
    pub per_day: f64,
    /// Why multicore SDR is not used, if it is not.
    pub single: Option<String>,
}

impl<'a> Site<'a> {
    /// The machine as requested.
    pub fn new(machine: &Machine, request: &'a Request) -> Result<Self, CannotPlan> {
        let mut machine = machine.clone();
        if let Some(bytes) = request.memory_bytes {
            spread_memory(&mut machine, bytes);
        }
        let Chosen { imagined, left_out } = gpus::choose(&mut machine, request)?;
        let budget = Budget::new(&machine, request);
        Ok(Self { machine, request, budget, imagined, left_out })
    }

    /// The pipeline of a draft, with `small` processors for the small phases.
    #[must_use]
    pub fn pipeline(&self, draft: &Draft, slots: usize, small: &BTreeMap<Phase, usize>) -> PipelineSpec {
        let gpus = self.gpu_locks(draft).into_iter().map(|lock| (lock, 1)).collect();
        self.pipeline_of(draft, slots, small, gpus)
    }

    /// The upper bound on sectors a day, with unlimited slots. All GPUs are modelled as one lock: they are alike, and a
    /// sector may take any of them.
    fn per_day(&self, draft: &Draft) -> f64 {
        let count = self.gpu_locks(draft).len();
        let gpus = if count > 0 { vec![("gpus".to_owned(), count)] } else { Vec::new() };
        bound(&self.pipeline_of(draft, SLOTS_MANY, &BTreeMap::new(), gpus))
    }

    /// The pipeline with these locks for PC2 and C2, each with its number of units.
    fn pipeline_of(
        &self,
        draft: &Draft,
        slots: usize,
        small: &BTreeMap<Phase, usize>,
        gpus: Vec<(String, usize)>,
    ) -> PipelineSpec {
        let turns = draft.sharing == Sharing::Turns;
        let mut locks: BTreeMap<String, usize> = gpus.iter().cloned().collect();
        // If memory is short, PC1, PC2 and C2 take turns by sharing one lock.
        if turns {
            locks.insert(MEMORY_LOCK.to_owned(), 1);
        }
        if draft.c2s < draft.gpus {
            locks.insert(C2_LOCK.to_owned(), draft.c2s);
        }
        let c2_lock = |stage: Phase| draft.c2_lock(stage).map(str::to_owned);
        let with_memory = |locks: [Option<String>; 2]| -> BTreeSet<String> {
            locks.into_iter().flatten().chain(turns.then(|| MEMORY_LOCK.to_owned())).collect()
        };
        let works = Phase::SEALING.into_iter().filter(|&stage| self.request.has_files() || self.request.does(stage));
        let works = works.map(|stage| {
            let time_ms = self.time(draft, stage).time_ms;
            let servers = match stage {
                // A phase that runs elsewhere is assumed to be fast enough.
                _ if !self.request.does(stage) => {
                    vec![Servers { count: ELSEWHERE, time_ms, locks: BTreeSet::new() }]
                }
                Phase::Pc1 => vec![Servers { count: draft.pc1s, time_ms, locks: with_memory([None, None]) }],
                Phase::Pc2 | Phase::C2 => {
                    let on_gpu = |(lock, count): &(String, usize)| {
                        let locks = with_memory([Some(lock.clone()), c2_lock(stage)]);
                        Servers { count: *count, time_ms, locks }
                    };
                    gpus.iter().map(on_gpu).collect()
                }
                _ => vec![Servers {
                    count: small.get(&stage).copied().unwrap_or(SMALL_MAX),
                    time_ms,
                    locks: BTreeSet::new(),
                }],
            };
            let staggered_ms = if stage == Phase::Pc1 { self.staggered_secs(draft) * 1000 } else { 0 };
            Work { stage, servers, concurrent: None, staggered_ms }
        });
        let works: Vec<Work> = works.collect();
        let steps = match self.request.has_files() {
            true => steps(works, self.request.times.waits()),
            false => works.into_iter().map(Step::Work).collect(),
        };
        PipelineSpec { slots, steps, locks }
    }

    /// How long a phase takes in a draft.
    #[must_use]
    pub fn time(&self, draft: &Draft, stage: Phase) -> UsedTime {
        let on = match stage {
            Phase::Pc1 if draft.want.producers.is_some() || !self.request.does(Phase::Pc1) => On::Multicore,
            Phase::Pc2 | Phase::C2 if !self.request.does(stage) => On::Gpu,
            Phase::Pc2 | Phase::C2 if draft.gpus > 0 => On::Gpu,
            Phase::Pc2 | Phase::C2 => On::Cores(draft.rest_cores),
            _ => On::Any,
        };
        self.request.times.phase(stage, on)
    }

    /// One lock for each GPU, or the lock for PC2 and C2 on cores.
    #[must_use]
    pub fn gpu_locks(&self, draft: &Draft) -> Vec<String> {
        if !self.request.proves() {
            return Vec::new();
        }
        if draft.gpus == 0 {
            return vec![CPU_LOCK.to_owned()];
        }
        (0..draft.gpus).map(|position| gpu_lock(&self.machine, position)).collect()
    }

    /// The shortest time between two starts of PC1, so that the sectors do not reach the next phases all at once.
    #[must_use]
    pub fn staggered_secs(&self, draft: &Draft) -> u64 {
        if draft.pc1s < 2 || !is_large(self.request.sector_size) {
            return 0;
        }
        // A quarter of PC1's duration, spread over the PC1s. It is at most 300 s, and rounded down to 10 s.
        let apart = self.time(draft, Phase::Pc1).time_ms / 1000 / 4 / draft.pc1s as u64;
        apart.min(300) / 10 * 10
    }

    /// The number of processors for each small phase.
    #[must_use]
    pub fn small(&self, draft: &Draft) -> BTreeMap<Phase, usize> {
        let phases = [Phase::AddPieces, Phase::TreeD, Phase::Transfer, Phase::C1];
        let count = |stage: Phase| {
            let busy = draft.per_day * self.time(draft, stage).time_ms as f64 / crate::pipeline::DAY_MS as f64;
            ((busy * SMALL_SPARE).ceil() as usize).clamp(1, SMALL_MAX)
        };
        phases.into_iter().map(|stage| (stage, count(stage))).collect()
    }
}

impl Draft {
    /// The lock that limits concurrent C2s, if the phase holds it.
    #[must_use]
    pub fn c2_lock(&self, stage: Phase) -> Option<&'static str> {
        (matches!(stage, Phase::C2 | WINDOW_POST) && self.c2s < self.gpus).then_some(C2_LOCK)
    }
}

/// Chooses the best draft.
pub fn choose(site: &Site<'_>) -> Result<Draft, CannotPlan> {
    let machine = &site.machine;
    if machine.cores.is_empty() {
        return Err(CannotPlan::NoCores { machine: super::explain::machine(machine) });
    }
    let tried: &[usize] = match &site.request.producers {
        Some(given) => std::slice::from_ref(given),
        None => &PRODUCERS,
    };
    let mut best: Option<(Draft, Choice)> = None;
    let mut seen: Vec<Want> = Vec::new();
    for &producers in tried {
        let choice = units(site, producers);
        // If no cache has cores for more producers, several numbers come to the same choice.
        if seen.contains(&choice.want) {
            continue;
        }
        seen.push(choice.want);
        let better_than = best.as_ref().map(|(best, _)| best.per_day);
        if let Some(draft) = best_with(site, &choice, better_than) {
            best = Some((draft, choice));
        }
    }
    let Some((draft, choice)) = best else {
        return Err(site.budget.refusal(super::explain::machine(machine), site.request));
    };
    let mut units = choice.units.map_or_else(Vec::new, |mut units| {
        units.truncate(draft.pc1s);
        units
    });
    units.sort_by(|a, b| (a.node, a.cache, &a.cores).cmp(&(b.node, b.cache, &b.cores)));
    let rest = rest(machine, &units);
    Ok(Draft { units, rest, single: choice.single, ..draft })
}

/// The best draft with this choice of PC1's cores, if it exceeds `better_than` sectors a day. Its units and rest are
/// not filled in.
fn best_with(site: &Site<'_>, choice: &Choice, better_than: Option<f64>) -> Option<Draft> {
    let (machine, request) = (&site.machine, site.request);
    let cores = machine.cores.len();
    let gpus = if request.proves() { machine.gpus.len() } else { 0 };
    let fits_cores = choice.units.as_ref().map_or(cores, Vec::len);
    let mut best: Option<Draft> = None;
    let mut better_than = better_than.unwrap_or(-1.0);
    let used = if gpus == 0 { 0..=0 } else { 1..=gpus };
    for used in used {
        for c2s in (1..=used.max(1)).rev() {
            let proofs = if request.proves() { used.max(1) } else { 0 };
            let Some((most, sharing)) = site.budget.pc1s(request, proofs, c2s) else { continue };
            let draft = |pc1s: usize| {
                let taken = if choice.units.is_some() { pc1s.saturating_mul(choice.want.cores) } else { 0 };
                let draft = Draft {
                    pc1s,
                    units: Vec::new(),
                    want: choice.want,
                    gpus: used,
                    c2s: c2s.min(proofs),
                    sharing,
                    rest: Vec::new(),
                    rest_cores: cores.saturating_sub(taken),
                    fits_memory: most,
                    fits_cores,
                    fits_cores_alone: choice.fits_alone,
                    per_day: 0.0,
                    single: None,
                };
                Draft { per_day: site.per_day(&draft), ..draft }
            };
            // Some cores always stay without a PC1, to feed the GPUs.
            let kept = match choice.units {
                Some(_) => ((cores - least_rest(machine, used)) / choice.want.cores).max(1),
                None => usize::MAX,
            };
            let pc1s = match request.does(Phase::Pc1) {
                true => (1, most.min(fits_cores).min(kept)),
                false => (0, 0),
            };
            // Without a GPU, more PC1s slow down PC2 and C2, so every number is tried.
            let found = match used == 0 && request.proves() {
                true => (pc1s.0..=pc1s.1)
                    .map(draft)
                    .reduce(|best, next| if next.per_day > best.per_day * BETTER { next } else { best }),
                false => fewest(pc1s, draft),
            };
            if let Some(found) = found.filter(|found| found.per_day > better_than * BETTER) {
                better_than = found.per_day;
                best = Some(found);
            }
            // Fewer concurrent C2s would only make room for more PC1s, but all that can have cores fit already.
            if sharing == Sharing::Roomy && most >= fits_cores {
                break;
            }
        }
    }
    best
}

/// The lowest number of PC1s that gives about the same rate as the highest. The rate never falls with more of them.
fn fewest((least, most): (usize, usize), draft: impl Fn(usize) -> Draft) -> Option<Draft> {
    let with_most = (least <= most).then(|| draft(most))?;
    // A binary search, because every draft costs the computation of all bounds.
    let (mut best, mut low) = (with_most.clone(), least);
    while low < best.pc1s {
        let middle = draft(low + (best.pc1s - low) / 2);
        match middle.per_day * BETTER >= with_most.per_day {
            true => best = middle,
            false => low = middle.pc1s + 1,
        }
    }
    Some(best)
}

/// What each PC1 needs, and where it can have that.
#[derive(Clone, Debug)]
pub struct Choice {
    /// What each PC1 needs.
    pub want: Want,
    /// The cores of each PC1; `None` if PC1s share all cores with the rest.
    pub units: Option<Vec<Unit>>,
    /// How many PC1s could have cores if memory on the nodes were unlimited.
    pub fits_alone: usize,
    /// Why multicore SDR is not used, if it is not.
    pub single: Option<String>,
}

/// What each PC1 needs with this many producers, and where it can have that. If no cache has enough usable cores, fewer
/// producers are used.
pub fn units(site: &Site<'_>, producers: usize) -> Choice {
    let machine = &site.machine;
    let in_cgroup = site.request.cgroups;
    let alone = Want { cores: 1, producers: None, in_cgroup };
    if !is_large(site.request.sector_size) || machine.cores.len() < 2 || !site.request.does(Phase::Pc1) {
        return Choice { want: alone, units: None, fits_alone: machine.cores.len(), single: None };
    }
    let on_node = site.budget.pc1s_on_node(site.request);
    let largest = whole_cores(machine).iter().map(Vec::len).max().unwrap_or(1);
    // At least one core is left to everything else.
    let cores = producers.saturating_add(1).min(largest).min(machine.cores.len() - 1).max(1);
    let placed = |want: Want, single| {
        let most = machine.cores.len();
        let (units, room) = (place(machine, want, most, &on_node), vec![usize::MAX; machine.nodes.len()]);
        let fits_alone = if units.len() < most { place(machine, want, most, &room).len() } else { most };
        Choice { want, units: Some(units), fits_alone, single }
    };
    if cores > 1 {
        let choice = placed(Want { cores, producers: Some(cores - 1), in_cgroup }, None);
        if choice.units.as_ref().is_some_and(|units| !units.is_empty()) || on_node.iter().all(|&room| room == 0) {
            return choice;
        }
    }
    let all = machine.units();
    let why = match multicore::outcome(machine, &all, cores.max(2) - 1, false) {
        _ if producers == 0 => "none of its producers is wanted (--producers 0)".to_owned(),
        _ if cores == 1 => "no two cores for it share a cache".to_owned(),
        Outcome::Panics { cores, groups, level } => multicore::why_it_panics(cores, groups, &level),
        _ => "it takes core numbers for cpu numbers, and these differ here (where core 1 is cpu 1 and so on, it could be used)"
            .to_owned(),
    };
    placed(alone, Some(why))
}

/// The cores without a PC1.
fn rest(machine: &Machine, units: &[Unit]) -> Vec<usize> {
    let taken: BTreeSet<usize> = units.iter().flat_map(|unit| unit.cores.iter().copied()).collect();
    (0..machine.cores.len()).filter(|core| !taken.contains(core)).collect()
}

/// The lowest number of cores that are kept free of PC1.
#[must_use]
pub fn least_rest(machine: &Machine, gpus: usize) -> usize {
    (CORES_PER_GPU * gpus).min(machine.cores.len() / 4).max(1)
}

/// Changes the machine's memory. Each node with cores gets a share in proportion to its present memory, or an equal
/// share if that is unknown.
fn spread_memory(machine: &mut Machine, bytes: u64) {
    let known = machine.memory_of_cores_bytes();
    let nodes = machine.nodes.iter().filter(|node| node.has_cores).count().max(1) as u64;
    for node in &mut machine.nodes {
        node.memory_bytes = match (node.has_cores, known) {
            (false, _) => 0,
            (true, 0) => bytes / nodes,
            (true, known) => (u128::from(bytes) * u128::from(node.memory_bytes) / u128::from(known)) as u64,
        };
    }
    machine.memory_max_bytes = None;
}

/// The name of a GPU's lock, given its index.
fn gpu_lock(machine: &Machine, position: usize) -> String {
    let id = &machine.gpus[position].id;
    let is_short = id.len() <= 3 && id.bytes().all(|byte| byte.is_ascii_digit());
    if is_short { format!("gpu{id}") } else { format!("gpu_{position}") }
}
