//! A configuration's processors, as they are held against a machine.

use std::collections::BTreeMap;

use sealbus_schema::Phase;

use super::{check::PlacedGroup, times::memory_bytes};
use crate::{config::Config, processor::GroupConfig, topology::CpuSet};

/// What the library takes where multicore SDR is on and nobody says how many producers it has.
const PRODUCERS: usize = 3;

/// The groups of a configuration, with the memory that is assumed for their phases. A group whose processes have cpus of their
/// own stands there once for each.
#[must_use]
pub fn placed(config: &Config) -> Vec<PlacedGroup> {
    let groups = config.processors.iter().enumerate();
    groups.flat_map(|(index, group)| of_group(index, group, memory_bytes(config.sector_size, group.stage))).collect()
}

fn of_group(index: usize, group: &GroupConfig, memory_bytes: u64) -> Vec<PlacedGroup> {
    let one = |cpus: Option<&CpuSet>, count: usize| PlacedGroup {
        index,
        stage: group.stage,
        cpus: cpus.cloned(),
        numa_node: group.numa_node,
        memory: group.numa_node.map(|_| group.memory),
        concurrent: count * group.concurrent,
        gpus: group.gpus.clone(),
        locks: group.locks.clone(),
        memory_bytes,
        producers: (group.stage == Phase::Pc1).then(|| producers(&group.env)).flatten(),
    };
    match group.cpus.as_slice() {
        [] => vec![one(None, group.count)],
        [together] => vec![one(Some(together), group.count)],
        each => each.iter().map(|cpus| one(Some(cpus), 1)).collect(),
    }
}

/// As the library reads its settings, as far as the group sets them.
fn producers(env: &BTreeMap<String, String>) -> Option<usize> {
    let is_true = |value: &String| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "on" | "yes");
    let is_on = env.get("FIL_PROOFS_USE_MULTICORE_SDR").is_some_and(is_true);
    let given = env.get("FIL_PROOFS_MULTICORE_SDR_PRODUCERS").and_then(|value| value.parse().ok());
    is_on.then(|| given.unwrap_or(PRODUCERS))
}
