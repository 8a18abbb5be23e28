//! Predicts what the proofs library's multicore SDR does with given cores.
//!
//! `storage-proofs-porep` (`stacked/vanilla/cores.rs`) considers *all* cores that the cgroup of its process allows
//! ([`Sight`](crate::machine::Sight)), not only those in the process's affinity. It works as follows:
//! - It divides the cores by the number of objects at the first level above them, and asserts that nothing remains.
//! - In each of these groups it forms units of (producers + 1) cores, numbered across the groups.
//! - From each unit it keeps the cores whose *logical* number is in the process's affinity, although the affinity lists
//!   OS indexes.
//! - It takes the first unit that has a core left. The main thread is bound to the unit's first core, and each producer
//!   to one of the others.
//!
//! If no unit is left, nothing is bound and the threads share the process's affinity. That is equally good if it has
//! exactly as many cores as threads.

use crate::machine::{CpuSet, Machine, Sight};

/// What happens to a PC1 with a given affinity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Each thread is bound to its own core within the affinity. The values are indexes into `Sight::cores`.
    Bound(Vec<usize>),
    /// The library finds no unit, so the threads share the affinity's cores.
    Unbound,
    /// The unit has fewer cores than threads. The remaining threads all run on the main thread's core.
    Partial {
        /// The cores in the unit.
        cores: usize,
        /// The threads.
        threads: usize,
    },
    /// A thread is bound to a core outside the affinity.
    Outside {
        /// The processing units of that core.
        units: CpuSet,
    },
    /// The process panics, because the cores do not divide evenly.
    Panics {
        /// The cores that the library sees.
        cores: usize,
        /// The number of objects that it divides by.
        groups: usize,
        /// The kind of these objects, in the plural.
        level: String,
    },
}

impl Outcome {
    /// Whether each thread has its own core.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self, Outcome::Bound(_) | Outcome::Unbound)
    }
}

/// What happens to a PC1 with this many producers that is bound to `cpus`. With `in_cgroup` its process has a cgroup
/// that allows only these.
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
    // Of a core's processing units the thread is bound to the one with the lowest index.
    let is_outside = |&&core: &&usize| sight.cores[core].iter().next().is_none_or(|first| !cpus.contains(first));
    match unit.iter().find(is_outside) {
        Some(&core) => Outcome::Outside { units: sight.cores[core].clone() },
        None if unit.len() < threads => Outcome::Partial { cores: unit.len(), threads },
        None => Outcome::Bound(unit),
    }
}

/// The remaining cores of the first unit that has any.
fn first_kept(cores: usize, groups: usize, threads: usize, cpus: &CpuSet) -> Option<Vec<usize>> {
    let group = cores / groups.max(1);
    let rounds = group / threads.max(1);
    // The unit that a core belongs to. The last cores of a group may belong to none.
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

/// The library's units, in the order in which it hands them out, as logical core numbers. They do not depend on the
/// affinity.
pub fn units(cores: usize, groups: usize, threads: usize) -> impl Iterator<Item = Vec<usize>> {
    let group = cores / groups.max(1);
    let rounds = group / threads.max(1);
    (0..groups * rounds).map(move |unit| {
        let first = (unit * group) % cores + unit / groups * threads;
        (first..first + threads).collect()
    })
}

/// Why the library panics, and what would help.
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
