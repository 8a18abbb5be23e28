//! A database that is older than the log learns from the log what was decided after its backup.

use sealbus_manager::fold::Recall;
use sealbus_schema::{
    Commitment,
    message::{CommonFact, Fact, FactBody},
    parts::PreCommitInfo,
};

use super::*;

on_every_database! {
    a_database_that_is_older_than_the_log_learns_from_it_what_was_decided,
    a_fact_that_the_backup_had_still_to_publish_is_not_published_again,
    a_database_that_was_set_back_is_noticed_and_one_that_was_not_is_left_alone,
    a_log_that_ends_before_the_database_is_refused,
    sectors_are_found_in_the_queue_whoever_has_them_in_hand,
}

const PROOF: SealProof = SealProof::StackedDrg2KiBV1_1;

fn ticket(draw: u32) -> Ticket {
    let randomness = sealbus_schema::Randomness([draw as u8; 32]);
    Ticket { draw, randomness, epoch: 1, expires_epoch: 9000, head_epoch: 1, epoch_millis: 1 }
}

async fn tell(bus: &Bus, id: SectorId, name: &str, token: Token, serial: u32, body: impl Into<FactBody>) {
    let fact = Fact::new(token, serial, body);
    bus.tell(id, &worker(name), &fact, &format!("{id}-{fact:?}")).await.expect("stored");
}

/// Lets a restored database read the whole log.
async fn recall(bus: &Bus, store: &Store) {
    let mut tx = store.begin().await.expect("begins");
    tx.mark_restored(Some("2026-11-28T08:00:00Z")).await.expect("marks");
    let until = bus.sectors_last_sequence().await.expect("reads");
    tx.catch_up_until(until).await.expect("notes");
    tx.commit().await.expect("commits");
    let epoch = fold::take_over(bus, store).await.expect("takes over");
    let changed = Wake::default();
    let fold = Fold { bus, store, epoch, policy: POLICY, changed: &changed };
    let proof_of = |sector: SectorId| (sector.number.0 < 100).then_some(PROOF);
    fold.recall(&Recall { until, seed_delay: 10, proof_of: &proof_of }).await.expect("reads the log");
    let folded = store.fold_state().await.expect("reads").expect("a fold");
    assert_eq!(folded.last_sequence, until);
}

async fn set_up(database: &TestDatabase) -> (Server, Bus, Store) {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let store = database.open().await;
    fold::take_over(&bus, &store).await.expect("takes over");
    (server, bus, store)
}

async fn a_database_that_is_older_than_the_log_learns_from_it_what_was_decided(database: TestDatabase) {
    let (_server, bus, store) = set_up(&database).await;
    let mut tx = store.begin().await.expect("begins");
    tx.insert_sector(ID, PROOF).await.expect("inserts");
    tx.add_pledge("f01000", 5, "test").await.expect("pledges");
    tx.commit().await.expect("commits");

    // Everything from here on happens after the backup. The first sector comes to its PreCommit, whose owner is lost; the
    // manager had the sector sealed again as a new attempt, because nothing was signed.
    let first = won(&bus, 0, "w1").await;
    report(&bus, "w1", first, 1, EventBody::Seal(seal::Event::TicketWanted { draw: 1 })).await;
    tell(&bus, ID, "w1", first, 0, seal::Fact::Ticket { ticket: ticket(1) }).await;
    let (comm_r, comm_d) = (Commitment([1; 32]), Commitment([2; 32]));
    report(&bus, "w1", first, 2, EventBody::Seal(seal::Event::Pc2Done { comm_r, comm_d })).await;
    let released = bus.release(ID, first.0, "it is gone").await.expect("releases");
    let again = Intent { attempt: 2, ..intent_of(ID, released) };
    let second = match bus.claim(&again, &worker("w2"), "host").await.expect("an outcome") {
        ClaimOutcome::Won(token) => token,
        ClaimOutcome::Lost => panic!("w2 lost"),
    };
    report(&bus, "w2", second, 1, EventBody::Seal(seal::Event::TicketWanted { draw: 1 })).await;
    tell(&bus, ID, "w2", second, 0, seal::Fact::Ticket { ticket: ticket(1) }).await;
    // The second sector has its number only since then, and lands.
    let token = won_of(&bus, sector(2), 0, "w1").await;
    report_of(&bus, sector(2), "w1", token, 1, EventBody::Seal(seal::Event::TicketWanted { draw: 1 })).await;
    tell(&bus, sector(2), "w1", token, 0, seal::Fact::Ticket { ticket: ticket(1) }).await;
    report_of(&bus, sector(2), "w1", token, 2, EventBody::Seal(seal::Event::Pc2Done { comm_r, comm_d })).await;
    let precommit = PreCommitInfo { epoch: 30, prove_by_epoch: 9000, head_epoch: 31, epoch_millis: 1 };
    let landed = seal::Fact::PrecommitLanded { precommit, stores: vec![] };
    tell(&bus, sector(2), "w1", token, 0, landed).await;
    // The third one was given up by a person. The last number is of another tool.
    let token = won_of(&bus, sector(3), 0, "w1").await;
    let error = ErrorReport::new(ErrorClass::Abort, ErrorCode::ABANDONED, "a person");
    tell(&bus, sector(3), "w1", token, 0, CommonFact::Abandon { error }).await;
    won_of(&bus, sector(100), 0, "w1").await;

    recall(&bus, &store).await;
    let job = async |number| store.sector(sector(number)).await.expect("reads");
    let one = job(1).await.expect("known");
    assert_eq!((one.state.name(), one.attempt, one.ownership.lease()), ("sealing", 2, second.0));
    let two = job(2).await.expect("found");
    let State::Persisting(known) = two.state.seal().expect("a sealing") else { panic!("{two:?}") };
    assert_eq!((known.precommit, known.sealed.comm_r, two.signed), (precommit, comm_r, true));
    assert_eq!(job(3).await.expect("found").state.name(), "abandoning");
    assert_eq!(job(100).await, None, "its number is not ours");
    let pledges = store.open_pledges().await.expect("reads");
    assert_eq!(
        pledges.iter().map(|pledge| pledge.remaining).collect::<Vec<_>>(),
        [3],
        "two numbers were of the pledge"
    );
    let history = store.history(sector(2)).await.expect("reads");
    assert_eq!((history[0].happening.kind.as_str(), &history[0].happening.detail["where"]), ("found", &json!("log")));
    let rows = store.outbox(0, 100).await.expect("reads");
    let facts = rows.iter().filter(|row| matches!(row.kind, sealbus_manager::store::OutboxKind::Fact { .. }));
    assert_eq!(facts.count(), 0, "what was told is not told again");
}

