//! The loop on a scripted chain and a scripted bus, with a real database.

use sealbus_schema::WorkerName;

use super::{
    block::{BlockId, BlockState, WonBlock},
    *,
};

mod bases;
mod killed;
mod loops;
mod proofs;
mod world;

use world::{MINER, Tipset, World};

#[tokio::test]
async fn a_won_epoch_becomes_a_block() {
    let world = World::new().await;
    assert_eq!(world.attempt(101).await, Outcome::Submitted);
    let created = world.script().created.clone();
    let [template] = &created[..] else { panic!("one block") };
    assert_eq!((template["Miner"].as_str(), template["Epoch"].as_i64()), (Some("t01000"), Some(101)));
    assert_eq!(template["Parents"], world.script().head.key_json());
    assert_eq!(template["WinningPoStProof"][0]["PoStProof"], 0, "of 2 KiB sectors");
    assert_eq!(template["Timestamp"], world.script().head.timestamp + 4);
    assert_eq!(template["BeaconValues"], world.script().beacon_entries());
    assert_eq!(template["Messages"], serde_json::json!(["a message"]));
    assert_eq!(world.script().submitted.len(), 1);
    let block = world.block(101).await.expect("it was won");
    assert_eq!(
        (block.state, block.base_epoch, block.sector.map(|sector| sector.0)),
        (BlockState::Submitted, 100, Some(7))
    );
    assert!(block.wins > 0 && block.steps.read_ms.is_some() && block.steps.submit_ms.is_some());
    assert_eq!(block.steps.prover.as_ref().map(WorkerName::as_str), Some("prover"));
    assert_eq!(world.script().withdrawn, 1, "tasks that nobody has taken are of no use any more");
}

#[tokio::test]
async fn without_a_win_nothing_is_stored_and_nothing_is_proven() {
    let world = World::new().await;
    world.script().power = 0;
    assert_eq!(world.attempt(101).await, Outcome::NotWon);
    world.script().eligible = false;
    assert_eq!(world.attempt(101).await, Outcome::NotEligible);
    world.script().has_sectors = false;
    assert_eq!(world.attempt(101).await, Outcome::NotEligible);
    assert!(world.block(101).await.is_none());
    assert!(world.is_idle());
}

#[tokio::test]
async fn an_epoch_that_is_done_with_is_left_alone() {
    let world = World::new().await;
    assert_eq!(world.attempt(101).await, Outcome::Submitted);
    world.script().head = Tipset::of(100, &[(2000, 9)]);
    assert_eq!(world.attempt(101).await, Outcome::Known(BlockState::Submitted));
    assert_eq!(world.script().created.len(), 1);
}
