//! Messages that a person asks for: what they say is fixed, and they land once or say why not.

use fvm_shared::{address::Address, econ::TokenAmount};
use sealbus_integration_tests::devnet::faults::{Fault, Reverted};
use sealbus_manager::store::{Errand, ErrandId, ErrandState, MessageKind, NewErrand};
use serde_json::json;

use crate::world::{World, id, is_pushed};

/// A transfer of so much from the miner's worker to its owner.
pub async fn ask_transfer(world: &World, atto: u64) -> ErrandId {
    ask(world, &world.owner(), 0, TokenAmount::from_atto(atto)).await
}

/// A transfer of this much from the miner's worker, or a call of a method of the miner.
async fn ask(world: &World, to: &Address, method: u64, value: TokenAmount) -> ErrandId {
    let errand = NewErrand {
        miner: id(1).miner,
        kind: "transfer".to_owned(),
        sender: world.worker().to_string(),
        receiver: to.to_string(),
        method,
        params: Vec::new(),
        value_atto: value.atto().to_string(),
        detail: json!({}),
        asked_by: "a person".to_owned(),
    };
    let mut tx = world.store.begin().await.expect("begins");
    let id = tx.ask_errand(&errand).await.expect("stores");
    tx.commit().await.expect("commits");
    id
}

pub async fn errand(world: &World, id: ErrandId) -> Errand {
    world.store.errand(id).await.expect("reads").expect("exists")
}

pub async fn ended(world: &World, id: ErrandId) -> bool {
    !errand(world, id).await.state.is_open()
}

#[tokio::test]
async fn an_errand_lands_once_beside_the_messages_of_sectors() {
    let world = World::new(1).await;
    let (driver, owner) = (world.driver("").await, world.owner());
    let before = world.balance(&owner).await;
    let asked = ask(&world, &owner, 0, TokenAmount::from_atto(77)).await;
    world.until(&driver, "it has ended", async |world| ended(world, asked).await).await;
    let landed = errand(&world, asked).await;
    assert_eq!((landed.state, landed.exit_code, landed.error), (ErrandState::Landed, Some(0), None));
    assert!(landed.epoch.is_some_and(|epoch| epoch > 20));
    world.until(&driver, "the sector goes on", async |world| world.effects() == [(1, 0)]).await;
    assert_eq!(world.balance(&owner).await - before, TokenAmount::from_atto(77));
}

#[tokio::test]
async fn an_errand_that_a_fork_takes_away_is_sent_again() {
    for messages in [Reverted::Again, Reverted::Later, Reverted::Lost] {
        let world = World::new(0).await;
        let (driver, owner) = (world.driver("repush_epochs = 3").await, world.owner());
        let before = world.balance(&owner).await;
        let asked = ask(&world, &owner, 0, TokenAmount::from_atto(77)).await;
        world.until(&driver, "it has ended", async |world| ended(world, asked).await).await;
        let landed = errand(&world, asked).await.epoch;
        world.advance(3);
        world.tick(&driver).await;
        world.devnet.with_node(|node| node.reorganise(8, messages).expect("forks"));
        world.tick(&driver).await;
        world.until(&driver, "it has ended again", async |world| ended(world, asked).await).await;
        let again = errand(&world, asked).await;
        assert_eq!(again.state, ErrandState::Landed);
        assert_ne!(again.epoch, landed, "{messages:?}");
        assert_eq!(world.balance(&owner).await - before, TokenAmount::from_atto(77));
    }
}

#[tokio::test]
async fn an_errand_that_the_chain_refuses_ends_with_the_reason_and_costs_nothing() {
    let world = World::new(1).await;
    let driver = world.driver("").await;
    let asked = ask(&world, &Address::new_id(1000), 99, TokenAmount::default()).await;
    world.until(&driver, "it has ended", async |world| ended(world, asked).await).await;
    let failed = errand(&world, asked).await;
    assert_eq!((failed.state, failed.exit_code), (ErrandState::Failed, Some(22)));
    assert!(failed.error.is_some_and(|error| error.contains("22")));
    assert_eq!(world.failed(), [0; 0]);
}

#[tokio::test]
async fn an_errand_without_funds_waits_for_them() {
    let world = World::new(1).await;
    let (driver, owner) = (world.driver("").await, world.owner());
    let value = world.balance(&world.worker()).await + TokenAmount::from_whole(1);
    let asked = ask(&world, &owner, 0, value).await;
    for _ in 0..3 {
        world.tick(&driver).await;
        world.advance(1);
    }
    assert_eq!(errand(&world, asked).await.state, ErrandState::Wanted);
    driver.waits().flush().await.expect("stores");
    let waits = world.store.waits().await.expect("reads");
    let wait = waits.iter().find(|wait| wait.subject.name() == format!("transfer/{}", asked.0)).expect("it waits");
    assert_eq!(wait.cause.code.as_str(), "FUNDS_MISSING");
    world.transfer(&owner, &world.worker(), TokenAmount::from_whole(3));
    world.until(&driver, "it has ended", async |world| ended(world, asked).await).await;
    assert_eq!(errand(&world, asked).await.state, ErrandState::Landed);
}

#[tokio::test]
async fn an_errand_whose_nonce_another_tool_uses_is_sent_again() {
    let world = World::new(0).await;
    let (driver, owner) = (world.driver("").await, world.owner());
    let asked = ask(&world, &owner, 0, TokenAmount::from_atto(5)).await;
    world.fault(Fault::DropPushed { count: 1 });
    world.tick(&driver).await;
    assert!(world.open(MessageKind::Errand).await.iter().all(is_pushed));
    world.transfer(&world.worker(), &owner, TokenAmount::from_atto(1000));
    let before = world.balance(&owner).await;
    world.until(&driver, "it has ended", async |world| ended(world, asked).await).await;
    assert_eq!(errand(&world, asked).await.state, ErrandState::Landed);
    assert_eq!(world.balance(&owner).await - before, TokenAmount::from_atto(1005));
}

#[tokio::test]
async fn an_errand_that_is_taken_back_leaves_nothing_but_a_used_nonce() {
    let world = World::new(1).await;
    let (driver, owner) = (world.driver("").await, world.owner());
    let before = world.balance(&owner).await;
    let asked = ask(&world, &owner, 0, TokenAmount::from_atto(5)).await;
    world.fault(Fault::StallInclusion { on: true });
    world.tick(&driver).await;
    let mut tx = world.store.begin().await.expect("begins");
    tx.cancel_errand(asked, "a person took it back").await.expect("stores");
    tx.commit().await.expect("commits");
    world.tick(&driver).await;
    world.tick(&driver).await;
    world.fault(Fault::StallInclusion { on: false });
    world.until(&driver, "it has ended", async |world| ended(world, asked).await).await;
    let cancelled = errand(&world, asked).await;
    assert_eq!(cancelled.state, ErrandState::Cancelled, "{cancelled:?}");
    world.until(&driver, "the sector goes on", async |world| world.effects() == [(1, 0)]).await;
    assert_eq!(world.balance(&owner).await, before);
}
