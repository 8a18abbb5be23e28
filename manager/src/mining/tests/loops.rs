//! The loop: which epochs are tried when, rehearsals, and what became of blocks.

use super::*;

/// How long an epoch is in tests with real times: longer than any test.
const EPOCH_MILLIS: u64 = 600_000;

fn epochs(world: &World) -> Vec<i64> {
    world.script().created.iter().filter_map(|template| template["Epoch"].as_i64()).collect()
}

/// Looks once, as a manager with these epochs does.
async fn look(world: &World, memory: &mut Memory, epoch_millis: u64) {
    let node = NodeClient::new(world);
    let mining = world.mining(&node, 0, epoch_millis);
    tokio::select! {
        looked = mining.look(MINER, memory) => looked.expect("looks"),
        never = mining.listen() => match never {},
    };
}

#[tokio::test]
async fn the_epoch_follows_from_the_bases_time() {
    for (age_epochs, expected) in [(1, 101), (3, 103)] {
        let world = World::new().await;
        let now = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).expect("after 1970");
        // The epoch's block is due just now.
        world.script().head.timestamp = now - age_epochs * EPOCH_MILLIS / 1000;
        let mut memory = Memory::default();
        look(&world, &mut memory, EPOCH_MILLIS).await;
        look(&world, &mut memory, EPOCH_MILLIS).await;
        assert_eq!(epochs(&world), [expected], "once");
        let block = world.block(expected).await.expect("it was won");
        assert!(block.margin_ms.is_some() && block.budget_ms.is_some(), "{block:?}");
    }
}

#[tokio::test]
async fn before_the_others_blocks_have_arrived_nothing_is_tried() {
    let world = World::new().await;
    let now = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).expect("after 1970");
    // The clock is a little behind, so that no delay of this test matters.
    world.script().head.timestamp = now + 300;
    look(&world, &mut Memory::default(), EPOCH_MILLIS).await;
    assert_eq!(epochs(&world), [0; 0]);
}

#[tokio::test]
async fn where_nobody_can_time_epochs_the_node_says_which_have_come() {
    let (world, mut memory) = (World::new().await, Memory::default());
    world.script().known_epochs = 101;
    for _ in 0..3 {
        look(&world, &mut memory, 0).await;
    }
    assert_eq!(epochs(&world), [101]);
    // No tipset came, and the next epoch can be won. The same parents are used once only.
    world.script().known_epochs = 102;
    look(&world, &mut memory, 0).await;
    assert_eq!((epochs(&world), memory.tried), (vec![101], Some(102)));
    world.script().head = Tipset::of(102, &[(2000, 1)]);
    world.script().known_epochs = 103;
    look(&world, &mut memory, 0).await;
    assert_eq!(epochs(&world), [101, 103]);
}

#[tokio::test]
async fn miners_make_their_blocks_at_the_same_time() {
    let world = World::with("[[miner]]\nid = \"f01001\"\nsector_size = \"2KiB\"\nmine = true\n").await;
    world.script().known_epochs = 101;
    let node = NodeClient::new(&world);
    let mining = world.mining(&node, 0, 0);
    let both = async {
        while world.script().submitted.len() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        ended = mining.run() => panic!("{ended:?}"),
        () = both => {}
    }
    let mut miners: Vec<String> = world.script().created.iter().map(|template| template["Miner"].to_string()).collect();
    miners.sort();
    assert_eq!(miners, ["\"t01000\"", "\"t01001\""]);
}

#[tokio::test]
async fn without_a_miner_that_mines_nothing_is_asked() {
    let mut world = World::new().await;
    world.config.miners[0].mine = false;
    let node = NodeClient::new(&world);
    let mining = world.mining(&node, 0, 0);
    let looked = tokio::time::timeout(Duration::from_millis(100), mining.run()).await;
    assert!(looked.is_err() && world.is_idle());
}

