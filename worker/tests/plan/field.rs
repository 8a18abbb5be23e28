//! Real machines that once were planned wrongly, and small ones of the same kinds.

use std::{collections::BTreeSet, path::Path};

use sealbus_planner::{
    machine::{Gpu, Machine},
    machine_plan::{CannotPlan, Gpus, MachinePlan, Place, Request, explain::explain, plan},
};
use sealbus_schema::{Phase, SectorSize};
use sealbus_worker::topology::{Source, load};

use crate::machines::{self, GIB, Shape};

fn described(name: &str) -> Result<Machine, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/topology").join(name);
    load(Source::Xml(path)).map_err(|error| error.to_string())
}

fn of_text(xml: &str) -> Machine {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("machine.xml");
    std::fs::write(&path, xml).expect("file");
    load(Source::Xml(path)).expect("a machine")
}

fn request() -> Request {
    let places = vec![Place { path: "/mnt/a".into(), bytes: Some(60_000_000_000_000) }];
    Request { places, ..Request::new(SectorSize::GiB32) }
}

fn producers(plan: &MachinePlan) -> BTreeSet<Option<usize>> {
    plan.groups.iter().filter(|group| group.stage == Phase::Pc1).map(|group| group.producers).collect()
}

fn reasons(plan: &MachinePlan) -> String {
    explain(plan, true).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn cores_that_share_l2_caches_unevenly_do_pc1_on_one_core_each() {
    let machine = described("field/raptorlake-i7-1370P.xml").expect("a machine");
    assert_eq!(machine.sight.groups(), (8, "L2 caches"));
    let request = Request { memory_bytes: Some(192 * GIB), gpus: Gpus::Count(1), ..request() };
    let plan = plan(&machine, &request).expect("a plan");
    assert_eq!(producers(&plan), BTreeSet::from([None]));
    assert!(reasons(&plan).contains("14 cores are not evenly divided among 8 L2 caches"), "{}", reasons(&plan));
}

#[test]
fn an_affinity_does_not_hide_uneven_caches_and_a_cgroup_does() {
    let machine = described("field/uneven-6-8-8.xml").expect("a machine");
    let ours = machine.restricted_to(&"8-23,32-47".parse().expect("a list")).expect("there");
    let bound = plan(&ours, &request()).expect("a plan");
    assert_eq!(producers(&bound), BTreeSet::from([None]));
    assert!(reasons(&bound).contains("only a cgroup helps"), "{}", reasons(&bound));
    let in_cgroups = plan(&ours, &Request { cgroups: true, ..request() }).expect("a plan");
    assert!(!producers(&in_cgroups).contains(&None));
}

#[test]
fn an_affinity_on_an_even_machine_costs_no_multicore_sdr() {
    let ours = machines::bound_to(&machines::epyc_of_8(), "0-4,8-31,128-132,136-159");
    assert!(!producers(&plan(&ours, &request()).expect("a plan")).contains(&None));
}

#[test]
fn descriptions_beyond_any_machine_are_refused_with_node_and_value() {
    for (name, found) in [
        ("neg_mem", "NUMANode 0 has local_memory=\"-1\""),
        ("neg_pu", "PU -1 has os_index=\"-1\""),
        ("two_near", "node 0 of "),
        ("two_near", "has 9300000000000000000 bytes of memory"),
        ("pages_max", "has 18446744073709551615 huge pages of "),
    ] {
        let error = described(&format!("field/{name}.xml")).expect_err(name);
        assert!(error.contains(found), "{error}");
    }
}

#[test]
fn memory_without_cores_is_not_counted() {
    let machine = described("memory_only_node.xml").expect("a machine");
    let all = machine.memory_bytes();
    assert_eq!(machine.memory_of_cores_bytes() + (512 << 30), all);
    let mut roomy = machine.clone();
    roomy.nodes.iter_mut().filter(|node| node.has_cores).for_each(|node| node.memory_bytes = 256 * GIB);
    let plan = plan(&roomy, &request()).expect("a plan");
    assert!(plan.notes.iter().any(|note| note.contains("of node 2 are not counted")), "{:?}", plan.notes);
    assert_eq!(plan.memory.iter().map(|share| share.bytes).sum::<u64>(), 512 * GIB);
}

#[test]
fn cards_of_several_makers_have_ids_of_their_own_and_only_nvidias_are_used() {
    let card = |index: u32, vendor: &str, uuid: &str| {
        format!(
            "<object type=\"PCIDev\" gp_index=\"{index}\" pci_busid=\"0000:0{index}:00.0\" pci_type=\"0302 [{vendor}:1234] \
             [0000:0000] 00\" pci_link_speed=\"0.0\"><object type=\"OSDev\" gp_index=\"1{index}\" name=\"card{index}\" \
             subtype=\"OpenCL\" osdev_type=\"5\">{uuid}</object></object>"
        )
    };
    let twice = "<info name=\"NVIDIAUUID\" value=\"GPU-11111111-2222\"/>";
    let cards =
        [card(1, "10de", ""), card(2, "1002", ""), card(3, "10de", twice), card(4, "10de", twice), card(5, "8086", "")];
    let whole =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/topology/field/two_near.xml"));
    let whole = whole.expect("file").replace("9300000000000000000", "500000000000");
    let bridge = "<object type=\"Bridge\" gp_index=\"99\" bridge_type=\"0-1\" depth=\"0\" bridge_pci=\"0000:[00-09]\">";
    let end = whole.rfind("</object>").expect("the machine's end");
    let (before, after) = whole.split_at(end);
    let machine = of_text(&format!("{before}{bridge}{}</object>{after}", cards.concat()));
    let ids: Vec<&str> = machine.gpus.iter().map(|gpu| gpu.id.as_str()).collect();
    assert_eq!(ids, ["0", "amd0", "1", "2", "pci8086-0"]);
    let planned = plan(&machine, &request()).expect("a plan");
    let used: BTreeSet<&String> = planned.groups.iter().flat_map(|group| &group.gpus).collect();
    assert!(used.iter().all(|id| ["0", "1", "2"].contains(&id.as_str())), "{used:?}");
    assert!(planned.notes.iter().any(|note| note.starts_with("GPU amd0 ") && note.contains("left out")));
    let named = |names: &[&str]| {
        let gpus = Gpus::Named(names.iter().map(|name| (*name).to_owned()).collect());
        plan(&machine, &Request { gpus, ..request() })
    };
    assert!(matches!(named(&["amd0"]), Err(CannotPlan::ForeignGpu { .. })));
    assert!(matches!(named(&["1", "1"]), Err(CannotPlan::GpuTwice { .. })));
}

#[test]
fn the_memory_of_a_card_is_looked_at() {
    let of = |gib: u64| {
        let mut machine = machines::epyc_of_4();
        machine.gpus.iter_mut().for_each(|gpu| gpu.memory_bytes = gib * GIB);
        plan(&machine, &request()).expect("a plan")
    };
    let said = |plan: &MachinePlan, what: &str| plan.notes.iter().any(|note| note.contains(what));
    assert_eq!((of(2).gpus, said(&of(2), "GPU 0 (a GPU) is left out: it has 2 GiB")), (0, true));
    assert_eq!((of(8).gpus, said(&of(8), "GPU 0 has 8 GiB")), (2, true));
    assert_eq!((of(24).gpus, said(&of(24), "GPU 0 has")), (2, false));
}

#[test]
fn what_limits_is_the_memory_of_the_nodes_and_is_called_so() {
    let shape = Shape { node_memory: 128 * GIB, gpus: vec![0, 4], ..Shape::new("eight nodes", [2, 4, 1, 14, 2]) };
    let plan = plan(&shape.machine(), &request()).expect("a plan");
    assert!(reasons(&plan).contains("the nodes that have them have no memory for another"), "{}", reasons(&plan));
}

#[test]
fn memory_that_is_given_is_spread_as_the_machines_own() {
    let mut machine = Shape::new("unlike nodes", [2, 1, 2, 8, 2]).machine();
    machine.nodes[0].memory_bytes = 384 * GIB;
    machine.nodes[1].memory_bytes = 128 * GIB;
    let plan = plan(&machine, &Request { memory_bytes: Some(1024 * GIB), gpus: Gpus::Count(4), ..request() });
    let text = reasons(&plan.expect("a plan"));
    assert!(text.contains("nodes have room: 0 for 11, 1 for 3"), "{text}");
}

#[test]
fn the_number_of_producers_is_searched_for() {
    // Two Milan CPUs with 6 cores per L3 cache (lotus issue 7981).
    let milan =
        Shape { node_memory: 1002 * GIB, gpus: vec![0, 1], ..Shape::new("2x Milan", [2, 1, 4, 6, 2]) }.machine();
    let per_day = |producers| {
        let plan = plan(&milan, &Request { producers, ..request() }).expect("a plan");
        plan.steady.sectors_per_day.round()
    };
    assert_eq!([Some(3), Some(2), Some(1), None].map(per_day), [64.0, 104.0, 144.0, 144.0]);
}

#[test]
fn a_machine_may_do_pc1_only_or_c2_only() {
    let machine = Shape { node_memory: 1024 * GIB, ..Shape::new("PC1 worker", [1, 1, 4, 8, 2]) }.machine();
    let only = |phases: &[Phase], gpus| {
        plan(&machine, &Request { only: phases.iter().copied().collect(), gpus, ..request() }).expect("a plan")
    };
    let pc1 = only(&[Phase::Pc1], Gpus::All);
    assert!(pc1.steady.sectors_per_day > 110.0, "{:?}", pc1.steady);
    assert_eq!(pc1.elsewhere, [Phase::Pc2, Phase::C2]);
    assert!(pc1.groups.iter().all(|group| !matches!(group.stage, Phase::Pc2 | Phase::C2)) && !pc1.slots.is_empty());
    let c2 = only(&[Phase::C2], Gpus::Count(2));
    assert_eq!(c2.groups.iter().map(|group| group.stage).collect::<Vec<_>>(), [Phase::C2, Phase::C2]);
    assert!((c2.steady.sectors_per_day - 288.0).abs() < 1.0 && c2.slots.is_empty(), "{:?}", c2.steady);
    assert!(explain(&c2, true).contains("c2 alone needs no slots"));
}

#[test]
fn a_directory_is_given_once_however_it_is_written() {
    let place = |path: &str| Place { path: path.into(), bytes: Some(1 << 44) };
    let places = vec![place("/mnt/a"), place("/mnt/b"), place("/mnt//a/")];
    let refused = plan(&machines::epyc_of_4(), &Request { places, ..request() }).expect_err("twice");
    assert_eq!(refused, CannotPlan::PlaceTwice { path: "/mnt//a/".to_owned() });
}

#[test]
fn a_large_machine_is_planned_with_all_its_cards() {
    let mut machine = Shape { node_memory: 1024 * GIB, ..Shape::new("eight sockets", [8, 1, 16, 8, 2]) }.machine();
    machine.gpus = (0..8).map(|number| machines::gpu(number, number)).collect();
    machine.gpus.push(Gpu { vendor: Gpu::AMD, ..machines::gpu(9, 0) });
    let plan = plan(&machine, &Request { places: Vec::new(), ..request() }).expect("a plan");
    assert_eq!(plan.gpus, 8);
}
