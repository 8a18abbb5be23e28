//! `kill -9` and SIGTERM at every point of a sector's life.

use std::time::{Duration, Instant};

use sealbus_schema::message::EventBody;

use crate::support::{Bench, Manager, Server};

#[tokio::test]
async fn killed_in_every_phase_the_worker_goes_on_under_the_same_token() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let mut worker = bench.start();
    let sector = manager.offer(1).await;
    for (stage, done) in [
        ("add_pieces", "pieces_added"),
        ("tree_d", "tree_d_built"),
        ("pc1", "pc1_done"),
        ("pc2", "pc2_done"),
        ("transfer", "persisted"),
        ("c1", "c1_done"),
        ("c2", "c2_done"),
    ] {
        // The hold is in place before the phase can begin. That covers the first phase, and every phase that follows an
        // answer of the manager.
        bench.hold(stage);
        if stage == "add_pieces" {
            worker.kill();
            worker = bench.start();
        }
        answer_last(&mut manager, sector).await;
        bench.begun(stage, 1).await;
        worker.kill();
        worker = bench.start();
        bench.begun(stage, 2).await;
        hold_next(&bench, stage);
        bench.let_go(stage);
        manager.event(sector, done).await;
        manager.assert_gapless(sector);
    }
    answer_last(&mut manager, sector).await;
    manager.event(sector, "finished").await;
    manager.assert_gapless(sector);
    drop(worker);
    let claims = manager.records.iter().filter(|(_, record)| matches!(record, sealbus_nats::log::Record::Lease { .. }));
    assert_eq!(claims.count(), 1, "claimed once");
}

/// The next phase may begin at once, so its hold must already be in place.
fn hold_next(bench: &Bench, stage: &str) {
    let next = match stage {
        "add_pieces" => "tree_d",
        "pc1" => "pc2",
        "c1" => "c2",
        _ => return,
    };
    bench.hold(next);
}

/// Gives whatever answer the worker waits for.
async fn answer_last(manager: &mut Manager, sector: sealbus_schema::SectorId) {
    let kinds = manager.kinds(sector);
    let asked = match kinds.last() {
        Some(&"tree_d_built" | &"ticket_wanted") => "ticket_wanted",
        Some(&("pc2_done" | "persisted" | "c2_done")) => kinds[kinds.len() - 1],
        _ => return,
    };
    let body = manager.event(sector, asked).await;
    manager.answer(sector, &body).await;
}

#[tokio::test]
async fn killed_while_it_waits_the_worker_takes_the_answer_after_the_restart() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let mut worker = bench.start();
    let sector = manager.offer(1).await;
    for step in ["ticket_wanted", "pc2_done", "persisted", "c2_done"] {
        let body = manager.event(sector, step).await;
        worker.kill();
        // The answer arrives while nobody listens.
        manager.answer(sector, &body).await;
        worker = bench.start();
    }
    manager.event(sector, "finished").await;
    manager.assert_gapless(sector);
    for stage in ["add_pieces", "tree_d", "pc1", "pc2", "transfer", "c1", "c2"] {
        assert_eq!(bench.starts(stage), 1, "{stage} is not repeated");
    }
}

#[tokio::test]
async fn killed_at_random_moments_the_worker_skips_and_repeats_no_event() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let sector = manager.offer(1).await;
    let mut worker = bench.start();
    let mut answered = 0;
    // The pauses fall into all points between the worker's steps. The test does not depend on which.
    for pause in (0..40).map(|turn: u64| 60 + turn * 97 % 400) {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        worker.kill();
        worker = bench.start();
        let deadline = Instant::now() + Duration::from_millis(100);
        manager.until("a while", |_| (Instant::now() > deadline).then_some(())).await;
        let events = manager.events(sector);
        for event in &events[answered..] {
            let body: EventBody = event.body.clone();
            manager.answer(sector, &body).await;
        }
        answered = events.len();
    }
    manager.see_through(sector, "finished").await;
    manager.assert_gapless(sector);
}

#[tokio::test]
async fn a_signal_stops_the_worker_at_once_and_it_resumes() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let worker = bench.start();
    bench.hold("pc1");
    let sector = manager.offer(1).await;
    let wanted = manager.event(sector, "ticket_wanted").await;
    manager.answer(sector, &wanted).await;
    bench.begun("pc1", 1).await;
    let asked = Instant::now();
    assert_eq!(worker.terminate().await, Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    bench.let_go("pc1");
    let _worker = bench.start();
    manager.see_through(sector, "finished").await;
    manager.assert_gapless(sector);
}
