//! How many PC1s and how many GPUs: the numbers that allow the most sectors a day.
//!
//! All that fit are tried, with the bound of their pipeline as the measure. Of equals the one with the fewest PC1s and
//! GPUs is taken: what they do not use is left to the rest.

use std::collections::{BTreeMap, BTreeSet};

use sealbus_schema::Phase;

use super::{
    budget::{Budget, Sharing},
    calc::steps,
    multicore::{self, Outcome},
    pipeline::{PipelineSpec, Servers, Work, bound},
    place::{Unit, Want, place, whole_cores},
    request::{CannotPlan, Gpus, Request},
    times::{On, UsedTime, is_large},
};
use crate::topology::{Gpu, Machine};

/// Slots enough that they are never short.
pub const SLOTS_MANY: usize = 10_000_000;
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
    /// How many PC1s memory has room for.
    pub fits_memory: usize,
    /// How many PC1s have cores in some cache.
    pub fits_cores: usize,
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
            let nodes = machine.nodes.len().max(1) as u64;
            machine.nodes.iter_mut().for_each(|node| node.memory_bytes = bytes / nodes);
            machine.memory_max_bytes = None;
        }
        let imagined = choose_gpus(&mut machine, &request.gpus)?;
        let budget = Budget::new(&machine, request);
        Ok(Self { machine, request, budget, imagined })
    }

    /// The pipeline of a draft, with so many processors for the small phases.
    #[must_use]
    pub fn pipeline(&self, draft: &Draft, slots: usize, small: &BTreeMap<Phase, usize>) -> PipelineSpec {
        let turns = draft.sharing == Sharing::Turns;
        let mut locks: BTreeMap<String, usize> = self.gpu_locks(draft).into_iter().map(|lock| (lock, 1)).collect();
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
        let works = Phase::ALL.into_iter().map(|stage| {
            let time_ms = self.time(draft, stage).time_ms;
            let servers = match stage {
                Phase::Pc1 => vec![Servers { count: draft.pc1s, time_ms, locks: with_memory([None, None]) }],
                Phase::Pc2 | Phase::C2 => {
                    let locks = self.gpu_locks(draft).into_iter();
                    locks
                        .map(|lock| Servers { count: 1, time_ms, locks: with_memory([Some(lock), c2_lock(stage)]) })
                        .collect()
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
        PipelineSpec { slots, steps: steps(works.collect(), self.request.times.waits()), locks }
    }

    /// How long a phase takes in a draft.
    #[must_use]
    pub fn time(&self, draft: &Draft, stage: Phase) -> UsedTime {
        let on = match stage {
            Phase::Pc1 if draft.want.producers.is_some() => On::Multicore,
            Phase::Pc2 | Phase::C2 if draft.gpus > 0 => On::Gpu,
            Phase::Pc2 | Phase::C2 => On::Cores(draft.rest.len()),
            _ => On::Any,
        };
        self.request.times.phase(stage, on)
    }

    /// The lock of each place where PC2 and C2 run.
    #[must_use]
    pub fn gpu_locks(&self, draft: &Draft) -> Vec<String> {
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
        let apart = self.time(draft, Phase::Pc1).time_ms / 1000 / (4 * draft.pc1s as u64);
        apart.min(300) / 10 * 10
    }

    /// How many processors each small phase gets.
    #[must_use]
    pub fn small(&self, draft: &Draft) -> BTreeMap<Phase, usize> {
        let phases = [Phase::AddPieces, Phase::TreeD, Phase::Transfer, Phase::C1];
        let count = |stage: Phase| {
            let busy = draft.per_day * self.time(draft, stage).time_ms as f64 / super::pipeline::DAY_MS as f64;
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
    let (want, units, single) = units(site);
    let shared = units.is_none();
    let units = units.unwrap_or_default();
    let gpus = machine.gpus.len();
    let mut best: Option<Draft> = None;
    let used = if gpus == 0 { 0..=0 } else { 1..=gpus };
    for (used, c2s) in used.flat_map(|used| (1..=used.max(1)).rev().map(move |c2s| (used, c2s))) {
        let Some((most, sharing)) = site.budget.pc1s(site.request, used.max(1), c2s) else { continue };
        let fits_cores = if shared { machine.cores.len() } else { units.len() };
        for pc1s in 1..=most.min(fits_cores) {
            let units = if shared { Vec::new() } else { units[..pc1s].to_vec() };
            let rest = rest(machine, &units);
            if !shared && rest.len() < least_rest(machine, used) && pc1s > 1 {
                break;
            }
            let single = single.clone();
            let draft = Draft {
                pc1s,
                units,
                want,
                gpus: used,
                c2s,
                sharing,
                rest,
                fits_memory: most,
                fits_cores,
                per_day: 0.0,
                single,
            };
            let per_day = bound(&site.pipeline(&draft, SLOTS_MANY, &BTreeMap::new()));
            if best.as_ref().is_none_or(|best| per_day > best.per_day * BETTER) {
                best = Some(Draft { per_day, ..draft });
            }
        }
    }
    if let Some(best) = &mut best {
        best.units.sort_by(|a, b| (a.node, a.cache, &a.cores).cmp(&(b.node, b.cache, &b.cores)));
    }
    best.ok_or_else(|| site.budget.refusal(super::explain::machine(machine), site.request))
}

/// What each PC1 wants and where there is room for it, `None` where it shares all cores with the rest; and why it does without
/// multicore SDR, where it does.
pub fn units(site: &Site<'_>) -> (Want, Option<Vec<Unit>>, Option<String>) {
    let machine = &site.machine;
    let alone = Want { cores: 1, producers: None };
    if !is_large(site.request.sector_size) || machine.cores.len() < 2 {
        return (alone, None, None);
    }
    let on_node = site.budget.pc1s_on_node(site.request);
    let largest = (0..machine.caches.len()).map(|cache| whole_cores(machine, cache).len()).max().unwrap_or(1);
    let cores = (site.request.producers + 1).min(largest).min(machine.cores.len() - 1).max(1);
    if cores > 1 {
        let want = Want { cores, producers: Some(cores - 1) };
        let units = place(machine, want, machine.cores.len(), &on_node);
        if !units.is_empty() || on_node.iter().all(|&room| room == 0) {
            return (want, Some(units), None);
        }
    }
    let units = place(machine, alone, machine.cores.len(), &on_node);
    let why = match multicore::outcome(machine, &machine.units(), cores.max(2) - 1) {
        _ if site.request.producers == 0 => "none of its producers is wanted (--producers 0)".to_owned(),
        _ if cores == 1 => "no two cores for it share a cache".to_owned(),
        Outcome::Panics { cores, caches } => format!(
            "it panics where {cores} cores are not evenly divided among {caches} caches (a worker that is given as many of \
             each cache could use it)"
        ),
        _ => "it takes core numbers for cpu numbers, and these differ here (where core 1 is cpu 1 and so on, it could be used)"
            .to_owned(),
    };
    (alone, Some(units), Some(why))
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

/// Leaves the machine with the GPUs that are asked for. Those that it does not have are told.
fn choose_gpus(machine: &mut Machine, gpus: &Gpus) -> Result<Vec<String>, CannotPlan> {
    match gpus {
        Gpus::All => Ok(Vec::new()),
        Gpus::Count(count) => {
            machine.gpus.truncate(*count);
            let mut imagined = Vec::new();
            for number in (0..).take(count + machine.gpus.len()) {
                let id = format!("{number}");
                if machine.gpus.len() < *count && !machine.gpus.iter().any(|gpu| gpu.id == id) {
                    imagined.push(id.clone());
                    machine.gpus.push(Gpu { id, name: "imagined".to_owned(), pci: None, node: None, memory_bytes: 0 });
                }
            }
            Ok(imagined)
        }
        Gpus::Named(names) => {
            let has = machine.gpus.iter().map(|gpu| gpu.id.as_str()).collect::<Vec<_>>().join(", ");
            let has = if has.is_empty() { "none".to_owned() } else { has };
            let missing = |name: &&String| !machine.gpus.iter().any(|gpu| gpu.id == **name);
            if let Some(name) = names.iter().find(missing) {
                return Err(CannotPlan::NoGpu { name: name.clone(), has });
            }
            machine.gpus.retain(|gpu| names.contains(&gpu.id));
            Ok(Vec::new())
        }
    }
}

/// The lock of a GPU, by its position.
fn gpu_lock(machine: &Machine, position: usize) -> String {
    let id = &machine.gpus[position].id;
    let is_short = id.len() <= 3 && id.bytes().all(|byte| byte.is_ascii_digit());
    if is_short { format!("gpu{id}") } else { format!("gpu_{position}") }
}
