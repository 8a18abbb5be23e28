//! The fold of a real log into real databases.

mod databases;
#[path = "../../nats/tests/support/mod.rs"]
mod support;

use std::time::Duration;

use databases::TestDatabase;
use sealbus_manager::{
    fold::{self, Fold, FoldError},
    outbox,
    store::{Sector, Store},
};
use sealbus_nats::{Bus, lease::ClaimOutcome};
use sealbus_schema::{
    MinerId, Plan, SealProof, SectorId, SectorNumber, Token, WorkerName,
    message::{Event, EventBody, Intent},
    seal::manager::{AttemptPolicy, State},
};
use support::{Server, eventually};
use tokio::sync::Notify;

const ID: SectorId = SectorId { miner: MinerId(1000), number: SectorNumber(1) };

on_every_database! {
    events_take_effect_once_over_restarts_and_a_stale_owner_has_none,
    the_release_of_an_unfinished_sector_puts_the_next_intent_into_the_queue,
    a_claim_of_a_sector_that_was_not_offered_is_taken_back,
    a_log_that_was_made_anew_is_refused,
}

fn worker(name: &str) -> WorkerName {
    name.parse().expect("worker name")
}

fn intent(lease_sequence: u64) -> Intent {
    Intent { sector: ID, plan: Plan::Seal, proof: SealProof::StackedDrg2KiBV1_1, lease_sequence, attempt: 1 }
}

async fn won(bus: &Bus, lease_sequence: u64, name: &str) -> Token {
    match bus.claim(&intent(lease_sequence), &worker(name), "host").await.expect("an outcome") {
        ClaimOutcome::Won(token) => token,
        ClaimOutcome::Lost => panic!("{name} lost"),
    }
}

async fn report(bus: &Bus, name: &str, token: Token, number: u64, body: EventBody) {
    bus.report(ID, &worker(name), &Event { token, number, body }).await.expect("stored");
}

/// Folds until a condition holds, then ends as if killed: nothing is acknowledged in good order.
async fn fold_until(bus: &Bus, store: &Store, epoch: i64, done: impl Fn(&Sector) -> bool) {
    let changed = Notify::new();
    let fold = Fold { bus, store, epoch, policy: AttemptPolicy { max_attempts: 3, max_issues: 5 }, changed: &changed };
    let done = eventually("the folded state", || async {
        store.sector(ID).await.expect("reads").filter(|sector| done(sector)).map(drop)
    });
    tokio::select! {
        ended = fold.run() => panic!("the fold ended: {ended:?}"),
        () = done => {}
    }
}

async fn events_take_effect_once_over_restarts_and_a_stale_owner_has_none(database: TestDatabase) {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let store = database.open().await;
    let epoch = fold::take_over(&bus, &store).await.expect("takes over");
    let mut tx = store.begin().await.expect("begins");
    tx.insert_sector(ID, SealProof::StackedDrg2KiBV1_1).await.expect("inserts");
    tx.commit().await.expect("commits");

    let first = won(&bus, 0, "w1").await;
    report(&bus, "w1", first, 1, EventBody::PiecesAdded { pieces: vec![] }).await;
    report(&bus, "w1", first, 2, EventBody::TicketWanted { draw: 1 }).await;
    fold_until(&bus, &store, epoch, |s| s.state == State::DrawingTicket { draw: 1 }).await;
    let lines = store.history(ID).await.expect("reads").len();

    // A restarted manager reads the log again from its offset, and not from its beginning.
    let epoch = fold::take_over(&bus, &store).await.expect("takes over");
    let released = bus.release(ID, first.0, "a test").await.expect("releases");
    fold_until(&bus, &store, epoch, |s| s.state == State::Queued).await;
    let history = store.history(ID).await.expect("reads");
    assert_eq!(history.len(), lines + 1, "{history:#?}");

    // What a stale owner wrote without the fence stays without effect, and is on record.
    let raw = async_nats::jetstream::new(async_nats::connect(server.url()).await.expect("connects"));
    let forged = Event { token: first, number: 3, body: EventBody::TicketWanted { draw: 2 } };
    let payload = sealbus_schema::codec::encode(&forged).expect("packs");
    raw.publish("seal.sector.f01000.1.ev.w1", payload.into()).await.expect("sends").await.expect("is stored");
    let second = won(&bus, released, "w2").await;
    fold_until(&bus, &store, epoch, |s| s.state == State::Packing).await;
    let sector = store.sector(ID).await.expect("reads").expect("exists");
    assert_eq!((sector.attempt, sector.ownership.last_lease()), (2, second.0));
    let fenced = store.history(ID).await.expect("reads").into_iter().filter(|e| e.verdict == "fenced").count();
    assert_eq!(fenced, 1);
}

async fn the_release_of_an_unfinished_sector_puts_the_next_intent_into_the_queue(database: TestDatabase) {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let store = database.open().await;
    let epoch = fold::take_over(&bus, &store).await.expect("takes over");
    let mut tx = store.begin().await.expect("begins");
    tx.insert_sector(ID, SealProof::StackedDrg2KiBV1_1).await.expect("inserts");
    tx.commit().await.expect("commits");
    bus.ensure_queue(ID.miner, SealProof::StackedDrg2KiBV1_1, Plan::Seal).await.expect("queue");

    let token = won(&bus, 0, "w1").await;
    let released = bus.release(ID, token.0, "a test").await.expect("releases");
    fold_until(&bus, &store, epoch, |s| s.state == State::Queued && s.attempt == 2).await;
    let changed = Notify::new();
    let queue =
        sealbus_nats::intents::Queue { miner: ID.miner, proof: SealProof::StackedDrg2KiBV1_1, plan: Plan::Seal };
    let queues = [queue];
    let offer = tokio::select! {
        ended = outbox::run(&bus, &store, epoch, &changed) => panic!("the outbox ended: {ended:?}"),
        offer = tokio::time::timeout(Duration::from_secs(30), bus.next_intent(&queues)) => offer,
    };
    let offer = offer.expect("in time").expect("an intent");
    assert_eq!((offer.intent.lease_sequence, offer.intent.attempt), (released, 2));
}

async fn a_claim_of_a_sector_that_was_not_offered_is_taken_back(database: TestDatabase) {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let store = database.open().await;
    let epoch = fold::take_over(&bus, &store).await.expect("takes over");
    let mut tx = store.begin().await.expect("begins");
    tx.insert_sector(ID, SealProof::StackedDrg2KiBV1_1).await.expect("inserts");
    tx.commit().await.expect("commits");
    let first = won(&bus, 0, "w1").await;
    // It knows the last lease's number, so the server lets it.
    let thief = won(&bus, first.0, "w2").await;
    fold_until(&bus, &store, epoch, |s| s.ownership.last_lease() == thief.0).await;
    let rows = store.outbox(0, 10).await.expect("reads");
    assert!(rows.iter().any(|row| row.lease_sequence == thief.0), "{rows:#?}");
}

async fn a_log_that_was_made_anew_is_refused(database: TestDatabase) {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let store = database.open().await;
    fold::take_over(&bus, &store).await.expect("takes over");
    let other_server = Server::start();
    let other = other_server.connect_with_streams("manager").await;
    assert!(matches!(fold::take_over(&other, &store).await, Err(FoldError::OtherStream { .. })));
}
