//! What the proofs library's multicore SDR makes of the cores that it is given.
//!
//! `storage-proofs-porep` (`stacked/vanilla/cores.rs`) looks at *all* cores that its process's cgroup allows
//! ([`Sight`](crate::machine::Sight)), not only at those that the process is bound to. It divides them by the number of shared
//! parts of the first level above them, asserts that nothing remains, and numbers units of (producers + 1) cores through. Of each
//! unit it keeps the cores whose *logical* number, taken for an operating system's one, is in the process's affinity. The first
//! unit that has a core left is used: the main thread is bound to its first core, each producer to one of the others. Without
//! any unit nothing is bound, and the threads stay in the affinity as a whole, which is as good where it has just as many cores.

use crate::machine::{CpuSet, Machine, Sight};

/// What happens to a PC1 that is bound to a cpuset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Each thread gets a core of its own in the cpuset: positions in `Sight::cores`.
    Bound(Vec<usize>),
    /// The library finds no unit; the threads share the cpuset.
    Unbound,
    /// The unit has fewer cores than threads; the threads without a core pile up on the main one's.
    Partial {
        /// Cores that it has.
        cores: usize,
        /// Threads that there are.
        threads: usize,
    },
    /// A thread is bound to a core that is not in the cpuset.
    Outside {
        /// The processing units of that core.
        units: CpuSet,
    },
    /// The process panics.
    Panics {
        /// Cores that it sees.
        cores: usize,
        /// Shared parts that it sees.
        groups: usize,
        /// What these are.
        level: String,
    },
}

impl Outcome {
    /// Whether PC1 gets what it should.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self, Outcome::Bound(_) | Outcome::Unbound)
    }
}

/// What becomes of a PC1 with so many producers that is bound to `cpus`. With `in_cgroup` its process has a cgroup that allows
/// nothing else.
#[must_use]
pub fn outcome(machine: &Machine, cpus: &CpuSet, producers: usize, in_cgroup: bool) -> Outcome {
    match in_cgroup {
        true => seen(&machine.sight.within(cpus), cpus, producers),
        false => seen(&machine.sight, cpus, producers),
    }
}

fn seen(sight: &Sight, cpus: &CpuSet, producers: usize) -> Outcome {
    let (cores, (groups, level)) = (sight.cores.len(), sight.groups());
    if !sight.is_even() {
        return Outcome::Panics { cores, groups, level: level.to_owned() };
    }
    let threads = producers.saturating_add(1);
    let Some(unit) = first_kept(cores, groups, threads, cpus) else { return Outcome::Unbound };
    // Of a core the thread gets the unit with the lowest number.
    let is_outside = |&&core: &&usize| sight.cores[core].iter().next().is_none_or(|first| !cpus.contains(first));
    match unit.iter().find(is_outside) {
        Some(&core) => Outcome::Outside { units: sight.cores[core].clone() },
        None if unit.len() < threads => Outcome::Partial { cores: unit.len(), threads },
        None => Outcome::Bound(unit),
    }
}

/// What is left of the first unit of which something is.
fn first_kept(cores: usize, groups: usize, threads: usize, cpus: &CpuSet) -> Option<Vec<usize>> {
    let group = cores / groups.max(1);
    let rounds = group / threads.max(1);
    // In which unit a core is, by its number. The last cores of a group may be in none.
    let unit_of = |core: usize| {
        let (group, round) = (core / group, core % group / threads);
        (round < rounds).then_some(round * groups + group)
    };
    let numbers = cpus.iter().filter_map(|index| usize::try_from(index).ok()).filter(|&index| index < cores);
    let unit = numbers.filter_map(unit_of).min()?;
    let first = unit % groups * group + unit / groups * threads;
    let is_kept = |core: &usize| u32::try_from(*core).is_ok_and(|index| cpus.contains(index));
    Some((first..first + threads).filter(is_kept).collect())
}

/// Cores that are bound together whatever the cpuset: logical numbers, in the order in which the library hands them out.
pub fn units(cores: usize, groups: usize, threads: usize) -> impl Iterator<Item = Vec<usize>> {
    let group = cores / groups.max(1);
    let rounds = group / threads.max(1);
    (0..groups * rounds).map(move |unit| {
        let first = (unit * group) % cores + unit / groups * threads;
        (first..first + threads).collect()
    })
}

/// Why it cannot be used, and what would help.
#[must_use]
pub fn why_it_panics(cores: usize, groups: usize, level: &str) -> String {
    match cores {
        0 => "hwloc tells the proofs library of no cores here, so that it panics".to_owned(),
        _ => format!(
            "it panics where {cores} cores are not evenly divided among {groups} {level}. It looks at all cores of the worker's \
             cgroup, whatever its affinity: only a cgroup helps, one with as many cores in each, or one for each processor \
             ([cgroup] in the configuration, --cgroups here)"
        ),
    }
}
