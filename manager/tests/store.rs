//! The store on real databases.

#[path = "store/archive.rs"]
mod archive;
#[path = "store/counts.rs"]
mod counts;
mod databases;
mod earlier;
#[path = "store/lists.rs"]
mod lists;
mod lives;
#[path = "store/messages.rs"]
mod messages;
#[path = "store/money.rs"]
mod money;
#[path = "store/network.rs"]
mod network;

use std::{collections::BTreeSet, time::Duration};

use databases::TestDatabase;
use lives::inputs;
use sealbus_manager::{
    config::Database,
    life,
    store::{
        Counts, Existing, Happening, Job, MessageKind, OnChain, OutboxKind, Outcome, SectorFilter, Store, StoreError,
        Verdict, secs_between,
    },
    waits::{Cause, Subject},
};
use sealbus_schema::{
    Commitment, ErrorClass, ErrorCode, ErrorReport, MinerId, Phase, SealProof, SectorId, Token, Workflow,
    identity::KnownStore,
    lease::Ownership,
    machine::manager::{AttemptPolicy, Released},
    message::{CommonEvent, EventBody, KnownSlot},
    workflows::{
        Input,
        seal::{
            self,
            manager::{Answer, Rebuild, State},
        },
    },
};
use serde_json::json;
use sqlx::{Connection, Executor};

const POLICY: AttemptPolicy = AttemptPolicy { max_attempts: 3, max_issues: 5 };

on_every_database! {
    a_sector_is_due_when_it_has_changed_and_when_its_epoch_has_come,
    every_state_of_a_life_is_read_back_as_it_was_stored,
    a_database_of_before_is_brought_over_and_its_jobs_go_on_to_their_ends,
    what_exists_of_a_sector_follows_from_where_its_sealing_stands,
    a_sector_has_at_most_one_job_that_goes_on_and_keeps_those_that_have_ended,
    a_number_is_given_out_once,
    a_rebuild_whose_precommit_is_on_its_way_is_read_back_as_it_was_stored,
    a_rebuild_whose_precommit_has_landed_is_read_back_as_it_was_stored,
    a_sector_whose_proof_is_here_ends_without_a_worker,
    a_new_database_may_be_opened_by_several_at_once,
    a_database_of_a_newer_version_is_refused_with_both_versions,
    the_database_itself_refuses_a_row_that_cannot_be,
    no_state_has_a_column_more_or_less_than_it_must,
    a_manager_that_was_taken_over_can_no_longer_write,
    transactions_that_write_come_one_after_the_other,
    whoever_waits_to_write_keeps_nobody_from_reading,
    a_transaction_that_is_dropped_while_it_begins_is_not_left_open,
    one_manager_leads_until_it_is_gone,
    effects_leave_through_the_outbox_and_name_the_owner,
    outcomes_of_many_sectors_are_stored_at_once,
    a_report_that_changes_little_and_one_that_changes_much_are_stored_side_by_side,
    a_sector_in_memory_is_read_again_once_somebody_else_has_changed_it,
    a_lost_queue_is_forgotten_and_its_sectors_are_released_in_the_next,
    stores_and_slots_are_known_by_their_ids_and_a_worker_is_told_of_its_own,
    a_sector_keeps_its_owner_over_the_loss_of_the_queue,
    what_waits_is_read_back_with_the_time_since_when,
    a_sector_counts_for_its_miner_in_one_place_at_a_time,
}

/// A store in which the fold is held, with one sector.
async fn store(database: &TestDatabase) -> Store {
    let store = database.open().await;
    let mut tx = store.begin().await.expect("begins");
    tx.start_fold("SEAL_SECTORS@1").await.expect("starts");
    tx.insert_sector(id(), SealProof::StackedDrg2KiBV1_1).await.expect("inserts");
    tx.commit().await.expect("commits");
    store
}

fn held() -> Ownership {
    Ownership::claimed("w1".parse().expect("worker"), Token(9))
}

fn id() -> SectorId {
    "f01000/1".parse().expect("sector")
}

async fn apply(store: &Store, input: Input) -> Job {
    let mut tx = store.begin().await.expect("begins");
    let mut sector = tx.sector(id()).await.expect("reads").expect("exists");
    if input == Input::Claimed {
        sector.ownership = held();
    }
    if matches!(input, Input::Released(_)) {
        sector.ownership = Ownership::Free { last_lease: 12 };
    }
    let outcome = life::decide(sector, input, Happening::of_manager("test", json!({})), POLICY);
    tx.store_outcomes(vec![outcome.clone()]).await.expect("stores");
    tx.commit().await.expect("commits");
    outcome.sector
}

async fn every_state_of_a_life_is_read_back_as_it_was_stored(database: TestDatabase) {
    let store = store(&database).await;
    let refused = ErrorReport::new(ErrorClass::Perm, ErrorCode::PROOF_INVALID, "a test");
    for input in inputs() {
        let stored = apply(&store, input).await;
        assert_eq!(store.sector(id()).await.expect("reads"), Some(stored.clone()));
        if stored.state.is_terminal() {
            continue;
        }
        // Each state can be blocked and unblocked.
        let blocked = apply(&store, Input::Refused(refused.clone())).await;
        assert!(blocked.blocked.is_some());
        assert_eq!(store.sector(id()).await.expect("reads"), Some(blocked));
        let mut tx = store.begin().await.expect("begins");
        tx.save_sector(stored).await.expect("stores");
        tx.commit().await.expect("commits");
    }
    let filter = SectorFilter { state: Some("proving".into()), ..SectorFilter::default() };
    assert_eq!(store.sectors(&filter).await.expect("lists").len(), 1);
    assert!(store.live_sectors().await.expect("lists").is_empty());
}

