//! How many PC1s and how many GPUs: the numbers that allow the most sectors a day.
//!
//! All that fit are tried, with the bound of their pipeline as the measure, and with each number of producers unless that is
//! given. Of equals the one with the most producers is taken, then the one with the fewest PC1s and GPUs: what they do not use
//! is left to the rest.

use std::collections::{BTreeMap, BTreeSet};

use sealbus_schema::Phase;

use super::{
    budget::{Budget, Sharing},
    gpus::{self, Chosen},
    multicore::{self, Outcome},
    place::{Unit, Want, place, whole_cores},
    request::{CannotPlan, Request},
    times::{On, UsedTime, is_large},
};
use crate::{
    calc::steps,
    machine::Machine,
    pipeline::{PipelineSpec, Servers, Step, Work, bound},
};

/// Processors of a phase that is done elsewhere: enough that they are never short.
const ELSEWHERE: usize = 10_000_000;
/// Slots enough that they are never short.
pub const SLOTS_MANY: usize = 10_000_000;
/// The numbers of producers that are tried, the library's own first. More of them bring nothing that anybody has measured.
const PRODUCERS: [usize; 3] = [3, 2, 1];
/// Another choice must be this much better to be taken.
const BETTER: f64 = 1.0005;
/// Cores that are kept free of PC1 for each GPU, where the machine has enough: it must be fed.
const CORES_PER_GPU: usize = 4;
/// The most processors of a small phase.
const SMALL_MAX: usize = 2;
/// Small phases get room for this much more than the rate that is expected.
const SMALL_SPARE: f64 = 1.25;
/// The lock that keeps PC1, PC2 and C2 apart where memory is short.
pub const MEMORY_LOCK: &str = "memory";
/// The lock that C2s hold where not each GPU's may have its memory at the same time.
pub const C2_LOCK: &str = "c2_memory";
/// The lock that keeps PC2 and C2 apart where there is no GPU.
pub const CPU_LOCK: &str = "cpu";

/// A machine with what is asked of it.
#[derive(Debug)]
pub struct Site<'a> {
    /// The machine, with memory and GPUs as they were asked for.
    pub machine: Machine,
    /// What is asked for.
    pub request: &'a Request,
    /// Its memory.
    pub budget: Budget,
    /// GPUs that are only imagined.
    pub imagined: Vec<String>,
    /// GPUs that are there and not used, with the reason.
    pub left_out: Vec<String>,
}

/// What was chosen.
#[derive(Clone, Debug)]
pub struct Draft {
    /// How many PC1s.
    pub pc1s: usize,
    /// Cores for each of them; none where PC1 shares the cores with everything else.
    pub units: Vec<Unit>,
    /// What each of them wants.
    pub want: Want,
    /// How many of the GPUs are used; none for PC2 and C2 on cores.
    pub gpus: usize,
    /// How many C2s may run at the same time: as many as there are GPUs, or as many as there is memory for.
    pub c2s: usize,
    /// How memory is shared.
    pub sharing: Sharing,
    /// The cores that are not PC1's: positions in `Machine::cores`.
    pub rest: Vec<usize>,
    /// How many these are.
    pub rest_cores: usize,
    /// How many PC1s memory has room for.
    pub fits_memory: usize,
    /// How many PC1s have cores in some cache, and memory on the node of these.
    pub fits_cores: usize,
    /// How many would have cores if nodes had memory enough.
    pub fits_cores_alone: usize,
    /// Sectors a day, at most, with slots enough.
    pub per_day: f64,
    /// Why PC1 does without multicore SDR, where it does.
    pub single: Option<String>,
}

impl<'a> Site<'a> {
    /// The machine as it is asked for.
    pub fn new(machine: &Machine, request: &'a Request) -> Result<Self, CannotPlan> {
        let mut machine = machine.clone();
        if let Some(bytes) = request.memory_bytes {
            spread_memory(&mut machine, bytes);
        }
        let Chosen { imagined, left_out } = gpus::choose(&mut machine, request)?;
        let budget = Budget::new(&machine, request);
        Ok(Self { machine, request, budget, imagined, left_out })
    }

    /// The pipeline of a draft, with so many processors for the small phases.
    #[must_use]
    pub fn pipeline(&self, draft: &Draft, slots: usize, small: &BTreeMap<Phase, usize>) -> PipelineSpec {
        let gpus = self.gpu_locks(draft).into_iter().map(|lock| (lock, 1)).collect();
        self.pipeline_of(draft, slots, small, gpus)
    }

