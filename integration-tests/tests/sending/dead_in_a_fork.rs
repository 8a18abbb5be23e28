//! The chain is reorganised below the confident tipset while no manager runs. The next one has no memory of the old chain but its
//! records. It withdraws what they say of the old one, and everything takes effect once on the new one.

use fvm_shared::econ::TokenAmount;
use sealbus_integration_tests::devnet::faults::{Fault, Reverted};
use sealbus_manager::{
    chain::{NodeClient, RpcClient, message::SignedMessage},
    drive::{Driver, address},
    store::{ErrandState, MessageKind, MessageState},
};
use sealbus_schema::workflows::seal::manager::State;

use crate::{
    errands::{ask_transfer, ended, errand},
    world::{World, id},
};

const CHAIN: &str = "repush_epochs = 3";
/// How long after its PreCommit a sector's seed is drawn, on the devnet.
const CHALLENGE_DELAY: i64 = 10;

/// Until when the first manager works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    PreCommitLanded,
    SeedDrawn,
    Active,
}

impl Moment {
    async fn is_reached(self, world: &World) -> bool {
        let mut reached = 0;
        for number in 1..=world.sectors {
            let state = world.state(number).await;
            reached += u64::from(match self {
                Moment::PreCommitLanded => matches!(state, State::Persisting(_) | State::AwaitingSeed(_)),
                Moment::SeedDrawn => matches!(state, State::Committing(_)),
                Moment::Active => matches!(state, State::Proving(_)),
            });
        }
        reached == world.sectors
    }
}

/// The manager is killed, the chain forks and goes on, and another manager begins.
async fn fork_while_dead(world: &World, dead: Driver<RpcClient>, depth: u64, messages: Reverted) -> Driver<RpcClient> {
    drop(dead);
    world.devnet.with_node(|node| node.reorganise(depth, messages).expect("forks"));
    world.advance(2);
    let mut tx = world.store.begin().await.expect("begins");
    let epoch = tx.take_over().await.expect("takes over");
    tx.commit().await.expect("commits");
    world.driver_with(world.config(CHAIN, ""), world.client(), epoch).await
}

/// The epoch of the last PreCommit on the present chain.
fn precommit_epoch(world: &World) -> Option<i64> {
    world.devnet.with_node(|node| {
        let mut tipset = node.chain.head().clone();
        loop {
            if tipset.messages.iter().any(|(_, signed)| signed.message.method_num == 28) {
                return Some(tipset.height());
            }
            tipset = node.chain.parent(&tipset).ok()??.clone();
        }
    })
}

/// What the manager knows of each active sector is what the chain says.
async fn knows_the_chain(world: &World) -> bool {
    let node = NodeClient::new(world.client());
    let head = node.chain_head().await.expect("a head");
    for number in 1..=world.sectors {
        let State::Proving(active) = world.state(number).await else { return false };
        let on_chain = node.sector_info(&address(id(number).miner), number, &head.key).await.expect("answers");
        let Some(on_chain) = on_chain else { return false };
        let seed = active.proven.seeded.seed.epoch;
        if active.activation_epoch != on_chain.activation
            || Some(seed) != precommit_epoch(world).map(|epoch| epoch + CHALLENGE_DELAY)
        {
            return false;
        }
    }
    world.effects().iter().all(|effects| *effects == (1, 1))
}

async fn survives(moment: Moment, sectors: u64, depth: u64, messages: Reverted) {
    let what = format!("{moment:?} of {sectors}, {depth} epochs, {messages:?}");
    let world = World::new(sectors).await;
    let driver = world.driver(CHAIN).await;
    world.until(&driver, &what, async |world| moment.is_reached(world).await).await;
    // The confident tipset, one epoch below the head, is above the landing.
    world.advance(2);
    world.tick(&driver).await;
    let driver = fork_while_dead(&world, driver, depth, messages).await;
    world.tick(&driver).await;
    world.tick(&driver).await;
    if messages == Reverted::Lost {
        // Nothing is on chain until the manager has pushed it again.
        let pre_committed = u64::from(moment == Moment::Active && depth < CHALLENGE_DELAY as u64);
        assert_eq!(world.effects(), vec![(pre_committed, 0); sectors as usize], "{what}");
        assert!(world.in_state("proving").await.is_empty(), "{what}: {}", world.described().await);
    }
    world.until(&driver, &format!("known after {what}"), knows_the_chain).await;
    world.until(&driver, "at rest", async |world| world.store.open_messages().await.expect("reads").is_empty()).await;
    assert!(knows_the_chain(&world).await, "{what}: {}", world.described().await);
}

