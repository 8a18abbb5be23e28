//! Workers that are slow, fail or lie, and nodes that refuse.

use sealbus_schema::post::PostTask;

use super::*;

async fn lost(world: &World) -> String {
    let Outcome::Lost(cause) = world.attempt(101).await else { panic!("no block can be made") };
    let block = world.block(101).await.expect("it was won");
    assert_eq!((block.state, block.problem.as_ref()), (BlockState::Lost, Some(&cause)));
    assert!(world.script().submitted.is_empty());
    cause
}

#[tokio::test]
async fn a_reader_that_is_too_slow_costs_the_block_and_is_named() {
    let mut world = World::new().await;
    (world.left_ms, world.script().reads) = (300, false);
    assert_eq!(lost(&world).await, "no worker with the store `main` has read sector 7 in time");
    assert_eq!(world.script().tasks.len(), 3, "others are asked as well");
    assert!(world.script().created.is_empty());
}

#[tokio::test]
async fn a_prover_that_is_too_slow_costs_the_block() {
    let mut world = World::new().await;
    (world.left_ms, world.script().proves) = (3_000, false);
    assert_eq!(lost(&world).await, "no worker has made the winning PoSt in time");
    assert!(world.script().created.is_empty());
}

#[tokio::test]
async fn a_read_that_fails_is_tried_again() {
    let world = World::new().await;
    world.script().unreadable = 1;
    assert_eq!(world.attempt(101).await, Outcome::Submitted);
    let other = World::new().await;
    other.script().unreadable = 9;
    assert_eq!(lost(&other).await, "sector 7 cannot be read: the store is away (worker reader)");
}

#[tokio::test]
async fn a_wrong_proof_is_not_used_and_another_one_is_asked_for_elsewhere() {
    let world = World::new().await;
    world.script().wrong_proofs = 1;
    assert_eq!(world.attempt(101).await, Outcome::Submitted);
    let failed_at = world.script().tasks.iter().rev().find_map(|task| match task {
        PostTask::Prove(task) => Some(task.failed_at.clone()),
        _ => None,
    });
    assert_eq!(failed_at.unwrap_or_default(), ["liar".parse::<WorkerName>().expect("a name")]);

    let other = World::new().await;
    other.script().wrong_proofs = 9;
    let cause = lost(&other).await;
    assert!(cause.contains("it does not verify (worker liar)"), "{cause}");
    assert!(other.script().created.is_empty(), "nothing is signed");
}

#[tokio::test]
async fn a_sector_whose_files_are_unknown_costs_the_block() {
    let world = World::new().await;
    let node = NodeClient::new(&world);
    let mining = world.mining(&node, 0, 4_000);
    let challenge = prove::Challenge {
        of: sealbus_schema::post::PostSubject {
            miner: MinerId(1002),
            job: "b-1".parse().expect("a name"),
            post: sealbus_schema::post::PostKind::Winning,
            proof: sealbus_schema::SealProof::StackedDrg2KiBV1_1,
            randomness: sealbus_schema::Randomness([1; 32]),
        },
        sector: sealbus_schema::SectorNumber(7),
        comm_r: sealbus_schema::Commitment([7; 32]),
    };
    let until = Instant::now() + Duration::from_secs(60);
    let made = mining.prove(&challenge, until, &mut block::Steps::default()).await.expect("asks");
    assert_eq!(made, Err("the manager does not know where the files of sector 7 are".to_owned()));
}

#[tokio::test]
async fn a_node_that_makes_no_block_is_not_asked_again() {
    let world = World::new().await;
    world.script().refuses_creation = true;
    let cause = lost(&world).await;
    assert!(cause.contains("key not found"), "{cause}");
    world.script().refuses_creation = false;
    assert_eq!(world.attempt(101).await, Outcome::Known(BlockState::Lost));
    assert!(world.script().created.is_empty());
}

#[tokio::test]
async fn a_block_that_is_refused_is_lost_and_no_other_one_is_made() {
    let world = World::new().await;
    world.script().refuses_blocks = true;
    let cause = lost(&world).await;
    assert!(cause.contains("the node refused the block"), "{cause}");
    world.script().refuses_blocks = false;
    assert_eq!(world.attempt(101).await, Outcome::Known(BlockState::Lost));
    assert_eq!(world.script().created.len(), 1);
}
