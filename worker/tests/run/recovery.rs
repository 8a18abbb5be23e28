//! Nothing is lost and nothing happens twice when a worker comes back.

use sealbus_nats::lease::ClaimOutcome;
use sealbus_schema::{
    ErrorClass, ErrorCode, IntentKind, Token,
    error::Exit,
    message::{CommonFact, EventBody, Fact, Intent},
};

use crate::support::{Bench, Manager, PROOF, Server, Worker, eventually};

#[tokio::test]
async fn a_claim_without_a_journal_is_found_again_with_its_intent() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let sector = manager.offer(1).await;
    // As if the worker had been killed right after its claim was stored.
    let intent = Intent { sector, kind: IntentKind::Seal, proof: PROOF, lease_sequence: 0, attempt: 1 };
    let outcome = manager.bus.claim(&intent, &manager.worker, "bench").await.expect("claims");
    let ClaimOutcome::Won(token) = outcome else { panic!("{outcome:?}") };
    let _worker = bench.start();
    manager.see_through(sector, "finished").await;
    manager.assert_gapless(sector);
    assert!(manager.events(sector).iter().all(|event| event.token == token), "under the token of that claim");
}

#[tokio::test]
async fn a_late_copy_of_a_finished_sectors_intent_begins_nothing_after_a_restart() {
    let mut server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let worker = bench.start();
    let finished = manager.offer(1).await;
    manager.see_through(finished, "finished").await;
    eventually("a free slot", async || (!bench.path("slot0/journal").exists()).then_some(())).await;
    let events = manager.events(finished).len();
    worker.kill();
    // The lease still belongs to the worker. A restarted server delivers the same intent again.
    drop(manager);
    server.stop();
    server.start_again();
    let mut manager = Manager::connect(&server.url()).await;
    manager.offer(1).await;
    let _worker = bench.start();
    eventually("the late copy", async || bench.log().contains("not claimed").then_some(())).await;
    let next = manager.offer(2).await;
    manager.see_through(next, "finished").await;
    assert_eq!(manager.events(finished).len(), events, "nothing was reported again");
    assert_eq!(bench.starts("add_pieces"), 2, "one a sector");
}

#[tokio::test]
async fn what_blocks_after_its_last_try_says_how_each_try_failed() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    bench.let_die("tree_d");
    let config = bench.config().replace("heartbeat_secs", "max_retries = 1\nheartbeat_secs");
    let _worker = Worker::start(&bench.write_config(&config), &bench.path("worker.log"));
    let sector = manager.offer(1).await;
    let error = manager
        .until("the last try", |manager| {
            let bodies: Vec<EventBody> = manager.events(sector).into_iter().map(|event| event.body).collect();
            bodies.iter().filter_map(|body| body.error()).find(|error| error.class == ErrorClass::Perm).cloned()
        })
        .await;
    assert_eq!((error.code.clone(), error.attempt), (ErrorCode::PROCESSOR_DIED, 2));
    assert!(error.message().contains("still failing after 2 tries"), "{}", error.message());
    assert!(error.message().contains("try 1 failed with PROCESSOR_DIED"), "{}", error.message());
    assert_eq!(error.phase.map(|phase| phase.name()), Some("tree_d"));
    assert_eq!((error.processor.as_deref(), error.exit), (Some("tree_d-0"), Some(Exit::Status(7))));
    assert_eq!((error.host.as_str(), error.slot.ends_with("slot0")), ("bench", true));
    assert!(error.stderr_tail.contains("the last words of tree_d"), "{}", error.stderr_tail);
    assert!(manager.claimed(sector).await > Token(0));
}

#[tokio::test]
async fn a_persons_word_lets_a_blocked_sector_go_on_once() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let worker = bench.start();
    bench.fail_once("pc2", "perm");
    let sector = manager.offer(1).await;
    manager.see_through(sector, "failed").await;
    worker.kill();
    let token = manager.claimed(sector).await;
    // The fact arrives while nobody listens.
    manager.tell(sector, Fact::new(token, 1, CommonFact::Resubmit { from: None })).await;
    manager.serial = 1;
    let worker = bench.start();
    manager.event(sector, "pc2_done").await;
    worker.kill();
    let _worker = bench.start();
    manager.see_through(sector, "finished").await;
    manager.assert_gapless(sector);
    assert_eq!(bench.starts("pc2"), 2, "the same word, read again, does nothing");
}