const ALL: [Reverted; 3] = [Reverted::Again, Reverted::Later, Reverted::Lost];

#[tokio::test]
async fn a_landed_precommit_is_withdrawn_and_lands_again() {
    for messages in ALL {
        survives(Moment::PreCommitLanded, 1, 8, messages).await;
    }
}

#[tokio::test]
async fn a_precommit_that_had_landed_behind_a_message_of_another_tool_lands_again_without_that() {
    let world = World::new(1).await;
    let driver = world.driver(CHAIN).await;
    world.transfer(&world.worker(), &world.owner(), TokenAmount::from_atto(1));
    world.until(&driver, "landed", async |world| Moment::PreCommitLanded.is_reached(world).await).await;
    world.advance(2);
    world.tick(&driver).await;
    let driver = fork_while_dead(&world, driver, 12, Reverted::Lost).await;
    let sender = world.worker();
    let nonce = world.devnet.with_node(|node| node.next_nonce(&sender)).expect("a nonce");
    assert_eq!(nonce, 0, "the other tool's message is gone as well");
    world.until(&driver, "known", knows_the_chain).await;
}

#[tokio::test]
async fn nothing_is_signed_again_whose_first_message_a_fork_has_made_possible_again() {
    let world = World::new(1).await;
    let driver = world.driver(CHAIN).await;
    world.fault(Fault::DropPushed { count: 1 });
    world.tick(&driver).await;
    let MessageState::Pushed { signed, .. } = world.open(MessageKind::PreCommit).await.remove(0).state else {
        panic!("pushed");
    };
    world.transfer(&world.worker(), &world.owner(), TokenAmount::from_atto(1));
    let is_wanted = async |world: &World| {
        world.open(MessageKind::PreCommit).await.iter().any(|message| message.state == MessageState::Wanted)
    };
    world.until(&driver, "wanted again", is_wanted).await;
    let first = SignedMessage::from_bytes(&signed.bytes).expect("reads");
    world.fault(Fault::StallInclusion { on: true });
    world.devnet.with_node(|node| node.reorganise(12, Reverted::Lost).expect("forks"));
    NodeClient::new(world.client()).mpool_push(&first).await.expect("is taken");
    world.advance(2);
    drop(world.try_tick(&driver).await);
    assert!(is_wanted(&world).await, "the first message may land");
    world.fault(Fault::StallInclusion { on: false });
    world.until(&driver, "known", knows_the_chain).await;
    assert!(world.failed().is_empty(), "no second message: {:?}", world.failed());
}

#[tokio::test]
async fn a_seed_is_withdrawn_with_its_precommit_and_drawn_anew() {
    for messages in ALL {
        survives(Moment::SeedDrawn, 1, 20, messages).await;
    }
}

#[tokio::test]
async fn a_landed_prove_commit_is_withdrawn_and_lands_again_also_with_its_precommit() {
    for messages in ALL {
        survives(Moment::Active, 1, 6, messages).await;
        survives(Moment::Active, 1, 25, messages).await;
    }
}

#[tokio::test]
async fn a_batch_is_withdrawn_and_lands_again_for_each_of_its_sectors() {
    for messages in ALL {
        for (moment, depth) in [(Moment::PreCommitLanded, 8), (Moment::SeedDrawn, 20), (Moment::Active, 6)] {
            survives(moment, 3, depth, messages).await;
        }
    }
}

#[tokio::test]
async fn an_errand_is_withdrawn_and_lands_again() {
    for messages in ALL {
        let world = World::new(0).await;
        let driver = world.driver(CHAIN).await;
        let before = world.balance(&world.owner()).await;
        let asked = ask_transfer(&world, 77).await;
        world.until(&driver, "it has landed", async |world| ended(world, asked).await).await;
        let first = errand(&world, asked).await.epoch;
        world.advance(3);
        world.tick(&driver).await;
        let driver = fork_while_dead(&world, driver, 10, messages).await;
        world.tick(&driver).await;
        let now = errand(&world, asked).await;
        assert!(now.state == ErrandState::Called || now.epoch != first, "{messages:?}: {now:?}");
        world.until(&driver, "it has landed again", async |world| ended(world, asked).await).await;
        let again = errand(&world, asked).await;
        assert!(again.state == ErrandState::Landed && again.epoch != first, "{messages:?}: {again:?}");
        assert_eq!(world.balance(&world.owner()).await - before, TokenAmount::from_atto(77));
    }
}
