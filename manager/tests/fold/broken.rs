//! What must not happen and is in the log all the same is counted; what the rules refuse is not.

use sealbus_manager::store::BrokenCount;

use super::*;

on_every_database! {
    a_report_that_the_table_does_not_allow_is_counted_once_over_restarts,
    a_record_that_the_server_should_have_refused_is_counted,
    a_report_that_is_missing_before_another_is_counted,
    a_record_that_is_folded_again_is_counted_and_changes_nothing,
    a_sector_that_is_blocked_without_a_word_of_why_is_counted,
    a_sector_that_is_offered_while_it_has_an_owner_is_counted,
    what_the_rules_refuse_is_not_counted,
}

/// A log and a database whose sector worker `w1` has claimed.
struct World {
    server: Server,
    bus: Bus,
    js: jetstream::Context,
    store: Store,
    token: Token,
}

impl World {
    async fn new(database: &TestDatabase) -> World {
        let server = Server::start();
        let bus = server.connect_with_streams("manager").await;
        let js = jetstream::new(async_nats::connect(server.url()).await.expect("connects"));
        let store = database.open().await;
        fold::take_over(&bus, &store).await.expect("takes over");
        let (_, token) = claimed(&bus, &store, 1..=1).await[0];
        World { server, bus, js, store, token }
    }

    /// Folds the log as a manager that has just started.
    async fn fold(&self) {
        let epoch = fold::take_over(&self.bus, &self.store).await.expect("takes over");
        fold_all(&self.bus, &self.store, epoch, &self.js).await;
    }

    async fn report(&self, number: u64, body: EventBody) {
        report(&self.bus, "w1", self.token, number, body).await;
    }

    /// Writes an event without expecting any lease record.
    async fn write_unfenced(&self, name: &str, token: Token) {
        let event = Event { token, number: 1, body: EventBody::Seal(seal::Event::Pc1Done {}) };
        let payload = sealbus_schema::codec::encode(&event).expect("packs");
        let subject = format!("seal.sector.f01000.1.ev.{name}");
        self.js.publish(subject, payload.into()).await.expect("sends").await.expect("is stored");
    }

    async fn sector(&self) -> Job {
        self.store.sector(ID).await.expect("reads").expect("exists")
    }

    async fn counts(&self) -> Vec<BrokenCount> {
        self.store.broken_invariants().await.expect("reads")
    }

    /// The only count, which must be of this invariant. Returns how often it was seen, and what was seen last.
    async fn only(&self, invariant: &str) -> (u64, String) {
        match &self.counts().await[..] {
            [BrokenCount { invariant: found, times, first_at, last_at, seen }] if found == invariant => {
                assert!(first_at <= last_at);
                (*times, seen.clone())
            }
            other => panic!("not only {invariant}: {other:?}"),
        }
    }
}

async fn a_report_that_the_table_does_not_allow_is_counted_once_over_restarts(database: TestDatabase) {
    let world = World::new(&database).await;
    let commitment = sealbus_schema::Commitment([7; 32]);
    let sealed = seal::Event::Pc2Done { comm_r: commitment, comm_d: commitment };
    world.report(1, EventBody::Seal(sealed.clone())).await;
    world.fold().await;
    let (times, seen) = world.only("nothing_illegal").await;
    assert_eq!(times, 1);
    assert!(seen.starts_with("f01000/1: pc2_done in state packing: "), "{seen}");
    assert!(world.sector().await.blocked.is_some(), "a person decides");
    world.fold().await;
    assert_eq!(world.only("nothing_illegal").await.0, 1);
}

async fn a_record_that_the_server_should_have_refused_is_counted(database: TestDatabase) {
    let world = World::new(&database).await;
    world.fold().await;
    let released = world.bus.release(ID, world.token.0, "a test").await.expect("releases");
    for name in ["w1", "w2"] {
        world.write_unfenced(name, world.token).await;
    }
    world.fold().await;
    let (times, seen) = world.only("writers_are_fenced").await;
    assert_eq!(times, 2);
    let expected = format!("w2 wrote pc1_done under {} while the last lease record was {released}", world.token);
    assert!(seen.contains(&expected), "{seen}");
    world.write_unfenced("w3", world.token).await;
    world.fold().await;
    assert_eq!(world.only("writers_are_fenced").await.0, 3);
}

