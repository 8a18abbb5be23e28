//! The fold of a real log into real databases.

#[path = "fold/broken.rs"]
mod broken;
mod databases;
#[path = "fold/recall.rs"]
mod recall;
#[path = "../../nats/tests/support/mod.rs"]
mod support;

use std::{cell::Cell, ops::RangeInclusive, time::Duration};

use async_nats::jetstream;
use databases::TestDatabase;
use futures::{FutureExt, future};
use sealbus_manager::{
    fold::{self, Fold, FoldError},
    life, outbox,
    store::{Happening, Job, Outcome, Store, Verdict},
    waits::Waits,
    wake::Wake,
};
use sealbus_nats::{
    Bus,
    lease::{ClaimOutcome, Lease},
    publish::PublishError,
};
use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, IntentKind, MinerId, Phase, SealProof, SectorId, SectorNumber, Token,
    WorkerName,
    lease::{Ownership, Right, Standing},
    machine::manager::AttemptPolicy,
    message::{CommonEvent, Event, EventBody, Intent, LeaseRecord},
    parts::Ticket,
    workflows::{
        Input,
        seal::{
            self,
            manager::{Answer, State},
        },
    },
};
use serde_json::json;
use support::{Server, eventually};

const ID: SectorId = SectorId { miner: MinerId(1000), number: SectorNumber(1) };

on_every_database! {
    events_take_effect_once_over_restarts_and_a_stale_owner_has_none,
    the_release_of_an_unfinished_sector_puts_the_next_intent_into_the_queue,
    a_claim_without_an_offer_has_no_effect_and_the_owner_goes_on,
    a_flood_of_records_of_somebody_else_is_told_a_few_times,
    a_sector_that_was_claimed_before_it_was_offered_is_offered_behind_that,
    a_log_that_was_made_anew_is_refused,
    a_log_that_is_made_anew_after_the_takeover_is_not_folded,
    what_another_process_did_meanwhile_decides_what_a_report_does,
    a_sector_that_another_process_pledged_is_folded_with_the_others,
    reports_are_folded_once_while_another_process_changes_their_sectors,
}

const POLICY: AttemptPolicy = AttemptPolicy { max_attempts: 3, max_issues: 5 };

fn sector(number: u64) -> SectorId {
    SectorId { miner: ID.miner, number: SectorNumber(number) }
}

fn worker(name: &str) -> WorkerName {
    name.parse().expect("worker name")
}

fn intent_of(sector: SectorId, lease_sequence: u64) -> Intent {
    Intent { sector, kind: IntentKind::Seal, proof: SealProof::StackedDrg2KiBV1_1, lease_sequence, attempt: 1 }
}

async fn won(bus: &Bus, lease_sequence: u64, name: &str) -> Token {
    won_of(bus, ID, lease_sequence, name).await
}

async fn won_of(bus: &Bus, sector: SectorId, lease_sequence: u64, name: &str) -> Token {
    match bus.claim(&intent_of(sector, lease_sequence), &worker(name), "host").await.expect("an outcome") {
        ClaimOutcome::Won(token) => token,
        ClaimOutcome::Lost => panic!("{name} lost"),
    }
}

async fn report(bus: &Bus, name: &str, token: Token, number: u64, body: EventBody) {
    report_of(bus, ID, name, token, number, body).await;
}

async fn report_of(bus: &Bus, sector: SectorId, name: &str, token: Token, number: u64, body: EventBody) {
    bus.report(sector, &worker(name), &Event { token, number, body }).await.expect("stored");
}

/// Pledges sectors, and has worker `w1` claim each of them.
async fn claimed(bus: &Bus, store: &Store, numbers: RangeInclusive<u64>) -> Vec<(SectorId, Token)> {
    let mut tx = store.begin().await.expect("begins");
    let mut claims = Vec::new();
    for id in numbers.map(sector) {
        tx.insert_sector(id, SealProof::StackedDrg2KiBV1_1).await.expect("inserts");
        claims.push((id, won_of(bus, id, 0, "w1").await));
    }
    tx.commit().await.expect("commits");
    claims
}

