//! Wants, calls and envelopes.

use sealbus_manager::{
    config::Database,
    store::{
        CallId, Delegated, Envelope, ErrandId, ErrandState, Happening, Job, Message, MessageKind, MessageState,
        NewDelegated, NewErrand, Outcome, Ready, Signed, Stage, Store, Tries, Verdict, WantedMessage,
    },
};
use sealbus_schema::{MinerId, SectorId, Workflow, machine::manager::Released, workflows::Input};
use serde_json::json;
use sqlx::{Executor, Row};

use crate::{apply, databases::TestDatabase, earlier, id, lives::inputs, on_every_database, store};

on_every_database! {
    a_nonce_that_something_else_used_leads_to_another_message,
    a_restored_database_takes_a_precommit_for_signed_whatever_its_calls_come_to,
    a_withdrawn_message_shares_its_nonce_with_a_filler_and_with_nothing_else,
    another_fee_makes_another_envelope_of_the_same_message,
    messages_of_the_version_before_are_read_as_they_were,
    every_message_of_before_goes_on_as_a_want_and_its_call,
    another_message_for_a_purpose_comes_only_after_the_last_has_failed,
    one_purpose_has_one_message_and_one_nonce,
    the_next_job_of_a_sector_has_wants_of_its_own,
    a_want_has_one_call_that_has_not_failed_and_a_call_may_carry_many_wants,
    a_call_of_many_ends_when_the_last_of_them_has_ended,
    a_call_of_many_that_a_reorganisation_took_ends_for_each_when_its_sector_sees_it,
    what_shared_a_withdrawn_call_is_wanted_again,
    an_errand_has_one_call_and_keeps_what_it_returned,
    an_errand_is_taken_back_before_and_after_it_is_signed,
    an_errand_that_failed_is_in_the_way_for_a_while,
    what_waits_for_others_is_hurried_by_miner_and_kind,
    a_call_for_the_messager_has_an_id_and_no_nonce_and_keeps_what_was_signed_there,
    a_call_has_a_nonce_or_an_id_and_never_both,
}

/// The outcome of an input that wants a message to the chain.
async fn wants(store: &Store, kind: MessageKind) -> Outcome {
    wanting(store.sector(id()).await.expect("reads").expect("exists"), kind)
}

fn wanting(job: Job, kind: MessageKind) -> Outcome {
    Outcome {
        history: vec![(Happening::of_manager("test", json!({})), Verdict::Applied)],
        messages: vec![WantedMessage { kind, attempt: 1 }],
        ..Outcome::unchanged(job)
    }
}

/// Stores a want for a message of this kind, and returns it as it is read.
pub async fn wanted(store: &Store, kind: MessageKind) -> Message {
    let mut tx = store.begin().await.expect("begins");
    tx.store_outcomes(vec![wants(store, kind).await]).await.expect("wants");
    tx.commit().await.expect("commits");
    open(store, kind).await
}

/// The open message of this kind that was wanted last.
pub async fn open(store: &Store, kind: MessageKind) -> Message {
    let open = store.open_messages().await.expect("reads");
    open.into_iter().filter(|message| message.kind == kind).max_by_key(|message| message.want).expect("one is open")
}

pub fn envelope(cid: &str, bytes: &[u8]) -> Envelope {
    let (fee_cap_atto, premium_atto) = ("200".to_owned(), "100".to_owned());
    Envelope { cid: cid.to_owned(), bytes: bytes.to_vec(), gas_limit: 1000, fee_cap_atto, premium_atto }
}

async fn one_purpose_has_one_message_and_one_nonce(database: TestDatabase) {
    let store = store(&database).await;
    let mut tx = store.begin().await.expect("begins");
    tx.store_outcomes(vec![wants(&store, MessageKind::PreCommit).await]).await.expect("wants");
    tx.store_outcomes(vec![wants(&store, MessageKind::PreCommit).await]).await.expect("wants the same");
    tx.commit().await.expect("commits");
    let open = store.open_messages().await.expect("reads");
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].key, MessageKind::PreCommit.key(id(), 1, 1));
    assert_eq!(store.next_nonce("t3a").await.expect("reads"), 0);

    let mut tx = store.begin().await.expect("begins");
    tx.save_signed(&[&open[0]], "t3a", 4, 60, &envelope("bafy1", b"bytes")).await.expect("stores");
    tx.save_signed(&[&open[0]], "t3a", 5, 60, &envelope("bafy2", b"other")).await.expect_err("its bytes are fixed");
    tx.commit().await.expect("commits");
    let other = wanted(&store, MessageKind::ProveCommit).await;
    let mut tx = store.begin().await.expect("begins");
    let bytes = envelope("bafy3", b"bytes");
    tx.save_signed(&[&other], "t3a", 4, 60, &bytes).await.expect_err("the nonce is used");
    drop(tx);
    assert_eq!(store.next_nonce("t3a").await.expect("reads"), 5);
    let signed = self::open(&store, MessageKind::PreCommit).await;
    assert!(matches!(&signed.state, MessageState::Signed(signed) if signed.bytes == b"bytes"));
}

