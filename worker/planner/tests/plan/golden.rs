//! The full text of plans for known machines, with their reasons.
//!
//! `UPDATE_GOLDEN=1` rewrites the files. Read them after that: each must be right for its machine.

use std::{fs, path::Path};

use sealbus_planner::{
    machine::{HugePages, Machine},
    machine_plan::{Gpus, Place, Request, explain::explain, plan},
};
use sealbus_schema::SectorSize;

use crate::machines::{self, GIB};

fn golden(name: &str, machine: &Machine, request: &Request) {
    let text = match plan(machine, request) {
        Ok(plan) => explain(&plan, true),
        Err(error) => format!("{error}\n"),
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plan/golden").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &text).expect("writes");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "{} differs; it would be now (UPDATE_GOLDEN=1 writes it):\n{text}", path.display());
}

fn of_32_gib() -> Request {
    Request::new(SectorSize::GiB32)
}

#[test]
fn a_two_socket_epyc_with_caches_of_4_cores() {
    golden("epyc-16x4", &machines::epyc_of_4(), &of_32_gib());
}

#[test]
fn a_two_socket_epyc_with_caches_of_8_cores() {
    golden("epyc-16x8", &machines::epyc_of_8(), &of_32_gib());
}

#[test]
fn a_two_socket_epyc_for_64_gib() {
    golden("epyc-16x8-64gib", &machines::epyc_of_8(), &Request::new(SectorSize::GiB64));
}

#[test]
fn a_two_socket_epyc_without_a_gpu() {
    golden("epyc-16x4-no-gpu", &machines::epyc_of_4(), &Request { gpus: Gpus::Count(0), ..of_32_gib() });
}

#[test]
fn a_two_socket_epyc_that_also_proves() {
    golden("epyc-16x4-proves", &machines::epyc_of_4(), &Request { posts: true, ..of_32_gib() });
}

#[test]
fn a_one_socket_ryzen_has_no_memory_for_proofs_beside_c2() {
    golden("ryzen-proves", &machines::ryzen(), &Request { posts: true, ..of_32_gib() });
}

#[test]
fn a_one_socket_ryzen() {
    golden("ryzen", &machines::ryzen(), &of_32_gib());
}

#[test]
fn a_two_socket_intel_with_four_nodes() {
    golden("intel-snc", &machines::intel_snc(), &of_32_gib());
}

#[test]
fn a_two_socket_intel_whose_cpus_are_numbered_in_turn() {
    golden("intel-in-turn", &machines::intel_in_turn(), &of_32_gib());
}

#[test]
fn a_four_socket_machine() {
    golden("four-socket", &machines::four_sockets(), &of_32_gib());
}

#[test]
fn a_machine_with_caches_of_6_and_8_cores() {
    golden("uneven-6-8", &machines::uneven(), &of_32_gib());
}

#[test]
fn a_machine_whose_cores_cannot_be_divided_by_its_caches() {
    golden("uneven-6-8-8", &machines::uneven_by_three(), &of_32_gib());
}

#[test]
fn a_virtual_machine_with_two_cores() {
    golden("vm-2kib", &machines::small_vm(), &Request::new(SectorSize::KiB2));
    golden("vm-32gib", &machines::small_vm(), &of_32_gib());
}

#[test]
fn a_worker_that_got_half_a_machine() {
    let places = vec![Place { path: "/mnt/fast".into(), bytes: Some(2400 * GIB) }];
    golden("restricted", &machines::half_an_epyc(), &Request { places, ..of_32_gib() });
}

#[test]
fn huge_pages_are_for_pc1_or_for_nobody() {
    let mut machine = machines::intel_snc();
    let pages = HugePages { page_bytes: GIB, total: 140, free: 140 };
    machine.nodes.iter_mut().for_each(|node| node.huge_pages.push(pages));
    golden("huge-pages", &machine, &Request { huge_pages: true, ..of_32_gib() });
    golden("huge-pages-unused", &machine, &of_32_gib());
}
