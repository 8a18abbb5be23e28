//! Properties of plans for any machine.

use std::collections::BTreeSet;

use proptest::prelude::*;
use sealbus_planner::{
    machine::{CpuSet, HugePages, Machine, MemoryPolicy, Sight, sight::Level},
    machine_plan::{Gpus, MachinePlan, Place, Request, check, draft::Site, plan},
    pipeline::{bound, simulate},
    sector::needed_bytes,
};
use sealbus_schema::{Phase, SectorSize};

use crate::{
    cases::cases,
    machines::{GIB, Numbers, Shape, gpu},
};

fn any_machine() -> impl Strategy<Value = Machine> {
    let numbers = prop_oneof![
        4 => Just(Numbers::ThreadsApart),
        1 => Just(Numbers::ThreadsTogether),
        1 => Just(Numbers::SocketsInTurn)
    ];
    let shape = (1_usize..4, 1_usize..4, 1_usize..5, 1_usize..10, 1_usize..3, numbers);
    let memory = proptest::collection::vec(prop_oneof![Just(0_u64), 1_u64..1500], 9);
    let rest = (
        proptest::collection::vec(0_usize..9, 0..5),
        any::<u64>(),
        prop_oneof![Just(0_u8), 1_u8..40],
        proptest::option::of(1_u64..2000),
        prop_oneof![4 => Just(0_u64), 1 => 1_u64..400],
        (any::<bool>(), prop_oneof![3 => Just(0_usize), 1 => 1_usize..5]),
    );
    (shape, memory, rest).prop_map(
        |(
            (packages, nodes_each, caches_each, cores_each, threads, numbers),
            memory,
            (gpus, seed, holes, most, huge, (in_cgroup, l2_of)),
        )| {
            let shape = Shape::new("any", [packages, nodes_each, caches_each, cores_each, threads]);
            let mut machine = Shape { numbers, disks: 3, disk_bytes: 2_000_000_000_000, ..shape }.machine();
            let nodes = machine.nodes.len();
            for (node, gib) in machine.nodes.iter_mut().zip(memory) {
                node.memory_bytes = gib * GIB;
                if huge > 0 && huge < gib {
                    node.huge_pages = vec![HugePages { page_bytes: GIB, total: huge, free: huge }];
                }
            }
            machine.gpus = gpus.into_iter().enumerate().map(|(number, node)| gpu(number, node % nodes)).collect();
            machine.memory_max_bytes = most.map(|gib| gib * GIB);
            // Some of the cores share a cache below L3, as efficiency cores do.
            if l2_of > 0 {
                let cores = &machine.sight.cores;
                let half = cores.len() / 2;
                let parts = cores[..half].iter().cloned().chain(
                    cores[half..]
                        .chunks(l2_of)
                        .map(|cores| cores.iter().fold(CpuSet::new(), |all, units| all.union(units))),
                );
                let level = Level { name: "L2 caches".to_owned(), parts: parts.collect() };
                machine.sight.levels.insert(0, level);
            }
            // A worker that may not use the whole machine.
            let mut state = seed;
            let is_ours = |_: &u32| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % 100 >= u64::from(holes)
            };
            let ours: CpuSet = machine.present.iter().filter(is_ours).collect();
            if in_cgroup {
                machine.sight = machine.sight.within(&ours);
            }
            machine.cores.iter_mut().for_each(|core| core.units = core.units.intersection(&ours));
            machine.cores.retain(|core| !core.units.is_empty());
            machine
        },
    )
}

fn any_request() -> impl Strategy<Value = Request> {
    let size = prop_oneof![4 => Just(SectorSize::GiB32), 1 => Just(SectorSize::GiB64), 1 => Just(SectorSize::MiB512), 1 => Just(SectorSize::KiB2)];
    let gpus = prop_oneof![3 => Just(Gpus::All), 1 => (0_usize..6).prop_map(Gpus::Count)];
    let places = proptest::collection::vec(500_u64..6000, 0..4);
    let producers = proptest::option::of(0_usize..6);
    let only = prop_oneof![
        4 => Just(vec![]),
        1 => proptest::sample::subsequence(vec![Phase::Pc1, Phase::Pc2, Phase::C2], 1..4),
    ];
    let rest = (any::<bool>(), prop_oneof![3 => Just(false), 1 => Just(true)], proptest::option::of(1_u64..400), only);
    (size, gpus, places, producers, rest).prop_map(
        |(size, gpus, places, producers, (huge_pages, cgroups, pc1_minutes, only))| {
            let only = only.into_iter().collect();
            let mut request = Request { gpus, producers, huge_pages, cgroups, only, ..Request::new(size) };
            let place =
                |(number, gib): (usize, u64)| Place { path: format!("/d{number}").into(), bytes: Some(gib * GIB) };
            request.places = places.into_iter().enumerate().map(place).collect();
            if let Some(minutes) = pc1_minutes {
                request.times.give("pc1", &format!("{minutes}m")).expect("a time");
            }
            request
        },
    )
}

