//! What the proofs library's multicore SDR does with cpusets. The expected units are those in its own tests.

use sealbus_planner::{
    machine::{CpuSet, Machine, Sight, sight::Level},
    machine_plan::multicore::{self, Outcome, units},
};

use crate::machines::{self, Numbers, Shape};

fn cpus(text: &str) -> CpuSet {
    text.parse().expect("a list")
}

/// The outcome for a process in the worker's cgroup.
fn outcome(machine: &Machine, cpus: &CpuSet, producers: usize) -> Outcome {
    multicore::outcome(machine, cpus, producers, false)
}

#[test]
fn units_are_numbered_as_the_library_numbers_them() {
    let list = |cores, caches, threads| units(cores, caches, threads).collect::<Vec<_>>();
    assert_eq!(list(18, 1, 4), [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]);
    assert_eq!(list(16, 4, 3), [[0, 1, 2], [4, 5, 6], [8, 9, 10], [12, 13, 14]]);
    assert_eq!(list(16, 2, 3), [[0, 1, 2], [8, 9, 10], [3, 4, 5], [11, 12, 13]]);
    let of_48 = list(48, 8, 3);
    assert_eq!(
        (of_48.len(), &of_48[7], &of_48[8], &of_48[15]),
        (16, &vec![42, 43, 44], &vec![3, 4, 5], &vec![45, 46, 47])
    );
    assert!(list(4, 2, 3).is_empty());
}

#[test]
fn a_group_of_a_plain_machine_is_bound_core_by_core() {
    let machine = machines::epyc_of_8();
    assert_eq!(outcome(&machine, &cpus("4-7,132-135"), 3), Outcome::Bound(vec![4, 5, 6, 7]));
    assert_eq!(outcome(&machine, &cpus("8-11"), 3), Outcome::Bound(vec![8, 9, 10, 11]));
    assert_eq!(outcome(&machine, &cpus("8-10"), 3), Outcome::Partial { cores: 3, threads: 4 });
    assert_eq!(outcome(&machine, &cpus("128-131"), 3), Outcome::Unbound, "second threads are no core's number");
}

#[test]
fn threads_that_are_numbered_together_lead_outside() {
    let machine = Shape { numbers: Numbers::ThreadsTogether, ..Shape::new("", [1, 1, 2, 8, 2]) }.machine();
    // Cores 4 to 7 are cpus 8 to 15. The library mistakes these numbers for cores 8 to 15, which are cpus 16 and up.
    assert_eq!(outcome(&machine, &cpus("8-15"), 3), Outcome::Outside { units: cpus("16-17") });
    assert_eq!(outcome(&machine, &cpus("16-23"), 3), Outcome::Unbound);
}

#[test]
fn an_uneven_machine_panics() {
    let machine = machines::uneven_by_three();
    let panics = Outcome::Panics { cores: 22, groups: 3, level: "L3 caches".to_owned() };
    assert_eq!(outcome(&machine, &cpus("0-3"), 3), panics);
    // A process bound to an evenly divisible part still sees the whole machine.
    assert_eq!(outcome(&machines::bound_to(&machine, "8-23"), &cpus("8-11"), 3), panics);
    // In a cgroup with only that part, it does not panic. There core 8 is cpu 16, and no core has the number 16.
    let part = machines::restricted(&machine, "8-23");
    assert_eq!(outcome(&part, &cpus("8-11"), 3), Outcome::Outside { units: cpus("16") });
    assert_eq!(outcome(&part, &cpus("16-19"), 3), Outcome::Unbound);
    assert!(
        multicore::outcome(&machine, &cpus("8-11"), 3, true).is_good(),
        "in a cgroup of its own it sees four cores"
    );
}

#[test]
fn an_affinity_takes_nothing_from_an_even_machine() {
    let half = machines::bound_to(&machines::epyc_of_8(), "0-2,8-31,128-130,136-159");
    assert_eq!(outcome(&half, &cpus("8-11,136-139"), 3), Outcome::Bound(vec![8, 9, 10, 11]));
}

#[test]
fn the_first_level_that_cores_share_divides_them_whatever_it_is() {
    let mut machine = machines::ryzen();
    let parts = |lists: &[&str]| lists.iter().map(|list| cpus(list)).collect();
    // Six cores with an L2 cache each, and two groups of five cores that share one.
    let l2s = ["0,16", "1,17", "2,18", "3,19", "4,20", "5,21", "6-10,22-26", "11-15,27-31"];
    machine.sight.levels.insert(0, Level { name: "L2 caches".to_owned(), parts: parts(&l2s) });
    assert!(outcome(&machine, &cpus("0-3"), 3).is_good(), "16 cores in 8 L2 caches");
    let less = machines::restricted(&machine, "0-14,16-30");
    let panics = Outcome::Panics { cores: 15, groups: 8, level: "L2 caches".to_owned() };
    assert_eq!(outcome(&less, &cpus("0-3"), 3), panics);
    let none = Machine { sight: Sight::default(), ..machine };
    assert!(matches!(outcome(&none, &cpus("0-3"), 3), Outcome::Panics { cores: 0, .. }));
}
