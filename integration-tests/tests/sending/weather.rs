//! The network changes while messages are on their way: the base fee spikes, or the network is upgraded.

use fvm_shared::econ::TokenAmount;
use sealbus_integration_tests::devnet::{Config as ChainConfig, faults::Fault};
use sealbus_manager::store::MessageKind;

use crate::world::{World, is_pushed};

/// The fees of a PreCommit of 2 sectors at the usual base fee of 100 attoFIL, some times over, but not a hundred times.
const MAX_FEE_ATTO: u64 = 20_000_000_000_000;

async fn all_prove(world: &World) -> bool {
    world.in_state("proving").await.len() as u64 == world.sectors
}

/// The most that the signed messages of this kind may cost.
async fn costs_at_most(world: &World, kind: MessageKind) -> TokenAmount {
    let calls = world.calls(kind).await;
    calls.iter().map(|(sent, _)| sent.gas_fee_cap.clone() * sent.gas_limit).max().unwrap_or_default()
}

#[tokio::test]
async fn nothing_is_signed_above_its_limit_in_a_spike_of_the_base_fee_and_everything_lands_after_it() {
    let world = World::new(2).await;
    let fees =
        format!("max_fee_atto = \"{MAX_FEE_ATTO}\"\n[chain.fees]\nbase_fee_wait_atto = \"1000\"\nurgent_epochs = 100");
    let driver = world.driver(&fees).await;
    world.fault(Fault::BaseFeeSpike { times: 100, epochs: 200 });
    world.advance(1);
    for _ in 0..200 {
        world.tick(&driver).await;
        assert!(world.calls(MessageKind::PreCommit).await.is_empty(), "the tickets have thousands of epochs left");
        world.advance(1);
    }
    world
        .until(&driver, "all are active", async |world| {
            for kind in [MessageKind::PreCommit, MessageKind::ProveCommit] {
                assert!(costs_at_most(world, kind).await <= TokenAmount::from_atto(MAX_FEE_ATTO));
            }
            all_prove(world).await
        })
        .await;
    assert_eq!((world.effects(), world.failed()), (vec![(1, 1); 2], vec![]));
}

#[tokio::test]
async fn a_message_in_the_pool_outlasts_a_spike_and_costs_no_more_than_its_limit() {
    let fees = format!("max_fee_atto = \"{MAX_FEE_ATTO}\"\nrepush_epochs = 3\n[chain.fees]\nurgent_epochs = 1000");
    let world = World::new(2).await;
    let driver = world.driver(&fees).await;
    world.tick(&driver).await;
    world.fault(Fault::BaseFeeSpike { times: 10_000, epochs: 60 });
    for _ in 0..50 {
        world.advance(1);
        world.tick(&driver).await;
        assert!(costs_at_most(&world, MessageKind::PreCommit).await <= TokenAmount::from_atto(MAX_FEE_ATTO));
    }
    assert_eq!(world.effects(), [(0, 0); 2]);
    assert!(world.open(MessageKind::PreCommit).await.iter().all(is_pushed));
    world.until(&driver, "all are active", all_prove).await;
    assert_eq!((world.effects(), world.failed()), (vec![(1, 1); 2], vec![]));
}

#[tokio::test]
async fn an_upgrade_of_the_network_loses_no_message_on_its_way() {
    // The PreCommit, or the ProveCommit, is signed under version 28 and executed under version 29.
    for kind in [MessageKind::PreCommit, MessageKind::ProveCommit] {
        let world = World::with_chain(3, ChainConfig { network_version: 28, ..ChainConfig::default() }).await;
        let driver = world.driver("repush_epochs = 3").await;
        world
            .until(&driver, "it is about to be signed", async |world| {
                kind == MessageKind::PreCommit || world.in_state("awaiting_seed").await.len() == 3
            })
            .await;
        world.fault(Fault::StallInclusion { on: true });
        world
            .until(&driver, "it is in the pool", async |world| {
                let open = world.open(kind).await;
                open.len() == 3 && open.iter().all(is_pushed)
            })
            .await;
        let before = world.calls(kind).await[0].0.clone();
        let version =
            |world: &World| world.devnet.with_node(|node| node.config.network_version_at(node.chain.head().height()));
        assert_eq!(version(&world), 28);
        world.devnet.with_node(|node| node.upgrade(node.chain.head().height() + 1).expect("upgrades"));
        world.advance(3);
        assert_eq!(version(&world), 29);
        world.fault(Fault::StallInclusion { on: false });
        world.until(&driver, "all are active", all_prove).await;
        assert_eq!(world.effects(), [(1, 1); 3], "{kind:?} {before:?}");
    }
}
