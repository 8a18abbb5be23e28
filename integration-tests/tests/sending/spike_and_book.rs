//! A spike of the base fee while sectors seal, and what all of it has cost: nothing expires, nothing is sent above its limit before
//! it must be, everything lands afterwards, and the money book equals the chain to the attoFIL.

use std::time::Duration;

use fvm_shared::{address::Address, econ::TokenAmount};
use sealbus_integration_tests::devnet::faults::Fault;
use sealbus_manager::{
    chain::{NodeClient, types::TipSetKey},
    config::Config,
    money::{AllHoldings, Entry, Holdings, Purpose, Quantity, add, follow},
    store::{MessageKind, MoneyFilter, MoneyOrder},
};

use crate::world::World;

/// Enough for each message at the usual base fee of 100 attoFIL a unit of gas, and for none in the spike.
const MAX_FEE_ATTO: i64 = 100_000_000_000;
/// The first sector's ticket expires in the middle of the spike, and those of the others long after it.
const EXPIRES: [i64; 3] = [180, 2900, 2900];
/// From here on the first sector's PreCommit must be sent.
const URGENT_FROM: i64 = EXPIRES[0] - 100;
/// Each PreCommit is alone, so that the others do not share what the first one may cost.
const CHAIN: &str = "poll_interval_ms = 10\nmax_fee_atto = \"100000000000\"\nrepush_epochs = 3\n\
                     [chain.batches]\nprecommit_max = 1\n[chain.fees]\nurgent_epochs = 100\nurgent_percent = 10000\n";

/// What a message may cost at the head, if it is only about the first sector.
fn limit(head: i64) -> TokenAmount {
    let passed = (head - URGENT_FROM).clamp(0, 100);
    (TokenAmount::from_atto(MAX_FEE_ATTO) * (100 + 99 * passed)).div_floor(100)
}

fn head(world: &World) -> i64 {
    world.devnet.with_node(|node| node.chain.head().height())
}

/// Writes the book up to the confident tipset, and returns this one's key.
async fn settle(world: &World, config: &Config) -> TipSetKey {
    let node = NodeClient::new(world.client());
    let head = node.chain_head().await.expect("a head");
    let confident = node.lagged_tipset(&head, config.chain.confidence_epochs).await.expect("a tipset");
    let is_there = async {
        loop {
            let end = world.store.money_end().await.expect("reads");
            if end.is_some_and(|end| end.epoch == confident.height) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        ended = follow::run(&node, &world.store, config, world.epoch) => panic!("{ended:?}"),
        () = is_there => confident.key,
    }
}

async fn entries(world: &World) -> Vec<Entry> {
    let mut all = Vec::new();
    let filter = MoneyFilter::default();
    world.store.each_money(&filter, MoneyOrder::Booked, |booked| all.push(booked.entry)).await.expect("reads");
    all
}

/// What burnt funds and premiums go to, and where rewards come from.
async fn strangers(world: &World, at: &TipSetKey) -> TokenAmount {
    let node = NodeClient::new(world.client());
    let mut sum = TokenAmount::default();
    for id in [99, 2] {
        sum += node.get_actor(&Address::new_id(id), at).await.expect("answers").expect("exists").balance;
    }
    sum
}

/// What the chain says of each actor in the book.
async fn on_chain(world: &World, actors: impl Iterator<Item = &u64>, at: &TipSetKey) -> AllHoldings {
    let (node, mut all) = (NodeClient::new(world.client()), AllHoldings::new());
    for actor in actors {
        let address = Address::new_id(*actor);
        let balance = node.get_actor(&address, at).await.expect("answers").expect("exists").balance;
        let mut holdings = Holdings { balance, ..Holdings::default() };
        if *actor == 1000 {
            let funds = node.miner_funds(&address, at).await.expect("answers");
            (holdings.deposits, holdings.pledge) = (funds.pre_commit_deposits, funds.initial_pledge);
            holdings.vesting = funds.locked_funds;
        }
        all.insert(*actor, holdings);
    }
    all
}

#[tokio::test]
async fn a_spike_while_sectors_seal_costs_no_sector_and_the_book_of_it_closes() {
    let world = World::with_tickets(&EXPIRES).await;
    let (config, driver) = (world.config(CHAIN, ""), world.driver(CHAIN).await);
    world.fault(Fault::Premium { atto: 50 });
    let begin = settle(&world, &config).await;
    world.fault(Fault::BaseFeeSpike { times: 100, epochs: 200 });
    world.advance(1);

    let mut sent_at = None;
    while head(&world) < 220 {
        world.tick(&driver).await;
        let now = head(&world);
        for (sent, numbers) in world.calls(MessageKind::PreCommit).await {
            assert_eq!(numbers, [1], "at epoch {now} only the first sector cannot wait");
            assert!(*sent_at.get_or_insert(now) > URGENT_FROM, "it was sent at {now}");
            let most = sent.gas_fee_cap.clone() * sent.gas_limit;
            assert!(most <= limit(now), "at epoch {now} it may cost {} attoFIL", most.atto());
        }
        assert!(world.calls(MessageKind::ProveCommit).await.is_empty(), "it has weeks left");
        world.work().await;
        world.advance(1);
    }
    assert!(sent_at.is_some_and(|epoch| epoch < EXPIRES[0]), "{sent_at:?}");
    assert_eq!((world.effects(), world.blocked().await), (vec![(1, 0), (0, 0), (0, 0)], vec![]));

    world
        .until(&driver, "all are active", async |world| {
            for kind in [MessageKind::PreCommit, MessageKind::ProveCommit] {
                for (sent, _) in world.calls(kind).await {
                    let most = sent.gas_fee_cap * sent.gas_limit;
                    assert!(most <= TokenAmount::from_atto(MAX_FEE_ATTO), "{kind:?}: {} attoFIL", most.atto());
                }
            }
            world.in_state("proving").await.len() == 3
        })
        .await;
    assert_eq!((world.effects(), world.failed()), (vec![(1, 1); 3], vec![]));

    world.advance(2);
    let end = settle(&world, &config).await;
    let (entries, mut sums) = (entries(&world).await, AllHoldings::new());
    add(&mut sums, &entries);
    assert_eq!(sums.keys().copied().collect::<Vec<_>>(), [100, 101, 1000]);
    assert_eq!(sums, on_chain(&world, sums.keys(), &end).await, "{entries:#?}");
    assert!(sums[&1000].pledge.is_positive() && sums[&1000].deposits.is_zero());
    // What left the three is what came to those that they pay.
    let came = entries
        .iter()
        .filter(|entry| entry.quantity == Quantity::Balance && entry.purpose != Purpose::Opening)
        .fold(TokenAmount::default(), |sum, entry| sum + &entry.amount);
    assert_eq!(came, strangers(&world, &begin).await - strangers(&world, &end).await);
    assert!(came.is_negative() && entries.iter().all(|entry| entry.purpose != Purpose::Other), "{entries:#?}");
}