async fn a_fact_that_the_backup_had_still_to_publish_is_not_published_again(database: TestDatabase) {
    let (_server, bus, store) = set_up(&database).await;
    let (_, token) = claimed(&bus, &store, 1..=1).await[0];
    report(&bus, "w1", token, 1, EventBody::Seal(seal::Event::TicketWanted { draw: 1 })).await;
    let epoch = fold::take_over(&bus, &store).await.expect("takes over");
    fold_until(&bus, &store, epoch, |s| s.state.name() == "drawing_ticket").await;
    let mut tx = store.begin_as(epoch).await.expect("begins");
    let job = tx.sector(ID).await.expect("reads").expect("exists");
    let happening = Happening::of_manager("ticket_drawn", json!({}));
    life::apply(&mut tx, job, Input::from(Answer::TicketDrawn(ticket(1))), happening, POLICY).await.expect("applies");
    tx.commit().await.expect("commits");
    assert_eq!(store.outbox(0, 100).await.expect("reads").len(), 1, "the backup is made now");

    tell(&bus, ID, "w1", token, 0, seal::Fact::Ticket { ticket: ticket(1) }).await;
    report(&bus, "w1", token, 2, EventBody::Seal(seal::Event::TicketWanted { draw: 2 })).await;
    tell(&bus, ID, "w1", token, 0, seal::Fact::Ticket { ticket: ticket(2) }).await;
    recall(&bus, &store).await;
    assert_eq!(store.outbox(0, 100).await.expect("reads"), [], "the first ticket would hide the second");
    let job = store.sector(ID).await.expect("reads").expect("exists");
    assert_eq!(job.state.seal(), Some(&State::Sealing { ticket: ticket(2) }));
}

async fn a_database_that_was_set_back_is_noticed_and_one_that_was_not_is_left_alone(database: TestDatabase) {
    let (_server, bus, store) = set_up(&database).await;
    claimed(&bus, &store, 1..=1).await;
    let epoch = fold::take_over(&bus, &store).await.expect("takes over");
    let read = eventually("what was read", || async {
        // The reader is made anew when the log is opened.
        bus.sectors_read().await.is_ok_and(|read| read == 1).then_some(())
    });
    fold_while(&bus, &store, epoch, read).await;
    fold::take_over(&bus, &store).await.expect("takes over");
    assert_eq!(store.restored().await.expect("reads"), None);

    let mut tx = store.begin().await.expect("begins");
    let folded = tx.fold_state().await.expect("reads").expect("a fold");
    tx.move_offset(folded.epoch, 1, 0).await.expect("sets it back");
    tx.commit().await.expect("commits");
    fold::take_over(&bus, &store).await.expect("takes over");
    let restored = store.restored().await.expect("reads").expect("is noticed");
    assert_eq!((restored.log_until, restored.log_is_read), (None, false));
}

async fn a_log_that_ends_before_the_database_is_refused(database: TestDatabase) {
    let (_server, bus, store) = set_up(&database).await;
    let mut tx = store.begin().await.expect("begins");
    let folded = tx.fold_state().await.expect("reads").expect("a fold");
    tx.move_offset(folded.epoch, 0, 7).await.expect("moves");
    tx.commit().await.expect("commits");
    let refused = fold::take_over(&bus, &store).await.expect_err("the log ends with 0");
    assert!(matches!(refused, FoldError::LogIsOlder { last: 0, folded: 7 }), "{refused}");
}

async fn sectors_are_found_in_the_queue_whoever_has_them_in_hand(database: TestDatabase) {
    let (_server, bus, _store) = set_up(&database).await;
    bus.ensure_queue(ID.miner, PROOF, IntentKind::Seal).await.expect("queue");
    for number in 1..=3 {
        bus.offer(&intent_of(sector(number), 0)).await.expect("offers");
    }
    let queue = sealbus_nats::intents::Queue { miner: ID.miner, proof: PROOF, kind: IntentKind::Seal };
    let in_hand = bus.next_intent(&[queue]).await.expect("an intent");
    let known = sector(2);
    let mut found = bus.queued_intents(async |sector| sector != known).await.expect("reads");
    found.sort_by_key(|intent| intent.sector);
    assert_eq!(found, [intent_of(sector(1), 0), intent_of(sector(3), 0)]);
    in_hand.accept().await.expect("accepts");
    let left = bus.queued_intents(async |_| true).await.expect("reads").len();
    assert_eq!(left, 2, "what was accepted is in the log");
}
