//! A manager that is stopped at any step, or that has lost the fold, never makes a second block.

use super::{
    world::{At, MINER, Tipset},
    *,
};
use crate::store::StoreError;

/// A manager stops where the call is held up, and another one takes over. Returns what that one makes of the epoch.
async fn stopped_at(world: &World, at: At) -> Outcome {
    world.script().held = Some(at);
    tokio::select! {
        outcome = world.attempt_as(0, 101) => panic!("it must be held up, and not end with {outcome:?}"),
        () = world.held.notified() => {}
    }
    world.script().held = None;
    let epoch = world.take_over().await;
    world.attempt_as(epoch, 101).await.expect("tries")
}

#[tokio::test]
async fn a_manager_that_is_stopped_before_it_claims_the_block_is_continued() {
    for at in [
        At::Before("MinerGetBaseInfo"),
        At::Before("WalletSign"),
        At::Before("read"),
        At::After("read"),
        At::Before("prove"),
        At::After("prove"),
        At::Before("MpoolSelect"),
        At::After("MpoolSelect"),
    ] {
        let world = World::new().await;
        assert_eq!(stopped_at(&world, at).await, Outcome::Submitted, "{at:?}");
        assert_eq!(world.made(), (1, 1), "{at:?}");
    }
}

#[tokio::test]
async fn a_manager_that_is_stopped_while_the_node_makes_the_block_loses_it() {
    for (at, created) in [(At::Before("MinerCreateBlock"), 0), (At::After("MinerCreateBlock"), 1)] {
        let world = World::new().await;
        let Outcome::Lost(cause) = stopped_at(&world, at).await else { panic!("{at:?}: no second block") };
        assert!(cause.contains("no other one is made"), "{cause}");
        assert_eq!(world.made(), (created, 0), "{at:?}");
        assert_eq!(world.block(101).await.map(|block| block.state), Some(BlockState::Lost));
    }
}

#[tokio::test]
async fn a_manager_that_is_stopped_while_it_submits_submits_the_same_block_again() {
    for (at, before) in [(At::Before("SyncSubmitBlock"), 0), (At::After("SyncSubmitBlock"), 1)] {
        let world = World::new().await;
        assert_eq!(stopped_at(&world, at).await, Outcome::Submitted, "{at:?}");
        assert_eq!(world.made(), (1, before + 1), "{at:?}");
        let submitted = world.script().submitted.clone();
        assert!(submitted.iter().all(|block| *block == submitted[0]), "the same block");
    }
}

#[tokio::test]
async fn a_block_that_an_earlier_manager_may_have_submitted_is_not_lost_because_the_node_refuses_it_now() {
    let world = World::new().await;
    world.script().held = Some(At::After("SyncSubmitBlock"));
    tokio::select! {
        outcome = world.attempt_as(0, 101) => panic!("it must be held up, and not end with {outcome:?}"),
        () = world.held.notified() => {}
    }
    (world.script().held, world.script().refuses_blocks) = (None, true);
    let epoch = world.take_over().await;
    assert_eq!(world.attempt_as(epoch, 101).await.expect("tries"), Outcome::Submitted);
    let block = world.block(101).await.expect("it was won");
    assert!(block.problem.is_some_and(|problem| problem.contains("may not have been submitted")));

    // Others may have it. A block on a base without it would leave out our last one.
    world.script().head = Tipset::of(101, &[(2000, 1)]);
    let Outcome::Lost(cause) = world.attempt_as(epoch, 102).await.expect("tries") else { panic!("no block") };
    assert!(cause.contains("lacks our own block"), "{cause}");
}

#[tokio::test]
async fn a_manager_that_has_lost_the_fold_makes_no_block() {
    let world = World::new().await;
    world.script().held = Some(At::After("MpoolSelect"));
    let first = world.attempt_as(0, 101);
    let second = async {
        world.held.notified().await;
        world.script().held = None;
        let epoch = world.take_over().await;
        let outcome = world.attempt_as(epoch, 101).await;
        world.go_on.notify_one();
        outcome
    };
    let (first, second) = tokio::join!(first, second);
    assert!(matches!(first, Err(Error::Store(StoreError::TakenOver { .. }))), "{first:?}");
    assert_eq!(second.expect("tries"), Outcome::Submitted);
    assert_eq!(world.made(), (1, 1));
}

#[tokio::test]
async fn a_manager_that_loses_the_fold_while_the_node_makes_the_block_does_not_submit_it() {
    let world = World::new().await;
    world.script().held = Some(At::Before("MinerCreateBlock"));
    let first = world.attempt_as(0, 101);
    let second = async {
        world.held.notified().await;
        world.script().held = None;
        let epoch = world.take_over().await;
        let outcome = world.attempt_as(epoch, 101).await;
        world.go_on.notify_one();
        outcome
    };
    let (first, second) = tokio::join!(first, second);
    assert!(matches!(first, Err(Error::Store(StoreError::TakenOver { .. }))), "{first:?}");
    assert!(matches!(second.expect("tries"), Outcome::Lost(_)));
    assert_eq!(world.made(), (1, 0));
}

#[tokio::test]
async fn what_an_earlier_manager_left_of_passed_epochs_is_closed() {
    for (at, expected) in [
        (At::Before("prove"), BlockState::Lost),
        (At::After("MinerCreateBlock"), BlockState::Lost),
        (At::Before("SyncSubmitBlock"), BlockState::Submitted),
    ] {
        let world = World::new().await;
        world.script().held = Some(at);
        tokio::select! {
            outcome = world.attempt_as(0, 101) => panic!("it must be held up, and not end with {outcome:?}"),
            () = world.held.notified() => {}
        }
        world.script().held = None;
        let node = NodeClient::new(&world);
        let mining = world.mining(&node, 0, 4_000);
        let head = node.base().await.expect("a head");
        mining.settle(MINER, &head, 101).await.expect("settles");
        assert!(world.block(101).await.is_some_and(|block| block.problem.is_none()), "{at:?}: it may still be made");
        mining.settle(MINER, &head, 102).await.expect("settles");
        let block = world.block(101).await.expect("it was won");
        assert_eq!((block.state, block.problem.is_some()), (expected, true), "{at:?}");
    }
}
