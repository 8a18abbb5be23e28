//! A sector's life from the intent to the end.

use std::fs;

use sealbus_schema::{
    ErrorClass, ErrorCode,
    message::{CommonFact, EventBody, Fact, Heartbeat, SlotStatus},
    workflows::seal,
};

use crate::support::{Bench, Manager, Server, Worker, eventually, seed};

const WHOLE_LIFE: [&str; 16] = [
    "phase_started",
    "pieces_added",
    "phase_started",
    "tree_d_built",
    "ticket_wanted",
    "phase_started",
    "pc1_done",
    "phase_started",
    "pc2_done",
    "phase_started",
    "persisted",
    "phase_started",
    "c1_done",
    "phase_started",
    "c2_done",
    "finished",
];

#[tokio::test]
async fn a_sector_goes_from_intent_to_finished_and_leaves_a_free_slot() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let worker = bench.start();
    for number in [1, 2] {
        let sector = manager.offer(number).await;
        manager.see_through(sector, "finished").await;
        manager.assert_gapless(sector);
        assert_eq!(manager.kinds(sector), WHOLE_LIFE);
    }
    // Neither a journal nor other files are left.
    eventually("a free slot", async || bench.left_in(0).is_empty().then_some(())).await;
    let heartbeat = manager.heartbeat_with("a free slot", |seen| seen.slots[0].holding.is_none()).await;
    assert_eq!(
        (heartbeat.host.as_str(), heartbeat.processors.len()),
        ("bench", 17),
        "seven phases, and eight and two readers for proofs"
    );
    assert_eq!(worker.terminate().await, Some(0));
}

#[tokio::test]
async fn what_has_changed_is_told_without_waiting_for_the_next_heartbeat() {
    let server = Server::start();
    let bench = Bench::new(server.url(), 1);
    // With this interval a second regular heartbeat would come too late for the test.
    let config = bench.config().replace("heartbeat_secs = 1", "heartbeat_secs = 90");
    let _worker = Worker::start(&bench.write_config(&config), &bench.path("worker.log"));
    eventually("a refused heartbeat", async || bench.log().contains("heartbeat not stored").then_some(())).await;
    let manager = Manager::connect(&server.url()).await;
    manager.heartbeat_with("the first that is not refused", |seen| seen.slots[0].blocked.is_none()).await;
    manager.order(1, true, &[]).await;
    manager.heartbeat_with("the order", |seen| seen.draining && seen.orders == 1).await;
    manager.order(2, false, &[]).await;
    manager.heartbeat_with("the other order", |seen| !seen.draining && seen.orders == 2).await;

    // A missing store is reported before a sector needs it.
    fs::rename(bench.path("store"), bench.path("away")).expect("renames");
    let seen = manager.heartbeat_with("a blocked slot", |seen| seen.slots[0].blocked.is_some()).await;
    let report = seen.slots[0].blocked.as_ref().expect("blocked");
    assert_eq!((report.class, report.code.clone()), (ErrorClass::Crit, ErrorCode::STORE_UNAVAILABLE));
    fs::rename(bench.path("away"), bench.path("store")).expect("renames");
    manager.heartbeat_with("a free slot", |seen| seen.slots[0].blocked.is_none() && !seen.slots[0].checking).await;
}

#[tokio::test]
async fn a_worker_waits_with_one_pull_a_queue_and_serves_all_its_slots() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 3);
    bench.hold("add_pieces");
    let _worker = bench.start();
    let is_free = |slot: &SlotStatus| !slot.checking && slot.blocked.is_none();
    manager.heartbeat_with("three free slots", |seen| seen.slots.len() == 3 && seen.slots.iter().all(is_free)).await;
    let open = eventually("an open pull", async || Some(server.open_pulls()).filter(|open| *open > 0)).await;
    assert_eq!(open, 1);
    let mut sectors = Vec::new();
    for number in 1..=3 {
        sectors.push(manager.offer(number).await);
    }
    for sector in sectors {
        manager.claimed(sector).await;
    }
}

