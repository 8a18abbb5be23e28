//! Machines described by hwloc and by the system: this machine, synthetic descriptions, XML files, made-up trees of
//! system files.

#[path = "topology/command.rs"]
mod command;
#[path = "topology/described.rs"]
mod described;
#[path = "topology/random.rs"]
mod random;
#[path = "topology/system.rs"]
mod system;

use sealbus_worker::topology::{CpuSet, Machine, Source, load};

/// A file beside these tests.
fn file(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/topology").join(name)
}

fn set(list: &str) -> CpuSet {
    list.parse().expect(list)
}

fn synthetic(text: &str) -> Machine {
    load(Source::Synthetic(text.to_owned())).expect(text)
}

fn xml(name: &str) -> Machine {
    load(Source::Xml(file(name))).expect(name)
}

/// Checks what must hold for every machine.
fn assert_whole(machine: &Machine) {
    let mut seen = CpuSet::new();
    for core in &machine.cores {
        assert!(!core.units.is_empty() && core.units.is_disjoint(&seen), "{core:?} in {machine:?}");
        assert!(core.cache < machine.caches.len(), "{core:?} in {machine:?}");
        seen = seen.union(&core.units);
    }
    assert!(!seen.is_empty() && seen.is_subset(&machine.present), "{machine:?}");
    for (at, cache) in machine.caches.iter().enumerate() {
        assert!(cache.node < machine.nodes.len() && cache.package < machine.packages, "{cache:?} in {machine:?}");
        assert!((1..=cache.cores_present).contains(&machine.cores_of_cache(at).len()), "{cache:?} in {machine:?}");
    }
    let indexes: Vec<u32> = machine.nodes.iter().map(|node| node.os_index).collect();
    assert!(indexes.is_sorted_by(|one, next| one < next), "{indexes:?}");
    assert!(indexes.iter().all(|index| machine.nodes_present.contains(*index)), "{machine:?}");
    assert!(machine.nodes.iter().all(|node| node.package.is_none_or(|package| package < machine.packages)));
    let nodes = machine.gpus.iter().map(|gpu| gpu.node).chain(machine.disks.iter().map(|disk| disk.node));
    assert!(nodes.flatten().all(|node| node < machine.nodes.len()), "{machine:?}");
}
