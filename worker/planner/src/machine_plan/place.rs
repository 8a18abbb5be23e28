//! Whole cores of one L3 cache for each PC1.

use std::collections::BTreeSet;

use super::multicore::{self, Outcome};
use crate::machine::{CpuSet, Machine};

/// How many sets of cores are tried in one cache before it is given up.
const TRIES_MAX: usize = 1_000;

/// Cores for one PC1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The cache that they share: a position in `Machine::caches`.
    pub cache: usize,
    /// Their node: a position in `Machine::nodes`.
    pub node: usize,
    /// The cores: positions in `Machine::cores`.
    pub cores: Vec<usize>,
    /// All their processing units.
    pub cpus: CpuSet,
    /// What multicore SDR makes of them; `None` where it is not used.
    pub outcome: Option<Outcome>,
}

/// What each PC1 wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Cores.
    pub cores: usize,
    /// Producers of multicore SDR; `None` for one thread.
    pub producers: Option<usize>,
    /// Whether its process has a cgroup with nothing else.
    pub in_cgroup: bool,
}

/// Places as many PC1s as there is room for, at most `most`, and at most `on_node[node]` on each node.
///
/// They are placed one after the other, so that the first ones are a plan for fewer: each into the cache that has the
/// fewest yet, on the node with the most room. Caches where no set of cores would do are left out.
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

/// Of each cache the cores of which every hardware thread may be used, as far as that can be told.
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
        let most = cores.iter().map(|&core| threads(core)).max().unwrap_or(0);
        cores.retain(|&core| threads(core) == most);
    }
    caches
}

/// Cores out of `free` that do: the first that follow each other, else any that multicore SDR can work with.
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
    // Looked for only where no window does.
    let others = std::iter::once(()).flat_map(|()| apart(machine, free, want, producers));
    for (cores, outcome) in windows.chain(others).map(judged) {
        match outcome {
            Outcome::Bound(_) => return Some((cores, Some(outcome))),
            Outcome::Unbound if floating.is_none() => floating = Some((cores, Some(outcome))),
            _ => {}
        }
    }
    floating
}

/// Sets that do not follow each other: first out of the cores whose numbers are in no unit of the library's, then all.
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

/// All sets of `size` out of `of`, in lexical order.
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