async fn another_message_for_a_purpose_comes_only_after_the_last_has_failed(database: TestDatabase) {
    let store = store(&database).await;
    let precommit_signed = || async { store.sector(id()).await.expect("reads").expect("exists").signed };
    let kind = MessageKind::PreCommit;
    let message = wanted(&store, kind).await;
    let mut tx = store.begin().await.expect("begins");
    tx.save_signed(&[&message], "t3a", 4, 60, &envelope("bafy1", b"bytes")).await.expect("stores");
    tx.commit().await.expect("commits");
    assert!(precommit_signed().await, "it may be anywhere");
    let message = open(&store, kind).await;
    let mut tx = store.begin().await.expect("begins");
    tx.mark_failed(&message, Some(16), "refused").await.expect("stores");
    tx.commit().await.expect("commits");
    assert!(!precommit_signed().await, "it cannot land any more");
    let mut tx = store.begin().await.expect("begins");
    tx.store_outcomes(vec![wants(&store, kind).await]).await.expect("wants another");
    tx.commit().await.expect("commits");
    let open = store.open_messages().await.expect("reads");
    assert_eq!(open.iter().map(|m| m.key.clone()).collect::<Vec<_>>(), [kind.key(id(), 1, 2)]);
    let mut tx = store.begin().await.expect("begins");
    tx.mark_landed(kind, id(), 70).await.expect("stores");
    tx.commit().await.expect("commits");
    assert!(store.open_messages().await.expect("reads").is_empty(), "what is on chain is not sent");
}

/// A store with a PreCommit signed with nonce 4 of `t3a`.
async fn signed(database: &TestDatabase) -> (Store, CallId) {
    let store = store(database).await;
    let message = wanted(&store, MessageKind::PreCommit).await;
    let mut tx = store.begin().await.expect("begins");
    let call = tx.save_signed(&[&message], "t3a", 4, 60, &envelope("bafy1", b"bytes")).await.expect("stores");
    tx.commit().await.expect("commits");
    (store, call)
}

async fn a_restored_database_takes_a_precommit_for_signed_whatever_its_calls_come_to(database: TestDatabase) {
    let (store, _) = signed(&database).await;
    let message = store.open_messages().await.expect("reads").remove(0);
    let mut tx = store.begin().await.expect("begins");
    tx.mark_restored(None).await.expect("marks");
    tx.want_another(&message, None, "somebody else has its nonce", Tries::default()).await.expect("stores");
    tx.commit().await.expect("commits");
    let signed = store.sector(id()).await.expect("reads").expect("exists").signed;
    assert!(signed, "after the backup another call may have been signed for the same reason");
}

async fn a_nonce_that_something_else_used_leads_to_another_message(database: TestDatabase) {
    let (store, _) = signed(&database).await;
    let message = store.open_messages().await.expect("reads").remove(0);
    let tries = Tries { failures: 1, gas_limit_min: Some(150), refused_epoch: None, batch_max: None };
    let mut tx = store.begin().await.expect("begins");
    tx.want_another(&message, None, "somebody else has its nonce", tries).await.expect("stores");
    tx.commit().await.expect("commits");
    let open = store.open_messages().await.expect("reads");
    let [another] = &open[..] else { panic!("one: {open:?}") };
    assert_eq!((another.key.clone(), &another.state), (MessageKind::PreCommit.key(id(), 1, 2), &MessageState::Wanted));
    assert_eq!(another.tries, tries);
    assert_eq!(store.earlier(another).await.expect("reads"), None, "{} cannot land any more", message.key);
    assert!(!store.sector(id()).await.expect("reads").expect("exists").signed);
    let mut tx = store.begin().await.expect("begins");
    tx.note_refusal(another, Some(77)).await.expect("stores");
    tx.commit().await.expect("commits");
    assert_eq!(store.open_messages().await.expect("reads")[0].tries.refused_epoch, Some(77));
}

async fn a_withdrawn_message_shares_its_nonce_with_a_filler_and_with_nothing_else(database: TestDatabase) {
    let (store, call) = signed(&database).await;
    let key = MessageKind::PreCommit.key(id(), 1, 1);
    let withdrawn = self::open(&store, MessageKind::PreCommit).await;
    let mut tx = store.begin().await.expect("begins");
    tx.mark_withdrawn(call, "nobody wants it").await.expect("stores");
    assert!(tx.want_filler(about(&withdrawn), "t3a", 4).await.expect("stores"));
    assert!(!tx.want_filler(about(&withdrawn), "t3a", 4).await.expect("stores"), "once");
    // A person resubmits the sector. The next message must wait until the withdrawn one has ended.
    tx.store_outcomes(vec![wants(&store, MessageKind::PreCommit).await]).await.expect("wants");
    tx.commit().await.expect("commits");
    let open = store.open_messages().await.expect("reads");
    let find = |kind| open.iter().find(|message| message.kind == kind).expect("open");
    let filler = find(MessageKind::Filler);
    let MessageState::Reserved { call: filled, sender, nonce } = &filler.state else { panic!("reserved: {filler:?}") };
    assert_eq!((sender.as_str(), *nonce), ("t3a", 4));
    let another = open.iter().find(|message| message.state == MessageState::Wanted).expect("wanted");
    assert_eq!(store.earlier(another).await.expect("reads"), Some(key.clone()));
    assert_eq!(store.beside("t3a", 4).await.expect("reads"), [b"bytes".to_vec()]);
    assert_eq!(store.nonces_in_use("t3a", 0, 9).await.expect("reads"), [4]);
    assert_eq!(store.next_nonce("t3a").await.expect("reads"), 5);

    let mut tx = store.begin().await.expect("begins");
    tx.save_signed(&[filler], "t3a", 4, 61, &envelope("bafy2", b"filler")).await.expect("the same nonce");
    tx.mark_pushed(*filled, 62).await.expect("stores");
    tx.commit().await.expect("commits");
    let mut tx = store.begin().await.expect("begins");
    tx.mark_executed(filler, 63, &[]).await.expect("stores");
    tx.mark_replaced(&withdrawn, "the filler has its nonce").await.expect("stores");
    tx.commit().await.expect("commits");
    assert_eq!(store.earlier(another).await.expect("reads"), None);
    assert_eq!(store.over_between("t3a", 0, 9).await.expect("reads"), [b"filler".to_vec()], "what was executed");
    let mut tx = store.begin().await.expect("begins");
    tx.save_signed(&[another], "t3a", 4, 64, &envelope("bafy3", b"more")).await.expect_err("the nonce is used");
}

