//! The bound and the simulation of pipelines.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use sealbus_planner::{
    calc,
    pipeline::{PipelineSpec, Resource, Servers, SpecError, Step, Wait, Work, bound, bounds, simulate},
};
use sealbus_schema::Phase;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

fn servers(count: usize, time_ms: u64, locks: &[&str]) -> Servers {
    Servers { count, time_ms, locks: locks.iter().map(|lock| (*lock).to_owned()).collect() }
}

fn work(stage: Phase, servers: Vec<Servers>) -> Work {
    Work { stage, servers, concurrent: None, staggered_ms: 0 }
}

fn usual(slots: usize, pc1: usize) -> PipelineSpec {
    let works = vec![
        work(Phase::Pc1, vec![servers(pc1, 3 * HOUR, &[])]),
        work(Phase::Pc2, vec![servers(1, 10 * MINUTE, &["gpu"])]),
        work(Phase::C2, vec![servers(1, 10 * MINUTE, &["gpu"])]),
    ];
    let waits = calc::Waits { precommit_ms: 15 * MINUTE, seed_ms: 80 * MINUTE, prove_ms: 15 * MINUTE };
    PipelineSpec { slots, steps: calc::steps(works, waits), locks: BTreeMap::from([("gpu".into(), 1)]) }
}

#[test]
fn one_slot_does_one_sector_after_the_other() {
    let spec = usual(1, 4);
    let minutes = 180 + 10 + 15 + 80 + 10 + 15;
    assert_eq!(spec.residence_ms(), minutes * MINUTE);
    let steady = simulate(&spec).expect("simulates");
    assert!((steady.sectors_per_day - 1440.0 / minutes as f64).abs() < 1e-9, "{steady:?}");
    assert_eq!(steady.bottleneck, Resource::Slots);
    assert_eq!(steady.slot_ms, steady.slot_least_ms);
}

#[test]
fn with_slots_enough_the_scarce_processors_are_always_busy() {
    let steady = simulate(&usual(12, 4)).expect("simulates");
    assert_eq!(steady.bottleneck, Resource::Processors(Phase::Pc1));
    assert!(steady.sectors_per_day > 0.999 * 32.0, "{steady:?}");
    let (_, busy) = steady.busy[0];
    assert!((busy - 1.0).abs() < 1e-9, "{busy}");
    assert!((steady.locked["gpu"] - 32.0 * 20.0 / 1440.0).abs() < 0.01, "{steady:?}");
}

#[test]
fn one_gpu_for_two_phases_is_counted_once() {
    let spec = usual(60, 20);
    assert_eq!(bounds(&spec)[0].resource, Resource::Locks(vec!["gpu".into()]));
    assert!((bound(&spec) - 72.0).abs() < 1e-9);
    let steady = simulate(&spec).expect("simulates");
    assert!(steady.sectors_per_day > 0.99 * 72.0, "{steady:?}");
}

#[test]
fn two_gpus_that_either_phase_may_take_are_counted_together() {
    let mut spec = usual(60, 20);
    let both = || vec![servers(1, 10 * MINUTE, &["gpu0"]), servers(1, 10 * MINUTE, &["gpu1"])];
    for step in &mut spec.steps {
        if let Step::Work(work) = step
            && work.stage != Phase::Pc1
        {
            work.servers = both();
        }
    }
    spec.locks = BTreeMap::from([("gpu0".into(), 1), ("gpu1".into(), 1)]);
    let both =
        bounds(&spec).into_iter().find(|bound| matches!(&bound.resource, Resource::Locks(names) if names.len() == 2));
    assert!((both.expect("a bound").per_day - 144.0).abs() < 1e-9);
    assert!((bound(&spec) - 144.0).abs() < 1e-9);
}

#[test]
fn what_a_phase_cannot_do_without_a_lock_counts_for_the_lock() {
    let mut spec = usual(60, 20);
    for step in &mut spec.steps {
        if let Step::Work(work) = step
            && work.stage == Phase::C2
        {
            work.servers = vec![servers(1, 10 * MINUTE, &["gpu"]), servers(1, 20 * MINUTE, &[])];
        }
    }
    // Of `x` C2s a day 72 do not need the GPU. PC2 and the other C2s keep it busy for `x * 10 + (x - 72) * 10` minutes.
    assert_eq!(bounds(&spec)[0].resource, Resource::Locks(vec!["gpu".into()]));
    assert!((bound(&spec) - 108.0).abs() < 1e-9, "{}", bound(&spec));
}