#[tokio::test]
async fn two_slots_work_at_once_and_a_waiting_slot_holds_no_processor() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 2);
    let _worker = bench.start();
    bench.hold("pc1");
    let first = manager.offer(1).await;
    manager.see_through(first, "ticket_wanted").await;
    manager.answer(first, &EventBody::Seal(seal::Event::TicketWanted { draw: 1 })).await;
    bench.begun("pc1", 1).await;
    let second = manager.offer(2).await;
    manager.event(second, "tree_d_built").await;
    let are_held = |seen: &Heartbeat| {
        let holds = |step| seen.slots.iter().any(|slot| slot.holding.as_ref().is_some_and(|held| held.step == step));
        holds("pc1") && holds("awaiting_pc1_room")
    };
    manager.heartbeat_with("one at work and one that waits for room", are_held).await;
    assert!(!manager.kinds(second).contains(&"ticket_wanted"), "no ticket is drawn while no PC1 processor is free");

    // The first sector completes PC2 and waits; the only PC1 processor works on the second.
    bench.let_go("pc1");
    manager.event(first, "pc2_done").await;
    let wanted = manager.event(second, "ticket_wanted").await;
    manager.answer(second, &wanted).await;
    manager.event(second, "pc2_done").await;
    let seen = manager.heartbeat_with("both waiting", |seen| {
        seen.slots.iter().all(|slot| slot.holding.as_ref().is_some_and(|held| held.step == "awaiting_precommit"))
    });
    assert!(seen.await.processors.iter().all(|processor| !processor.busy), "a waiting slot holds no processor");
    for sector in [first, second] {
        manager.see_through(sector, "finished").await;
        manager.assert_gapless(sector);
    }
}

#[tokio::test]
async fn a_seed_that_moves_cancels_c2_and_c1_is_made_again() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let _worker = bench.start();
    bench.hold("c2");
    let sector = manager.offer(1).await;
    manager.see_through(sector, "c1_done").await;
    bench.begun("c2", 1).await;
    let token = manager.claimed(sector).await;
    manager.tell(sector, Fact::new(token, 0, seal::Fact::Seed { seed: seed(2) })).await;
    bench.begun("c1", 2).await;
    bench.let_go("c2");
    let proven = manager
        .until("the second proof", |manager| {
            manager.events(sector).into_iter().map(|event| event.body).find(|body| body.kind() == "c2_done")
        })
        .await;
    assert!(matches!(proven, EventBody::Seal(seal::Event::C2Done { seed_draw: 2, .. })), "{proven:?}");
    manager.answer(sector, &proven).await;
    manager.event(sector, "finished").await;
    manager.assert_gapless(sector);
}

#[tokio::test]
async fn an_abandoned_sector_is_stopped_cleaned_and_reported() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let _worker = bench.start();
    bench.hold("pc1");
    let sector = manager.offer(1).await;
    let wanted = manager.event(sector, "ticket_wanted").await;
    manager.answer(sector, &wanted).await;
    bench.begun("pc1", 1).await;
    let token = manager.claimed(sector).await;
    let error = sealbus_schema::ErrorReport::new(
        sealbus_schema::ErrorClass::Abort,
        sealbus_schema::ErrorCode::NUMBER_TAKEN,
        "burnt",
    );
    manager.tell(sector, Fact::new(token, 0, CommonFact::Abandon { error })).await;
    manager.event(sector, "aborted").await;
    manager.assert_gapless(sector);
    bench.let_go("pc1");
    let next = manager.offer(2).await;
    manager.see_through(next, "finished").await;
    eventually("a free slot", async || bench.left_in(0).is_empty().then_some(())).await;
}

#[tokio::test]
async fn the_real_stages_bring_a_sector_into_the_store() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let mut bench = Bench::new(server.url(), 1);
    bench.scripted = false;
    // All stages are real except C2, the only one that needs parameters.
    bench.more = bench.scripted_processor("c2");
    let worker = bench.start();
    let sector = manager.offer(7).await;
    let persisted = manager.see_through(sector, "persisted").await;
    let EventBody::Seal(seal::Event::Persisted { stored }) = &persisted else { panic!("{persisted:?}") };
    assert_eq!(stored.store, "main");
    for file in &stored.files {
        assert_eq!(std::fs::metadata(bench.path("store").join(&file.path)).expect("stored").len(), file.bytes);
    }
    assert!(stored.files.iter().any(|file| file.path == "sealed/s-t01000-7"));
    // C1's openings do not need parameters either.
    manager.answer(sector, &persisted).await;
    manager.event(sector, "c1_done").await;
    let token = manager.claimed(sector).await;
    let dir = bench.path("slot0").join(format!("s-t01000-7.{token}"));
    assert!(!dir.join("unsealed").exists(), "the staged data is gone after C1");
    assert!(dir.join("cache/sc-02-data-layer-1.dat").exists(), "the layers stay for a seed that moves");
    manager.assert_gapless(sector);
    assert_eq!(worker.terminate().await, Some(0));
}