async fn another_fee_makes_another_envelope_of_the_same_message(database: TestDatabase) {
    let (store, call) = signed(&database).await;
    let mut tx = store.begin().await.expect("begins");
    tx.mark_pushed(call, 61).await.expect("stores");
    tx.save_envelope(call, &envelope("bafy2", b"dearer")).await.expect("stores");
    tx.commit().await.expect("commits");
    let open = store.open_messages().await.expect("reads");
    let signed = Signed { call, cid: "bafy2".into(), bytes: b"dearer".to_vec(), epoch: Some(60) };
    assert_eq!(open[0].state, MessageState::Signed(signed), "to be pushed, with the same nonce");
    assert_eq!(store.envelopes(call).await.expect("reads"), [b"bytes".to_vec()]);
    assert_eq!(store.next_nonce("t3a").await.expect("reads"), 5);
}

async fn messages_of_the_version_before_are_read_as_they_were(database: TestDatabase) {
    sqlx::any::install_default_drivers();
    let folder = match &database.database {
        Database::Sqlite { path } => {
            std::fs::File::create(path).expect("an empty database");
            "sqlite"
        }
        Database::Postgres { .. } => "postgres",
    };
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(folder);
    let mut before = sqlx::migrate::Migrator::new(folder).await.expect("reads");
    before.migrations = before.migrations.iter().filter(|migration| migration.version <= 4).cloned().collect();
    let pool = database.raw().await;
    before.run(&pool).await.expect("migrates");
    let sector = "INSERT INTO sectors (miner, number, proof, attempt, issues, resubmits, precommit_signed, created_at, \
                  changed_at, last_lease, last_event, state) \
                  VALUES ('f01000', 1, 'stacked_drg_2_kib_v1_1', 1, 1, 0, 1, '', '', 0, 0, 'queued')";
    sqlx::query(sector).execute(&pool).await.expect("a sector of then");
    let bytes = if database.postgres.is_some() { "'x'::bytea" } else { "x'78'" };
    for (turn, columns, values) in [
        (
            1,
            "state, error, exit_code, sender, nonce, cid, signed",
            format!("'failed', 'x', 16, 't3a', 3, 'c1', {bytes}"),
        ),
        (2, "state, error", "'failed', 'its attempt is over'".to_owned()),
        (3, "state, sender, nonce, cid, signed, pushed_epoch", format!("'pushed', 't3a', 4, 'c2', {bytes}, 77")),
    ] {
        let insert = format!(
            "INSERT INTO messages (key, kind, miner, number, attempt, turn, {columns}) VALUES ('precommit/f01000/1/1.{turn}', 'precommit', 'f01000', 1, 1, {turn}, {values})"
        );
        sqlx::query(&insert).execute(&pool).await.expect("a row of then");
    }
    pool.close().await;
    let store = database.open().await;
    let open = store.open_messages().await.expect("reads");
    let [pushed] = &open[..] else { panic!("one: {open:?}") };
    let call = pushed.state.call().expect("a call");
    let signed = Signed { call, cid: "c2".into(), bytes: b"x".to_vec(), epoch: None };
    let key = MessageKind::PreCommit.key(id(), 1, 3);
    assert_eq!((&pushed.key, &pushed.state), (&key, &MessageState::Pushed { signed, epoch: 77 }));
    assert_eq!(pushed.tries, Tries::default());
    assert_eq!(store.next_nonce("t3a").await.expect("reads"), 5);
    assert_eq!(store.over_between("t3a", 0, 9).await.expect("reads"), [b"x".to_vec()]);
}

async fn the_next_job_of_a_sector_has_wants_of_its_own(database: TestDatabase) {
    let (kind, store) = (MessageKind::PreCommit, store(&database).await);
    for input in inputs() {
        apply(&store, input).await;
    }
    let first = open(&store, kind).await;
    let mut tx = store.begin().await.expect("begins");
    tx.save_signed(&[&first], "t3a", 4, 60, &envelope("bafy1", b"first")).await.expect("stores");
    tx.mark_landed(kind, id(), 70).await.expect("stores");
    tx.commit().await.expect("commits");
    assert_eq!(store.landed(kind, id()).await.expect("reads"), [b"first".to_vec()]);
    apply(&store, Input::Released(Released { attempt: 1, issues: 1, signed: true })).await;
    let mut tx = store.begin().await.expect("begins");
    tx.start_job(id(), Workflow::Seal).await.expect("nothing is in the way");
    tx.commit().await.expect("commits");

    let second = wanted(&store, kind).await;
    assert_eq!(wanted(&store, kind).await, second, "once");
    assert_eq!((first.attempt, second.attempt), (1, 1));
    assert!(second.want > first.want);
    assert!(first.is_of_last_job && second.is_of_last_job);
    assert_ne!(second.key, first.key);
    assert!(store.landed(kind, id()).await.expect("reads").is_empty(), "that was the job before");
    let mut tx = store.begin().await.expect("begins");
    tx.save_signed(&[&second], "t3a", 5, 80, &envelope("bafy2", b"second")).await.expect("stores");
    tx.commit().await.expect("commits");
    assert!(store.sector(id()).await.expect("reads").expect("exists").signed);
    let jobs = store.jobs_of(id()).await.expect("reads");
    assert_eq!(jobs.iter().map(|job| job.signed).collect::<Vec<_>>(), [true, true]);
    let mut tx = store.begin().await.expect("begins");
    tx.mark_landed(kind, id(), 90).await.expect("stores");
    tx.commit().await.expect("commits");
    assert_eq!(store.landed(kind, id()).await.expect("reads"), [b"second".to_vec()]);
}