/// Folds until a condition holds, then stops as if killed, without acknowledging anything.
async fn fold_until(bus: &Bus, store: &Store, epoch: i64, done: impl Fn(&Job) -> bool) {
    let done = eventually("the folded state", || async {
        store.sector(ID).await.expect("reads").filter(|sector| done(sector)).map(drop)
    });
    fold_while(bus, store, epoch, done).await;
}

/// Folds everything in the log.
async fn fold_all(bus: &Bus, store: &Store, epoch: i64, js: &jetstream::Context) {
    let last = js.get_stream("SEAL_SECTORS").await.expect("the stream").cached_info().state.last_sequence;
    let done = eventually("the end of the log", || async {
        store.fold_state().await.expect("reads").filter(|fold| fold.last_sequence == last).map(drop)
    });
    fold_while(bus, store, epoch, done).await;
}

async fn fold_while(bus: &Bus, store: &Store, epoch: i64, done: impl Future<Output = ()>) {
    let changed = Wake::default();
    let fold = Fold { bus, store, epoch, policy: POLICY, changed: &changed };
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
    report(&bus, "w1", first, 1, EventBody::Seal(seal::Event::PiecesAdded { pieces: vec![] })).await;
    report(&bus, "w1", first, 2, EventBody::Seal(seal::Event::TicketWanted { draw: 1 })).await;
    fold_until(&bus, &store, epoch, |s| s.state.seal() == Some(&State::DrawingTicket { draw: 1 })).await;
    let lines = store.history(ID).await.expect("reads").len();

    // A restarted manager continues reading at its stored offset, not at the beginning of the log.
    let epoch = fold::take_over(&bus, &store).await.expect("takes over");
    let released = bus.release(ID, first.0, "a test").await.expect("releases");
    fold_until(&bus, &store, epoch, |s| s.state.seal() == Some(&State::Queued)).await;
    let history = store.history(ID).await.expect("reads");
    assert_eq!(history.len(), lines + 1, "{history:#?}");

    // A record that a stale owner wrote without the fence has no effect, but is recorded in the history.
    let raw = async_nats::jetstream::new(async_nats::connect(server.url()).await.expect("connects"));
    let forged = Event { token: first, number: 3, body: EventBody::Seal(seal::Event::TicketWanted { draw: 2 }) };
    let payload = sealbus_schema::codec::encode(&forged).expect("packs");
    raw.publish("seal.sector.f01000.1.ev.w1", payload.into()).await.expect("sends").await.expect("is stored");
    let second = won(&bus, released, "w2").await;
    fold_until(&bus, &store, epoch, |s| s.state.seal() == Some(&State::Packing)).await;
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
    bus.ensure_queue(ID.miner, SealProof::StackedDrg2KiBV1_1, IntentKind::Seal).await.expect("queue");

    let token = won(&bus, 0, "w1").await;
    let released = bus.release(ID, token.0, "a test").await.expect("releases");
    fold_until(&bus, &store, epoch, |s| s.state.seal() == Some(&State::Queued) && s.attempt == 2).await;
    let changed = Wake::default();
    let waits = Waits::load(&store, epoch).await.expect("loads");
    let queue =
        sealbus_nats::intents::Queue { miner: ID.miner, proof: SealProof::StackedDrg2KiBV1_1, kind: IntentKind::Seal };
    let queues = [queue];
    let offer = tokio::select! {
        ended = outbox::run(&bus, &store, epoch, &changed, &waits) => panic!("the outbox ended: {ended:?}"),
        offer = tokio::time::timeout(Duration::from_secs(30), bus.next_intent(&queues)) => offer,
    };
    let offer = offer.expect("in time").expect("an intent");
    assert_eq!((offer.intent.lease_sequence, offer.intent.attempt), (released, 2));
}

