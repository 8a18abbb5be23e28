//! Turns a draft into groups of processors.

use std::collections::BTreeMap;

use sealbus_schema::Phase;

use super::{
    budget::Sharing,
    draft::{Draft, MEMORY_LOCK, Site},
    place::cpus_of,
    request::{Group, WINDOW_POST, WINNING_POST},
    times::is_large,
};
use crate::machine::{CpuSet, MemoryPolicy};

/// A GPU's processors stay on its node if at least this many cores are left there.
const NEAR_CORES_MIN: usize = 2;

/// All groups, in the order of the phases.
#[must_use]
pub fn groups(site: &Site<'_>, draft: &Draft, small: &BTreeMap<Phase, usize>) -> Vec<Group> {
    let mut groups = Vec::new();
    for stage in Phase::SEALING.into_iter().filter(|&stage| site.request.does(stage)) {
        match stage {
            Phase::Pc1 if draft.units.is_empty() => groups.push(pc1_anywhere(site, draft)),
            Phase::Pc1 => groups.extend((0..draft.units.len()).map(|unit| pc1(site, draft, unit))),
            Phase::Pc2 | Phase::C2 if draft.gpus == 0 => groups.push(proofs_on_cores(site, draft, stage)),
            Phase::Pc2 | Phase::C2 => groups.extend((0..draft.gpus).map(|gpu| proofs_on_gpu(site, draft, stage, gpu))),
            _ => {
                let count = small.get(&stage).copied().unwrap_or(1);
                groups.push(Group { count, ..on_rest(site, draft, stage) });
            }
        }
    }
    if site.request.does(WINDOW_POST) {
        match draft.gpus {
            0 => groups.push(proofs_on_cores(site, draft, WINDOW_POST)),
            gpus => groups.extend((0..gpus).map(|gpu| proofs_on_gpu(site, draft, WINDOW_POST, gpu))),
        }
        let gpus = site.machine.gpus.iter().take(draft.gpus.min(1)).map(|gpu| gpu.id.clone()).collect();
        groups.push(Group { gpus, ..on_rest(site, draft, WINNING_POST) });
    }
    groups
}

fn pc1(site: &Site<'_>, draft: &Draft, unit: usize) -> Group {
    let unit = &draft.units[unit];
    Group {
        cpus: Some(unit.cpus.clone()),
        numa_node: Some(site.machine.nodes[unit.node].os_index),
        memory: Some(MemoryPolicy::Bind),
        producers: draft.want.producers,
        ..pc1_anywhere(site, draft).once()
    }
}

fn pc1_anywhere(site: &Site<'_>, draft: &Draft) -> Group {
    let mut env = BTreeMap::new();
    if is_large(site.request.sector_size) {
        let uses = if draft.want.producers.is_some() { "1" } else { "0" };
        env.insert("FIL_PROOFS_USE_MULTICORE_SDR".to_owned(), uses.to_owned());
    }
    if let Some(producers) = draft.want.producers {
        env.insert("FIL_PROOFS_MULTICORE_SDR_PRODUCERS".to_owned(), producers.to_string());
    }
    Group { count: draft.pc1s, cpus: None, locks: memory_lock(draft), env, ..on_rest(site, draft, Phase::Pc1) }
}

fn proofs_on_cores(site: &Site<'_>, draft: &Draft, stage: Phase) -> Group {
    let mut locks = site.gpu_locks(draft);
    locks.extend(memory_lock(draft));
    Group { locks, ..on_rest(site, draft, stage) }
}

fn proofs_on_gpu(site: &Site<'_>, draft: &Draft, stage: Phase, position: usize) -> Group {
    let gpu = &site.machine.gpus[position];
    let mut locks: Vec<String> = site.gpu_locks(draft).into_iter().skip(position).take(1).collect();
    locks.extend(draft.c2_lock(stage).map(str::to_owned));
    locks.extend(memory_lock(draft));
    let mut env = BTreeMap::new();
    if stage == Phase::Pc2 {
        for name in ["FIL_PROOFS_USE_GPU_COLUMN_BUILDER", "FIL_PROOFS_USE_GPU_TREE_BUILDER"] {
            env.insert(name.to_owned(), "1".to_owned());
        }
    }
    let group = Group { gpus: vec![gpu.id.clone()], locks, env, ..on_rest(site, draft, stage) };
    let on_node = |node: usize| -> Vec<usize> {
        draft.rest.iter().copied().filter(|&core| site.machine.node_of_core(core) == node).collect()
    };
    match gpu.node.map(|node| (node, on_node(node))) {
        Some((node, near)) if near.len() >= NEAR_CORES_MIN && !draft.units.is_empty() => {
            let numa_node = Some(site.machine.nodes[node].os_index);
            Group { cpus: Some(cpus_of(&site.machine, &near)), numa_node, memory: Some(MemoryPolicy::Prefer), ..group }
        }
        _ => group,
    }
}

/// One processor on the cores without a PC1.
fn on_rest(site: &Site<'_>, draft: &Draft, stage: Phase) -> Group {
    let is_apart = !draft.units.is_empty() && !draft.rest.is_empty();
    Group {
        stage,
        count: 1,
        cpus: is_apart.then(|| rest_cpus(site, draft)),
        numa_node: None,
        memory: None,
        gpus: Vec::new(),
        locks: Vec::new(),
        env: BTreeMap::new(),
        memory_bytes: site.request.memory_of(stage),
        producers: None,
    }
}

/// The usable processing units that no PC1 has, including those of incomplete cores.
#[must_use]
pub fn rest_cpus(site: &Site<'_>, draft: &Draft) -> CpuSet {
    let taken: CpuSet = draft.units.iter().flat_map(|unit| unit.cpus.iter()).collect();
    site.machine.units().difference(&taken)
}

fn memory_lock(draft: &Draft) -> Vec<String> {
    if draft.sharing == Sharing::Turns { vec![MEMORY_LOCK.to_owned()] } else { Vec::new() }
}

impl Group {
    fn once(self) -> Self {
        Self { count: 1, ..self }
    }
}