#[test]
fn a_staggered_phase_starts_no_faster_than_that() {
    let mut spec = usual(20, 4);
    let Step::Work(pc1) = &mut spec.steps[0] else { panic!("pc1 comes first") };
    pc1.staggered_ms = HOUR;
    let steady = simulate(&spec).expect("simulates");
    assert_eq!(steady.bottleneck, Resource::Staggered(Phase::Pc1));
    assert!(steady.sectors_per_day <= 24.0 && steady.sectors_per_day > 23.9, "{steady:?}");
}

/// PC2 takes `pc2` and holds a lock with `units` units; its starts are `apart` apart. C2 takes `c2` and has two
/// processors without the lock and `count` with it.
fn staggered_pc2(units: usize, (pc2, apart): (u64, u64), (c2, count): (u64, usize)) -> PipelineSpec {
    let mut first = work(Phase::Pc2, vec![servers(9, pc2, &["gpu"])]);
    first.staggered_ms = apart;
    let second = work(Phase::C2, vec![servers(2, c2, &[]), servers(count, c2, &["gpu"])]);
    let steps = vec![Step::Work(first), Step::Work(second)];
    PipelineSpec { slots: 1_000, steps, locks: BTreeMap::from([("gpu".into(), units)]) }
}

#[test]
fn between_staggered_starts_a_lock_idles_or_is_held_by_another_phase() {
    // Two PC2s that start 33 apart leave the lock idle for 11. A C2 with the lock uses that time, so it costs only 270
    // - 11.
    let spec = staggered_pc2(1, (22, 33), (270, 1));
    let lock = Resource::StaggeredLock(Phase::Pc2, "gpu".into());
    assert_eq!(bounds(&spec)[0].resource, lock);
    assert_eq!(lock.to_string(), "lock gpu with limits.staggered_secs of pc2");
    let exact = (1.0 + 2.0 * 259.0 / 270.0) / (33.0 + 259.0);
    assert!((bound(&spec) / 86_400_000.0 - exact).abs() < 1e-12, "{}", bound(&spec));
}

#[test]
fn two_that_overlap_between_staggered_starts_need_a_second_unit_now_and_then() {
    // Successive PC2s overlap for 319, which leaves 1057 of 1376 without overlap. Two concurrent C2s that take longer
    // than that delay every second PC2, by 319 in 1695.
    let spec = staggered_pc2(3, (1695, 1376), (4942, 2));
    assert_eq!(bounds(&spec)[0].resource, Resource::StaggeredLock(Phase::Pc2, "gpu".into()));
    let missing = 319.0 / 1695.0;
    let price = missing * (4942.0 - 1057.0);
    let exact = (1.0 + missing + price * 2.0 / 4942.0) / (1376.0 + price);
    assert!((bound(&spec) / 86_400_000.0 - exact).abs() < 1e-12, "{}", bound(&spec));
    // A short phase with the lock changes nothing, even with many seats.
    let mut more = spec.clone();
    more.steps.push(Step::Work(work(Phase::Transfer, vec![servers(9, 70, &["gpu"])])));
    assert!((bound(&more) / bound(&spec) - 1.0).abs() < 1e-12);
    // With one C2 at a time there is always room for two PC2s.
    let resources = |spec| bounds(spec).into_iter().map(|bound| bound.resource).collect::<Vec<_>>();
    let spec = staggered_pc2(3, (1695, 1376), (4942, 1));
    assert!(!resources(&spec).contains(&Resource::StaggeredLock(Phase::Pc2, "gpu".into())));
}

#[test]
fn the_seed_is_awaited_from_the_landing_on_and_the_transfer_costs_nothing_meanwhile() {
    let with_transfer = |minutes: u64| {
        let works = vec![work(Phase::Transfer, vec![servers(1, minutes * MINUTE, &[])])];
        let waits = calc::Waits { precommit_ms: MINUTE, seed_ms: 75 * MINUTE, prove_ms: 0 };
        PipelineSpec { slots: 1, steps: calc::steps(works, waits), locks: BTreeMap::new() }.residence_ms()
    };
    assert_eq!(with_transfer(5), 76 * MINUTE);
    assert_eq!(with_transfer(90), 91 * MINUTE);
}