async fn a_sector_is_due_when_it_has_changed_and_when_its_epoch_has_come(database: TestDatabase) {
    let store = store(&database).await;
    let due = async |epoch: i64| store.due(epoch, 10).await.expect("reads");
    apply(&store, Input::Claimed).await;
    let read = due(0).await;
    assert_eq!(read.iter().map(|due| due.sector.id).collect::<Vec<_>>(), [id()]);
    let settle = async |due: &sealbus_manager::store::Due, at_epoch: Option<i64>| {
        let mut tx = store.begin().await.expect("begins");
        tx.look_later(&[due.later(at_epoch)]).await.expect("stores");
        tx.commit().await.expect("commits");
    };
    settle(&read[0], Some(100)).await;
    assert!(due(99).await.is_empty());
    assert_eq!(due(100).await.len(), 1);
    let mut tx = store.begin().await.expect("begins");
    tx.look_at_all().await.expect("stores");
    tx.commit().await.expect("commits");
    assert_eq!(due(0).await.len(), 1, "the chain is another one");
    settle(&read[0], None).await;
    assert!(due(i64::MAX).await.is_empty(), "nothing to wait for");
    let before = apply(&store, Input::Event(EventBody::Seal(seal::Event::TicketWanted { draw: 1 }))).await;
    let read = due(0).await;
    assert_eq!(read[0].sector, before);
    apply(&store, Input::Refused(ErrorReport::new(ErrorClass::Perm, ErrorCode::PROOF_INVALID, "a test"))).await;
    settle(&read[0], None).await;
    assert_eq!(due(0).await.len(), 1, "it has changed since it was read");
}

async fn a_rebuild_whose_precommit_is_on_its_way_is_read_back_as_it_was_stored(database: TestDatabase) {
    rebuild_is_read_back(database, false).await;
}

async fn a_rebuild_whose_precommit_has_landed_is_read_back_as_it_was_stored(database: TestDatabase) {
    rebuild_is_read_back(database, true).await;
}

/// A rebuild, and the abandoning of the sector during it.
async fn rebuild_is_read_back(database: TestDatabase, landed: bool) {
    let released = || Input::Released(Released { attempt: 1, issues: 1, signed: true });
    let cause = ErrorReport::new(ErrorClass::Abort, ErrorCode::ABANDONED, "a test");
    let store = store(&database).await;
    let so_far = inputs().into_iter().take(if landed { 8 } else { 4 });
    for input in so_far.chain([released()]) {
        apply(&store, input).await;
    }
    let requeued = store.sector(id()).await.expect("reads").expect("exists");
    assert_eq!(matches!(requeued.state.seal(), Some(State::Requeued(Rebuild::Landed(_)))), landed, "{requeued:?}");
    assert_eq!((requeued.attempt, requeued.issues), (1, 2));
    let rebuilding = apply(&store, Input::Claimed).await;
    assert_eq!(store.sector(id()).await.expect("reads"), Some(rebuilding));
    let abandoning = apply(&store, Input::Abandoned { cause: cause.clone(), lose_deposit: true }).await;
    assert!(matches!(abandoning.state.seal(), Some(State::Abandoning { .. })));
    assert_eq!(store.sector(id()).await.expect("reads"), Some(abandoning));
    apply(&store, released()).await;
    let aborted = store.sector(id()).await.expect("reads").expect("exists");
    assert!(matches!(aborted.state.seal(), Some(State::Aborted { .. })));
}

async fn a_database_of_before_is_brought_over_and_its_jobs_go_on_to_their_ends(database: TestDatabase) {
    sqlx::any::install_default_drivers();
    let dump = if database.postgres.is_some() { earlier::POSTGRES } else { earlier::SQLITE };
    database.raw().await.execute(dump).await.expect("a database of before");
    let store = database.open().await;
    for (life, inputs) in earlier::lives().iter().enumerate() {
        let id = earlier::sector(life);
        let job = inputs.iter().fold(earlier::begun(id), |job, input| earlier::step(job, input).sector);
        let existing = store.existing(id).await.expect("reads").expect("a number that was given out");
        assert_eq!(existing.files.as_ref(), job.state.seal().and_then(State::stored).map(|stored| &stored.files));
        assert_eq!(existing.on_chain.is_some(), ["cleaning", "proving"].contains(&job.state.name()), "{job:?}");
        assert_eq!(store.jobs_of(id).await.expect("reads"), std::slice::from_ref(&job));
        assert_eq!(store.history(id).await.expect("reads").len(), inputs.len());

        let given_up = matches!(job.state.seal(), Some(State::Abandoning { .. } | State::Aborted { .. }));
        let mut tx = store.begin().await.expect("begins");
        let mut job = tx.sector(id).await.expect("reads").expect("exists");
        while let Some(input) = earlier::next(&job) {
            let outcome = earlier::step(job, &input);
            assert_eq!(outcome.history[0].1, Verdict::Applied, "{input:?} of {:?}", outcome.sector);
            tx.store_outcomes(vec![outcome]).await.expect("stores");
            job = tx.sector(id).await.expect("reads").expect("exists");
        }
        tx.commit().await.expect("commits");
        assert_eq!(job.is_done(), !given_up, "{job:?}");
        let existing = store.existing(id).await.expect("reads").expect("a number that was given out");
        assert_eq!((existing.files.is_some(), existing.on_chain.is_some()), (!given_up, !given_up));
    }
    assert!(store.live_sectors().await.expect("reads").is_empty());
    assert_eq!(store.some_stored_in("main", 3).await.expect("reads").len(), 3);
}