async fn a_want_has_one_call_that_has_not_failed_and_a_call_may_carry_many_wants(database: TestDatabase) {
    let (store, call) = signed(&database).await;
    let first = open(&store, MessageKind::PreCommit).await;
    let second = wanted(&store, MessageKind::ProveCommit).await;
    let pool = database.raw().await;
    let bytes = if database.postgres.is_some() { "'x'::bytea" } else { "x'78'" };
    let another = |wants: [(i64, &Message); 2]| {
        let (pool, carried) = (pool.clone(), wants.map(|(place, message)| (place, message.want.expect("a want").0)));
        async move {
            let mut tx = pool.begin().await?;
            for statement in [
                "INSERT INTO calls (id, kind, miner, state, sender, nonce, envelope) \
                 VALUES (99, 'precommit', 'f01000', 'signed', 't3a', 99, 1)"
                    .to_owned(),
                format!("INSERT INTO envelopes (call, serial, cid, signed) VALUES (99, 1, 'c', {bytes})"),
                format!("INSERT INTO call_wants VALUES (99, {}, {}, 'signed')", carried[0].0, carried[0].1),
                format!("INSERT INTO call_wants VALUES (99, {}, {}, 'signed')", carried[1].0, carried[1].1),
            ] {
                tx.execute(statement.as_str()).await?;
            }
            tx.commit().await
        }
    };
    another([(0, &first), (1, &second)]).await.expect_err("the first call may still land");
    let mut tx = store.begin().await.expect("begins");
    tx.mark_replaced(&first, "its nonce is used").await.expect("stores");
    tx.commit().await.expect("commits");
    another([(0, &first), (0, &second)]).await.expect_err("each has its place");
    another([(0, &first), (0, &first)]).await.expect_err("each is there once");
    another([(0, &second), (1, &first)]).await.expect("two wants in one call");
    let again = format!("UPDATE calls SET state = 'signed', error = NULL WHERE id = {}", call.0);
    pool.execute(again.as_str()).await.expect_err("what has failed does not come back beside another call");
}

/// Three sectors' PreCommits in one call with nonce 4, and their messages as they are read then.
async fn three_in_a_call(store: &Store) -> Vec<Message> {
    let kind = MessageKind::PreCommit;
    let mut tx = store.begin().await.expect("begins");
    for number in 1..=3 {
        let sector = SectorId { number: sealbus_schema::SectorNumber(number), ..id() };
        if number > 1 {
            tx.insert_sector(sector, sealbus_schema::SealProof::StackedDrg2KiBV1_1).await.expect("inserts");
        }
        let job = tx.sector(sector).await.expect("reads").expect("exists");
        tx.store_outcomes(vec![wanting(job, kind)]).await.expect("wants");
    }
    tx.commit().await.expect("commits");
    let wanted = store.open_messages().await.expect("reads");
    let mut tx = store.begin().await.expect("begins");
    let group: Vec<&Message> = wanted.iter().collect();
    let call = tx.save_signed(&group, "t3a", 4, 60, &envelope("bafy1", b"three")).await.expect("stores");
    tx.mark_pushed(call, 61).await.expect("stores");
    tx.commit().await.expect("commits");
    let open = store.open_messages().await.expect("reads");
    let places: Vec<_> = open.iter().map(|message| (message.place.position, message.place.of)).collect();
    assert_eq!(places, [(0, 3), (1, 3), (2, 3)]);
    open
}

async fn call_of(database: &TestDatabase, id: CallId) -> (String, Option<i64>, Option<i64>) {
    let row = sqlx::query("SELECT state, landed_epoch, exit_code FROM calls WHERE id = $1")
        .bind(id.0)
        .fetch_one(&database.raw().await)
        .await
        .expect("reads");
    (row.get("state"), row.get("landed_epoch"), row.get("exit_code"))
}

async fn a_call_of_many_ends_when_the_last_of_them_has_ended(database: TestDatabase) {
    let store = store(&database).await;
    let three = three_in_a_call(&store).await;
    let (kind, call) = (MessageKind::PreCommit, three[0].state.call().expect("a call"));
    let mut tx = store.begin().await.expect("begins");
    tx.mark_landed(kind, three[0].sector.expect("a sector"), 70).await.expect("stores");
    tx.want_another(&three[1], Some(16), "refused", Tries { batch_max: Some(1), ..Tries::default() })
        .await
        .expect("stores");
    tx.commit().await.expect("commits");
    assert_eq!(call_of(&database, call).await.0, "pushed", "one is not known yet");
    assert_eq!(store.nonces_in_use("t3a", 0, 9).await.expect("reads"), [4]);
    let open = store.open_messages().await.expect("reads");
    let mut open: Vec<_> = open.iter().map(|m| (m.key.as_str(), m.state == MessageState::Wanted, m.tries)).collect();
    open.sort_by_key(|(key, ..)| *key);
    let again = Tries { batch_max: Some(1), ..Tries::default() };
    assert_eq!(
        open,
        [("precommit/f01000/2/1.2", true, again), ("precommit/f01000/3/1", false, Tries::default())],
        "that of sector 2 is wanted again, beside the call that may still be looked at"
    );
    let again = store.open_messages().await.expect("reads");
    let again = again.iter().find(|message| message.state == MessageState::Wanted).expect("wanted");
    assert_eq!(store.earlier(again).await.expect("reads"), None);

    let mut tx = store.begin().await.expect("begins");
    tx.mark_failed(&three[2], Some(16), "refused").await.expect("stores");
    tx.commit().await.expect("commits");
    assert_eq!(call_of(&database, call).await, ("landed".to_owned(), Some(70), Some(0)));
    assert_eq!(store.over_between("t3a", 0, 9).await.expect("reads"), [b"three".to_vec()]);
    assert_eq!(store.landed(kind, three[0].sector.expect("one")).await.expect("reads"), [b"three".to_vec()]);
    assert!(store.landed(kind, three[2].sector.expect("one")).await.expect("reads").is_empty());
}