/// Publishes the outbox while the log is folded, until the last lease record in the log satisfies `like`.
async fn settle(bus: &Bus, store: &Store, epoch: i64, like: impl Fn(&Lease) -> bool) {
    let settled = eventually("the manager's word", || async {
        bus.last_lease(ID).await.expect("reads").filter(|lease| lease.owner.is_none() && like(lease)).map(drop)
    });
    work_while(bus, store, epoch, settled).await;
}

/// Folds the log and publishes whatever the outbox has until something is done.
async fn work_while(bus: &Bus, store: &Store, epoch: i64, done: impl Future<Output = ()>) {
    let changed = Wake::default();
    let waits = Waits::load(store, epoch).await.expect("loads");
    let publishing = async {
        tokio::select! {
            ended = outbox::run(bus, store, epoch, &changed, &waits) => panic!("the outbox ended: {ended:?}"),
            () = done => {}
        }
    };
    fold_while(bus, store, epoch, publishing).await;
}

async fn a_claim_without_an_offer_has_no_effect_and_the_owner_goes_on(database: TestDatabase) {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let js = jetstream::new(async_nats::connect(server.url()).await.expect("connects"));
    let store = database.open().await;
    let epoch = fold::take_over(&bus, &store).await.expect("takes over");
    let (_, first) = claimed(&bus, &store, 1..=1).await[0];
    report(&bus, "w1", first, 1, EventBody::Seal(seal::Event::TicketWanted { draw: 1 })).await;
    fold_until(&bus, &store, epoch, |s| s.state.seal() == Some(&State::DrawingTicket { draw: 1 })).await;

    // The thief knows the number of the last lease record, so the server accepts its claim. Then come two records
    // without that number, which are not even valid.
    let thief = won(&bus, first.0, "w2").await;
    for _ in 0..2 {
        js.publish("seal.sector.f01000.1.lease.w2", "mine".into()).await.expect("sends").await.expect("is stored");
    }
    // Facts and orders for the owner follow the manager's statement of ownership.
    let mut tx = store.begin_as(epoch).await.expect("begins");
    let sector = tx.sector(ID).await.expect("reads").expect("exists");
    let randomness = sealbus_schema::Randomness([3; 32]);
    let ticket = Ticket { draw: 1, randomness, epoch: 1, expires_epoch: 9, head_epoch: 1, epoch_millis: 1 };
    let happening = Happening::of_manager("ticket_drawn", json!({}));
    life::apply(&mut tx, sector, Input::from(Answer::TicketDrawn(ticket)), happening, POLICY).await.expect("applies");
    tx.commit().await.expect("commits");
    settle(&bus, &store, epoch, |lease| matches!(lease.record, LeaseRecord::Reinstate { .. })).await;

    let w1 = worker("w1");
    let right = Right { worker: &w1, token: first, foreign: None };
    let standing = bus.standing(ID, &right).await.expect("reads");
    assert!(matches!(standing, Standing::Ours { known: Some(1), .. }), "{standing:?}");
    let event = Event { token: first, number: 2, body: EventBody::Seal(seal::Event::Pc1Done {}) };
    bus.report(ID, &w1, &event).await.expect("the owner's event is stored");
    let by_thief = Event { token: thief, number: 1, body: EventBody::Seal(seal::Event::Pc1Done {}) };
    let refused = bus.report(ID, &worker("w2"), &by_thief).await.expect_err("nothing is the thief's");
    assert!(matches!(refused, PublishError::Fenced { .. }), "{refused}");
    fold_all(&bus, &store, epoch, &js).await;
    let sector = store.sector(ID).await.expect("reads").expect("exists");
    assert_eq!(
        (sector.ownership.lease(), sector.state.name(), sector.attempt, sector.issues),
        (first.0, "sealing", 1, 1)
    );
    let Ownership::Held { last_event, .. } = sector.ownership else { panic!("nobody has it: {sector:?}") };
    assert_eq!(last_event, 2);
    let told = || async { bus.last_fact(ID, &w1, seal::Fact::TICKET).await.expect("reads").map(drop) };
    fold_while(&bus, &store, epoch, async {
        let changed = Wake::default();
        let waits = Waits::load(&store, epoch).await.expect("loads");
        tokio::select! {
            ended = outbox::run(&bus, &store, epoch, &changed, &waits) => panic!("the outbox ended: {ended:?}"),
            () = eventually("the ticket", told) => {}
        }
    })
    .await;
    let lines = lines(&store, ID, "lease").await;
    assert!(lines.len() == 2 && lines.iter().all(|(_, verdict)| verdict == "illegal"), "{lines:?}");
}