async fn what_exists_of_a_sector_follows_from_where_its_sealing_stands(database: TestDatabase) {
    let store = store(&database).await;
    let existing = async || store.existing(id()).await.expect("reads").expect("it has a number");
    let (nothing, inputs) = (Existing::default(), inputs());
    for input in &inputs[..5] {
        apply(&store, input.clone()).await;
        assert_eq!(existing().await, nothing);
    }
    let stored = apply(&store, inputs[5].clone()).await;
    let files = stored.state.seal().and_then(State::stored).map(|stored| stored.files.clone());
    assert!(files.is_some());
    assert_eq!(existing().await, Existing { files: files.clone(), on_chain: None });
    // It is sealed again, because its worker is gone.
    apply(&store, Input::Released(Released { attempt: 1, issues: 1, signed: true })).await;
    assert_eq!(existing().await, nothing);
    for input in [&inputs[..1], &inputs[3..4], &inputs[5..11]].concat() {
        apply(&store, input).await;
    }
    let (comm_r, comm_d) = (Commitment([1; 32]), Commitment([2; 32]));
    let active = Existing { files, on_chain: Some(OnChain { comm_r, comm_d, activation_epoch: 50 }) };
    assert_eq!(existing().await, active, "its worker still cleans its slot");
    apply(&store, inputs[11].clone()).await;
    assert_eq!(existing().await, active);
    assert_eq!(store.existing("f01000/2".parse().expect("sector")).await.expect("reads"), None);
}

async fn a_sector_has_at_most_one_job_that_goes_on_and_keeps_those_that_have_ended(database: TestDatabase) {
    let store = store(&database).await;
    let start = async |id| {
        let mut tx = store.begin().await.expect("begins");
        let started = tx.start_job(id, Workflow::Seal).await;
        tx.commit().await.and(started)
    };
    for input in inputs() {
        start(id()).await.expect_err("one goes on");
        apply(&store, input).await;
    }
    start(id()).await.expect_err("its worker still has the lease");
    let ended = apply(&store, Input::Released(Released { attempt: 1, issues: 1, signed: true })).await;
    let existing = store.existing(id()).await.expect("reads");
    start(id()).await.expect("nothing is in the way");
    let next = store.sector(id()).await.expect("reads").expect("exists");
    assert_eq!((next.state.name(), &next.ownership), ("queued", &Ownership::Free { last_lease: 12 }));
    assert_eq!(store.jobs_of(id()).await.expect("reads"), [ended.clone(), next.clone()]);
    assert_eq!(store.existing(id()).await.expect("reads"), existing, "the sector is what it was");
    assert_eq!(store.live_sectors().await.expect("reads"), std::slice::from_ref(&next));
    assert_eq!(store.sectors(&SectorFilter::default()).await.expect("reads"), [next]);

    let claimed = apply(&store, Input::Claimed).await;
    assert_eq!(store.jobs_of(id()).await.expect("reads"), [ended, claimed]);
    start("f01000/2".parse().expect("sector")).await.expect_err("it has no number");
}

async fn a_number_is_given_out_once(database: TestDatabase) {
    let store = store(&database).await;
    let mut tx = store.begin().await.expect("begins");
    tx.insert_sector(id(), SealProof::StackedDrg2KiBV1_1).await.expect_err("it has its sector");
    tx.rollback().await.expect("ends");
    let numbers = store.numbers_among(id().miner, &[1, 2]).await.expect("reads");
    assert_eq!(numbers, [1].into());
}

async fn a_sector_whose_proof_is_here_ends_without_a_worker(database: TestDatabase) {
    let store = store(&database).await;
    for input in inputs().into_iter().take(9) {
        apply(&store, input).await;
    }
    let released = Input::Released(Released { attempt: 1, issues: 1, signed: true });
    assert_eq!(apply(&store, released).await.state.name(), "verifying_proof");
    apply(&store, Input::from(Answer::ProofVerified)).await;
    assert_eq!(apply(&store, Input::from(Answer::ProveLanded { activation_epoch: 50 })).await.state.name(), "proving");
}

async fn a_new_database_may_be_opened_by_several_at_once(database: TestDatabase) {
    let openings = (0..8).map(|_| {
        let database = database.database.clone();
        tokio::spawn(async move { Store::open(&database).await.map(drop) })
    });
    for opening in openings.collect::<Vec<_>>() {
        opening.await.expect("no panic").expect("opens");
    }
}

/// While SQLite switches a file to write-ahead logging, it does not wait for another process's write: it reports at
/// once that the database is locked. This once happened to a command while a manager was creating its database.
#[tokio::test]
async fn a_sqlite_file_that_somebody_else_is_opening_is_waited_for() {
    let database = TestDatabase::sqlite();
    let Database::Sqlite { path } = &database.database else { unreachable!("it is SQLite's") };
    let opening = std::fs::File::create(path.with_extension("db.lock")).expect("a file");
    opening.lock().expect("nobody has it");
    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let mut maker = sqlx::AnyConnection::connect(&url).await.expect("connects");
    maker.execute("BEGIN IMMEDIATE").await.expect("begins");
    let made = async {
        // Long enough for an opener that does not wait to fail. An opener that waits may succeed at any time.
        tokio::time::sleep(Duration::from_millis(200)).await;
        maker.execute("COMMIT").await.expect("ends");
        drop(opening);
    };
    let (opened, ()) = tokio::join!(Store::open(&database.database), made);
    opened.expect("opens");
}

#[tokio::test]
async fn a_path_may_hold_what_means_something_else_in_an_address() {
    for name in ["a b", "ü#1", "x%41y", "q?mode=ro"] {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join(name).join("manager.db");
        std::fs::create_dir(directory.path().join(name)).expect("directory");
        Store::open(&Database::Sqlite { path: path.clone() }).await.expect(name);
        assert!(path.is_file(), "{name}");
        assert_eq!(std::fs::read_dir(directory.path()).expect("lists").count(), 1, "{name}: nothing beside it");
    }
}

