//! The order of requests in the pool: limits, locks, seats, and how these are shown.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use sealbus_planner::schedule::{Rules, SetupError};
use sealbus_schema::{MinerId, SectorId, SectorNumber};
use sealbus_worker::processor::{GroupConfig, PoolConfig, PoolError, ProcessorPool, Turn, WorkOf};
use sealbus_worker::stage::Stage;
use serde_json::json;
use tempfile::TempDir;

/// A processor that answers each request with its number.
const ECHO: &str = r#"n=0; while read -r line; do n=$((n+1)); echo "{\"id\":$n,\"output\":$n}"; done"#;

fn group(dir: &TempDir, stage: Stage, features: &str) -> GroupConfig {
    let bin = dir.path().join(format!("{stage}.sh"));
    let hello = format!(r#"echo '{{"sealbus_processor":2,"stage":"{stage}","pid":1,"features":[{features}]}}'"#);
    std::fs::write(&bin, format!("#!/bin/sh\n{hello}\n{ECHO}\n")).expect("write");
    std::fs::set_permissions(&bin, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    let mut group = GroupConfig::built_in(stage, 1);
    group.bin = Some(bin);
    group
}

fn pool(dir: &TempDir, groups: Vec<GroupConfig>, rules: Rules) -> Result<ProcessorPool, PoolError> {
    ProcessorPool::with_rules(PoolConfig { groups, tmp_roots: vec![dir.path().join("tmp")] }, rules)
}

fn one_gpu() -> Rules {
    Rules { locks: [("gpu0".to_owned(), 1)].into(), ..Rules::default() }
}

#[tokio::test]
async fn two_stages_share_a_lock_and_the_older_sector_gets_it_first() {
    let dir = tempfile::tempdir().expect("directory");
    let groups = [Stage::Pc2, Stage::C2].map(|stage| {
        let mut group = group(&dir, stage, "");
        group.locks = vec!["gpu0".into()];
        group.count = 2;
        group
    });
    let pool = pool(&dir, groups.into(), one_gpu()).expect("pool");
    let held = pool.acquire(Stage::Pc2).await.expect("guard");
    let of_sector = |seniority| Turn { seniority, expires_in: None };
    let mut young = Box::pin(pool.acquire_as(Stage::Pc2, of_sector(9)));
    let mut old = Box::pin(pool.acquire_as(Stage::C2, of_sector(4)));
    assert!(futures::poll!(young.as_mut()).is_pending() && futures::poll!(old.as_mut()).is_pending());
    assert_eq!(pool.free(Stage::Pc2), 1, "a processor is free, and not held while its lock is waited for");
    drop(held);
    let guard = old.await.expect("guard");
    assert!(futures::poll!(young.as_mut()).is_pending());
    drop(guard);
    drop(young.await.expect("guard"));
}

#[tokio::test]
async fn who_gives_up_waiting_holds_nobody_up() {
    let dir = tempfile::tempdir().expect("directory");
    let pool = pool(&dir, vec![group(&dir, Stage::C2, "")], Rules::default()).expect("pool");
    let held = pool.acquire(Stage::C2).await.expect("guard");
    let mut first = Box::pin(pool.acquire(Stage::C2));
    let mut second = Box::pin(pool.acquire(Stage::C2));
    let mut third = Box::pin(pool.acquire(Stage::C2));
    for waiting in [&mut first, &mut second, &mut third] {
        assert!(futures::poll!(waiting.as_mut()).is_pending());
    }
    drop(first);
    drop(held);
    // It is the second request's turn, but it is dropped unpolled. What it was granted goes to the third.
    drop(second);
    drop(third.await.expect("guard"));
    assert_eq!(pool.free(Stage::C2), 1);
}

#[tokio::test]
async fn a_start_that_must_wait_for_the_last_one_comes_by_itself() {
    let dir = tempfile::tempdir().expect("directory");
    let apart = Duration::from_millis(100);
    let rules = Rules { staggered: [(Stage::C2, apart)].into(), ..Rules::default() };
    let mut twice = group(&dir, Stage::C2, "");
    twice.count = 3;
    let pool = pool(&dir, vec![twice], rules).expect("pool");
    let began = Instant::now();
    let guards = futures::future::join_all((0..3).map(|_| pool.acquire(Stage::C2))).await;
    assert!(began.elapsed() >= 2 * apart, "{:?}", began.elapsed());
    assert_eq!(guards.into_iter().filter_map(Result::ok).count(), 3);
}

#[tokio::test]
async fn a_process_with_two_seats_is_shown_with_both_requests() {
    for features in ["", "\"concurrent\""] {
        let dir = tempfile::tempdir().expect("directory");
        let mut two = group(&dir, Stage::C2, features);
        two.concurrent = 2;
        two.gpus = vec!["1".into()];
        let pool = pool(&dir, vec![two], Rules::default()).expect("pool");
        let mut one = pool.acquire(Stage::C2).await.expect("guard");
        let mut other = pool.acquire(Stage::C2).await.expect("guard");
        assert_eq!((pool.free(Stage::C2), one.id(), other.id()), (0, "c2-0", "c2-0"));
        let sector = SectorId { miner: MinerId(1000), number: SectorNumber(7) };
        other.works_on(WorkOf { sector, slot: Some(3) });
        let shown = pool.snapshot().remove(0);
        assert_eq!(shown.placement.gpus, ["1"]);
        assert_eq!(
            shown.work.iter().map(|work| work.of).collect::<Vec<_>>(),
            [None, Some(WorkOf { sector, slot: Some(3) })]
        );
        assert_eq!(shown.work[0].usually, None, "nothing is known yet");
        let answers = futures::future::join(one.run_value(json!({})), other.run_value(json!({}))).await;
        assert_eq!((answers.0.expect("answer"), answers.1.expect("answer")), (json!(1), json!(2)));
        assert!(pool.snapshot()[0].work[0].usually.is_some());
        drop((one, other));
        assert!(pool.snapshot()[0].work.is_empty() && pool.snapshot()[0].pid.is_some());
    }
}

#[tokio::test]
async fn a_pool_in_which_something_could_never_work_is_refused() {
    let dir = tempfile::tempdir().expect("directory");
    let mut greedy = group(&dir, Stage::C2, "");
    greedy.locks = vec!["gpu0".into(), "gpu0".into()];
    let refused = pool(&dir, vec![greedy], one_gpu()).expect_err("refused");
    assert!(matches!(refused, PoolError::Setup(SetupError::LockTwice { .. })), "{refused}");
}