async fn a_call_of_many_that_a_reorganisation_took_ends_for_each_when_its_sector_sees_it(database: TestDatabase) {
    let store = store(&database).await;
    let three = three_in_a_call(&store).await;
    let (kind, call) = (MessageKind::PreCommit, three[0].state.call().expect("a call"));
    let sectors: Vec<_> = three.iter().map(|message| message.sector.expect("a sector")).collect();
    let mut tx = store.begin().await.expect("begins");
    for sector in &sectors {
        tx.mark_landed(kind, *sector, 70).await.expect("stores");
    }
    tx.mark_reverted(kind, sectors[0]).await.expect("stores");
    tx.commit().await.expect("commits");
    let open = store.open_messages().await.expect("reads");
    assert_eq!(open.iter().map(|message| message.sector).collect::<Vec<_>>(), [Some(sectors[0])]);
    // Something else has used the nonce. The others have not seen that yet.
    let mut tx = store.begin().await.expect("begins");
    tx.want_another(&open[0], None, "its nonce is used", Tries::default()).await.expect("stores");
    tx.commit().await.expect("commits");
    for (sector, state) in [(1, "pushed"), (2, "replaced")] {
        let mut tx = store.begin().await.expect("begins");
        tx.mark_reverted(kind, sectors[sector]).await.expect("stores");
        tx.commit().await.expect("commits");
        let open = store.open_messages().await.expect("reads");
        let reverted = open.iter().find(|message| message.sector == Some(sectors[sector])).expect("is followed again");
        assert!(matches!(reverted.state, MessageState::Pushed { .. }), "{reverted:?}");
        let mut tx = store.begin().await.expect("begins");
        tx.want_another(reverted, None, "its nonce is used", Tries::default()).await.expect("stores");
        tx.commit().await.expect("commits");
        assert_eq!(call_of(&database, call).await.0, state);
    }
    let open = store.open_messages().await.expect("reads");
    assert!(open.len() == 3 && open.iter().all(|message| message.state == MessageState::Wanted), "{open:?}");
}

async fn what_shared_a_withdrawn_call_is_wanted_again(database: TestDatabase) {
    let store = store(&database).await;
    let three = three_in_a_call(&store).await;
    let mut tx = store.begin().await.expect("begins");
    tx.mark_withdrawn(three[0].state.call().expect("a call"), "one is not wanted any more").await.expect("stores");
    tx.want_once_more(&three[1], three[1].tries).await.expect("stores");
    tx.commit().await.expect("commits");
    let open = store.open_messages().await.expect("reads");
    let again = open.iter().find(|message| message.state == MessageState::Wanted).expect("is wanted again");
    assert_eq!(again.key, "precommit/f01000/2/1.2");
    assert_eq!(
        store.earlier(again).await.expect("reads"),
        Some("precommit/f01000/2/1".to_owned()),
        "it may still land"
    );
    // It lands all the same, and a reorganisation takes it back before its call is looked at.
    let (kind, second) = (MessageKind::PreCommit, three[1].sector.expect("a sector"));
    let mut tx = store.begin().await.expect("begins");
    tx.mark_landed(kind, second, 70).await.expect("stores");
    assert!(tx.want_precommit_again(second).await.expect("stores"));
    assert!(!tx.want_precommit_again(second).await.expect("stores"), "it is wanted already");
    tx.mark_landed(kind, second, 75).await.expect("stores");
    tx.mark_reverted(kind, second).await.expect("stores");
    tx.commit().await.expect("commits");
    let open = store.open_messages().await.expect("reads");
    let again = open.iter().find(|message| message.state == MessageState::Wanted).expect("is wanted again");
    assert_eq!(again.key, "precommit/f01000/2/1.4");
    let mut tx = store.begin().await.expect("begins");
    for message in open.iter().filter(|message| message.state != MessageState::Wanted) {
        tx.mark_replaced(message, "by its filler").await.expect("stores");
    }
    tx.commit().await.expect("commits");
    assert_eq!(store.earlier(again).await.expect("reads"), None);
}

async fn ask(store: &Store) -> ErrandId {
    let errand = NewErrand {
        miner: id().miner,
        kind: "withdraw".to_owned(),
        sender: "t01001".to_owned(),
        receiver: "t01000".to_owned(),
        method: 16,
        params: vec![1, 2],
        value_atto: "0".to_owned(),
        detail: json!({ "amount": "1" }),
        asked_by: "a person".to_owned(),
    };
    let mut tx = store.begin().await.expect("begins");
    let id = tx.ask_errand(&errand).await.expect("stores");
    tx.commit().await.expect("commits");
    let stored = store.errand(id).await.expect("reads").expect("exists");
    assert_eq!((stored.asked, stored.state), (errand, ErrandState::Wanted));
    id
}

