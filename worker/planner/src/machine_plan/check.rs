//! Checks configured processors against the machine before anything starts.
//!
//! Each rule is a function, and all of them are applied. Each finding names the field and says what to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use sealbus_schema::Phase;
use serde::Serialize;

use super::{
    multicore::{self, Outcome},
    place::cpus_of,
    request::WINNING_POST,
};
use crate::{
    machine::{CpuSet, Machine, MemoryPolicy},
    units,
};

/// A configured group of processors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedGroup {
    /// The group's index in the configuration.
    pub index: usize,
    /// The phase that it serves.
    pub stage: Phase,
    /// Its cpus; `None` for all.
    pub cpus: Option<CpuSet>,
    /// The NUMA node of its memory, as OS index.
    pub numa_node: Option<u32>,
    /// Whether memory may come from another node; `None` if no policy is set.
    pub memory: Option<MemoryPolicy>,
    /// How many requests all its processes together work on at the same time.
    pub concurrent: usize,
    /// The ids of the GPUs that it sees.
    pub gpus: Vec<String>,
    /// The locks that each request holds.
    pub locks: Vec<String>,
    /// The memory of a request in bytes; 0 if unknown.
    pub memory_bytes: u64,
    /// The number of producers for multicore SDR; `None` if that is off.
    pub producers: Option<usize>,
    /// Whether each process has a cgroup that allows only its cpus.
    pub in_cgroup: bool,
}

/// A problem in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The field, with its table.
    pub field: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub fix: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It works, but badly.
    Warning,
    /// It does not work.
    Error,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.field, self.problem, self.fix)
    }
}

/// Checks groups against a machine.
#[must_use]
pub fn check(machine: &Machine, groups: &[PlacedGroup]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for group in groups {
        findings.extend(cpus_are_there(machine, group));
        findings.extend(node_fits(machine, group));
        if group.stage == Phase::Pc1 {
            findings.extend(pc1_fits(machine, group));
        }
        findings.extend(gpus_are_there(machine, group));
    }
    findings.extend(cores_of_pc1_are_its_own(machine, groups));
    findings.extend(gpus_are_shared_by_locks(groups));
    findings.extend(memory_is_there(machine, groups));
    findings
}

impl PlacedGroup {
    fn field(&self, name: &str) -> String {
        format!("processor[{}].{name}", self.index)
    }

    fn error(&self, field: &str, problem: String, fix: &str) -> Finding {
        Finding { severity: Severity::Error, field: self.field(field), problem, fix: fix.to_owned() }
    }

    fn warning(&self, field: &str, problem: String, fix: &str) -> Finding {
        Finding { severity: Severity::Warning, ..self.error(field, problem, fix) }
    }

    /// The cores that it runs on, as indexes into `Machine::cores`.
    fn cores(&self, machine: &Machine) -> Vec<usize> {
        let Some(cpus) = &self.cpus else { return Vec::new() };
        (0..machine.cores.len()).filter(|&core| !machine.cores[core].units.is_disjoint(cpus)).collect()
    }
}

fn cpus_are_there(machine: &Machine, group: &PlacedGroup) -> Vec<Finding> {
    let Some(cpus) = &group.cpus else { return Vec::new() };
    if cpus.is_empty() {
        return vec![group.error("cpus", "is empty".into(), "name at least one, or leave the field out")];
    }
    let mut findings = Vec::new();
    let missing = cpus.difference(&machine.present).difference(&machine.units());
    if !missing.is_empty() {
        let problem = format!("the machine has no {missing}; it has {}", machine.present);
        findings.push(group.error("cpus", problem, "take them out"));
    }
    let refused = cpus.difference(&missing).difference(&machine.units());
    if !refused.is_empty() {
        let problem = format!("the worker may not use {refused}; it may use {}", machine.units());
        findings.push(group.error("cpus", problem, "take them out, or widen the worker's own cpuset"));
    }
    findings
}

fn node_fits(machine: &Machine, group: &PlacedGroup) -> Vec<Finding> {
    let Some(number) = group.numa_node else {
        let problem = || "memory needs a node".to_owned();
        return group
            .memory
            .map(|_| group.error("memory", problem(), "give numa_node, or leave memory out"))
            .into_iter()
            .collect();
    };
    let Some(node) = machine.nodes.iter().position(|node| node.os_index == number) else {
        let nodes: CpuSet = machine.nodes.iter().map(|node| node.os_index).collect();
        return vec![group.error("numa_node", format!("there is no node {number}; there is {nodes}"), "correct it")];
    };
    let cores = group.cores(machine);
    let elsewhere: Vec<usize> = cores.into_iter().filter(|&core| machine.node_of_core(core) != node).collect();
    if elsewhere.is_empty() {
        return Vec::new();
    }
    let problem = format!("{} of its cpus are not of node {number}", cpus_of(machine, &elsewhere));
    vec![group.warning("numa_node", problem, "give the node of its cpus: memory of another one is slower")]
}

