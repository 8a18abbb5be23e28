//! Failures around a worker that is configured correctly.

use sealbus_schema::{
    Commitment, ErrorClass, ErrorCode,
    message::{CommonFact, EventBody, Fact, Heartbeat},
    workflows::seal,
};

use crate::support::{Bench, Manager, Server, eventually, precommit, seed, ticket};

#[tokio::test]
async fn a_worker_that_lost_its_lease_stops_and_quarantines_the_files() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let _worker = bench.start();
    bench.hold("tree_d");
    let sector = manager.offer(1).await;
    bench.begun("tree_d", 1).await;
    let token = manager.claimed(sector).await;
    manager.event(sector, "pieces_added").await;
    manager.until("the second start", |manager| (manager.kinds(sector).len() == 3).then_some(())).await;
    manager.bus.release(sector, token.0, "test").await.expect("releases");
    // The running phase is stopped without waiting for its end.
    let quarantined = bench.path("slot0/quarantine").join(format!("s-t01000-1.{token}"));
    eventually("the quarantine", async || quarantined.is_dir().then_some(())).await;
    eventually("a free slot", async || (!bench.path("slot0/journal").exists()).then_some(())).await;
    eventually("the word of it", async || bench.log().contains("fenced").then_some(())).await;
    bench.let_go("tree_d");
    let next = manager.offer(2).await;
    manager.see_through(next, "finished").await;
    assert_eq!(manager.kinds(sector).len(), 3, "nothing was added after the release");
}

#[tokio::test]
async fn a_blocked_slot_notices_that_its_lease_moved_and_takes_the_next_sector() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let _worker = bench.start();
    bench.fail_once("tree_d", "crit");
    let sector = manager.offer(1).await;
    manager.event(sector, "failed").await;
    let token = manager.claimed(sector).await;
    manager.bus.release(sector, token.0, "elsewhere").await.expect("releases");
    let next = manager.offer(2).await;
    manager.see_through(next, "finished").await;
    assert!(bench.path("slot0/quarantine").join(format!("s-t01000-1.{token}")).is_dir());
}

#[tokio::test]
async fn a_lease_that_moved_while_the_worker_was_down_is_noticed_at_the_start() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let worker = bench.start();
    let sector = manager.offer(1).await;
    manager.event(sector, "ticket_wanted").await;
    worker.kill();
    let token = manager.claimed(sector).await;
    manager.bus.release(sector, token.0, "test").await.expect("releases");
    let _worker = bench.start();
    eventually("the quarantine", async || (bench.left_in(0) == ["quarantine"]).then_some(())).await;
}

#[tokio::test]
async fn work_goes_on_while_the_bus_is_away_and_its_events_follow() {
    let mut server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let _worker = bench.start();
    bench.hold("pc1");
    let sector = manager.offer(1).await;
    let wanted = manager.event(sector, "ticket_wanted").await;
    manager.answer(sector, &wanted).await;
    bench.begun("pc1", 1).await;
    server.stop();
    bench.let_go("pc1");
    // PC2 runs although the end of PC1 could not be reported.
    bench.begun("pc2", 1).await;
    server.start_again();
    drop(manager);
    let mut manager = Manager::connect(&server.url()).await;
    manager.see_through(sector, "finished").await;
    manager.assert_gapless(sector);
}

