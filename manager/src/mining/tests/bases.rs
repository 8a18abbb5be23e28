//! Which base a block is made on.

use super::{world::Script, *};

/// The parents of the one block that was made, if it was.
fn parents(script: &Script) -> Option<serde_json::Value> {
    script.created.first().map(|template| template["Parents"].clone())
}

#[tokio::test]
async fn two_blocks_with_the_same_parents_are_not_made() {
    let world = World::new().await;
    assert_eq!(world.attempt(101).await, Outcome::Submitted);
    // Nobody has our block: the head is the same an epoch later.
    let Outcome::Lost(cause) = world.attempt(102).await else { panic!("a fault") };
    assert!(cause.contains("the same parents was claimed for epoch 101"), "{cause}");
    assert_eq!(world.script().created.len(), 1);
}

#[tokio::test]
async fn no_block_is_made_on_a_base_that_lacks_our_own() {
    let world = World::new().await;
    assert_eq!(world.attempt(101).await, Outcome::Submitted);
    world.script().head = Tipset::of(101, &[(2000, 1)]);
    let Outcome::Lost(cause) = world.attempt(102).await else { panic!("a fault") };
    assert!(cause.contains("lacks our own block of epoch 101"), "{cause}");
    assert_eq!(world.script().created.len(), 1);

    world.script().head = Tipset::of(101, &[(1000, 1), (2000, 1)]);
    assert_eq!(world.attempt(103).await, Outcome::Submitted, "with ours");
}

#[tokio::test]
async fn an_epoch_without_a_tipset_is_skipped() {
    let world = World::new().await;
    assert_eq!(world.attempt(103).await, Outcome::Submitted);
    let script = world.script();
    assert_eq!(
        (script.created[0]["Epoch"].as_i64(), &script.created[0]["Timestamp"]),
        (Some(103), &(script.head.timestamp + 12).into())
    );
}

#[tokio::test]
async fn a_block_that_came_late_to_the_base_is_not_taken() {
    let (world, base) = (World::new().await, Tipset::of(100, &[(2000, 1)]));
    world.script().head_at_proof = Some(Tipset::of(100, &[(2000, 1), (2001, 1)]));
    assert_eq!(world.attempt(101).await, Outcome::Submitted);
    assert_eq!(parents(&world.script()), Some(base.key_json()));
}

#[tokio::test]
async fn a_block_that_has_left_the_base_is_left_out() {
    let world = World::new().await;
    world.script().head = Tipset::of(100, &[(2000, 1), (2001, 1)]);
    world.script().head_at_proof = Some(Tipset::of(100, &[(2001, 1), (2002, 1)]));
    assert_eq!(world.attempt(101).await, Outcome::Submitted);
    assert_eq!(parents(&world.script()), Some(Tipset::of(100, &[(2001, 1)]).key_json()));
}

#[tokio::test]
async fn a_base_that_was_reorganised_is_replaced_and_the_proof_serves_again() {
    for other in [Tipset::of(100, &[(2009, 1)]), Tipset::of(99, &[(2009, 1)])] {
        let world = World::new().await;
        world.script().head_at_proof = Some(other.clone());
        assert_eq!(world.attempt(101).await, Outcome::Submitted);
        assert_eq!(parents(&world.script()), Some(other.key_json()));
        assert_eq!(world.block(101).await.map(|block| block.base_epoch), Some(other.height));
        assert_eq!(world.script().tasks.len(), 2, "one to read, one to prove");
    }
}

#[tokio::test]
async fn nothing_is_made_on_a_reorganised_base_that_asks_for_another_proof() {
    let world = World::new().await;
    world.script().head_at_proof = Some(Tipset::of(100, &[(2009, 1)]));
    let held = world::At::Before("prove");
    world.script().held = Some(held);
    let other_beacon = async {
        world.held.notified().await;
        world.script().held = None;
        world.script().beacon = 99;
        world.go_on.notify_one();
    };
    let (outcome, ()) = tokio::join!(world.attempt(101), other_beacon);
    let Outcome::Lost(cause) = outcome else { panic!("another proof") };
    assert!(cause.contains("asks for another proof"), "{cause}");
    assert!(world.script().created.is_empty());
}

#[tokio::test]
async fn a_block_stands_beside_those_of_others_on_the_same_base_and_on_no_other() {
    let base = Tipset::of(100, &[(2000, 1)]);
    let world = World::new().await;
    world.script().head_at_proof = Some(Tipset::of(101, &[(2001, 1)]).on(&base));
    assert_eq!(world.attempt(101).await, Outcome::Submitted);
    assert_eq!(parents(&world.script()), Some(base.key_json()));

    for passed in [Tipset::of(101, &[(2001, 1)]).on(&Tipset::of(100, &[(2009, 1)])), Tipset::of(102, &[(2001, 1)])] {
        let world = World::new().await;
        world.script().head_at_proof = Some(passed);
        let Outcome::Lost(cause) = world.attempt(101).await else { panic!("stale") };
        assert!(cause.contains("went on without the base"), "{cause}");
        assert_eq!(world.made(), (0, 0));
    }
}
