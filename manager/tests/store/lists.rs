//! Lists of many sectors: read in pages, or counted in groups.

use std::collections::BTreeMap;

use sealbus_manager::{
    life,
    store::{Alike, Happening, Job, SectorFilter, Store},
};
use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, MinerId, SealProof, SectorId, SectorNumber, Token,
    lease::Ownership,
    machine::manager::AtStake,
    parts::{PreCommitInfo, Ticket},
    workflows::{self, Input, seal::manager::Answer},
};
use serde_json::json;

use crate::{POLICY, databases::TestDatabase, lives::inputs, on_every_database, store};

on_every_database! {
    a_list_of_many_pages_has_each_sector_once_and_in_order,
    jobs_that_need_the_same_are_counted_together_and_those_that_expire_first_come_first,
}

async fn a_list_of_many_pages_has_each_sector_once_and_in_order(database: TestDatabase) {
    let store = store(&database).await;
    let mut expected = vec!["f01000/1".parse().expect("sector")];
    let mut tx = store.begin().await.expect("begins");
    for (miner, numbers) in [(1000, 2..=999), (1001, 1..=1001), (999, 5..=5)] {
        for number in numbers {
            let id = SectorId { miner: MinerId(miner), number: SectorNumber(number) };
            tx.insert_sector(id, SealProof::StackedDrg2KiBV1_1).await.expect("inserts");
            expected.push(id);
        }
    }
    tx.commit().await.expect("commits");
    let found: Vec<SectorId> = ids(store.sectors(&SectorFilter::default()).await.expect("lists"));
    let mut sorted = found.clone();
    sorted.sort_unstable();
    expected.sort_unstable();
    assert_eq!(sorted, expected);
    let one = SectorFilter { miner: Some(MinerId(1001)), state: Some("queued".to_owned()), blocked: false };
    let of_one: Vec<SectorId> = found.into_iter().filter(|id| id.miner == MinerId(1001)).collect();
    assert!(of_one.is_sorted() && of_one.len() == 1001);
    assert_eq!(ids(store.sectors(&one).await.expect("lists")), of_one);
}

fn ids(jobs: Vec<Job>) -> Vec<SectorId> {
    jobs.into_iter().map(|job| job.id).collect()
}

/// Takes a new sector through the first inputs of a life. Its ticket and its PreCommit expire at this epoch.
async fn live(store: &Store, id: SectorId, inputs: &[Input], expires: i64) {
    let mut tx = store.begin().await.expect("begins");
    tx.insert_sector(id, SealProof::StackedDrg2KiBV1_1).await.expect("inserts");
    for input in inputs {
        let mut job = tx.sector(id).await.expect("reads").expect("exists");
        let input = match input.clone() {
            Input::Answer(workflows::Answer::Seal(Answer::TicketDrawn(ticket))) => {
                Input::from(Answer::TicketDrawn(Ticket { expires_epoch: expires, ..ticket }))
            }
            Input::Answer(workflows::Answer::Seal(Answer::PreCommitLanded(landed))) => {
                Input::from(Answer::PreCommitLanded(PreCommitInfo { prove_by_epoch: expires, ..landed }))
            }
            input => input,
        };
        if input == Input::Claimed {
            job.ownership = Ownership::claimed("w1".parse().expect("worker"), Token(id.number.0));
        }
        let happening = Happening::of_manager("test", json!({}));
        life::apply(&mut tx, job, input, happening, POLICY).await.expect("applies");
    }
    tx.commit().await.expect("commits");
}

/// What jobs of one group have in common.
fn group(job: &Job) -> (MinerId, &'static str, Option<String>) {
    let stored = job.state.seal().and_then(|state| state.stored());
    (job.id.miner, job.state.name(), stored.map(|stored| stored.files.store.clone()))
}

fn expires(job: &Job) -> i64 {
    match job.state.at_stake() {
        AtStake::Deposit(precommit) => precommit.prove_by_epoch,
        AtStake::Ticket(ticket) if !job.signed => ticket.expires_epoch,
        _ => i64::MAX,
    }
}

async fn jobs_that_need_the_same_are_counted_together_and_those_that_expire_first_come_first(database: TestDatabase) {
    let store = store(&database).await;
    let inputs = inputs();
    let mut number = 10;
    for steps in 0..=inputs.len() {
        for miner in [1000, 1000, 1000, 1001] {
            number += 1;
            let id = SectorId { miner: MinerId(miner), number: SectorNumber(number) };
            live(&store, id, &inputs[..steps], 5000 - (number * 7 % 11) as i64).await;
        }
    }
    let blocked = SectorId { miner: MinerId(1000), number: SectorNumber(number + 1) };
    let error = ErrorReport::new(ErrorClass::Perm, ErrorCode::PROOFS_FAILED, "for a person");
    live(&store, blocked, &[Input::Claimed, Input::Refused(error)], 1).await;
    let raw = database.raw().await;
    let sign = "UPDATE jobs SET signed = 1, version = version + 1 WHERE state = 'pre_committing' AND number % 2 = 0";
    sqlx::query(sign).execute(&raw).await.expect("done");
    raw.close().await;

    let mut expected: BTreeMap<_, Vec<Job>> = BTreeMap::new();
    for job in store.live_sectors().await.expect("lists").into_iter().filter(|job| job.blocked.is_none()) {
        expected.entry(group(&job)).or_default().push(job);
    }
    assert!(expected.len() > 20, "{:?}", expected.keys());
    for Alike { count, first } in store.alike(2).await.expect("counts") {
        let mut all = expected.remove(&group(&first[0])).expect("a group comes once");
        assert_eq!(count, all.len() as u64);
        all.sort_by_key(|job| (expires(job), job.id));
        all.truncate(2);
        // What nothing holds up any more comes in any order.
        if !matches!(first[0].state.at_stake(), AtStake::Nothing | AtStake::Slot) {
            assert_eq!(first, all);
        }
    }
    assert!(expected.is_empty(), "{:?}", expected.keys());
}
