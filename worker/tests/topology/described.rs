//! Machines described by a text or a file.

use sealbus_planner::machine::{CannotRestrict, Machine, draw};
use sealbus_worker::topology::{Source, TopologyError, load};

use super::{assert_whole, file, set, synthetic, xml};

/// The numbers of packages, nodes, groups, cores and units.
fn counts(machine: &Machine) -> [usize; 5] {
    [machine.packages, machine.nodes.len(), machine.caches.len(), machine.cores.len(), machine.units().len()]
}

#[test]
fn usual_machines_have_the_groups_that_their_makers_gave_them() {
    for (text, expected) in [
        ("package:2 [numa(memory=512GiB)] l3:8(size=32MiB) core:8 pu:2", [2, 2, 16, 128, 256]),
        ("package:1 [numa(memory=128GiB)] l3:2(size=32MiB) core:8 pu:2", [1, 1, 2, 16, 32]),
        ("package:2 numa:2(memory=128GiB) l3:1(size=48MiB) core:14 pu:2", [2, 4, 4, 56, 112]),
        ("package:4 [numa(memory=256GiB)] l3:1(size=60MiB) core:24 pu:2", [4, 4, 4, 96, 192]),
        ("package:1 [numa(memory=4GiB)] l3:1(size=16MiB) core:2 pu:1", [1, 1, 1, 2, 2]),
    ] {
        let machine = synthetic(text);
        assert_whole(&machine);
        assert_eq!(counts(&machine), expected, "{text}");
        let each = machine.cores.len() / machine.caches.len();
        assert!(machine.caches.iter().all(|cache| cache.cores_present == each && cache.bytes >= 16 << 20), "{text}");
    }
    let epyc = synthetic("package:2 [numa(memory=512GiB)] l3:8(size=32MiB) core:8 pu:2");
    assert_eq!((epyc.nodes[1].memory_bytes, epyc.nodes[1].package), (512 << 30, Some(1)));
    assert_eq!((epyc.caches[8].node, epyc.caches[8].package, epyc.caches[8].bytes), (1, 1, 32 << 20));
    assert_eq!(epyc.cores[64].units, set("128-129"));
    assert_eq!(epyc.cores_of_cache(8), (64..72).collect::<Vec<_>>());
}

#[test]
fn a_machine_without_l3_has_one_group_a_node() {
    let machine = synthetic("package:1 numa:2 core:3 pu:2");
    assert_whole(&machine);
    assert_eq!(counts(&machine), [1, 2, 2, 6, 12]);
    assert!(machine.caches.iter().all(|cache| cache.bytes == 0));
    // If a description does not even have cores, each unit counts as one.
    let machine = synthetic("pu:3");
    assert_eq!(counts(&machine), [1, 1, 1, 3, 3]);
}

