//! Findings in hand-written configurations.

use sealbus_planner::{
    machine::{Machine, MemoryPolicy},
    machine_plan::{Finding, PlacedGroup, Severity, check},
};
use sealbus_schema::Phase;

use crate::machines::{self, GIB, Numbers, Shape};

fn group(stage: Phase, cpus: &str) -> PlacedGroup {
    PlacedGroup {
        index: 0,
        stage,
        cpus: (!cpus.is_empty()).then(|| cpus.parse().expect("a list")),
        numa_node: None,
        memory: None,
        concurrent: 1,
        gpus: Vec::new(),
        locks: Vec::new(),
        memory_bytes: 0,
        producers: None,
        in_cgroup: false,
    }
}

fn found(machine: &Machine, groups: Vec<PlacedGroup>) -> Vec<Finding> {
    let numbered = groups.into_iter().enumerate().map(|(index, group)| PlacedGroup { index, ..group });
    check(machine, &numbered.collect::<Vec<_>>())
}

/// Expects exactly one finding, with this severity, field and part of its problem.
fn only(machine: &Machine, groups: Vec<PlacedGroup>, severity: Severity, field: &str, problem: &str) {
    let findings = found(machine, groups);
    let [finding] = findings.as_slice() else { panic!("not one: {findings:#?}") };
    assert_eq!((finding.severity, finding.field.as_str()), (severity, field), "{finding:?}");
    assert!(finding.problem.contains(problem), "{finding:?}");
    assert!(!finding.fix.is_empty());
}

#[test]
fn a_good_configuration_has_no_findings() {
    let pc1 = PlacedGroup {
        numa_node: Some(0),
        memory: Some(MemoryPolicy::Bind),
        producers: Some(3),
        memory_bytes: 64 * GIB,
        ..group(Phase::Pc1, "0-3,64-67")
    };
    let on_gpu = |stage| PlacedGroup { gpus: vec!["0".into()], locks: vec!["gpu0".into()], ..group(stage, "32-63") };
    let groups = vec![pc1, on_gpu(Phase::Pc2), on_gpu(Phase::C2), group(Phase::TreeD, "")];
    assert_eq!(found(&machines::epyc_of_4(), groups), []);
}

#[test]
fn cpus_that_are_not_there_or_not_ours_are_told_apart() {
    let machine = machines::half_an_epyc();
    only(&machine, vec![group(Phase::TreeD, "0-3,400")], Severity::Error, "processor[0].cpus", "has no 400");
    only(&machine, vec![group(Phase::TreeD, "30-33")], Severity::Error, "processor[0].cpus", "may not use 32-33");
}

#[test]
fn cores_of_pc1_are_nobody_elses() {
    let machine = machines::epyc_of_4();
    let pc1 = |cpus| group(Phase::Pc1, cpus);
    let twice = vec![pc1("0-3,64-67"), pc1("0-3,64-67")];
    only(&machine, twice, Severity::Error, "processor[1].cpus", "0-3,64-67 with processor[0]");
    let halves = found(&machine, vec![pc1("0-3"), pc1("64-67")]);
    assert!(
        halves.iter().any(|finding| finding.severity == Severity::Error),
        "one thread each of the same cores: {halves:?}"
    );
    let guest = vec![pc1("0-3,64-67"), group(Phase::C2, "3-8")];
    only(&machine, guest, Severity::Warning, "processor[1].cpus", "shares the cores of 3,67");
}

#[test]
fn pc1_belongs_into_one_cache_on_whole_cores() {
    let machine = machines::epyc_of_4();
    let one = |cpus| vec![group(Phase::Pc1, cpus)];
    only(&machine, one("2-5,66-69"), Severity::Warning, "processor[0].cpus", "on 2 L3 caches");
    only(&machine, one("30-33,94-97"), Severity::Warning, "processor[0].cpus", "several NUMA nodes: 0-1");
    only(&machine, one("0-3"), Severity::Warning, "processor[0].cpus", "64-67 are their other hardware threads");
}