    /// Sectors a day, at most, with slots enough. All GPUs are one lock here: they are alike, and each sector may take any.
    fn per_day(&self, draft: &Draft) -> f64 {
        let count = self.gpu_locks(draft).len();
        let gpus = if count > 0 { vec![("gpus".to_owned(), count)] } else { Vec::new() };
        bound(&self.pipeline_of(draft, SLOTS_MANY, &BTreeMap::new(), gpus))
    }

    /// The same with locks for PC2 and C2, each so often.
    fn pipeline_of(
        &self,
        draft: &Draft,
        slots: usize,
        small: &BTreeMap<Phase, usize>,
        gpus: Vec<(String, usize)>,
    ) -> PipelineSpec {
        let turns = draft.sharing == Sharing::Turns;
        let mut locks: BTreeMap<String, usize> = gpus.iter().cloned().collect();
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
                // Whoever does it is taken to be fast enough.
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

    /// The lock of each place where PC2 and C2 run.
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

    /// The least time between two PC1s, so that what they finish does not come all at once.
    #[must_use]
    pub fn staggered_secs(&self, draft: &Draft) -> u64 {
        if draft.pc1s < 2 || !is_large(self.request.sector_size) {
            return 0;
        }
        let apart = self.time(draft, Phase::Pc1).time_ms / 1000 / 4 / draft.pc1s as u64;
        apart.min(300) / 10 * 10
    }

    /// How many processors each small phase gets.
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
    /// The lock that keeps C2s from being too many, if the phase holds it.
    #[must_use]
    pub fn c2_lock(&self, stage: Phase) -> Option<&'static str> {
        (stage == Phase::C2 && self.c2s < self.gpus).then_some(C2_LOCK)
    }
}

/// Chooses.
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

/// The best with what PC1s want, if it is better than so many sectors a day; without units and rest.
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
            let kept = match choice.units {
                Some(_) => ((cores - least_rest(machine, used)) / choice.want.cores).max(1),
                None => usize::MAX,
            };
            let pc1s = match request.does(Phase::Pc1) {
                true => (1, most.min(fits_cores).min(kept)),
                false => (0, 0),
            };
            // Without a GPU PC2 and C2 are slower the more PC1s there are, so that each number is tried.
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
            // Fewer C2s at the same time make room for PC1s, and there is room for all that have cores.
            if sharing == Sharing::Roomy && most >= fits_cores {
                break;
            }
        }
    }
    best
}

/// The fewest PC1s that do about as much as the most of them would; more of them never do less.
fn fewest((least, most): (usize, usize), draft: impl Fn(usize) -> Draft) -> Option<Draft> {
    let with_most = (least <= most).then(|| draft(most))?;
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

/// What each PC1 wants and where there is room for it.
#[derive(Clone, Debug)]
pub struct Choice {
    /// What each wants.
    pub want: Want,
    /// Cores for each; `None` where they share all cores with the rest.
    pub units: Option<Vec<Unit>>,
    /// How many would have cores if nodes had memory enough.
    pub fits_alone: usize,
    /// Why they do without multicore SDR, where they do.
    pub single: Option<String>,
}

/// What each PC1 wants with so many producers, or fewer where no cache has cores for them, and where there is room for it.
pub fn units(site: &Site<'_>, producers: usize) -> Choice {
    let machine = &site.machine;
    let in_cgroup = site.request.cgroups;
    let alone = Want { cores: 1, producers: None, in_cgroup };
    if !is_large(site.request.sector_size) || machine.cores.len() < 2 || !site.request.does(Phase::Pc1) {
        return Choice { want: alone, units: None, fits_alone: machine.cores.len(), single: None };
    }
    let on_node = site.budget.pc1s_on_node(site.request);
    let largest = whole_cores(machine).iter().map(Vec::len).max().unwrap_or(1);
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

/// The cores that no PC1 has.
fn rest(machine: &Machine, units: &[Unit]) -> Vec<usize> {
    let taken: BTreeSet<usize> = units.iter().flat_map(|unit| unit.cores.iter().copied()).collect();
    (0..machine.cores.len()).filter(|core| !taken.contains(core)).collect()
}

/// The least number of cores without a PC1.
#[must_use]
pub fn least_rest(machine: &Machine, gpus: usize) -> usize {
    (CORES_PER_GPU * gpus).min(machine.cores.len() / 4).max(1)
}

/// Gives a machine other memory: as much more or less for each node, as far as it has cores and is known, else the same for each.
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

/// The lock of a GPU, by its position.
fn gpu_lock(machine: &Machine, position: usize) -> String {
    let id = &machine.gpus[position].id;
    let is_short = id.len() <= 3 && id.bytes().all(|byte| byte.is_ascii_digit());
    if is_short { format!("gpu{id}") } else { format!("gpu_{position}") }
}