#[tokio::test]
async fn a_transient_failure_is_tried_again_and_a_permanent_one_blocks_the_slot() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let worker = bench.start();
    bench.fail_once("pc2", "temp");
    let sector = manager.offer(1).await;
    let wanted = manager.event(sector, "ticket_wanted").await;
    manager.answer(sector, &wanted).await;
    let failed = manager.event(sector, "failed").await;
    let error = failed.error().expect("error").clone();
    assert_eq!((error.class, error.code, error.attempt), (ErrorClass::Temp, ErrorCode::IO_FAILED, 1));
    assert_eq!((error.host.as_str(), error.processor.as_deref()), ("bench", Some("pc2-0")));
    assert!(error.slot.ends_with("slot0"));
    let landed = manager.event(sector, "pc2_done").await;
    assert_eq!(bench.starts("pc2"), 2);
    bench.fail_once("transfer", "perm");
    manager.answer(sector, &landed).await;
    let seen = manager.heartbeat_with("a blocked slot", |seen| seen.slots[0].blocked.is_some()).await;
    assert_eq!(seen.slots[0].blocked.as_ref().expect("blocked").class, ErrorClass::Perm);
    manager
        .until("the report", |m| (m.kinds(sector).iter().filter(|k| **k == "failed").count() == 2).then_some(()))
        .await;
    manager.assert_gapless(sector);

    // It stays blocked across a restart, and a person's abandon order ends it.
    worker.kill();
    let _worker = bench.start();
    manager.heartbeat_with("still blocked", |seen| seen.slots[0].blocked.is_some()).await;
    let token = manager.claimed(sector).await;
    manager
        .tell(sector, Fact::new(token, 0, CommonFact::Abandon { error: seen.slots[0].blocked.clone().expect("error") }))
        .await;
    manager.event(sector, "aborted").await;
    manager.assert_gapless(sector);
}

#[tokio::test]
async fn a_ticket_that_is_too_old_is_asked_for_again_before_pc1() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let _worker = bench.start();
    let sector = manager.offer(1).await;
    manager.event(sector, "ticket_wanted").await;
    let token = manager.claimed(sector).await;
    let old = sealbus_schema::parts::Ticket { expires_epoch: 159, ..ticket(1) };
    manager.tell(sector, Fact::new(token, 0, seal::Fact::Ticket { ticket: old })).await;
    let again = manager
        .until("the second draw", |manager| {
            let bodies = manager.events(sector).into_iter().map(|event| event.body);
            bodies.into_iter().find(|body| matches!(body, EventBody::Seal(seal::Event::TicketWanted { draw: 2 })))
        })
        .await;
    assert_eq!(bench.starts("pc1"), 0);
    manager.answer(sector, &again).await;
    manager.event(sector, "pc1_done").await;
    manager.assert_gapless(sector);
}

#[tokio::test]
async fn a_precommit_that_ran_out_is_left_to_a_person() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let _worker = bench.start();
    let sector = manager.offer(1).await;
    manager.see_through(sector, "pc2_done").await;
    let token = manager.claimed(sector).await;
    manager
        .tell(
            sector,
            Fact::new(token, 0, seal::Fact::PrecommitLanded { precommit: precommit(109), stores: Vec::new() }),
        )
        .await;
    let persisted = manager.event(sector, "persisted").await;
    manager.answer(sector, &persisted).await;
    let failed = manager.event(sector, "failed").await;
    let error = failed.error().expect("error");
    assert_eq!((error.class, error.code.clone()), (ErrorClass::Perm, ErrorCode::PRECOMMIT_EXPIRED));
    assert_eq!(bench.starts("c1"), 0);
}

#[tokio::test]
async fn a_stream_that_was_made_anew_is_refused() {
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
    let manager = Manager::connect(&server.url()).await;
    let _worker = bench.start();
    let seen = manager.heartbeat_with("a blocked slot", |seen| seen.slots[0].blocked.is_some()).await;
    assert_eq!(seen.slots[0].blocked.as_ref().expect("blocked").code, ErrorCode::QUEUE_REPLACED);
    assert!(bench.path("slot0/journal").exists(), "nothing is dropped");
}