#[test]
fn a_pipeline_that_cannot_be_is_refused_by_name() {
    let refused = |change: &dyn Fn(&mut PipelineSpec)| {
        let mut spec = usual(2, 1);
        change(&mut spec);
        assert_eq!(bound(&spec), 0.0);
        simulate(&spec).expect_err("refused")
    };
    assert_eq!(refused(&|spec| spec.slots = 0), SpecError::NoSlot);
    let no_lock = SpecError::NoLock { stage: Phase::Pc2, lock: "gpu".into() };
    assert_eq!(refused(&|spec| spec.locks.clear()), no_lock);
    assert_eq!(refused(&|spec| spec.steps.clear()), SpecError::NoTime);
    let later = |spec: &mut PipelineSpec| {
        spec.steps.push(Step::Wait(Wait { name: "x".into(), time_ms: 1, since: Some(99) }));
    };
    assert_eq!(refused(&later), SpecError::SinceLater("x".into()));
    let nobody = |spec: &mut PipelineSpec| spec.steps[0] = Step::Work(work(Phase::Pc1, vec![]));
    assert_eq!(refused(&nobody), SpecError::NoServer(Phase::Pc1));
}

fn any_work(stage: Phase) -> impl Strategy<Value = Work> {
    let group = (1_usize..4, 0_u64..5_000, proptest::collection::btree_set("[ab]", 0..3));
    let group = group.prop_map(|(count, time_ms, locks): (_, _, BTreeSet<String>)| Servers { count, time_ms, locks });
    let groups = proptest::collection::vec(group, 1..3);
    (groups, proptest::option::of(1_usize..4), prop_oneof![Just(0), 0_u64..800])
        .prop_map(move |(servers, concurrent, staggered_ms)| Work { stage, servers, concurrent, staggered_ms })
}

fn any_spec() -> impl Strategy<Value = PipelineSpec> {
    let works = Phase::SEALING.map(any_work);
    let waits = (0_u64..3_000, 0_u64..9_000, 1_u64..3_000);
    let locks = (1_usize..3, 1_usize..3);
    (1_usize..16, works, waits, locks).prop_map(|(slots, works, (precommit_ms, seed_ms, prove_ms), (a, b))| {
        let steps = calc::steps(works.into(), calc::Waits { precommit_ms, seed_ms, prove_ms });
        PipelineSpec { slots, steps, locks: BTreeMap::from([("a".into(), a), ("b".into(), b)]) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_simulation_never_beats_the_bound_nor_uses_more_than_there_is(spec in any_spec()) {
        let steady = simulate(&spec).expect("simulates");
        prop_assert!(steady.sectors_per_day > 0.0);
        prop_assert!(steady.sectors_per_day <= bound(&spec));
        prop_assert!(steady.slot_ms >= steady.slot_least_ms);
        for (stage, busy) in &steady.busy {
            prop_assert!((0.0..=1.0 + 1e-9).contains(busy), "{} {}", stage, busy);
        }
        for (lock, held) in &steady.locked {
            prop_assert!((0.0..=1.0 + 1e-9).contains(held), "{} {}", lock, held);
        }
        // Little's law: the number of sectors in slots is their rate times the time that each stays.
        let held = steady.sectors_per_day / 86_400_000.0 * steady.slot_ms as f64;
        prop_assert!((held - spec.slots as f64).abs() <= 0.15 * spec.slots as f64 + 0.05, "{} in {}", held, spec.slots);
        prop_assert_eq!(simulate(&spec).expect("simulates"), steady);
    }

    #[test]
    fn nor_where_staggered_starts_share_a_lock(
        units in 1_usize..4,
        pc2 in (1_u64..2_000, 1_u64..2_000),
        c2 in (1_u64..5_000, 1_usize..4),
    ) {
        let spec = PipelineSpec { slots: 20, ..staggered_pc2(units, pc2, c2) };
        prop_assert!(simulate(&spec).expect("simulates").sectors_per_day <= bound(&spec));
    }

    #[test]
    fn more_slots_do_not_lower_the_bound(spec in any_spec()) {
        let more = PipelineSpec { slots: spec.slots + 1, ..spec.clone() };
        prop_assert!(bound(&more) >= bound(&spec));
    }
}