fn pc1_fits(machine: &Machine, group: &PlacedGroup) -> Vec<Finding> {
    let Some(cpus) = &group.cpus else { return Vec::new() };
    let cores = group.cores(machine);
    let mut findings = Vec::new();
    let halves: Vec<usize> = cores.iter().copied().filter(|&core| !machine.cores[core].units.is_subset(cpus)).collect();
    if !halves.is_empty() {
        let other = cpus_of(machine, &halves).difference(cpus);
        let problem = format!("has only a part of some cores: {other} are their other hardware threads");
        findings.push(group.warning("cpus", problem, "add them: whoever uses them takes half of PC1's core"));
    }
    let nodes: BTreeSet<usize> = cores.iter().map(|&core| machine.node_of_core(core)).collect();
    let caches: BTreeSet<usize> = cores.iter().map(|&core| machine.cores[core].cache).collect();
    if nodes.len() > 1 {
        let numbers: CpuSet = nodes.iter().map(|&node| machine.nodes[node].os_index).collect();
        let problem = format!("lies on several NUMA nodes: {numbers}");
        findings.push(group.warning("cpus", problem, "take the cores of one L3 cache"));
    } else if caches.len() > 1 {
        let problem = format!("lies on {} L3 caches", caches.len());
        findings.push(group.warning(
            "cpus",
            problem,
            "take the cores of one: PC1's threads exchange everything through it",
        ));
    }
    findings.extend(multicore_works(machine, group, cpus, cores.len()));
    findings
}

fn multicore_works(machine: &Machine, group: &PlacedGroup, cpus: &CpuSet, cores: usize) -> Option<Finding> {
    let producers = group.producers?;
    let threads = producers.saturating_add(1).saturating_mul(group.concurrent);
    const WITHOUT: &str = "set FIL_PROOFS_USE_MULTICORE_SDR = \"0\" in its env";
    if cores < threads {
        let problem = format!("has {cores} cores for {threads} threads of multicore SDR");
        let fix = "give it more cores, or set FIL_PROOFS_MULTICORE_SDR_PRODUCERS to one less than its cores";
        return Some(group.warning("cpus", problem, fix));
    }
    let outcome = multicore::outcome(machine, cpus, producers, false);
    // In a cgroup of its own the process would see only its cores. Only a cgroup that fails to be created spoils that.
    if !outcome.is_good() && group.in_cgroup && multicore::outcome(machine, cpus, producers, true).is_good() {
        let problem = "multicore SDR works with these only in its own cgroup".to_owned();
        let fix = "see to it that [cgroup] has the controller cpuset: the worker says at its start what does not hold";
        return Some(group.warning("cpus", problem, fix));
    }
    match outcome {
        Outcome::Bound(_) | Outcome::Unbound => None,
        Outcome::Panics { cores: 0, .. } => {
            let problem = "multicore SDR panics here: hwloc tells it of no cores".to_owned();
            Some(group.error("env", problem, WITHOUT))
        }
        Outcome::Panics { cores, groups, level } => {
            let problem = format!(
                "multicore SDR panics here: {cores} cores, all that the worker's cgroup allows, are not evenly divided among \
                 {groups} {level}"
            );
            let fix = format!("give the worker a cgroup with as many cores in each, or [cgroup], or {WITHOUT}");
            Some(group.error("env", problem, &fix))
        }
        Outcome::Outside { units } => {
            let problem = format!("multicore SDR takes core numbers for cpu numbers, and would use {units}");
            Some(group.error("cpus", problem, &format!("take other cores as `sealbus-worker plan` does, or {WITHOUT}")))
        }
        Outcome::Partial { cores, threads } => {
            let problem = format!("multicore SDR would find {cores} cores for {threads} threads, which then share one");
            Some(group.warning(
                "cpus",
                problem,
                &format!("take other cores as `sealbus-worker plan` does, or {WITHOUT}"),
            ))
        }
    }
}

fn gpus_are_there(machine: &Machine, group: &PlacedGroup) -> Vec<Finding> {
    let is_missing = |id: &&String| !machine.gpus.iter().any(|gpu| gpu.id == **id);
    let has = machine.gpus.iter().map(|gpu| gpu.id.as_str()).collect::<Vec<_>>().join(", ");
    let finding = |id: &String| {
        let seen = if has.is_empty() { "none".to_owned() } else { has.clone() };
        let problem = format!("there is no GPU {id:?}; the machine has {seen}");
        // An index beyond the visible GPUs is wrong. GPUs that are not visible, or have other names, may exist.
        let is_wrong = !has.is_empty() && id.parse::<u32>().is_ok();
        Finding {
            severity: if is_wrong { Severity::Error } else { Severity::Warning },
            ..group.error("gpus", problem, "correct it, or take it out")
        }
    };
    group.gpus.iter().filter(is_missing).map(finding).collect()
}

