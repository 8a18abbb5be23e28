//! What is archived, what stays, and lists that read only what they show.

use std::{collections::BTreeMap, time::Duration};

use sealbus_manager::store::{Happening, HistoryEntry, SectorFilter, Store, Verdict};
use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, SealProof, SectorId, WorkerName, Workflow, machine::manager::Released,
    workflows::Input,
};
use serde_json::json;
use sqlx::{Executor, Row};

use crate::{apply, databases::TestDatabase, earlier, id, lives::inputs, on_every_database, store};

const DAY: Duration = Duration::from_secs(24 * 3600);

on_every_database! {
    the_history_of_a_job_that_has_ended_is_archived_and_read_as_before,
    a_sector_with_another_job_is_archived_when_that_one_has_ended,
    jobs_that_ended_before_there_was_an_archive_are_archived_as_well,
    a_list_has_the_sectors_that_its_filter_names,
    each_worker_has_the_sectors_that_still_move,
}

fn other() -> SectorId {
    "f01000/2".parse().expect("sector")
}

async fn history(store: &Store, id: SectorId) -> Vec<HistoryEntry> {
    store.history(id).await.expect("reads")
}

/// Something that a worker reports under a lease, and that changes nothing.
async fn note(store: &Store, id: SectorId, worker: &str) {
    let detail = json!({ "said": "\u{1F980} \"quoted\"" });
    let happening = Happening { actor: worker.to_owned(), token: Some(9), ..Happening::of_manager("noted", detail) };
    let mut tx = store.begin().await.expect("begins");
    let sector = tx.sector(id).await.expect("reads").expect("exists");
    tx.save_sector(sector).await.expect("stores");
    tx.add_history(id, happening, Verdict::Noted).await.expect("stores");
    tx.commit().await.expect("commits");
}

/// How many rows `history` and `archived_history` have of a sector.
async fn rows(database: &TestDatabase, id: SectorId) -> (i64, i64) {
    let pool = database.raw().await;
    let mut counts = [0; 2];
    for (count, table) in counts.iter_mut().zip(["history", "archived_history"]) {
        let text = format!("SELECT COUNT(*) AS n FROM {table} WHERE number = {}", id.number.0);
        *count = sqlx::query(&text).fetch_one(&pool).await.expect("counts").get("n");
    }
    pool.close().await;
    (counts[0], counts[1])
}

async fn the_history_of_a_job_that_has_ended_is_archived_and_read_as_before(database: TestDatabase) {
    let store = store(&database).await;
    note(&store, id(), "w7").await;
    for input in inputs() {
        apply(&store, input).await;
    }
    let before = history(&store, id()).await;
    assert_eq!(rows(&database, id()).await, (before.len() as i64, 0));
    assert_eq!(store.archive_history(0, DAY, 10).await.expect("archives"), 0, "it has just ended");
    assert_eq!(store.archive_history(0, Duration::ZERO, 10).await.expect("archives"), 1);
    assert_eq!(rows(&database, id()).await, (0, 1));
    assert_eq!(history(&store, id()).await, before);
    assert_eq!(store.archive_history(0, Duration::ZERO, 10).await.expect("archives"), 0, "nothing is left");
    assert!(store.known_workers().await.expect("reads").contains("w7"), "it is known for longer than its report");

    // What comes later stands behind it, and is archived later.
    note(&store, id(), "w8").await;
    let with_more = history(&store, id()).await;
    assert_eq!((&with_more[..before.len()], with_more.len()), (&before[..], before.len() + 1));
    assert_eq!(store.archive_history(0, Duration::ZERO, 10).await.expect("archives"), 1);
    assert_eq!((rows(&database, id()).await, history(&store, id()).await), ((0, 2), with_more));
    assert!(store.archive_history(1, Duration::ZERO, 10).await.is_err(), "another manager has the fold");
}

async fn a_sector_with_another_job_is_archived_when_that_one_has_ended(database: TestDatabase) {
    let store = store(&database).await;
    let released = || Input::Released(Released { attempt: 1, issues: 1, signed: true });
    for input in inputs() {
        apply(&store, input).await;
    }
    assert_eq!(store.archive_history(0, Duration::ZERO, 10).await.expect("archives"), 1);
    // Its end is noted once more.
    apply(&store, released()).await;
    let of_first = history(&store, id()).await;

    let mut tx = store.begin().await.expect("begins");
    tx.start_job(id(), Workflow::Seal).await.expect("starts");
    tx.commit().await.expect("commits");
    apply(&store, Input::Claimed).await;
    assert_eq!(store.archive_history(0, Duration::ZERO, 10).await.expect("looks"), 1);
    assert_eq!(store.archive_history(0, Duration::ZERO, 10).await.expect("looks"), 0, "not before it has ended");
    assert_eq!(rows(&database, id()).await, (2, 1));
    let of_both = history(&store, id()).await;
    assert_eq!((&of_both[..of_first.len()], of_both.len()), (&of_first[..], of_first.len() + 1));

    let cause = ErrorReport::new(ErrorClass::Abort, ErrorCode::ABANDONED, "a test");
    apply(&store, Input::Abandoned { cause, lose_deposit: true }).await;
    assert_eq!(apply(&store, released()).await.state.name(), "aborted");
    let at_the_end = history(&store, id()).await;
    assert_eq!((&at_the_end[..of_both.len()], at_the_end.len()), (&of_both[..], of_both.len() + 2));
    assert_eq!(store.archive_history(0, Duration::ZERO, 10).await.expect("archives"), 1);
    assert_eq!((rows(&database, id()).await, history(&store, id()).await), ((0, 2), at_the_end));
}