#[test]
fn a_cache_that_spans_nodes_is_one_group_a_node_with_its_share() {
    let machine = synthetic("package:2 l3:1(size=48MiB) numa:2 core:4 pu:2");
    assert_whole(&machine);
    assert_eq!(counts(&machine), [2, 4, 4, 16, 32]);
    assert!(machine.caches.iter().all(|cache| cache.bytes == 24 << 20 && cache.cores_present == 4));
    assert_eq!(machine.caches.iter().map(|cache| cache.node).collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[test]
fn uneven_groups_cards_and_disks_are_read_from_xml() {
    let machine = xml("uneven.xml");
    assert_whole(&machine);
    assert_eq!(machine.caches.iter().map(|cache| cache.cores_present).collect::<Vec<_>>(), [4, 3, 1]);
    let pages = machine.nodes[0].huge_pages[0];
    assert_eq!((pages.page_bytes, pages.total, pages.free), (1 << 30, 100, 100));
    let [gpu] = &machine.gpus[..] else { panic!("{:?}: a board's own display is no GPU", machine.gpus) };
    assert_eq!((gpu.id.as_str(), gpu.node), ("GPU-11111111-2222-3333-4444-555555555555", Some(0)));
    assert_eq!((gpu.name.as_str(), gpu.pci.as_deref()), ("NVIDIA H100 80GB HBM3", Some("0000:41:00.0")));
    assert_eq!(gpu.memory_bytes, 83_483_648 << 10);
    let disks: Vec<_> = machine.disks.iter().map(|disk| (disk.name.as_str(), disk.rotational, disk.bytes)).collect();
    assert_eq!(disks, [("nvme0n1", false, 3_750_738_264 << 10), ("sda", true, 17_578_328_064 << 10)]);
    assert_eq!(machine.disks[0].pci.as_deref(), Some("0000:43:00.0"));
}

#[test]
fn what_may_not_be_used_is_left_out_and_said() {
    let machine = xml("restricted.xml");
    assert_whole(&machine);
    assert_eq!((machine.units(), machine.present.clone()), (set("1-4,9-11"), set("0-15")));
    assert_eq!((machine.nodes.len(), machine.nodes_present.clone()), (1, set("0-1")));
    // Two groups keep one of their two cores, one group is whole, and one is gone.
    let groups = (0..machine.caches.len()).map(|at| machine.cores_of_cache(at).len());
    assert_eq!(groups.collect::<Vec<_>>(), [1, 2, 1]);
    assert!(machine.caches.iter().all(|cache| cache.cores_present == 2));
    assert_eq!(machine.cores[3].units, set("4"), "one thread of a core may be all that is left");
    // A GPU next to memory that may not be used has no nearest node. Its number follows from its address.
    let gpus: Vec<_> = machine.gpus.iter().map(|gpu| (gpu.id.as_str(), gpu.node)).collect();
    assert_eq!(gpus, [("GPU-11111111-2222-3333-4444-555555555555", Some(0)), ("1", None)]);
    let drawn = draw(&machine);
    for line in ["threads 0,5-8,12-15", "memory of nodes 1", "(1 of its 2 cores)"] {
        assert!(drawn.contains(line), "{drawn}");
    }
}

#[test]
fn memory_without_cores_is_a_node_and_nobodys_nearest() {
    let machine = xml("memory_only_node.xml");
    assert_whole(&machine);
    let node = &machine.nodes[2];
    assert_eq!((node.memory_bytes, node.package), (512 << 30, None));
    assert_eq!(machine.caches.iter().map(|cache| cache.node).collect::<Vec<_>>(), [0, 1]);
    assert!(draw(&machine).contains("\nnode 2: 512 GiB, without cores\n"));
}

#[test]
fn a_machine_can_be_restricted_further() {
    let machine = xml("restricted.xml");
    let less = machine.restricted_to(&set("2,4,10")).expect("restricted");
    assert_whole(&less);
    assert_eq!(less.units(), set("2,4,10"));
    assert_eq!(less.caches, [machine.caches[1].clone(), machine.caches[2].clone()]);
    assert_eq!(less.present, machine.present);
    let error = machine.restricted_to(&set("0-2")).expect_err("not there");
    assert!(error.to_string().ends_with("has no units 0 that may be used; it has 1-4,9-11"), "{error}");
    assert!(matches!(machine.restricted_to(&set("")), Err(CannotRestrict::NoUnits { .. })));
}

#[test]
fn a_machine_is_drawn_as_a_person_would() {
    let mut machine = synthetic("package:2 [numa(memory=64GiB)] l3:2(size=32MiB) core:4 pu:2");
    machine.memory_max_bytes = Some(3 << 29);
    let expected = "\
synthetic \"package:2 [numa(memory=64GiB)] l3:2(size=32MiB) core:4 pu:2\": 2 packages, 2 nodes, 4 L3 groups, 16 cores, 32 threads
package 0
└─ node 0: 64 GiB
   ├─ L3 32 MiB: cores 0-3, threads 0-7
   └─ L3 32 MiB: cores 4-7, threads 8-15
package 1
└─ node 1: 64 GiB
   ├─ L3 32 MiB: cores 8-11, threads 16-23
   └─ L3 32 MiB: cores 12-15, threads 24-31
the worker's cgroup allows 1.5 GiB of memory
";
    assert_eq!(draw(&machine), expected);
}

#[test]
fn this_machine_has_what_the_kernel_gives_this_process() {
    let machine = load(Source::ThisMachine).expect("machine");
    assert_whole(&machine);
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("list");
    assert!(machine.units().is_subset(&set(allowed)), "{machine:?}");
    assert!(machine.nodes.iter().all(|node| node.memory_bytes > 0));
}

#[test]
fn what_describes_no_machine_is_refused_with_what_is_wrong() {
    for (text, problem) in [
        ("", "it is empty"),
        ("package:2 core:x", "\"core:x\" is no number of objects"),
        ("numa:64 core:64 pu:64", "its counts multiply to more than 65536"),
        ("pu:2 package:2", "hwloc"),
        ("core:2 quark:3", "hwloc"),
    ] {
        let error = load(Source::Synthetic(text.to_owned())).expect_err(text).to_string();
        assert!(error.starts_with(&format!("{text:?} is no synthetic description: {problem}")), "{error}");
        assert!(error.ends_with("an example is \"package:2 l3:8 core:8 pu:2\""), "{error}");
    }
    assert!(matches!(load(Source::Xml(file("none.xml"))), Err(TopologyError::Read { .. })));
}

#[test]
fn damaged_xml_is_refused_even_if_the_library_crashes_on_it() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("machine.xml");
    let whole = std::fs::read_to_string(file("uneven.xml")).expect("file");
    let half = &whole[..whole.len() / 2];
    // libhwloc 2.9 crashes on the first document, and complains on stderr about the second.
    let set_lost = whole.replace("cpuset=\"0x00000040\" complete_cpuset=\"0x00000040\"", "cpuset=\"0x00000040\"");
    let sets_mixed = whole.replace("0x00000101", "0x00001010");
    let types_mixed = whole.replace("type=\"Core\"", "type=\"NUMANode\"");
    for (text, problem) in [
        ("", "it has no element <topology>"),
        ("<html><body/></html>", "it has no element <topology>"),
        (half, "a tag has no end"),
        ("<topology version=\"2.0\"></topology>", "hwloc cannot understand it"),
        (&types_mixed, "there are two of NUMANode 0"),
        (&set_lost, "hwloc c"),
        (&sets_mixed, "hwloc c"),
    ] {
        std::fs::write(&path, text).expect("file");
        let error = load(Source::Xml(path.clone())).expect_err(problem);
        let (TopologyError::Xml { problem: found, .. }, text) = (&error, error.to_string()) else { panic!("{error}") };
        assert!(found.starts_with(problem) && text.ends_with("`lstopo FILE.xml` writes one"), "{error}");
    }
}