#[tokio::test]
async fn a_miner_that_does_not_win_rehearses_once_a_day() {
    let (world, mut memory) = (World::new().await, Memory::default());
    world.script().power = 0;
    for height in [100, 101, 2979, 2980] {
        world.script().head = Tipset::of(height, &[(2000, 1)]);
        look(&world, &mut memory, 0).await;
    }
    let done = world.store.last_rehearsals(Some(MINER), 10).await.expect("reads");
    assert_eq!(done.iter().map(|done| (done.epoch, done.sector.0)).collect::<Vec<_>>(), [(2980, 7), (100, 7)]);
    assert!(done.iter().all(|done| done.problem.is_none() && done.steps.prove_ms.is_some()));
    assert!(world.script().created.is_empty() && world.block(101).await.is_none());

    // The next manager does not begin anew.
    world.script().head = Tipset::of(2981, &[(2000, 1)]);
    look(&world, &mut Memory::default(), 0).await;
    assert_eq!(world.store.last_rehearsals(None, 10).await.expect("reads").len(), 2);
}

#[tokio::test]
async fn a_rehearsal_that_fails_is_told_and_repeated_within_the_hour() {
    let (world, mut memory) = (World::new().await, Memory::default());
    (world.script().power, world.script().unreadable) = (0, 3);
    look(&world, &mut memory, 0).await;
    assert!(memory.trouble.as_ref().is_some_and(|cause| cause.contains("the store is away")), "{:?}", memory.trouble);
    let mut next = Memory::default();
    world.script().head = Tipset::of(219, &[(2000, 1)]);
    look(&world, &mut next, 0).await;
    assert!(next.trouble.is_some(), "the next manager knows of it");
    world.script().head = Tipset::of(220, &[(2000, 1)]);
    look(&world, &mut next, 0).await;
    assert_eq!(next.trouble, None);
}

#[tokio::test]
async fn a_rehearsal_notices_a_wallet_without_the_workers_key() {
    let (world, mut memory) = (World::new().await, Memory::default());
    (world.script().power, world.script().has_key) = (0, false);
    look(&world, &mut memory, 0).await;
    let trouble = memory.trouble.unwrap_or_default();
    assert!(trouble.contains("does not have the key of the miner's worker"), "{trouble}");
}

#[tokio::test]
async fn a_lost_block_is_told_until_a_block_is_made() {
    let world = World::new().await;
    (world.script().known_epochs, world.script().refuses_creation) = (101, true);
    let node = NodeClient::new(&world);
    let mining = world.mining(&node, 0, 0);
    let cause = || world.waits.cause(&Subject::Blocks(MINER)).map(|cause| (cause.code, cause.text));
    let story = async {
        while cause().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (code, text) = cause().expect("it waits");
        assert_eq!(code, ErrorCode::BLOCKS_AT_RISK);
        assert!(text.contains("epoch 101 is lost") && text.contains("key not found"), "{text}");
        {
            let mut script = world.script();
            (script.known_epochs, script.refuses_creation) = (102, false);
            script.head = Tipset::of(101, &[(2000, 1)]);
        }
        while cause().is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        ended = mining.run() => panic!("{ended:?}"),
        () = story => {}
    }
    assert_eq!(epochs(&world), [102]);
}

#[tokio::test]
async fn it_is_seen_whether_the_chain_has_a_block() {
    for (there, expected) in [
        (Tipset::of(101, &[(2000, 1), (1000, 1)]), BlockState::Included),
        (Tipset::of(101, &[(2000, 1)]), BlockState::Orphaned),
        (Tipset::of(100, &[(1000, 1)]), BlockState::Orphaned),
    ] {
        let (world, mut memory) = (World::new().await, Memory::default());
        look(&world, &mut memory, 0).await;
        world.script().power = 0;
        world.script().past = vec![there.clone()];
        world.script().head = Tipset::of(105, &[(2000, 1)]);
        look(&world, &mut memory, 0).await;
        assert_eq!(world.block(101).await.map(|block| block.state), Some(BlockState::Submitted), "not confident yet");
        world.script().head = Tipset::of(106, &[(2000, 1)]);
        look(&world, &mut memory, 0).await;
        let block = world.block(101).await.expect("it was won");
        assert_eq!((block.state, block.block), (expected, None));
        let cid = (expected == BlockState::Included).then(|| there.cid((1000, 1)).to_string());
        assert_eq!(block.cid, cid);
    }
}