async fn an_errand_has_one_call_and_keeps_what_it_returned(database: TestDatabase) {
    let store = store(&database).await;
    let asked = ask(&store).await;
    let message = open(&store, MessageKind::Errand).await;
    assert_eq!((message.key, message.sector, message.errand), (format!("withdraw/{}", asked.0), None, Some(asked)));
    for (nonce, landed) in [(4, false), (5, true)] {
        let message = open(&store, MessageKind::Errand).await;
        let mut tx = store.begin().await.expect("begins");
        tx.save_signed(&[&message], "t3a", nonce, 60, &envelope("bafy1", b"bytes")).await.expect("stores");
        tx.save_signed(&[&message], "t3a", 9, 60, &envelope("bafy2", b"other")).await.expect_err("its bytes are fixed");
        tx.commit().await.expect("commits");
        let message = open(&store, MessageKind::Errand).await;
        let mut tx = store.begin().await.expect("begins");
        match landed {
            false => tx.want_another(&message, None, "its nonce is used", Tries::default()).await.expect("stores"),
            true => tx.mark_executed(&message, 70, b"returned").await.expect("stores"),
        }
        tx.commit().await.expect("commits");
    }
    let errand = store.errand(asked).await.expect("reads").expect("exists");
    assert_eq!((errand.state, errand.epoch, errand.exit_code), (ErrandState::Landed, Some(70), Some(0)));
    assert_eq!(errand.returned.as_deref(), Some(&b"returned"[..]));
    assert!(store.open_messages().await.expect("reads").is_empty());
    assert!(store.errands(None).await.expect("reads").is_empty());
    assert_eq!(store.errands(Some(5)).await.expect("reads").len(), 1);
}

async fn an_errand_that_failed_is_in_the_way_for_a_while(database: TestDatabase) {
    let store = store(&database).await;
    let (first, second) = (ask(&store).await, ask(&store).await);
    let message = store.open_messages().await.expect("reads").remove(0);
    assert_eq!(message.errand, Some(first));
    let mut tx = store.begin().await.expect("begins");
    tx.mark_failed(&message, Some(16), "refused").await.expect("stores");
    tx.commit().await.expect("commits");
    let in_the_way = |kind: &'static str, ago: time::Duration| {
        let store = store.clone();
        async move {
            let since = time::OffsetDateTime::now_utc() - ago;
            let found = store.errands_in_the_way(id().miner, kind, since).await.expect("reads");
            found.into_iter().map(|errand| errand.id).collect::<Vec<_>>()
        }
    };
    assert_eq!(in_the_way("withdraw", time::Duration::HOUR).await, [first, second]);
    assert_eq!(in_the_way("withdraw", -time::Duration::HOUR).await, [second], "the failed one is long ago");
    assert!(in_the_way("extend", time::Duration::HOUR).await.is_empty());
}

async fn an_errand_is_taken_back_before_and_after_it_is_signed(database: TestDatabase) {
    let store = store(&database).await;
    let (first, second) = (ask(&store).await, ask(&store).await);
    let cancel = |id| {
        let store = store.clone();
        async move {
            let mut tx = store.begin().await.expect("begins");
            let state = tx.cancel_errand(id, "not any more").await.expect("stores");
            tx.commit().await.expect("commits");
            state
        }
    };
    assert_eq!(cancel(first).await, Some(ErrandState::Cancelled));
    assert_eq!(cancel(first).await, Some(ErrandState::Cancelled), "once is enough");
    let message = open(&store, MessageKind::Errand).await;
    let mut tx = store.begin().await.expect("begins");
    tx.save_signed(&[&message], "t3a", 4, 60, &envelope("bafy1", b"bytes")).await.expect("stores");
    tx.commit().await.expect("commits");
    assert_eq!(cancel(second).await, Some(ErrandState::Withdrawn), "it may still land");
    let message = open(&store, MessageKind::Errand).await;
    let mut tx = store.begin().await.expect("begins");
    tx.mark_withdrawn(message.state.call().expect("a call"), "not wanted any more").await.expect("stores");
    assert!(tx.want_filler(about(&message), "t3a", 4).await.expect("stores"));
    tx.mark_replaced(&message, "its nonce is used, and not by it").await.expect("stores");
    tx.commit().await.expect("commits");
    assert_eq!(store.errand(second).await.expect("reads").expect("exists").state, ErrandState::Cancelled);
    let open = store.open_messages().await.expect("reads");
    assert_eq!(open.iter().map(|m| (m.kind, m.sector)).collect::<Vec<_>>(), [(MessageKind::Filler, None)]);
    assert_eq!(cancel(ErrandId(99)).await, None);
}

async fn what_waits_for_others_is_hurried_by_miner_and_kind(database: TestDatabase) {
    let store = store(&database).await;
    wanted(&store, MessageKind::PreCommit).await;
    let message = wanted(&store, MessageKind::ProveCommit).await;
    assert_eq!(message.ready, Ready::default());
    let mut tx = store.begin().await.expect("begins");
    tx.note_ready(&[&message], 60).await.expect("stores");
    tx.note_ready(&[&message], 70).await.expect("stores");
    assert_eq!(tx.hurry("f09".parse().ok(), None).await.expect("stores"), 0);
    assert_eq!(tx.hurry(Some(id().miner), Some(MessageKind::ProveCommit)).await.expect("stores"), 1);
    tx.commit().await.expect("commits");
    let prove = open(&store, MessageKind::ProveCommit).await;
    assert_eq!(prove.ready, Ready { epoch: Some(60), is_hurried: true }, "the first epoch counts");
    assert!(!open(&store, MessageKind::PreCommit).await.ready.is_hurried);
    let mut tx = store.begin().await.expect("begins");
    assert_eq!(tx.hurry(None, None).await.expect("stores"), 1);
}

