//! What the proofs library's multicore SDR makes of cpusets. The expected units are those of its own tests.

use sealbus_worker::{
    plan::multicore::{Outcome, outcome, units},
    topology::CpuSet,
};

use crate::machines::{self, Numbers, Shape};

fn cpus(text: &str) -> CpuSet {
    text.parse().expect("a list")
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
    // Cores 4 to 7 are cpus 8 to 15; the library takes them for cores 8 to 15, which are cpus 16 and up.
    assert_eq!(outcome(&machine, &cpus("8-15"), 3), Outcome::Outside { core: 8 });
    assert_eq!(outcome(&machine, &cpus("16-23"), 3), Outcome::Unbound);
}

#[test]
fn an_uneven_machine_panics() {
    let machine = machines::uneven_by_three();
    assert_eq!(outcome(&machine, &cpus("0-3"), 3), Outcome::Panics { cores: 22, caches: 3 });
}