/// No core is given twice, and every core exists.
fn cores_are_given_once(machine: &Machine, plan: &MachinePlan) {
    let mut taken = CpuSet::new();
    for group in plan.groups.iter().filter(|group| group.stage == Phase::Pc1) {
        let Some(cpus) = &group.cpus else { continue };
        assert!(cpus.is_subset(&machine.units()), "{cpus} of {}", machine.units());
        assert!(cpus.is_disjoint(&taken), "{cpus} are given twice");
        taken = taken.union(cpus);
        let cores: Vec<usize> =
            (0..machine.cores.len()).filter(|&core| !machine.cores[core].units.is_disjoint(cpus)).collect();
        assert!(cores.iter().all(|&core| machine.cores[core].units.is_subset(cpus)), "half a core in {cpus}");
        let caches: BTreeSet<usize> = cores.iter().map(|&core| machine.cores[core].cache).collect();
        assert_eq!(caches.len(), 1, "{cpus} lie on several caches");
        let nodes: BTreeSet<u32> =
            cores.iter().map(|&core| machine.nodes[machine.node_of_core(core)].os_index).collect();
        assert_eq!(nodes.into_iter().collect::<Vec<_>>(), [group.numa_node.expect("a node")]);
    }
    for group in plan.groups.iter().filter(|group| group.stage != Phase::Pc1) {
        let Some(cpus) = &group.cpus else { continue };
        assert!(!cpus.is_empty() && cpus.is_subset(&machine.units()) && cpus.is_disjoint(&taken), "{group:?}");
    }
}

/// What the library's `cores.rs` (version 19.1) would do with a PC1, reimplemented from its source. `Err` if it panics,
/// otherwise the first core group that it hands out, as core numbers.
fn library(sight: &Sight, affinity: &CpuSet, producers: usize) -> Result<Option<Vec<usize>>, String> {
    let core_count = sight.cores.len();
    if core_count == 0 {
        return Err("objects_with_type failed".to_owned());
    }
    // The library's `get_shared_cache_count`.
    let mut group_count = 1;
    for level in &sight.levels {
        if level.parts.len() < core_count {
            group_count = level.parts.len();
            break;
        }
    }
    // The library's `create_core_units`.
    if !core_count.is_multiple_of(group_count) {
        return Err(format!("{core_count} % {group_count}"));
    }
    let (cores_per_unit, group_size) = (producers + 1, core_count / group_count);
    for i in 0..group_count * (group_size / cores_per_unit) {
        let mut unit = Vec::new();
        for j in 0..cores_per_unit {
            let round = i / group_count;
            let core_index = (j + i * group_size) % core_count + (round * cores_per_unit);
            assert!(core_index < core_count);
            if affinity.contains(core_index as u32) {
                unit.push(core_index);
            }
        }
        if !unit.is_empty() {
            return Ok(Some(unit));
        }
    }
    Ok(None)
}

/// Every PC1 with multicore SDR has its own core for each thread, or cores that nothing else uses.
fn the_library_does_as_planned(machine: &Machine, request: &Request, plan: &MachinePlan) {
    for group in &plan.groups {
        let (Some(producers), Some(cpus)) = (group.producers, &group.cpus) else { continue };
        let sight = if request.cgroups { machine.sight.within(cpus) } else { machine.sight.clone() };
        let Some(unit) = library(&sight, cpus, producers).expect("does not panic") else { continue };
        assert_eq!(unit.len(), producers + 1, "{cpus}: threads without a core");
        for core in unit {
            let first = sight.cores[core].iter().next().expect("a unit");
            assert!(cpus.contains(first), "{cpus}: bound to {first}");
        }
    }
}

/// Memory, GPUs and disk space are never overcommitted.
fn sums_are_what_exists(site: &Site<'_>, plan: &MachinePlan) {
    let machine = &site.machine;
    for node in &machine.nodes {
        let bound = plan
            .groups
            .iter()
            .filter(|group| group.memory == Some(MemoryPolicy::Bind) && group.numa_node == Some(node.os_index));
        let bytes: u64 = bound.map(|group| group.memory_bytes * group.count as u64).sum();
        assert!(bytes <= node.memory_bytes, "node {}", node.os_index);
    }
    let shared: u64 = plan.memory.iter().map(|share| share.bytes).sum();
    let is_from_huge = site.request.huge_pages;
    assert!(
        is_from_huge || shared <= site.budget.total.max(site.budget.reserve),
        "{:?} of {}",
        plan.memory,
        site.budget.total
    );
    for id in plan.groups.iter().flat_map(|group| &group.gpus) {
        assert!(machine.gpus.iter().any(|gpu| gpu.id == *id));
    }
    for place in &site.request.places {
        let slots = plan.slots.iter().filter(|slot| slot.starts_with(&place.path)).count() as u64;
        assert!(slots * needed_bytes(site.request.sector_size.seal_proof()) <= place.bytes.unwrap_or(u64::MAX));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(400) as u32))]

    #[test]
    fn a_plan_of_any_machine_takes_nothing_twice_and_no_more_than_there_is(machine in any_machine(), request in any_request()) {
        let outcome = plan(&machine, &request);
        prop_assert_eq!(&outcome, &plan(&machine, &request), "the same again");
        match outcome {
            Ok(plan) => {
                let site = Site::new(&machine, &request).expect("as planned");
                cores_are_given_once(&machine, &plan);
                sums_are_what_exists(&site, &plan);
                the_library_does_as_planned(&machine, &request, &plan);
                let placed: Vec<_> = plan.groups.iter().enumerate().map(|(index, group)| group.placed(index)).collect();
                let findings = check(&site.machine, &placed);
                prop_assert!(request.cgroups || findings.is_empty(), "{:?}", findings);
                prop_assert!(plan.steady.sectors_per_day > 0.0);
                prop_assert!(plan.steady.sectors_per_day <= bound(&plan.pipeline));
                prop_assert_eq!(&simulate(&plan.pipeline).expect("simulates"), &plan.steady);
                for phase in Phase::SEALING {
                    let is_here = plan.groups.iter().any(|group| group.stage == phase && group.count > 0);
                    prop_assert_eq!(is_here, request.does(phase), "{}", phase);
                }
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
