//! `cpus = "auto"`: gives configured processors the cores that a plan would give them.
//!
//! Each PC1 gets whole cores of one L3 cache; everything else shares the cores without a PC1. The configuration decides
//! how many PC1s there are and whether they use multicore SDR.

use sealbus_schema::{Phase, SectorSize};

use super::{
    budget::Budget,
    check::{Finding, Severity},
    draft::{self, Choice, Site},
    request::Request,
};
use crate::machine::{CpuSet, Machine};

/// The properties of a configured group that its place depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredGroup {
    /// The phase that it serves.
    pub stage: Phase,
    /// The number of processes.
    pub count: usize,
    /// Its cpus: empty for any, one set shared by all processes, or one set for each.
    pub cpus: Vec<CpuSet>,
    /// Whether `cpus` is to be chosen.
    pub auto_cpus: bool,
    /// The NUMA node of its memory, as OS index.
    pub numa_node: Option<u32>,
    /// The number of producers for multicore SDR; `None` if that is off.
    pub producers: Option<usize>,
    /// Whether PC1 uses reserved huge pages.
    pub huge_pages: bool,
}

/// Sets the cpus of the groups that leave them to the worker. A group that a plan would let run anywhere stays without.
///
/// # Errors
/// A [`Finding`] that names the field, if there is no room for a group.
pub fn choose(
    machine: &Machine,
    sector_size: SectorSize,
    cgroups: bool,
    groups: &mut [ConfiguredGroup],
) -> Result<(), Finding> {
    let pc1s: Vec<usize> = (0..groups.len()).filter(|&index| groups[index].stage == Phase::Pc1).collect();
    if let Some(&index) = pc1s.iter().find(|&&index| groups[index].auto_cpus) {
        if pc1s.len() > 1 {
            let problem = "finds cores for one group of PC1s, and there are several".to_owned();
            return Err(refused(index, problem, "make one group of them, or list the cpus of each"));
        }
        groups[index].cpus = of_pc1(machine, sector_size, cgroups, (index, &groups[index]))?;
    }
    let of_pc1s = pc1s.iter().flat_map(|&index| &groups[index].cpus);
    let taken = of_pc1s.fold(CpuSet::new(), |all, cpus| all.union(cpus));
    for (index, group) in groups.iter_mut().enumerate() {
        if group.stage == Phase::Pc1 || !group.auto_cpus || taken.is_empty() {
            continue;
        }
        let rest = of_node(machine, group.numa_node).difference(&taken);
        if rest.is_empty() {
            let place = group.numa_node.map_or(String::new(), |node| format!(" of node {node}"));
            let problem = format!("PC1 has all cores{place}");
            return Err(refused(index, problem, "have fewer PC1s, or leave this field out"));
        }
        group.cpus = vec![rest];
    }
    Ok(())
}

/// Whole cores for each PC1 of a group; empty if any cores are equally good.
fn of_pc1(
    machine: &Machine,
    sector_size: SectorSize,
    cgroups: bool,
    (index, group): (usize, &ConfiguredGroup),
) -> Result<Vec<CpuSet>, Finding> {
    let wanted = group.producers;
    let request = Request { cgroups, huge_pages: group.huge_pages, ..Request::new(sector_size) };
    let mut budget = Budget::new(machine, &request);
    // If the group names a node, all other nodes count as full.
    for (node, bytes) in machine.nodes.iter().zip(&mut budget.pc1_on_node) {
        if group.numa_node.is_some_and(|number| number != node.os_index) {
            *bytes = 0;
        }
    }
    let (imagined, left_out) = (Vec::new(), Vec::new());
    let site = Site { machine: machine.clone(), request: &request, budget, imagined, left_out };
    let Choice { want, units, single: why, .. } = draft::units(&site, wanted.unwrap_or(0));
    let Some(units) = units else { return Ok(Vec::new()) };
    // The planner has chosen fewer producers than configured, so these do not fit into any cache.
    if want.producers != wanted {
        let threads = wanted.unwrap_or(0).saturating_add(1);
        let why = why.map_or(String::new(), |why| format!(": {why}"));
        let problem = format!("no cache has cores for the {threads} threads of multicore SDR{why}");
        let fix = match want.producers {
            Some(producers) => format!("set FIL_PROOFS_MULTICORE_SDR_PRODUCERS = \"{producers}\" in its env"),
            None => "set FIL_PROOFS_USE_MULTICORE_SDR = \"0\" in its env".to_owned(),
        };
        return Err(refused(index, problem, &fix));
    }
    match units.get(..group.count) {
        Some(units) => Ok(units.iter().map(|unit| unit.cpus.clone()).collect()),
        None => {
            let problem = format!(
                "there is room for {} of {} PC1s, each with its memory and {} whole cores of one cache",
                units.len(),
                group.count,
                want.cores
            );
            Err(refused(index, problem, "lower count, or list cpus"))
        }
    }
}

/// The usable processing units, of a single node if one is given.
fn of_node(machine: &Machine, number: Option<u32>) -> CpuSet {
    let Some(number) = number else { return machine.units() };
    let there = (0..machine.cores.len()).filter(|&core| machine.nodes[machine.node_of_core(core)].os_index == number);
    super::place::cpus_of(machine, &there.collect::<Vec<_>>())
}

fn refused(index: usize, problem: String, fix: &str) -> Finding {
    let field = format!("processor[{index}].cpus = \"auto\"");
    Finding { severity: Severity::Error, field, problem, fix: fix.to_owned() }
}