/// A stolen key may publish about any sector of its miners, as often as it likes.
async fn a_flood_of_records_of_somebody_else_is_told_a_few_times(database: TestDatabase) {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let store = database.open().await;
    let epoch = fold::take_over(&bus, &store).await.expect("takes over");
    let token = claimed(&bus, &store, 1..=1).await[0].1;
    let js = jetstream::new(async_nats::connect(server.url()).await.expect("connects"));
    let forged =
        sealbus_schema::codec::encode(&Event { token, number: 1, body: EventBody::Seal(seal::Event::Pc1Done {}) })
            .expect("packs");
    let mut stored = Vec::new();
    for _ in 0..1000 {
        let subject = "seal.sector.f01000.1.ev.w2";
        stored.push(js.publish(subject, forged.clone().into()).await.expect("sends").into_future());
    }
    future::try_join_all(stored).await.expect("stored");
    report(&bus, "w1", token, 1, EventBody::Seal(seal::Event::TicketWanted { draw: 1 })).await;
    fold_until(&bus, &store, epoch, |s| s.state.seal() == Some(&State::DrawingTicket { draw: 1 })).await;
    let history = store.history(ID).await.expect("reads");
    let fenced = history.iter().filter(|entry| entry.verdict == "fenced").count();
    assert!((1..=16).contains(&fenced), "{fenced} of 1000");
}