async fn a_database_of_a_newer_version_is_refused_with_both_versions(database: TestDatabase) {
    drop(database.open().await);
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 SELECT 9999, 'newer', success, checksum, 1 FROM _sqlx_migrations WHERE version = 1";
    sqlx::query(newer).execute(&database.raw().await).await.expect("inserts");
    let refused = Store::open(&database.database).await.err().expect("it is newer");
    assert!(matches!(&refused, StoreError::Newer { found: 9999, .. }), "{refused}");
    assert!(matches!(Store::look(&database.database).await, Err(StoreError::Newer { .. })));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_told_as_damaged_and_stays_as_it_is() {
    let database = TestDatabase::sqlite();
    let Database::Sqlite { path } = &database.database else { unreachable!("it is SQLite's") };
    std::fs::write(path, [7; 8192]).expect("writes");
    let refused = Store::open(&database.database).await.err().expect("it is none");
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
    assert_eq!(std::fs::read(path).expect("reads"), [7; 8192]);
}

/// SQLite's messages quote what it finds in a damaged file, which need not be valid text.
#[tokio::test]
async fn what_is_said_of_a_damaged_file_is_text() {
    let database = TestDatabase::sqlite();
    let Database::Sqlite { path } = &database.database else { unreachable!("it is SQLite's") };
    drop(database.open().await);
    let raw = database.raw().await;
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&raw).await.expect("all is in the file");
    raw.close().await;
    let mut bytes = std::fs::read(path).expect("reads");
    // A table's row in the schema, whose name or statement is overwritten with nonsense. Pages may also hold old copies.
    for (found, skip, damage) in [("tablewaitswaits", 5, [0xff; 5]), ("CREATE TABLE waits", 0, *b"xxxxx")] {
        let places: Vec<usize> =
            (0..bytes.len() - found.len()).filter(|at| bytes[*at..].starts_with(found.as_bytes())).collect();
        assert!(!places.is_empty(), "the table");
        for at in places {
            bytes[at + skip..][..damage.len()].copy_from_slice(&damage);
        }
    }
    std::fs::write(path, bytes).expect("writes");
    let refused = Store::open(&database.database).await.err().expect("it is damaged");
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
    let words = std::error::Error::source(&refused).expect("a cause").to_string();
    assert!(words.contains("malformed database schema"), "{words:?}");
    assert!(std::str::from_utf8(words.as_bytes()).is_ok() && words.contains('\u{fffd}'), "{words:?}");
}

#[tokio::test]
async fn a_file_that_is_removed_or_replaced_takes_nothing_more_until_it_is_back() {
    let database = TestDatabase::sqlite();
    let Database::Sqlite { path } = &database.database else { unreachable!("it is SQLite's") };
    let store = database.open().await;
    let aside = path.with_extension("aside");
    std::fs::rename(path, &aside).expect("moves");
    assert!(matches!(store.begin().await.err(), Some(StoreError::Gone { .. })));
    assert!(!path.exists(), "no other one is begun");
    std::fs::write(path, "").expect("writes");
    assert!(store.begin().await.is_err_and(|error| error.is_replaced()));
    std::fs::rename(&aside, path).expect("moves");
    store.begin().await.expect("it is the one that is open");
}

#[tokio::test]
async fn a_database_that_is_read_only_can_be_read() {
    let database = TestDatabase::postgres();
    drop(database.open().await);
    // As after a failover to a read-only replica.
    let read_only = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$";
    sqlx::query(read_only).execute(&database.raw().await).await.expect("sets");
    let store = database.open().await;
    assert!(store.open_pledges().await.expect("reads").is_empty());
    let mut tx = store.begin().await.expect("begins");
    assert!(matches!(tx.add_pledge("f01000", 1, "a test").await, Err(StoreError::Sql { .. })));
}

async fn the_database_itself_refuses_a_row_that_cannot_be(database: TestDatabase) {
    let store = store(&database).await;
    apply(&store, Input::Claimed).await;
    let pool = database.raw().await;
    let outbox = "INSERT INTO outbox (kind, miner, number, lease_sequence, payload)";
    let want = "INSERT INTO wants (job, miner, number, kind, attempt, turn, state)";
    let call = "INSERT INTO calls (kind, miner, number, state, sender, nonce, envelope, error)";
    for good in [
        &format!("{outbox} VALUES ('intent', 'f01', 1, 0, '')"),
        &format!("{want} VALUES (1, 'f01000', 1, 'prove_commit', 1, 1, 'wanted')"),
        &format!("{call} VALUES ('filler', 'f01000', 1, 'reserved', 't3a', 2, NULL, NULL)"),
        "UPDATE jobs SET changed_at = changed_at, version = version + 1",
    ] {
        sqlx::query(good).execute(&pool).await.expect("what is good is taken");
    }
    for bad in [
        "UPDATE jobs SET state = 'proving', version = version + 1",
        "UPDATE seal_jobs SET state = 'proving'",
        "UPDATE seal_jobs SET comm_r = '00'",
        "UPDATE jobs SET state = 'lost', version = version + 1",
        "UPDATE seal_jobs SET state = 'lost'",
        "UPDATE seal_jobs SET draw = 1",
        "UPDATE jobs SET changed_at = changed_at",
        // As good as the state that it stands at, but not what the job's row says.
        "UPDATE seal_jobs SET state = 'queued'",
        "UPDATE jobs SET is_last = 0, version = version + 1",
        "UPDATE jobs SET owner = NULL, version = version + 1",
        "UPDATE sectors SET store = 'main'",
        "UPDATE sectors SET activation_epoch = 1",
        "DELETE FROM sectors",
        &format!("{want} VALUES (1, 'f01000', 1, 'precommit', 1, 1, 'pushed')"),
        &format!("{want} VALUES (1, 'f01000', 1, 'filler', 1, 1, 'wanted')"),
        &format!("{want} VALUES (1, 'f01000', 1, 'precommit', 1, 1, 'failed')"),
        &format!("{want} VALUES (99, 'f01000', 1, 'precommit', 1, 1, 'wanted')"),
        // Without an envelope, epoch or cause, or with an envelope that is not there.
        &format!("{call} VALUES ('precommit', 'f01000', NULL, 'signed', 't3a', 1, NULL, NULL)"),
        &format!("{call} VALUES ('precommit', 'f01000', NULL, 'signed', 't3a', 1, 1, NULL)"),
        &format!("{call} VALUES ('precommit', 'f01000', NULL, 'withdrawn', 't3a', 1, NULL, 'x')"),
        &format!("{call} VALUES ('precommit', 'f01000', NULL, 'replaced', 't3a', 1, NULL, 'x')"),
        &format!("{call} VALUES ('precommit', 'f01000', 1, 'failed', 't3a', 1, NULL, 'x')"),
        &format!("{call} VALUES ('errand', 'f01000', NULL, 'failed', 't3a', 1, NULL, 'x')"),
        &format!("{call} VALUES ('filler', 'f01000', 1, 'pushed', 't3a', 1, NULL, NULL)"),
        &format!("{call} VALUES ('filler', 'f01000', 1, 'replaced', 't3a', 1, NULL, NULL)"),
        &format!("{outbox} VALUES ('fact', 'f01', 1, 0, '')"),
    ] {
        let outcome = sqlx::query(bad).execute(&pool).await;
        assert!(outcome.is_err(), "{bad}");
    }
}