/// What `messages.sqlite.sql` and `messages.postgres.sql` hold, dumps of databases with the schema of migration 14. Sector
/// n has the nonce n, and its ProveCommit has nonce 10 + n.
async fn every_message_of_before_goes_on_as_a_want_and_its_call(database: TestDatabase) {
    sqlx::any::install_default_drivers();
    let dump = if database.postgres.is_some() { earlier::MESSAGES_POSTGRES } else { earlier::MESSAGES_SQLITE };
    database.raw().await.execute(dump).await.expect("a database of before");
    let store = database.open().await;
    let (pre, prove) = (MessageKind::PreCommit, MessageKind::ProveCommit);
    let sector = |number: u64| SectorId { number: sealbus_schema::SectorNumber(number), ..id() };
    let text =
        |bytes: &[Vec<u8>]| bytes.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect::<Vec<_>>();

    let open = store.open_messages().await.expect("reads");
    let mut found: Vec<String> =
        open.iter().map(|message| format!("{} {}", message.key, words(&message.state))).collect();
    found.sort();
    assert_eq!(
        found,
        [
            "filler/t3a/6 reserved 6",
            "filler/t3a/7 pushed 63: filler 7 (fill7, 62)",
            "precommit/f01000/1/1 wanted",
            "precommit/f01000/13/1.2 wanted",
            "precommit/f01000/14/1 wanted",
            "precommit/f01000/2/1.2 wanted",
            "precommit/f01000/3/1 signed: bytes 3 (cid3, 60)",
            "precommit/f01000/4/1 pushed 61: bytes 4 (cid4, 60)",
            "precommit/f01000/5/1 pushed 70: bytes 5c (cid5c, 60)",
            "precommit/f01000/6/1 withdrawn: bytes 6 (cid6, 60)",
            "precommit/f01000/7/1 withdrawn: bytes 7 (cid7, 60)",
            "precommit/f01000/7/1.2 wanted",
            "prove_commit/f01000/10/1 pushed 61: bytes 20 (cid20, 60)",
        ]
    );
    let of = |number, kind, turn| {
        let key = MessageKind::key(kind, sector(number), 1, turn);
        open.iter().find(|message| message.key == key).expect("open")
    };
    let tries = Tries { failures: 1, gas_limit_min: Some(150), refused_epoch: Some(77), batch_max: None };
    assert_eq!((of(2, pre, 2).tries, of(3, pre, 1).tries), (tries, Tries::default()));
    assert_eq!(store.earlier(of(7, pre, 2)).await.expect("reads"), Some(of(7, pre, 1).key.clone()));
    assert_eq!(store.earlier(of(2, pre, 2)).await.expect("reads"), None);
    let dearer = of(5, pre, 1).state.call().expect("a call");
    assert_eq!(text(&store.envelopes(dearer).await.expect("reads")), ["bytes 5", "bytes 5b"]);
    assert_eq!(text(&store.beside("t3a", 5).await.expect("reads")), ["bytes 5", "bytes 5b", "bytes 5c"]);
    let executed = ["bytes 2", "filler 8", "bytes 9", "bytes 10", "bytes 11", "bytes 15", "bytes 16", "bytes 21"];
    assert_eq!(text(&store.over_between("t3a", 0, 99).await.expect("reads")), executed);
    let mut in_use = store.nonces_in_use("t3a", 0, 99).await.expect("reads");
    in_use.sort_unstable();
    assert_eq!((in_use, store.next_nonce("t3a").await.expect("reads")), (vec![3, 4, 5, 6, 7, 20], 22));
    for (number, kind, landed) in [(9, pre, vec!["bytes 9"]), (13, pre, vec![]), (15, prove, vec!["bytes 21"])] {
        assert_eq!(text(&store.landed(kind, sector(number)).await.expect("reads")), landed);
    }

    // What is wanted gets a call, calls go on, and only what has failed or was withdrawn is wanted again.
    let mut tx = store.begin().await.expect("begins");
    tx.save_signed(&[of(1, pre, 1)], "t3a", 22, 90, &envelope("cid22", b"bytes 22")).await.expect("stores");
    tx.mark_landed(pre, sector(4), 91).await.expect("stores");
    tx.save_envelope(dearer, &envelope("cid5d", b"bytes 5d")).await.expect("stores");
    let filler = open.iter().find(|message| matches!(message.state, MessageState::Reserved { .. })).expect("one");
    tx.save_signed(&[filler], "t3a", 6, 90, &envelope("fill6", b"filler 6")).await.expect("stores");
    tx.mark_executed(filler, 92, &[]).await.expect("stores");
    tx.mark_replaced(of(6, pre, 1), "by its filler").await.expect("stores");
    assert!(tx.want_filler(about(of(1, pre, 1)), "t3a", 16).await.expect("stores"), "its bytes are there");
    assert!(!tx.want_filler(about(of(1, pre, 1)), "t3a", 14).await.expect("stores"), "it was never signed");
    for number in [3, 6, 8, 9, 11, 12, 16, 17] {
        let job = tx.sector(sector(number)).await.expect("reads").expect("exists");
        tx.store_outcomes(vec![wanting(job, pre)]).await.expect("wants");
    }
    tx.commit().await.expect("commits");
    let found: Vec<String> =
        store.open_messages().await.expect("reads").into_iter().map(|message| message.key).collect();
    for (number, is_wanted) in
        [(3, false), (6, true), (8, true), (9, false), (11, true), (12, true), (16, false), (17, true)]
    {
        assert_eq!(found.contains(&pre.key(sector(number), 1, 2)), is_wanted, "{number}");
    }
    assert!(found.contains(&"filler/t3a/16".to_owned()) && !found.contains(&"filler/t3a/6".to_owned()));
    assert_eq!(text(&store.envelopes(dearer).await.expect("reads")), ["bytes 5", "bytes 5b", "bytes 5c"]);
    assert_eq!(text(&store.landed(pre, sector(4)).await.expect("reads")), ["bytes 4"]);
    let signed = [1, 3, 4, 6, 8, 16].map(|number| store.sector(sector(number)));
    let signed = futures::future::try_join_all(signed).await.expect("reads");
    let signed: Vec<bool> = signed.into_iter().map(|job| job.expect("exists").signed).collect();
    assert_eq!(signed, [true, true, true, false, false, true]);
}