async fn a_sector_that_was_claimed_before_it_was_offered_is_offered_behind_that(database: TestDatabase) {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let js = jetstream::new(async_nats::connect(server.url()).await.expect("connects"));
    let store = database.open().await;
    let epoch = fold::take_over(&bus, &store).await.expect("takes over");
    // The sector, once it is offered behind a record of the manager that came after this one.
    let offered_behind = async |sequence: u64| {
        eventually("the offer", || async {
            let sector = store.sector(ID).await.expect("reads")?;
            let last = bus.last_lease(ID).await.expect("reads").filter(|lease| lease.owner.is_none())?;
            let intent = life::intent_of(&sector)?;
            (last.sequence > sequence && intent.lease_sequence == last.sequence).then_some((sector, intent))
        })
        .await
    };
    work_while(&bus, &store, epoch, async {
        // Nobody has wanted it so far.
        let early = won(&bus, 0, "w2").await;
        eventually("the folded claim", || async {
            store.fold_state().await.expect("reads").filter(|fold| fold.last_sequence >= early.0).map(drop)
        })
        .await;
        let mut tx = store.begin().await.expect("begins");
        tx.insert_sector(ID, SealProof::StackedDrg2KiBV1_1).await.expect("inserts");
        let sector = tx.sector(ID).await.expect("reads").expect("exists");
        tx.store_outcomes(vec![life::offer(sector, Happening::of_manager("wanted", json!({})))]).await.expect("offers");
        tx.commit().await.expect("commits");
        offered_behind(early.0).await;
        // The same while it is offered: nothing is counted against the sector.
        let forged = js.publish("seal.sector.f01000.1.lease.w2", "mine".into()).await.expect("sends");
        let (sector, intent) = offered_behind(forged.await.expect("is stored").sequence).await;
        assert_eq!((sector.state.seal(), sector.attempt, sector.issues), (Some(&State::Queued), 1, 1));
        let token = won(&bus, intent.lease_sequence, "w1").await;
        eventually("the owner", || async {
            store.sector(ID).await.expect("reads").filter(|sector| sector.ownership.lease() == token.0).map(drop)
        })
        .await;
    })
    .await;
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

async fn a_log_that_is_made_anew_after_the_takeover_is_not_folded(database: TestDatabase) {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let store = database.open().await;
    let epoch = fold::take_over(&bus, &store).await.expect("takes over");
    let other_server = Server::start();
    let other = other_server.connect_with_streams("manager").await;
    let changed = Wake::default();
    let fold = Fold { bus: &other, store: &store, epoch, policy: POLICY, changed: &changed };
    let ended = tokio::time::timeout(Duration::from_secs(60), fold.run()).await.expect("it ends");
    assert!(matches!(ended, Err(FoldError::OtherStream { .. })));
}

/// The lines of a sector's history of a kind: their sequences in the log, and what became of them.
async fn lines(store: &Store, sector: SectorId, kind: &str) -> Vec<(Option<u64>, String)> {
    let history = store.history(sector).await.expect("reads");
    let lines = history.into_iter().filter(|line| line.happening.kind == kind);
    lines.map(|line| (line.happening.sequence, line.verdict)).collect()
}

async fn what_another_process_did_meanwhile_decides_what_a_report_does(database: TestDatabase) {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let js = jetstream::new(async_nats::connect(server.url()).await.expect("connects"));
    let store = database.open().await;
    let epoch = fold::take_over(&bus, &store).await.expect("takes over");
    let claims = claimed(&bus, &store, 1..=3).await;
    fold_all(&bus, &store, epoch, &js).await;

    let other = database.open().await;
    let mut tx = other.begin().await.expect("begins");
    let given_up = tx.sector(sector(2)).await.expect("reads").expect("exists");
    let cause = ErrorReport::new(ErrorClass::Abort, ErrorCode::ABANDONED, "a test");
    let input = Input::Abandoned { cause, lose_deposit: false };
    life::apply(&mut tx, given_up, input, Happening::of_manager("abandoned", json!({})), POLICY)
        .await
        .expect("applies");
    tx.commit().await.expect("commits");
    let left = other.sector(sector(2)).await.expect("reads").expect("exists").state;

    for (id, token) in &claims {
        report_of(&bus, *id, "w1", *token, 1, EventBody::Seal(seal::Event::TicketWanted { draw: 1 })).await;
    }
    fold_all(&bus, &store, epoch, &js).await;
    for (id, _) in claims {
        let state = store.sector(id).await.expect("reads").expect("exists").state;
        let verdicts: Vec<String> = lines(&store, id, "ticket_wanted").await.into_iter().map(|(_, v)| v).collect();
        match id == sector(2) {
            true => assert_eq!((state, verdicts), (left.clone(), vec!["noted".to_owned()])),
            false => assert_eq!((state.name(), verdicts), ("drawing_ticket", vec!["applied".to_owned()])),
        }
    }
}

async fn a_sector_that_another_process_pledged_is_folded_with_the_others(database: TestDatabase) {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let js = jetstream::new(async_nats::connect(server.url()).await.expect("connects"));
    let store = database.open().await;
    let epoch = fold::take_over(&bus, &store).await.expect("takes over");
    let mut claims = claimed(&bus, &store, 1..=2).await;
    fold_all(&bus, &store, epoch, &js).await;
    claims.extend(claimed(&bus, &database.open().await, 3..=4).await);
    // This sector was never pledged.
    won_of(&bus, sector(5), 0, "w1").await;
    for (id, token) in &claims {
        report_of(&bus, *id, "w1", *token, 1, EventBody::Seal(seal::Event::TicketWanted { draw: 1 })).await;
    }
    fold_all(&bus, &store, epoch, &js).await;
    for (id, token) in claims {
        let sector = store.sector(id).await.expect("reads").expect("exists");
        assert_eq!(sector.state.name(), "drawing_ticket", "{sector:?}");
        assert_eq!(lines(&store, id, "claimed").await, [(Some(token.0), "applied".to_owned())]);
        assert_eq!(lines(&store, id, "ticket_wanted").await.len(), 1);
    }
    assert!(store.sector(sector(5)).await.expect("reads").is_none());
}

async fn reports_are_folded_once_while_another_process_changes_their_sectors(database: TestDatabase) {
    const SECTORS: u64 = 20;
    const REPORTS: u64 = 60;
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let js = jetstream::new(async_nats::connect(server.url()).await.expect("connects"));
    let store = database.open().await;
    let epoch = fold::take_over(&bus, &store).await.expect("takes over");
    let claims = claimed(&bus, &store, 1..=SECTORS).await;
    fold_all(&bus, &store, epoch, &js).await;

    let reported = Cell::new(false);
    let reports = async {
        for number in 1..=REPORTS {
            for (id, token) in &claims {
                let processor = format!("add_pieces-{number}");
                let body =
                    EventBody::Common(CommonEvent::PhaseStarted { phase: Phase::AddPieces, attempt: 1, processor });
                report_of(&bus, *id, "w1", *token, number, body).await;
            }
        }
        reported.set(true);
    };
    let other = database.open().await;
    let mut looks = 0;
    let looking = async {
        while !reported.get() || looks < 10 {
            for (id, _) in claims.iter().step_by(3) {
                let mut tx = other.begin().await.expect("begins");
                let mut sector = tx.sector(*id).await.expect("reads").expect("exists");
                sector.issues += 1;
                let history = vec![(Happening::of_manager("looked", json!({})), Verdict::Noted)];
                let outcome = Outcome { history, ..Outcome::unchanged(sector) };
                tx.store_outcomes(vec![outcome]).await.expect("stores");
                tx.commit().await.expect("commits");
            }
            looks += 1;
        }
    };
    fold_while(&bus, &store, epoch, future::join(reports, looking).map(drop)).await;
    fold_all(&bus, &store, epoch, &js).await;

    for (place, (id, token)) in claims.into_iter().enumerate() {
        let sector = store.sector(id).await.expect("reads").expect("exists");
        let Ownership::Held { last_event, .. } = sector.ownership else { panic!("nobody took it: {sector:?}") };
        assert_eq!((last_event, sector.ownership.last_lease()), (REPORTS, token.0));
        let started = lines(&store, id, "phase_started").await;
        assert_eq!(started.len(), usize::try_from(REPORTS).expect("few"));
        assert!(started.is_sorted_by(|a, b| a.0 < b.0), "{started:?}");
        let looks = if place % 3 == 0 { looks } else { 0 };
        assert_eq!(lines(&store, id, "looked").await.len(), looks);
        assert_eq!(sector.issues as usize, 1 + looks);
    }
}

#[tokio::test]
async fn a_fold_that_failed_knows_nothing_of_before() {
    let database = TestDatabase::sqlite();
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let js = jetstream::new(async_nats::connect(server.url()).await.expect("connects"));
    let store = database.open().await;
    let old = fold::take_over(&bus, &store).await.expect("takes over");
    let (id, token) = claimed(&bus, &store, 1..=1).await[0];
    fold_all(&bus, &store, old, &js).await;

    // Simulates a failover to a database state in which the trigger no longer raises the version.
    let raw = database.raw().await;
    for statement in ["DROP TRIGGER jobs_version", "UPDATE jobs SET issues = 3"] {
        sqlx::query(statement).execute(&raw).await.expect("done");
    }
    let epoch = fold::take_over(&bus, &store).await.expect("takes over");
    let changed = Wake::default();
    let fold = Fold { bus: &bus, store: &store, epoch: old, policy: POLICY, changed: &changed };
    let failed = tokio::time::timeout(Duration::from_secs(30), fold.run()).await.expect("in time");
    assert!(matches!(failed, Err(FoldError::Store(_))), "{failed:?}");

    bus.release(id, token.0, "a test").await.expect("releases");
    fold_all(&bus, &store, epoch, &js).await;
    assert_eq!(store.sector(id).await.expect("reads").expect("exists").issues, 4);
}
