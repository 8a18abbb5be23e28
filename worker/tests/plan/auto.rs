//! Processors that leave their cpus to the worker.

use sealbus_planner::{
    machine::CpuSet,
    machine_plan::{Request, Severity, check, plan},
};
use sealbus_schema::{Phase, SectorSize};
use sealbus_worker::{
    placement::{choose, of_groups},
    processor::GroupConfig,
};

use crate::machines;

fn auto(stage: Phase, count: usize) -> GroupConfig {
    GroupConfig { auto_cpus: true, ..GroupConfig::built_in(stage, count) }
}

fn multicore(count: usize, producers: usize) -> GroupConfig {
    let mut group = auto(Phase::Pc1, count);
    group.env.insert("FIL_PROOFS_USE_MULTICORE_SDR".into(), "1".into());
    group.env.insert("FIL_PROOFS_MULTICORE_SDR_PRODUCERS".into(), producers.to_string());
    group
}

#[test]
fn they_lie_where_a_plan_puts_them() {
    let machine = machines::epyc_of_4();
    let plan = plan(&machine, &Request::new(SectorSize::GiB32)).expect("a plan");
    let of_plan = |stage: Phase| {
        let groups = plan.groups.iter().filter(move |group| group.stage == stage);
        groups.map(|group| group.cpus.clone().expect("placed")).collect::<Vec<CpuSet>>()
    };
    let pc1s = of_plan(Phase::Pc1);
    let mut groups = [multicore(pc1s.len(), 3), auto(Phase::TreeD, 2), GroupConfig::built_in(Phase::C1, 1)];
    choose(&machine, SectorSize::GiB32, false, &mut groups).expect("there is room");
    let mut chosen = groups[0].cpus.clone();
    chosen.sort_by_key(|cpus| pc1s.iter().position(|planned| planned == cpus));
    assert_eq!(chosen, pc1s);
    assert_eq!(groups[1].cpus, of_plan(Phase::TreeD));
    assert_eq!(groups[2].cpus, []);
    let findings = check(&machine, &of_groups(SectorSize::GiB32, &groups));
    assert!(findings.iter().all(|finding| finding.severity == Severity::Warning), "{findings:?}");
}

#[test]
fn small_sectors_are_sealed_anywhere() {
    let mut groups = [auto(Phase::Pc1, 2), auto(Phase::C2, 1)];
    choose(&machines::epyc_of_4(), SectorSize::KiB2, false, &mut groups).expect("anywhere");
    assert!(groups.iter().all(|group| group.cpus.is_empty()));
}

#[test]
fn what_has_no_place_is_refused_with_its_field_and_what_to_do() {
    let machine = machines::epyc_of_4();
    let elsewhere = GroupConfig { numa_node: Some(77), ..multicore(1, 3) };
    let mut all = GroupConfig::built_in(Phase::Pc1, 1);
    all.cpus = vec![machine.units()];
    for (groups, field, fix) in [
        (vec![multicore(1000, 3)], "processor[0].cpus", "lower count"),
        (vec![elsewhere], "processor[0].cpus", "lower count"),
        (vec![multicore(1, 200)], "processor[0].cpus", "FIL_PROOFS_MULTICORE_SDR_PRODUCERS = \""),
        (vec![auto(Phase::C2, 1), multicore(1, 3), auto(Phase::Pc1, 1)], "processor[1].cpus", "one group"),
        (vec![all, auto(Phase::C2, 1)], "processor[1].cpus", "fewer PC1s"),
    ] {
        let mut groups = groups;
        let refused = choose(&machine, SectorSize::GiB32, false, &mut groups).expect_err(fix);
        assert!(refused.field.starts_with(field) && refused.fix.contains(fix), "{refused}");
    }
}
