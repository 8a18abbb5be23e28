//! Lists of many sectors, read in pages.

use sealbus_manager::store::{Job, SectorFilter};
use sealbus_schema::{MinerId, SealProof, SectorId, SectorNumber};

use crate::{databases::TestDatabase, on_every_database, store};

on_every_database! {
    a_list_of_many_pages_has_each_sector_once_and_in_order,
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