#[test]
fn multicore_sdr_is_thought_through() {
    let one = |cpus, producers| vec![PlacedGroup { producers: Some(producers), ..group(Phase::Pc1, cpus) }];
    let uneven = machines::uneven_by_three();
    only(&uneven, one("0-3", 3), Severity::Error, "processor[0].env", "panics here: 22 cores");
    let together = Shape { numbers: Numbers::ThreadsTogether, ..Shape::new("", [1, 1, 2, 8, 2]) }.machine();
    only(&together, one("8-15", 3), Severity::Error, "processor[0].cpus", "would use 16-17");
    only(&machines::uneven(), one("8-11,24-27", 3), Severity::Error, "processor[0].cpus", "would use 12,28");
    let in_cgroup = one("0-3", 3).into_iter().map(|group| PlacedGroup { in_cgroup: true, ..group }).collect();
    only(&uneven, in_cgroup, Severity::Warning, "processor[0].cpus", "only in its own cgroup");
    let across = found(&machines::epyc_of_4(), one("2-5,66-69", 3));
    assert!(across.iter().any(|finding| finding.problem.contains("2 cores for 4 threads")), "{across:?}");
    only(&machines::epyc_of_4(), one("0-3,64-67", 5), Severity::Warning, "processor[0].cpus", "4 cores for 6 threads");
}

#[test]
fn a_node_is_there_and_is_that_of_the_cpus() {
    let machine = machines::epyc_of_4();
    let on = |node| vec![PlacedGroup { numa_node: Some(node), ..group(Phase::TreeD, "0-3") }];
    only(&machine, on(7), Severity::Error, "processor[0].numa_node", "no node 7; there is 0-1");
    only(&machine, on(1), Severity::Warning, "processor[0].numa_node", "0-3,64-67 of its cpus are not of node 1");
    let nowhere = PlacedGroup { memory: Some(MemoryPolicy::Bind), ..group(Phase::TreeD, "") };
    only(&machine, vec![nowhere], Severity::Error, "processor[0].memory", "needs a node");
}

#[test]
fn a_gpu_is_there_and_serves_one_request_at_a_time() {
    let machine = machines::epyc_of_4();
    let on = |id: &str, locks: &[&str]| PlacedGroup {
        gpus: vec![id.to_owned()],
        locks: locks.iter().map(|lock| (*lock).to_owned()).collect(),
        ..group(Phase::C2, "")
    };
    only(&machine, vec![on("7", &[])], Severity::Error, "processor[0].gpus", "no GPU \"7\"; the machine has 0, 1");
    only(&machine, vec![on("0", &[]), on("0", &["a"])], Severity::Error, "processor[1].gpus", "by 2 requests");
    only(
        &machine,
        vec![PlacedGroup { concurrent: 2, ..on("0", &[]) }],
        Severity::Error,
        "processor[0].gpus",
        "by 2 requests",
    );
    assert_eq!(found(&machine, vec![on("0", &["a", "b"]), on("0", &["b"]), on("1", &[])]), []);
}

#[test]
fn memory_is_not_given_twice() {
    let machine = machines::ryzen();
    let heavy = |gib: u64, locks: &[&str]| PlacedGroup {
        memory_bytes: gib * GIB,
        locks: locks.iter().map(|lock| (*lock).to_owned()).collect(),
        ..group(Phase::C2, "")
    };
    only(
        &machine,
        vec![heavy(70, &[]), heavy(70, &[])],
        Severity::Warning,
        "processor[1].memory",
        "need 140 GiB, there is 128 GiB",
    );
    assert_eq!(found(&machine, vec![heavy(70, &["memory"]), heavy(70, &["memory"])]), []);
    let bound = |node| PlacedGroup { numa_node: Some(node), memory: Some(MemoryPolicy::Bind), ..heavy(200, &[]) };
    let snc = machines::intel_snc();
    only(&snc, vec![bound(1), bound(1)], Severity::Warning, "processor[1].memory", "node 1 needs 400 GiB");
    assert_eq!(found(&snc, vec![bound(1), bound(2)]), []);
}