fn about(message: &Message) -> (MinerId, Option<SectorId>) {
    (message.miner, message.sector)
}

fn words(state: &MessageState) -> String {
    let words = |signed: &Signed| {
        format!("{} ({}, {})", String::from_utf8_lossy(&signed.bytes), signed.cid, signed.epoch.expect("an epoch"))
    };
    match state {
        MessageState::Wanted => "wanted".to_owned(),
        MessageState::Reserved { nonce, .. } => format!("reserved {nonce}"),
        MessageState::Signed(signed) => format!("signed: {}", words(signed)),
        MessageState::Pushed { signed, epoch } => format!("pushed {epoch}: {}", words(signed)),
        MessageState::Withdrawn(signed) => format!("withdrawn: {}", words(signed)),
        MessageState::Delegated(call) => format!("{:?} at the messager: {}", call.stage, call.uid),
    }
}

fn for_messager<'a>(uid: &'a str) -> NewDelegated<'a> {
    NewDelegated { sender: "t3a", uid, unsigned: b"unsigned", max_fee_atto: "500", epoch: 60 }
}

async fn a_call_for_the_messager_has_an_id_and_no_nonce_and_keeps_what_was_signed_there(database: TestDatabase) {
    let store = store(&database).await;
    let message = wanted(&store, MessageKind::PreCommit).await;
    let mut tx = store.begin().await.expect("begins");
    let call = tx.save_delegated(&[&message], &for_messager("sealbus/a")).await.expect("stores");
    tx.commit().await.expect("commits");
    let stored = Delegated {
        call,
        uid: "sealbus/a".to_owned(),
        unsigned: b"unsigned".to_vec(),
        max_fee_atto: "500".to_owned(),
        epoch: 60,
        signed: None,
        stage: Stage::Stored,
    };
    assert_eq!(open(&store, MessageKind::PreCommit).await.state, MessageState::Delegated(stored.clone()));
    assert_eq!(store.next_nonce("t3a").await.expect("reads"), 0);
    assert!(store.sector(id()).await.expect("reads").expect("exists").signed, "a PreCommit may have been sent");
    let mut tx = store.begin().await.expect("begins");
    tx.save_delegated(&[&message], &for_messager("sealbus/b")).await.expect_err("it has a call");
    drop(tx);

    let mut tx = store.begin().await.expect("begins");
    tx.mark_pushed(call, 61).await.expect("notes");
    tx.save_seen(call, &envelope("bafy1", b"first")).await.expect("stores");
    tx.save_seen(call, &envelope("bafy2", b"second")).await.expect("stores");
    tx.commit().await.expect("commits");
    let signed = Signed { call, cid: "bafy2".to_owned(), bytes: b"second".to_vec(), epoch: Some(60) };
    let handed_over = Delegated { signed: Some(signed), stage: Stage::HandedOver { epoch: 61 }, ..stored };
    let pushed = open(&store, MessageKind::PreCommit).await;
    assert_eq!(pushed.state, MessageState::Delegated(handed_over.clone()));
    assert_eq!(store.envelopes(call).await.expect("reads"), [b"first".to_vec()]);
    assert_eq!(
        store.call_of_cid("bafy1").await.expect("reads").map(|call| (call.nonce, call.envelopes)),
        Some((None, 2))
    );

    let mut tx = store.begin().await.expect("begins");
    tx.mark_withdrawn(call, "not wanted").await.expect("notes");
    tx.want_once_more(&pushed, Tries::default()).await.expect("wants");
    tx.commit().await.expect("commits");
    let all = store.open_messages().await.expect("reads");
    let withdrawn = Delegated { stage: Stage::Withdrawn, ..handed_over };
    assert!(all.len() == 2 && all.iter().any(|one| one.state == MessageState::Delegated(withdrawn.clone())), "{all:?}");
    let mut tx = store.begin().await.expect("begins");
    tx.mark_replaced(&pushed, "dropped").await.expect("notes");
    tx.commit().await.expect("commits");
    let again = open(&store, MessageKind::PreCommit).await;
    assert_eq!(again.state, MessageState::Wanted);
    let mut tx = store.begin().await.expect("begins");
    tx.save_delegated(&[&again], &for_messager("sealbus/a")).await.expect_err("an id is used once");
}

async fn a_call_has_a_nonce_or_an_id_and_never_both(database: TestDatabase) {
    let _store = store(&database).await;
    let pool = database.raw().await;
    for (kind, nonce, uid, unsigned, max_fee, is_taken) in [
        ("precommit", None, Some("a"), Some(b"x".to_vec()), Some("5"), true),
        ("precommit", Some(1_i32), Some("b"), Some(b"x".to_vec()), Some("5"), false),
        ("precommit", None, Some("c"), None, Some("5"), false),
        ("precommit", None, Some("d"), Some(b"x".to_vec()), None, false),
        ("precommit", None, None, None, None, false),
        ("precommit", Some(2), None, None, None, false),
        ("filler", None, Some("e"), Some(b"x".to_vec()), Some("5"), false),
    ] {
        let insert = "INSERT INTO calls (kind, miner, state, sender, nonce, uid, unsigned, max_fee, signed_epoch) \
                      VALUES ($1, 'f01000', 'signed', 't3a', $2, $3, $4, $5, 60)";
        let query = sqlx::query(insert).bind(kind).bind(nonce.map(i64::from)).bind(uid).bind(unsigned).bind(max_fee);
        let outcome: Result<_, sqlx::Error> = query.execute(&pool).await;
        assert_eq!(outcome.is_ok(), is_taken, "{kind} {nonce:?} {uid:?}: {outcome:?}");
    }
}