fn cores_of_pc1_are_its_own(machine: &Machine, groups: &[PlacedGroup]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let cores: Vec<BTreeSet<usize>> = groups.iter().map(|group| group.cores(machine).into_iter().collect()).collect();
    for (first, pc1) in groups.iter().enumerate().filter(|(_, group)| group.stage == Phase::Pc1) {
        for (second, other) in groups.iter().enumerate() {
            let both: Vec<usize> = cores[first].intersection(&cores[second]).copied().collect();
            let is_pc1 = other.stage == Phase::Pc1;
            if first == second || both.is_empty() || (is_pc1 && second < first) {
                continue;
            }
            let what = cpus_of(machine, &both);
            let problem = format!("shares the cores of {what} with processor[{}] ({})", pc1.index, pc1.stage);
            findings.push(match is_pc1 {
                true => other.error("cpus", problem, "give each PC1 cores of its own"),
                false => other.warning("cpus", problem, "leave PC1 its cores: it is hours behind otherwise"),
            });
        }
    }
    findings
}

fn gpus_are_shared_by_locks(groups: &[PlacedGroup]) -> Vec<Finding> {
    let mut users: BTreeMap<&String, Vec<&PlacedGroup>> = BTreeMap::new();
    // A winning PoSt waits for nobody. The library lets it use the card before others.
    for group in groups.iter().filter(|group| group.stage != WINNING_POST) {
        for id in group.gpus.iter().collect::<BTreeSet<_>>() {
            users.entry(id).or_default().push(group);
        }
    }
    let mut findings = Vec::new();
    for (id, users) in users {
        let requests = users.iter().fold(0_usize, |sum, group| sum.saturating_add(group.concurrent));
        let Some((first, rest)) = users.split_first() else { continue };
        let is_shared = |lock: &&String| rest.iter().all(|group| group.locks.contains(*lock));
        if requests > 1 && !first.locks.iter().any(|lock| is_shared(&lock)) {
            let who: Vec<String> = users.iter().map(|group| format!("processor[{}]", group.index)).collect();
            let problem = format!("GPU {id:?} is used by {requests} requests at the same time ({})", who.join(", "));
            let last = rest.last().unwrap_or(first);
            let fix = format!("give them all one lock, such as locks = [\"gpu{id}\"], and [locks] gpu{id} = 1");
            findings.push(last.error("gpus", problem, &fix));
        }
    }
    findings
}

/// The memory of a phase is an assumption, so this gives only warnings.
fn memory_is_there(machine: &Machine, groups: &[PlacedGroup]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for node in &machine.nodes {
        let bound =
            |group: &&PlacedGroup| group.numa_node == Some(node.os_index) && group.memory == Some(MemoryPolicy::Bind);
        let there: Vec<&PlacedGroup> = groups.iter().filter(bound).collect();
        let needed = at_once(&there);
        if let Some(last) = there.last().filter(|_| needed > node.memory_bytes) {
            let (needed, has) = (units::bytes(needed), units::bytes(node.memory_bytes));
            let problem = format!("what is bound to node {} needs {needed}, it has {has}", node.os_index);
            findings.push(last.warning("memory", problem, "bind fewer to it, or use memory = \"prefer\""));
        }
    }
    let total = machine.memory_of_cores_bytes();
    // A cgroup's memory limit does not include huge pages.
    let huge = machine.nodes.iter().fold(0_u64, |sum, node| sum.saturating_add(node.huge_bytes()));
    let total = machine.memory_max_bytes.map_or(total, |most| most.saturating_add(huge).min(total));
    let all: Vec<&PlacedGroup> = groups.iter().collect();
    let needed = at_once(&all);
    if let Some(last) = all.iter().rev().find(|group| group.memory_bytes > 0).filter(|_| needed > total) {
        let problem = format!("all together need {}, there is {}", units::bytes(needed), units::bytes(total));
        findings.push(last.warning("memory", problem, "have fewer processors, or keep some apart by a lock"));
    }
    findings
}

/// The memory that groups need at the same time. Of groups that share a lock only the largest counts.
fn at_once(groups: &[&PlacedGroup]) -> u64 {
    let mut apart: Vec<(BTreeSet<&String>, u64)> = Vec::new();
    for group in groups {
        let mut locks: BTreeSet<&String> = group.locks.iter().collect();
        let requests = if locks.is_empty() { group.concurrent as u64 } else { 1 };
        let mut most = group.memory_bytes.saturating_mul(requests);
        if !locks.is_empty() {
            let (joined, others) = apart.into_iter().partition(|(names, _)| !names.is_disjoint(&locks));
            apart = others;
            let joined: Vec<(BTreeSet<&String>, u64)> = joined;
            for (names, bytes) in joined {
                locks.extend(names);
                most = most.max(bytes);
            }
        }
        apart.push((locks, most));
    }
    apart.into_iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(bytes))
}