async fn a_report_that_is_missing_before_another_is_counted(database: TestDatabase) {
    let world = World::new(&database).await;
    world.report(1, EventBody::Seal(seal::Event::PiecesAdded { pieces: vec![] })).await;
    world.report(3, EventBody::Seal(seal::Event::TicketWanted { draw: 1 })).await;
    world.fold().await;
    let (times, seen) = world.only("tokens_are_not_reused").await;
    assert_eq!(times, 1);
    assert!(seen.contains(&format!("event 3 of w1 under {} follows event 1", world.token)), "{seen}");
    assert_eq!(world.sector().await.state.name(), "drawing_ticket", "it counts all the same");
}

/// As after the restore of a database whose tables are not of one moment.
async fn a_record_that_is_folded_again_is_counted_and_changes_nothing(database: TestDatabase) {
    let world = World::new(&database).await;
    world.report(1, EventBody::Seal(seal::Event::TicketWanted { draw: 1 })).await;
    world.fold().await;
    let before = world.sector().await;
    let raw = database.raw().await;
    sqlx::query("UPDATE fold SET last_sequence = 0").execute(&raw).await.expect("done");
    raw.close().await;
    world.fold().await;
    let (times, seen) = world.only("events_fold_once").await;
    assert_eq!(times, 1);
    assert_eq!(seen, format!("f01000/1: lease record {0} comes after {0}", world.token));
    let after = world.sector().await;
    assert_eq!((after.state, after.ownership), (before.state, before.ownership));
}

async fn a_sector_that_is_blocked_without_a_word_of_why_is_counted(database: TestDatabase) {
    let world = World::new(&database).await;
    let mut error = ErrorReport::new(ErrorClass::Perm, ErrorCode::PROOFS_FAILED, "");
    error.causes.clear();
    world.report(1, EventBody::Common(CommonEvent::Failed { error })).await;
    world.fold().await;
    let (times, seen) = world.only("blocked_with_cause").await;
    assert_eq!((times, seen.as_str()), (1, "f01000/1 is blocked with PROOFS_FAILED and no word of why"));
}

async fn a_sector_that_is_offered_while_it_has_an_owner_is_counted(database: TestDatabase) {
    let world = World::new(&database).await;
    world.fold().await;
    let mut tx = world.store.begin().await.expect("begins");
    let held = tx.sector(ID).await.expect("reads").expect("exists");
    let input = Input::Released(life::released(&held));
    life::apply(&mut tx, held, input, Happening::of_manager("released", json!({})), POLICY).await.expect("applies");
    tx.commit().await.expect("commits");
    let (times, seen) = world.only("intents_come_from_the_fold").await;
    assert_eq!((times, seen), (1, format!("f01000/1 is offered while w1 owns it under {}", world.token)));
}

async fn what_the_rules_refuse_is_not_counted(database: TestDatabase) {
    let world = World::new(&database).await;
    let progress = || EventBody::Seal(seal::Event::TicketWanted { draw: 1 });
    world.report(1, progress()).await;
    world.fold().await;
    // A late copy, somebody else's report under the owner's token, a claim without an offer, and a report under that.
    for name in ["w1", "w2"] {
        world.write_unfenced(name, world.token).await;
    }
    let thief = won(&world.bus, world.token.0, "w2").await;
    report(&world.bus, "w2", thief, 1, progress()).await;
    let unreadable = "rubbish".into();
    world.js.publish("seal.sector.f01000.1.ev.w2", unreadable).await.expect("sends").await.expect("is stored");
    world.fold().await;
    assert_eq!(world.counts().await, []);
    drop(world.server);
}
