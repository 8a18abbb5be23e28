//! Gives each PC1 whole cores of one L3 cache.

use std::collections::BTreeSet;

use super::multicore::{self, Outcome};
use crate::machine::{CpuSet, Machine};

/// How many sets of cores are tried in one cache.
const TRIES_MAX: usize = 1_000;

/// The cores of one PC1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Their cache, as an index into `Machine::caches`.
    pub cache: usize,
    /// Their node, as an index into `Machine::nodes`.
    pub node: usize,
    /// The cores, as indexes into `Machine::cores`.
    pub cores: Vec<usize>,
    /// All their processing units.
    pub cpus: CpuSet,
    /// What multicore SDR does with them; `None` if it is not used.
    pub outcome: Option<Outcome>,
}

/// What a PC1 needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// The number of cores.
    pub cores: usize,
    /// The number of producers for multicore SDR; `None` for a single thread.
    pub producers: Option<usize>,
    /// Whether its process has a cgroup that allows only its cores.
    pub in_cgroup: bool,
}

/// Places as many PC1s as fit: at most `most`, and at most `on_node[node]` on each node.
///
/// They are placed one by one, so the first few are also the placement for fewer. Each goes to the cache with the
/// fewest PC1s so far, on the node with the most room. A cache in which no set of cores works is skipped.
#[must_use]
pub fn place(machine: &Machine, want: Want, most: usize, on_node: &[usize]) -> Vec<Unit> {
    let mut free = whole_cores(machine);
    let mut left = on_node.to_vec();
    let mut in_cache = vec![0_usize; machine.caches.len()];
    let mut units = Vec::new();
    while units.len() < most {
        let node = |cache: usize| machine.caches[cache].node;
        let has_room =
            |&cache: &usize| free[cache].len() >= want.cores && left.get(node(cache)).is_some_and(|&n| n > 0);
        let best = (0..machine.caches.len())
            .filter(has_room)
            .min_by_key(|&cache| (in_cache[cache], usize::MAX - left[node(cache)], cache));
        let Some(cache) = best else { break };
        let Some((cores, outcome)) = choose(machine, &free[cache], want) else {
            // No set of cores in this cache works, so it is not tried again.
            free[cache].clear();
            continue;
        };
        free[cache].retain(|core| !cores.contains(core));
        left[node(cache)] -= 1;
        in_cache[cache] += 1;
        units.push(Unit { cache, node: node(cache), cpus: cpus_of(machine, &cores), cores, outcome });
    }
    units
}

/// The processing units of cores.
#[must_use]
pub fn cpus_of(machine: &Machine, cores: &[usize]) -> CpuSet {
    cores.iter().flat_map(|&core| machine.cores[core].units.iter()).collect()
}

/// For each cache, the cores whose hardware threads may all be used, as far as that is known.
#[must_use]
pub fn whole_cores(machine: &Machine) -> Vec<Vec<usize>> {
    let mut caches = vec![Vec::new(); machine.caches.len()];
    for (at, core) in machine.cores.iter().enumerate() {
        if let Some(cores) = caches.get_mut(core.cache) {
            cores.push(at);
        }
    }
    let threads = |core: usize| machine.cores[core].units.len();
    for cores in &mut caches {
        // If one core has fewer usable threads than the others, the worker may not use all of it. Somebody else's work
        // would then slow PC1 down.
        let most = cores.iter().map(|&core| threads(core)).max().unwrap_or(0);
        cores.retain(|&core| threads(core) == most);
    }
    caches
}

/// Cores out of `free` that work: the first consecutive ones, otherwise any that multicore SDR can use.
fn choose(machine: &Machine, free: &[usize], want: Want) -> Option<(Vec<usize>, Option<Outcome>)> {
    let Some(producers) = want.producers else {
        return Some((free.get(..want.cores)?.to_vec(), None));
    };
    let judged = |cores: Vec<usize>| {
        let outcome = multicore::outcome(machine, &cpus_of(machine, &cores), producers, want.in_cgroup);
        (cores, outcome)
    };
    let mut floating = None;
    let windows = free.windows(want.cores).map(<[usize]>::to_vec);
    // A lazy iterator: other sets are searched only if no consecutive ones work.
    let others = std::iter::once(()).flat_map(|()| apart(machine, free, want, producers));
    for (cores, outcome) in windows.chain(others).map(judged) {
        match outcome {
            // Cores to which the library binds its threads are better than unbound ones. The first unbound set is the
            // fallback.
            Outcome::Bound(_) => return Some((cores, Some(outcome))),
            Outcome::Unbound if floating.is_none() => floating = Some((cores, Some(outcome))),
            _ => {}
        }
    }
    floating
}

/// Sets of cores that are not consecutive. Sets of cores outside the library's units come first, then all others.
fn apart<'a>(
    machine: &Machine,
    free: &'a [usize],
    want: Want,
    producers: usize,
) -> impl Iterator<Item = Vec<usize>> + use<'a> {
    let (count, (groups, _)) = (machine.sight.cores.len(), machine.sight.groups());
    let taken: BTreeSet<usize> = multicore::units(count, groups, producers + 1).flatten().collect();
    let is_quiet = |&&core: &&usize| machine.cores[core].units.iter().all(|unit| !taken.contains(&(unit as usize)));
    let quiet: Vec<usize> = free.iter().filter(is_quiet).copied().take(want.cores).collect();
    let quiet = (quiet.len() == want.cores).then_some(quiet);
    quiet.into_iter().chain(combinations(free, want.cores).take(TRIES_MAX))
}

/// All subsets of `of` with `size` elements, in lexical order.
fn combinations(of: &[usize], size: usize) -> impl Iterator<Item = Vec<usize>> {
    let mut chosen: Option<Vec<usize>> = (size > 0 && size <= of.len()).then(|| (0..size).collect());
    std::iter::from_fn(move || {
        let now = chosen.take()?;
        let result = now.iter().map(|&at| of[at]).collect();
        let last = (0..size).rev().find(|&position| now[position] < of.len() - size + position);
        if let Some(position) = last {
            let mut next = now;
            let first = next[position] + 1;
            for (offset, at) in next[position..].iter_mut().enumerate() {
                *at = first + offset;
            }
            chosen = Some(next);
        }
        Some(result)
    })
}
