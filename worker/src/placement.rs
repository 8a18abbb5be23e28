//! Checks a configuration's processors against this machine, and places those that leave their place to the worker.
//!
//! The rules are in the planner ([`check`](mod@check), [`auto`]). This module converts configured groups into the
//! planner's types.

use std::collections::BTreeMap;

use sealbus_planner::machine_plan::{
    Finding, PlacedGroup, Severity,
    auto::{self, ConfiguredGroup},
    check,
    times::memory_bytes,
};
use sealbus_schema::{Phase, SectorSize};

use crate::{
    config::Config,
    processor::GroupConfig,
    stage::huge_pages::Wish,
    topology::{self, CpuSet, Machine, Source, TopologyError},
};

/// The proofs library's default number of producers for multicore SDR.
const PRODUCERS: usize = 3;

/// The groups of a configuration, with the memory that their phases are assumed to need. A group that gives each
/// process its own cpus appears once for each process.
#[must_use]
pub fn placed(config: &Config) -> Vec<PlacedGroup> {
    let in_cgroup = config.cgroup.is_some();
    let groups = of_groups(config.sector_size, &config.processors).into_iter();
    groups.map(|group| PlacedGroup { in_cgroup, ..group }).collect()
}

/// Like [`placed`], for the groups alone.
#[must_use]
pub fn of_groups(sector_size: SectorSize, groups: &[GroupConfig]) -> Vec<PlacedGroup> {
    let groups = groups.iter().enumerate();
    groups.flat_map(|(index, group)| of_group(index, group, memory_bytes(sector_size, group.stage))).collect()
}

/// Why processors cannot run where the configuration puts them.
#[derive(Debug, thiserror::Error)]
pub enum PlacedError {
    /// The machine's topology cannot be read.
    #[error("cannot tell whether the processors fit this machine")]
    Machine(#[from] TopologyError),
    /// The configuration names things that this machine does not have.
    #[error("the processors do not fit this machine:{}", .0.iter().map(|finding| format!("\n{finding}")).collect::<String>())]
    Errors(Vec<Finding>),
}

/// Places the processors that leave their place to the worker. Returns warnings about explicit placements that will
/// work badly on this machine.
///
/// # Errors
/// [`PlacedError`] if a placement cannot work.
pub fn settle(config: &mut Config) -> Result<Vec<Finding>, PlacedError> {
    let is_placed = |group: &GroupConfig| {
        group.auto_cpus || !group.cpus.is_empty() || group.numa_node.is_some() || !group.gpus.is_empty()
    };
    if !config.processors.iter().any(is_placed) {
        return Ok(Vec::new());
    }
    let machine = topology::load(Source::ThisMachine)?;
    choose(&machine, config.sector_size, config.cgroup.is_some(), &mut config.processors)
        .map_err(|refused| PlacedError::Errors(vec![refused]))?;
    let (errors, warnings): (Vec<Finding>, Vec<Finding>) =
        check(&machine, &placed(config)).into_iter().partition(|finding| finding.severity == Severity::Error);
    if errors.is_empty() { Ok(warnings) } else { Err(PlacedError::Errors(errors)) }
}

/// Gives cpus to the groups that leave their place to the worker, by [`auto::choose`].
///
/// # Errors
/// A [`Finding`] that names the field, if there is no room for a group.
pub fn choose(
    machine: &Machine,
    sector_size: SectorSize,
    cgroups: bool,
    groups: &mut [GroupConfig],
) -> Result<(), Finding> {
    let mut configured: Vec<ConfiguredGroup> = groups.iter().map(configured).collect();
    auto::choose(machine, sector_size, cgroups, &mut configured)?;
    for (group, ConfiguredGroup { cpus, .. }) in groups.iter_mut().zip(configured) {
        group.cpus = cpus;
    }
    Ok(())
}

fn configured(group: &GroupConfig) -> ConfiguredGroup {
    ConfiguredGroup {
        stage: group.stage,
        count: group.count,
        cpus: group.cpus.clone(),
        auto_cpus: group.auto_cpus,
        numa_node: group.numa_node,
        producers: producers(&group.env),
        huge_pages: matches!(group.huge_pages, Some((Wish::Reserved, _))),
    }
}

fn of_group(index: usize, group: &GroupConfig, memory_bytes: u64) -> Vec<PlacedGroup> {
    let one = |cpus: Option<&CpuSet>, count: usize| PlacedGroup {
        index,
        stage: group.stage,
        cpus: cpus.cloned(),
        numa_node: group.numa_node,
        memory: group.numa_node.map(|_| group.memory),
        concurrent: count.saturating_mul(group.concurrent),
        gpus: group.gpus.clone(),
        locks: group.locks.clone(),
        memory_bytes,
        producers: (group.stage == Phase::Pc1).then(|| producers(&group.env)).flatten(),
        in_cgroup: false,
    };
    match group.cpus.as_slice() {
        [] => vec![one(None, group.count)],
        [together] => vec![one(Some(together), group.count)],
        each => each.iter().map(|cpus| one(Some(cpus), 1)).collect(),
    }
}

/// The number of producers, read as the library does, from the variables that the group sets.
fn producers(env: &BTreeMap<String, String>) -> Option<usize> {
    let is_true = |value: &String| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "on" | "yes");
    let is_on = env.get("FIL_PROOFS_USE_MULTICORE_SDR").is_some_and(is_true);
    let given = env.get("FIL_PROOFS_MULTICORE_SDR_PRODUCERS").and_then(|value| value.parse().ok());
    is_on.then(|| given.unwrap_or(PRODUCERS))
}