/// Each state, with the columns that a sector has in it, as indexes into [`OF_STATES`].
const STATES: [(&str, &[usize]); 18] = [
    ("queued", &[]),
    ("packing", &[]),
    ("drawing_ticket", &[0]),
    ("sealing", &[1]),
    ("pre_committing", &[1, 2, 3]),
    ("persisting", &[1, 2, 3, 4, 5]),
    ("checking_files", &[1, 2, 3, 4, 5, 6]),
    ("awaiting_seed", &[1, 2, 3, 4, 5, 6]),
    ("committing", &[1, 2, 3, 4, 5, 6, 7]),
    ("verifying_proof", &[1, 2, 3, 4, 5, 6, 7, 8]),
    ("prove_committing", &[1, 2, 3, 4, 5, 6, 7, 8]),
    ("cleaning", &[1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ("proving", &[1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ("requeued", &[1, 2, 3]),
    ("rebuilding", &[1, 2, 3, 4, 5]),
    ("aborting", &[10]),
    ("abandoning", &[10]),
    ("aborted", &[10]),
];
const OF_STATES: [&str; 11] = [
    "draw",
    "ticket",
    "comm_r",
    "comm_d",
    "precommit",
    "seeds_drawn",
    "files",
    "seed",
    "proof_bytes",
    "activation_epoch",
    "cause",
];

async fn no_state_has_a_column_more_or_less_than_it_must(database: TestDatabase) {
    let store = store(&database).await;
    let pool = database.raw().await;
    let set = |column: usize, is_there: bool| {
        let name = OF_STATES[column];
        let value = match (is_there, &database.postgres, name) {
            (false, ..) => "NULL",
            (true, Some(_), "proof_bytes") => "'x'::bytea",
            (true, _, "draw" | "seeds_drawn" | "activation_epoch") => "1",
            (true, ..) => "'x'",
        };
        format!("{name} = {value}")
    };
    for (state, columns) in STATES {
        let all: Vec<String> = (0..OF_STATES.len()).map(|column| set(column, columns.contains(&column))).collect();
        let good = format!(
            "BEGIN; UPDATE jobs SET state = '{state}', version = version + 1; \
             UPDATE seal_jobs SET state = '{state}', {}; COMMIT",
            all.join(", ")
        );
        pool.execute(&*good).await.unwrap_or_else(|error| panic!("{state}: {error}"));
        for column in 0..OF_STATES.len() {
            let bad = set(column, !columns.contains(&column));
            let outcome = sqlx::query(&format!("UPDATE seal_jobs SET {bad}")).execute(&pool).await;
            assert!(outcome.is_err(), "{state} with {bad}");
        }
    }
    drop(store);
}

async fn a_manager_that_was_taken_over_can_no_longer_write(database: TestDatabase) {
    let store = store(&database).await;
    let take_over = || async {
        let mut tx = store.begin().await.expect("begins");
        let epoch = tx.take_over().await.expect("takes over");
        tx.commit().await.expect("commits");
        epoch
    };
    let (first, second) = (take_over().await, take_over().await);
    assert!(second > first);
    assert!(matches!(store.begin_as(first).await.err(), Some(StoreError::TakenOver { .. })));
    let mut tx = store.begin_as(second).await.expect("begins");
    tx.move_offset(second, 0, 10).await.expect("moves");
    assert!(tx.move_offset(second, 0, 11).await.is_err(), "the offset has moved already");
}

async fn a_transaction_that_is_dropped_while_it_begins_is_not_left_open(database: TestDatabase) {
    let store = store(&database).await;
    // For the answer to what was asked, and for a connection to come back to the pool.
    let pause = || tokio::time::sleep(Duration::from_millis(20));
    let mut has_begun = false;
    // It is dropped behind each of its polls. Behind the last but one it has begun, and nobody has it.
    for polls in 1.. {
        pause().await;
        let mut begin = Box::pin(store.begin());
        for _ in 0..polls {
            has_begun = has_begun || futures::poll!(&mut begin).is_ready();
            pause().await;
        }
        drop(begin);
        if has_begun {
            break;
        }
        pause().await;
        store.begin().await.expect("begins").commit().await.expect("commits");
    }
}

async fn whoever_waits_to_write_keeps_nobody_from_reading(database: TestDatabase) {
    let store = store(&database).await;
    let writes = store.begin().await.expect("begins");
    // More than the pool has connections.
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.begin().await?.commit().await })
        })
        .collect();
    // For them to begin.
    tokio::time::sleep(Duration::from_millis(100)).await;
    store.fold_state().await.expect("a connection is free");
    writes.commit().await.expect("commits");
    for waiting in waiting {
        waiting.await.expect("runs").expect("its turn comes");
    }
}