async fn jobs_that_ended_before_there_was_an_archive_are_archived_as_well(database: TestDatabase) {
    sqlx::any::install_default_drivers();
    let dump = if database.postgres.is_some() { earlier::POSTGRES } else { earlier::SQLITE };
    database.raw().await.execute(dump).await.expect("a database of before");
    let reported = "INSERT INTO history (miner, number, at, actor, token, kind, detail, verdict) \
                    VALUES ('f01000', 1, '2026-11-27T00:00:00Z', 'w3', 9, 'noted', '{}', 'noted')";
    database.raw().await.execute(reported).await.expect("a line of before");
    let store = database.open().await;
    let sectors = store.sectors(&SectorFilter::default()).await.expect("lists");
    let ended = sectors.iter().filter(|sector| sector.state.is_terminal()).count();
    assert!((1..sectors.len()).contains(&ended));
    let mut before = Vec::new();
    for sector in &sectors {
        before.push(history(&store, sector.id).await);
    }
    assert_eq!(store.archive_history(0, Duration::ZERO, 100).await.expect("archives"), ended);
    for (sector, before) in sectors.iter().zip(before) {
        let lines = before.len() as i64;
        let expected = if sector.state.is_terminal() { (0, 1) } else { (lines, 0) };
        assert_eq!((rows(&database, sector.id).await, history(&store, sector.id).await), (expected, before));
    }
    assert!(store.known_workers().await.expect("reads").contains("w3"));
}

/// Two sectors: the first one sealing at a worker, the other one queued.
async fn two_sectors(database: &TestDatabase) -> Store {
    let store = store(database).await;
    let mut tx = store.begin().await.expect("begins");
    tx.insert_sector(other(), SealProof::StackedDrg2KiBV1_1).await.expect("inserts");
    tx.commit().await.expect("commits");
    for input in inputs().into_iter().take(3) {
        apply(&store, input).await;
    }
    store
}

async fn a_list_has_the_sectors_that_its_filter_names(database: TestDatabase) {
    let store = two_sectors(&database).await;
    let list = async |filter: SectorFilter| -> Vec<SectorId> {
        store.sectors(&filter).await.expect("lists").iter().map(|sector| sector.id).collect()
    };
    let all = SectorFilter::default();
    let (miner, nobody) = (Some(id().miner), Some("f01001".parse().expect("a miner")));
    let in_state = |state: &str| SectorFilter { state: Some(state.to_owned()), ..SectorFilter::default() };
    assert_eq!(list(all.clone()).await, [id(), other()]);
    assert_eq!(list(SectorFilter { miner, ..all.clone() }).await, [id(), other()]);
    assert_eq!(list(SectorFilter { miner: nobody, ..all.clone() }).await, []);
    assert_eq!(list(in_state("queued")).await, [other()]);
    assert_eq!(list(SectorFilter { miner, ..in_state("sealing") }).await, [id()]);
    assert_eq!(list(in_state("proving")).await, []);
    assert_eq!(list(SectorFilter { blocked: true, ..all.clone() }).await, []);
    apply(&store, Input::Refused(ErrorReport::new(ErrorClass::Perm, ErrorCode::PROOF_INVALID, "a test"))).await;
    assert_eq!(list(SectorFilter { blocked: true, ..all }).await, [id()]);
    assert_eq!(list(SectorFilter { blocked: true, miner, ..in_state("sealing") }).await, [id()]);
    assert_eq!(list(SectorFilter { blocked: true, ..in_state("queued") }).await, []);
}

async fn each_worker_has_the_sectors_that_still_move(database: TestDatabase) {
    let store = two_sectors(&database).await;
    let (ours, another): (WorkerName, WorkerName) = ("w1".parse().expect("a name"), "w2".parse().expect("a name"));
    let of = async |worker: &WorkerName| -> Vec<SectorId> {
        store.sectors_of_worker(worker).await.expect("lists").iter().map(|sector| sector.id).collect()
    };
    assert_eq!(store.held_by_workers().await.expect("counts"), BTreeMap::from([(ours.clone(), 1)]));
    assert_eq!((of(&ours).await, of(&another).await), (vec![id()], vec![]));
    for input in inputs().into_iter().skip(3) {
        apply(&store, input).await;
    }
    // Its lease is closed a moment later.
    assert_eq!((store.held_by_workers().await.expect("counts"), of(&ours).await), (BTreeMap::new(), vec![]));
}