/// The stream is lost while a slot waits or while it works. What the manager did not know is reported again, and no
/// phase runs again.
async fn goes_on_in_another_stream(killed: bool) {
    let mut server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let mut running = Some(bench.start());
    let sector = manager.offer(1).await;
    manager.see_through(sector, "pc2_done").await;
    let token = manager.claimed(sector).await;
    let lost = manager.bus.sectors_identity().await.expect("reads").as_str().to_owned();
    let reported = manager.events(sector).len() as u64;
    if let Some(worker) = running.take_if(|_| killed) {
        worker.kill();
    }
    drop(manager);
    server.stop_and_forget();
    server.start_again();
    let mut manager = Manager::connect(&server.url()).await;
    let _running = running.unwrap_or_else(|| bench.start());
    let doubt = |seen: &Heartbeat| seen.slots[0].blocked.as_ref().map(|blocked| blocked.code.clone());
    manager.heartbeat_with("doubt", |seen| doubt(seen) == Some(ErrorCode::QUEUE_REPLACED)).await;
    // The manager had not folded that PC2 is done.
    manager.bus.begin_sectors_behind(reported).await.expect("begins");
    manager.reinstate(sector, token, Some(lost.clone()), reported - 1).await;
    manager.event(sector, "pc2_done").await;
    // Nor had it when this stream is recovered once more, and what is in it is deleted.
    manager.bus.begin_sectors_behind(2_000_000).await.expect("begins");
    let mut manager = Manager::connect(&server.url()).await;
    manager.reinstate(sector, token, Some(lost), reported - 1).await;
    let again = manager.event(sector, "pc2_done").await;
    let event = manager.events(sector).pop().expect("an event");
    assert_eq!((event.token, &event.body), (token, &again));
    // It is the next one, or the same again if its acknowledgement went with the server.
    assert!((reported + 1..=reported + 2).contains(&event.number), "{event:?} after {reported}");
    manager
        .tell(
            sector,
            Fact::new(token, 0, seal::Fact::PrecommitLanded { precommit: precommit(100_000), stores: Vec::new() }),
        )
        .await;
    let persisted = manager.event(sector, "persisted").await;
    assert!(matches!(persisted, EventBody::Seal(seal::Event::Persisted { .. })));
    manager.tell(sector, Fact::new(token, 0, seal::Fact::PersistChecked {})).await;
    manager.tell(sector, Fact::new(token, 0, seal::Fact::Seed { seed: seed(1) })).await;
    manager.event(sector, "c2_done").await;
    manager.tell(sector, Fact::new(token, 0, seal::Fact::ProveLanded { activation_epoch: 300 })).await;
    manager.event(sector, "finished").await;
    assert_eq!((bench.starts("pc1"), bench.starts("pc2")), (1, 1), "sealed once");
}

#[tokio::test]
async fn a_slot_goes_on_in_another_stream_where_it_was_once_the_manager_says_so() {
    goes_on_in_another_stream(false).await;
}

#[tokio::test]
async fn a_restarted_slot_goes_on_in_another_stream_where_it_was_once_the_manager_says_so() {
    goes_on_in_another_stream(true).await;
}

#[tokio::test]
async fn a_slot_whose_sector_is_claimed_without_an_offer_waits_for_the_managers_word_and_goes_on() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let worker = bench.start();
    let sector = manager.offer(1).await;
    manager.see_through(sector, "pc2_done").await;
    let token = manager.claimed(sector).await;
    manager.forge_claim(sector, token).await;
    let doubt = |seen: &Heartbeat| seen.slots[0].blocked.as_ref().map(|blocked| blocked.code.clone());
    manager.heartbeat_with("doubt", |seen| doubt(seen) == Some(ErrorCode::LEASE_DISPUTED)).await;
    // A restart does not make it give up either.
    worker.kill();
    let _worker = bench.start();
    manager.heartbeat_with("doubt", |seen| doubt(seen) == Some(ErrorCode::LEASE_DISPUTED)).await;
    manager.reinstate(sector, token, None, 0).await;
    let answer = EventBody::Seal(seal::Event::Pc2Done { comm_r: Commitment([0; 32]), comm_d: Commitment([0; 32]) });
    manager.answer(sector, &answer).await;
    manager.event(sector, "persisted").await;
    assert_eq!((bench.starts("pc1"), bench.starts("pc2")), (1, 1), "sealed once");
    assert!(!bench.path("slot0/quarantine").exists());
    manager.assert_gapless(sector);
}
