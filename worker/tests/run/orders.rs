//! A person's orders: to drain, to resubmit, to free a slot.

use std::fs;

use sealbus_nats::topology;
use sealbus_schema::{ErrorCode, SectorId};

use crate::support::{Bench, Manager, Server, eventually};

async fn nobody_has(manager: &Manager, sector: SectorId) -> bool {
    manager.bus.last_lease(sector).await.expect("reads").is_none()
}

#[tokio::test]
async fn a_draining_worker_finishes_what_it_holds_and_takes_nothing_new_until_it_resumes() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 2);
    let worker = bench.start();
    bench.hold("tree_d");
    let held = manager.offer(1).await;
    bench.begun("tree_d", 1).await;
    manager.order(4, true, &[]).await;
    manager.heartbeat_with("draining", |seen| seen.draining && seen.orders == 4).await;
    let waiting = manager.offer(2).await;
    bench.let_go("tree_d");
    manager.see_through(held, "finished").await;
    manager.assert_gapless(held);
    assert!(nobody_has(&manager, waiting).await, "the free slot takes nothing");

    // The order stays in force across a restart.
    worker.kill();
    let _worker = bench.start();
    manager.heartbeat_with("draining again", |seen| seen.draining && seen.slots[0].holding.is_none()).await;
    eventually("the word of it", async || {
        (bench.log().matches("following the standing orders").count() >= 2).then_some(())
    })
    .await;
    assert!(nobody_has(&manager, waiting).await, "nor after a restart");
    manager.order(5, false, &[]).await;
    manager.see_through(waiting, "finished").await;
    let seen = manager.heartbeat_with("going on", |seen| seen.orders == 5).await;
    assert!(!seen.draining);
}

#[tokio::test]
async fn a_manager_that_has_no_stream_of_orders_gives_none() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    server.remove_stream(topology::COMMANDS);
    let bench = Bench::new(server.url(), 1);
    let _worker = bench.start();
    let sector = manager.offer(1).await;
    manager.see_through(sector, "finished").await;
}

#[tokio::test]
async fn a_slot_that_works_is_freed_by_order_without_a_restart_and_once() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let worker = bench.start();
    bench.hold("tree_d");
    let given_up = manager.offer(1).await;
    bench.begun("tree_d", 1).await;
    let token = manager.claimed(given_up).await;
    let slot = bench.path("slot0");
    manager.order(1, false, &[(3, &slot)]).await;
    let seen = manager.heartbeat_with("the release", |seen| seen.slots[0].released == 3).await;
    assert!(seen.slots[0].holding.is_none() && seen.slots[0].blocked.is_none());
    let name = format!("s-t01000-1.{token}");
    assert!(slot.join("quarantine").join(&name).is_dir(), "nothing is deleted");
    assert!(slot.join("quarantine").join(format!("{name}.journal")).is_file());
    assert_eq!(bench.left_in(0), ["quarantine", "released"]);

    // The only processor of the stage was killed, and now serves the next sector. Read again, the same order has no
    // effect.
    let next = manager.offer(2).await;
    bench.begun("tree_d", 2).await;
    manager.order(2, false, &[(3, &slot)]).await;
    manager.heartbeat_with("the new revision", |seen| seen.orders == 2 && seen.slots[0].holding.is_some()).await;
    worker.kill();
    let _worker = bench.start();
    bench.begun("tree_d", 3).await;
    let seen = manager.heartbeat_with("the orders again", |seen| seen.orders == 2).await;
    assert_eq!(seen.slots[0].released, 3);
    bench.let_go("tree_d");
    manager.see_through(next, "finished").await;
    manager.assert_gapless(next);
}

#[tokio::test]
async fn a_blocked_slot_is_freed_by_order() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let _worker = bench.start();
    bench.fail_once("tree_d", "perm");
    let blocked = manager.offer(1).await;
    manager.event(blocked, "failed").await;
    manager.order(1, false, &[(1, &bench.path("slot0"))]).await;
    let next = manager.offer(2).await;
    manager.see_through(next, "finished").await;
    assert_eq!(manager.kinds(blocked).last(), Some(&"failed"), "the lease is the manager's to take back");
}