async fn transactions_that_write_come_one_after_the_other(database: TestDatabase) {
    let store = store(&database).await;
    // Each task reads a value and writes it plus one. No step may be lost, and none may be refused.
    let steps = (0..16).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut tx = store.begin().await?;
            let mut sector = tx.sector(id()).await?.expect("exists");
            tokio::task::yield_now().await;
            sector.attempt += 1;
            tx.save_sector(sector).await?;
            tx.commit().await
        })
    });
    for step in steps.collect::<Vec<_>>() {
        step.await.expect("no panic").expect("commits");
    }
    assert_eq!(store.sector(id()).await.expect("reads").expect("exists").attempt, 17);
}

async fn one_manager_leads_until_it_is_gone(database: TestDatabase) {
    // Two managers, each with its own connections.
    let (first, second) = (database.open().await, database.open().await);
    let leadership = first.candidate().try_lead().await.expect("asks").expect("nobody else leads");
    let mut candidate = second.candidate();
    for _ in 0..3 {
        assert!(candidate.try_lead().await.expect("asks").is_none(), "one leads already");
    }
    drop(leadership);
    // The server notices the end of a session a moment later.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while candidate.try_lead().await.expect("asks").is_none() {
        assert!(std::time::Instant::now() < deadline, "nobody leads, and nobody may");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn outcomes_of_many_sectors_are_stored_at_once(database: TestDatabase) {
    let store = store(&database).await;
    let ids: BTreeSet<SectorId> = (1..=300).map(|n| format!("f01000/{n}").parse().expect("sector")).collect();
    let mut tx = store.begin().await.expect("begins");
    for id in ids.iter().skip(1) {
        tx.insert_sector(*id, SealProof::StackedDrg2KiBV1_1).await.expect("inserts");
    }
    let mut asked = ids.clone();
    asked.insert("f01000/999".parse().expect("sector"));
    let sectors = tx.sectors(&asked).await.expect("reads");
    assert_eq!(sectors.iter().map(|sector| sector.id).collect::<BTreeSet<_>>(), ids);
    let happening = |kind: &str| Happening::of_manager(kind, json!({}));
    let outcomes: Vec<Outcome> = sectors
        .into_iter()
        .map(|sector| {
            Outcome::unchanged(sector).then(|sector| life::offer(sector, happening("wanted"))).then(|sector| {
                life::decide(Job { ownership: held(), ..sector }, Input::Claimed, happening("claimed"), POLICY)
            })
        })
        .collect();
    tx.store_outcomes(outcomes.clone()).await.expect("stores");
    tx.commit().await.expect("commits");
    for outcome in &outcomes {
        let id = outcome.sector.id;
        assert_eq!(store.sector(id).await.expect("reads").as_ref(), Some(&outcome.sector));
        let kinds: Vec<String> =
            store.history(id).await.expect("reads").into_iter().map(|entry| entry.happening.kind).collect();
        assert_eq!(kinds, ["wanted", "claimed"]);
    }
    let rows = store.outbox(0, 1000).await.expect("reads");
    assert_eq!(rows.iter().map(|row| row.sector).collect::<BTreeSet<_>>(), ids);
    assert_eq!(rows.len(), ids.len());
}

async fn a_report_that_changes_little_and_one_that_changes_much_are_stored_side_by_side(database: TestDatabase) {
    let store = store(&database).await;
    let ids: BTreeSet<SectorId> = (1..=20).map(|n| format!("f01000/{n}").parse().expect("sector")).collect();
    let mut tx = store.begin().await.expect("begins");
    for id in ids.iter().skip(1) {
        tx.insert_sector(*id, SealProof::StackedDrg2KiBV1_1).await.expect("inserts");
    }
    let claimed = |sector: Job| {
        let happening = Happening::of_manager("claimed", json!({}));
        life::decide(Job { ownership: held(), ..sector }, Input::Claimed, happening, POLICY)
    };
    let outcomes: Vec<Outcome> = tx.sectors(&ids).await.expect("reads").into_iter().map(claimed).collect();
    tx.store_outcomes(outcomes.clone()).await.expect("stores");
    tx.commit().await.expect("commits");

    let mut tx = store.begin().await.expect("begins");
    let read = tx.sectors(&ids).await.expect("reads");
    let report = |mut sector: Job| {
        let worker = "w1".parse().expect("worker");
        sector.ownership = Ownership::Held { worker, token: Token(9), stream: None, last_lease: 9, last_event: 3 };
        // The reports of every third sector change its state; the others only show that work goes on.
        let body = match sector.id.number.0 % 3 {
            0 => EventBody::Seal(seal::Event::TicketWanted { draw: 1 }),
            _ => EventBody::Common(CommonEvent::PhaseStarted {
                phase: Phase::TreeD,
                attempt: 1,
                processor: "tree_d-0".to_owned(),
            }),
        };
        let happening = Happening { at: "2026-11-25T00:00:00Z".to_owned(), ..Happening::of_manager("said", json!({})) };
        life::decide(sector, Input::Event(body), happening, POLICY)
    };
    let outcomes: Vec<Outcome> = read.iter().cloned().map(report).collect();
    tx.store_outcomes(outcomes.clone()).await.expect("stores");
    tx.commit().await.expect("commits");
    for (outcome, before) in outcomes.iter().zip(&read) {
        assert_ne!(outcome.sector, *before);
        assert_eq!(store.sector(outcome.sector.id).await.expect("reads").as_ref(), Some(&outcome.sector));
        assert_eq!(store.history(outcome.sector.id).await.expect("reads").len(), 2);
    }
    let led_on = outcomes.iter().filter(|o| matches!(o.sector.state.seal(), Some(State::DrawingTicket { .. }))).count();
    assert_eq!(led_on, 6);
}

async fn a_sector_in_memory_is_read_again_once_somebody_else_has_changed_it(database: TestDatabase) {
    let store = store(&database).await;
    let ids = BTreeSet::from([id()]);
    let seen = async || {
        let mut tx = store.begin().await.expect("begins");
        let read = tx.sectors(&ids).await.expect("reads");
        // Bypasses everything in memory.
        assert_eq!(read, [store.sector(id()).await.expect("reads").expect("exists")]);
        let happening = Happening::of_manager("claimed", json!({}));
        let [sector] = read.try_into().expect("one sector");
        let claimed = life::decide(Job { ownership: held(), ..sector }, Input::Claimed, happening, POLICY);
        tx.store_outcomes(vec![claimed.clone()]).await.expect("stores");
        tx.commit().await.expect("commits");
        claimed.sector
    };
    assert_eq!(seen().await.state.seal(), Some(&State::Packing));
    seen().await;
    // Changes by the chain driver, another manager or a command: a whole row, one column, or all rows.
    apply(&store, Input::Refused(ErrorReport::new(ErrorClass::Perm, ErrorCode::PROOF_INVALID, "a test"))).await;
    assert!(seen().await.blocked.is_some());
    let message = messages::wanted(&store, MessageKind::PreCommit).await;
    let mut tx = store.begin().await.expect("begins");
    tx.save_signed(&[&message], "f01", 0, 60, &messages::envelope("cid", b"bytes")).await.expect("signs");
    tx.commit().await.expect("commits");
    assert!(seen().await.signed);
    let message = messages::open(&store, MessageKind::PreCommit).await;
    let mut tx = store.begin().await.expect("begins");
    tx.mark_failed(&message, None, "a test").await.expect("fails");
    tx.commit().await.expect("commits");
    assert!(!seen().await.signed);
    let mut tx = store.begin().await.expect("begins");
    tx.restart_fold("new", 0, Vec::new(), "a test").await.expect("restarts");
    tx.commit().await.expect("commits");
    assert_eq!(seen().await.issues, 0);
}

async fn effects_leave_through_the_outbox_and_name_the_owner(database: TestDatabase) {
    let store = store(&database).await;
    for input in inputs() {
        apply(&store, input).await;
    }
    let rows = store.outbox(0, 100).await.expect("reads");
    let facts = rows.iter().filter(
        |row| matches!(&row.kind, sealbus_manager::store::OutboxKind::Fact { worker } if worker.as_str() == "w1"),
    );
    assert_eq!(facts.count(), 5, "ticket, precommit, persist check, seed, prove commit");
    assert_eq!(rows.last().map(|row| row.kind.clone()), Some(sealbus_manager::store::OutboxKind::Release));
    assert!(rows.iter().all(|row| row.lease_sequence == 9));
    assert_eq!(store.open_messages().await.expect("reads").len(), 2);
    assert!(matches!(store.sector(id()).await.expect("reads").expect("exists").ownership, Ownership::Held { .. }));
    let history = store.history(id()).await.expect("reads");
    assert!(history.iter().all(|entry| entry.verdict == Verdict::Applied.name()));
}

async fn a_sector_keeps_its_owner_over_the_loss_of_the_queue(database: TestDatabase) {
    let store = store(&database).await;
    for input in inputs().into_iter().take(5) {
        apply(&store, input).await;
    }
    let mut tx = store.begin().await.expect("begins");
    let before = tx.sector(id()).await.expect("reads").expect("exists");
    let lost = Happening::of_manager("queue_recovered", json!({}));
    let outcome = life::recovered(before.clone(), "SEAL_SECTORS@1", "a test", lost);
    tx.restart_fold("SEAL_SECTORS@2", 0, vec![outcome], "a test").await.expect("stores");
    tx.commit().await.expect("commits");
    let now = store.sector(id()).await.expect("reads").expect("exists");
    let Ownership::Held { worker, token, stream, last_lease, .. } = now.ownership else { panic!("lost: {now:?}") };
    assert_eq!((worker.as_str(), token, last_lease), ("w1", Token(9), 0));
    assert_eq!((stream.as_deref(), now.state), (Some("SEAL_SECTORS@1"), before.state));
    let rows = store.outbox(0, 100).await.expect("reads");
    let kinds: Vec<_> = rows.iter().map(|row| (row.kind.clone(), row.lease_sequence)).collect();
    let fact = OutboxKind::Fact { worker: worker.clone() };
    assert_eq!(kinds.first(), Some(&(OutboxKind::Reinstate, 0)), "the first record of the sector in the next stream");
    assert!(kinds.len() > 1 && kinds[1..].iter().all(|kind| *kind == (fact.clone(), 9)), "told again: {kinds:?}");
}

async fn a_lost_queue_is_forgotten_and_its_sectors_are_released_in_the_next(database: TestDatabase) {
    let store = store(&database).await;
    for input in inputs().into_iter().take(4) {
        apply(&store, input).await;
    }
    let mut tx = store.begin().await.expect("begins");
    let epoch = tx.take_over().await.expect("takes over");
    tx.move_offset(epoch, 0, 70).await.expect("moves");
    tx.commit().await.expect("commits");
    assert!(!store.outbox(0, 100).await.expect("reads").is_empty(), "a ticket was to be told");

    let mut tx = store.begin().await.expect("begins");
    let sector = tx.sector(id()).await.expect("reads").expect("exists");
    let sector = Job { ownership: Ownership::Free { last_lease: 0 }, leased_at: None, issues: 0, ..sector };
    let history = vec![(Happening::of_manager("test", json!({})), Verdict::Noted)];
    let outcome = Outcome { history, ..Outcome::unchanged(sector.clone()) };
    tx.restart_fold("SEAL_SECTORS@2", 500, vec![outcome], "a test").await.expect("stores");
    let fold = tx.fold_state().await.expect("reads").expect("a fold");
    tx.commit().await.expect("commits");
    assert_eq!((fold.stream.as_str(), fold.last_sequence), ("SEAL_SECTORS@2", 500));
    let rows = store.outbox(0, 100).await.expect("reads");
    assert!(
        matches!(&rows[..], [row] if row.kind == sealbus_manager::store::OutboxKind::Release && row.lease_sequence == 0),
        "{rows:?}"
    );
    let now = store.sector(id()).await.expect("reads").expect("exists");
    assert_eq!((&now.ownership, &now.state), (&sector.ownership, &sector.state), "only the log says what follows");
    assert!(matches!(store.begin_as(epoch).await.err(), Some(StoreError::TakenOver { .. })));
}

async fn stores_and_slots_are_known_by_their_ids_and_a_worker_is_told_of_its_own(database: TestDatabase) {
    let store = store(&database).await;
    assert!(store.some_stored_in("main", 9).await.expect("reads").is_empty());
    for input in inputs() {
        apply(&store, input).await;
    }
    let stored = store.some_stored_in("main", 9).await.expect("reads");
    assert_eq!(stored.iter().map(|(sector, _)| *sector).collect::<Vec<_>>(), [id()]);
    for other in ["mai", "m%", "_ain", "a\"b"] {
        assert!(store.some_stored_in(other, 9).await.expect("reads").is_empty(), "{other}");
    }
    let known = |name: &str, id: &str| KnownStore { name: name.to_owned(), id: id.to_owned() };
    let slot = |path: &str, id: &str| KnownSlot { path: path.to_owned(), id: id.to_owned() };
    let worker = "w1".parse().expect("name");
    let mut tx = store.begin().await.expect("begins");
    tx.know_store(&known("main", "a"), "manager").await.expect("remembers");
    tx.know_store(&known("main", "b"), "bob").await.expect("replaces");
    tx.know_slots(&worker, &[slot("/0", "x"), slot("/1", "y")]).await.expect("remembers");
    tx.commit().await.expect("commits");
    assert_eq!(store.known_stores().await.expect("reads"), [known("main", "b")]);
    let told = async || store.orders_of(&worker).await.expect("reads").expect("orders").orders;
    let first = told().await;
    assert_eq!(first.slots, [slot("/0", "x"), slot("/1", "y")]);
    let mut tx = store.begin().await.expect("begins");
    tx.know_slots(&worker, &[slot("/0", "z")]).await.expect("replaces");
    tx.forget_slots(&worker, &["/1".to_owned()].into()).await.expect("forgets");
    tx.commit().await.expect("commits");
    let second = told().await;
    assert_eq!(second.slots, [slot("/0", "z")]);
    assert!(second.revision > first.revision, "the worker is told");
}

async fn what_waits_is_read_back_with_the_time_since_when(database: TestDatabase) {
    let store = store(&database).await;
    assert_eq!(store.manager_seen().await.expect("reads"), None);
    let message = Subject::Message { key: "precommit/f01000/1/1".to_owned(), sector: Some(id()) };
    let all = [
        Subject::Bus("outbox".to_owned()),
        message.clone(),
        Subject::Miner(id().miner),
        Subject::Node,
        Subject::OneNode("lotus".to_owned()),
        Subject::Outbox { row: 7, sector: id() },
        Subject::Sector(id()),
        Subject::Store("main".to_owned()),
    ];
    let cause = Cause::passing(ErrorCode::MESSAGE_PENDING, "no block has it");
    let mut tx = store.begin().await.expect("begins");
    for subject in &all {
        tx.save_wait(subject, &cause, Duration::from_secs(2), 1).await.expect("stores");
    }
    tx.note_seen("host1").await.expect("stores");
    tx.commit().await.expect("commits");
    let stored = store.waits().await.expect("reads");
    assert_eq!(stored.iter().map(|wait| wait.subject.clone()).collect::<Vec<_>>(), all);
    assert!(stored.iter().all(|wait| wait.cause == cause && wait.since == wait.tried_at), "{stored:?}");
    let seen = store.manager_seen().await.expect("reads").expect("seen");
    assert!(seen.host == "host1" && (0..3600).contains(&seen.age_secs), "{seen:?}");
    assert!(secs_between(&seen.at, &store.clock_now().await.expect("reads")).is_some(), "one clock, one form");

    // Changes stored times, as if it had begun long ago.
    let raw = database.raw().await;
    raw.execute("UPDATE waits SET since = '2020-01-01T00:00:00Z', tried_at = since").await.expect("changes");
    let turned = Cause::to_mend(ErrorCode::FUNDS_MISSING, "short");
    let mut tx = store.begin().await.expect("begins");
    tx.save_wait(&message, &turned, Duration::from_secs(4), 9).await.expect("stores");
    for subject in all.iter().filter(|subject| **subject != message) {
        tx.end_wait(subject).await.expect("ends");
    }
    tx.commit().await.expect("commits");
    let [wait] = &store.waits().await.expect("reads")[..] else { panic!("one is left") };
    assert_eq!((&wait.cause, wait.tries, wait.retry), (&turned, 9, Duration::from_secs(4)));
    assert_eq!(wait.since, "2020-01-01T00:00:00Z");
    assert!(wait.tried_at > wait.since);
}

async fn a_sector_counts_for_its_miner_in_one_place_at_a_time(database: TestDatabase) {
    let store = store(&database).await;
    let mut tx = store.begin().await.expect("begins");
    tx.add_pledge("f01001", 7, "a test").await.expect("pledges");
    tx.commit().await.expect("commits");
    let queued = Counts { queued: 1, ..Counts::default() };
    let counts = async || {
        let counts = store.counts_by_miner().await.expect("counts");
        assert_eq!(counts[&MinerId(1001)], Counts { pledged: 7, ..Counts::default() });
        counts[&id().miner]
    };
    assert_eq!(counts().await, queued);
    for input in inputs() {
        let is_over = apply(&store, input).await.is_done();
        let (in_work, proving) = (u64::from(!is_over), u64::from(is_over));
        assert_eq!(counts().await, Counts { in_work, proving, ..Counts::default() });
    }
}
