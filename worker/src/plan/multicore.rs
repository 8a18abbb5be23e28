//! What the proofs library's multicore SDR makes of the cores that it is given.
//!
//! `storage-proofs-porep` (`stacked/vanilla/cores.rs`) looks at *all* cores that the process's topology shows, not only at
//! those that the process is bound to. It divides them by the number of shared caches, asserts that nothing remains, and
//! numbers units of (producers + 1) cores through. Of each unit it keeps the cores whose *logical* number, taken for an
//! operating system's one, is in the process's cpuset. The first unit that has a core left is used: the main thread is
//! bound to its first core, each producer to one of the others. Without any unit nothing is bound, and the threads stay
//! in the cpuset as a whole, which is as good where it has just as many cores.

use std::collections::BTreeSet;

use crate::topology::{CpuSet, Machine};

/// What happens to a PC1 that is bound to a cpuset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Each thread gets a core of its own in the cpuset: positions in `Machine::cores`.
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
    /// A thread is bound to a core that is not in the cpuset: a position in `Machine::cores`.
    Outside {
        /// That core.
        core: usize,
    },
    /// The process panics.
    Panics {
        /// Cores that it sees.
        cores: usize,
        /// Shared caches that it sees.
        caches: usize,
    },
}

impl Outcome {
    /// Whether PC1 gets what it should.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self, Outcome::Bound(_) | Outcome::Unbound)
    }
}

/// What becomes of a PC1 with so many producers that is bound to `cpus`.
#[must_use]
pub fn outcome(machine: &Machine, cpus: &CpuSet, producers: usize) -> Outcome {
    let (cores, caches) = (machine.cores.len(), shared_caches(machine));
    let threads = producers + 1;
    if cores == 0 {
        return Outcome::Unbound;
    }
    if !cores.is_multiple_of(caches) {
        return Outcome::Panics { cores, caches };
    }
    let kept = |unit: Vec<usize>| -> Vec<usize> {
        unit.into_iter().filter(|&core| u32::try_from(core).is_ok_and(|index| cpus.contains(index))).collect()
    };
    let Some(unit) = units(cores, caches, threads).map(kept).find(|unit| !unit.is_empty()) else {
        return Outcome::Unbound;
    };
    let is_outside =
        |&&core: &&usize| machine.cores[core].units.iter().next().is_none_or(|first| !cpus.contains(first));
    match unit.iter().find(is_outside) {
        Some(&core) => Outcome::Outside { core },
        None if unit.len() < threads => Outcome::Partial { cores: unit.len(), threads },
        None => Outcome::Bound(unit),
    }
}

/// Cores that are bound together whatever the cpuset: logical numbers, in the order in which the library hands them out.
pub fn units(cores: usize, caches: usize, threads: usize) -> impl Iterator<Item = Vec<usize>> {
    let group = cores / caches;
    let rounds = group / threads;
    (0..caches * rounds).map(move |unit| {
        let first = (unit * group) % cores + unit / caches * threads;
        (first..first + threads).collect()
    })
}

/// The number of shared caches as the library counts it: of the first level above the cores that has fewer parts than
/// there are cores.
#[must_use]
pub fn shared_caches(machine: &Machine) -> usize {
    let known: BTreeSet<usize> =
        machine.cores.iter().map(|core| core.cache).filter(|&cache| machine.caches[cache].bytes > 0).collect();
    let levels = [known.len(), machine.packages];
    levels.into_iter().find(|&count| count > 0 && count < machine.cores.len()).unwrap_or(1)
}