#[tokio::test]
async fn the_only_slot_with_an_unreadable_journal_keeps_the_worker_up_and_is_freed_by_order() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    fs::write(bench.path("slot0/journal"), "rubbish").expect("writes");
    let _worker = bench.start();
    let seen = manager.heartbeat_with("a blocked slot", |seen| seen.slots[0].blocked.is_some()).await;
    assert!(seen.slots[0].unreadable);
    let report = seen.slots[0].blocked.as_ref().expect("blocked");
    assert_eq!(report.code, ErrorCode::JOURNAL_UNREADABLE);
    assert!(report.message().contains("slots release"), "{}", report.message());
    manager.order(1, false, &[(1, &bench.path("slot0"))]).await;
    let seen = manager.heartbeat_with("the release", |seen| seen.slots[0].released == 1).await;
    assert!(!seen.slots[0].unreadable && seen.slots[0].blocked.is_none());
    let sector = manager.offer(1).await;
    manager.see_through(sector, "finished").await;
    assert_eq!(fs::read_to_string(bench.path("slot0/quarantine/journal")).expect("kept"), "rubbish");
}

#[tokio::test]
async fn a_slot_of_another_stream_is_freed_by_order() {
    let mut server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let worker = bench.start();
    let sector = manager.offer(1).await;
    manager.event(sector, "ticket_wanted").await;
    worker.kill();
    drop(manager);
    server.stop_and_forget();
    server.start_again();
    let mut manager = Manager::connect(&server.url()).await;
    let _worker = bench.start();
    let seen = manager.heartbeat_with("a blocked slot", |seen| seen.slots[0].blocked.is_some()).await;
    assert_eq!(seen.slots[0].blocked.as_ref().expect("blocked").code, ErrorCode::QUEUE_REPLACED);
    assert!(!seen.slots[0].unreadable, "what it holds is known");
    manager.order(1, false, &[(1, &bench.path("slot0"))]).await;
    let next = manager.offer(2).await;
    manager.see_through(next, "finished").await;
}

#[tokio::test]
async fn a_release_that_a_kill_interrupted_is_ended_at_the_next_start() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let worker = bench.start();
    bench.hold("tree_d");
    let given_up = manager.offer(1).await;
    bench.begun("tree_d", 1).await;
    worker.kill();
    // The state after the first step of a release.
    fs::write(bench.path("slot0/released"), "9 begun\n").expect("writes");
    let _worker = bench.start();
    let seen = manager.heartbeat_with("the release", |seen| seen.slots[0].released == 9).await;
    assert!(seen.slots[0].holding.is_none());
    bench.let_go("tree_d");
    let next = manager.offer(2).await;
    manager.see_through(next, "finished").await;
    assert!(!manager.kinds(given_up).contains(&"tree_d_built"));
}

#[tokio::test]
async fn an_order_for_a_slot_that_the_worker_has_not_is_said_with_the_names_it_has() {
    let server = Server::start();
    let manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let _worker = bench.start();
    manager.order(1, false, &[(1, &bench.path("slot7"))]).await;
    manager.order(2, false, &[(1, &bench.path("slot7"))]).await;
    manager.heartbeat_with("the orders", |seen| seen.orders == 2).await;
    let log = bench.log();
    let said: Vec<_> = log.lines().filter(|line| line.contains("a slot that this worker has not")).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("slot7") && said[0].contains("slot0"), "{said:?}");
}

#[tokio::test]
async fn killed_at_any_moment_of_a_release_the_worker_ends_it_and_loses_nothing() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let slot = bench.path("slot0");
    let mut worker = bench.start();
    bench.hold("tree_d");
    let mut expected = Vec::new();
    for turn in 1..=6u64 {
        let sector = manager.offer(turn).await;
        let token = manager.claimed(sector).await;
        manager.event(sector, "pieces_added").await;
        let name = format!("{}.{token}", sector.file_name());
        expected.extend([name.clone(), format!("{name}.journal")]);
        manager.order(turn, false, &[(turn, &slot)]).await;
        // The pauses fall into all points between the steps of the release. The test does not depend on which.
        tokio::time::sleep(std::time::Duration::from_millis((turn - 1) * 4)).await;
        worker.kill();
        worker = bench.start();
        manager.heartbeat_with("the release", |seen| seen.slots[0].released == turn).await;
    }
    let mut kept: Vec<String> = fs::read_dir(slot.join("quarantine"))
        .expect("list")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    kept.sort();
    assert_eq!(kept, expected, "each sector's files and journal, once");
    assert_eq!(bench.left_in(0), ["quarantine", "released"]);
    bench.let_go("tree_d");
    let next = manager.offer(99).await;
    manager.see_through(next, "finished").await;
}
