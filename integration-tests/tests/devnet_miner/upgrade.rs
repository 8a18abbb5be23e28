//! UpgradeSectorQuality, and the network's upgrade that brings it.

use cid::Cid;
use fil_actor_miner_state::v19::{SectorPreCommitInfo, UpgradeSectorQuality, UpgradeSectorQualityParams, qa_power_max};
use fvm_shared::clock::ChainEpoch;
use fvm_shared::econ::TokenAmount;
use fvm_shared::receipt::Receipt;
use sealbus_integration_tests::devnet::Config;
use sealbus_integration_tests::devnet::faults::{Fault, Reverted};
use sealbus_integration_tests::devnet::node::UpgradeError;

use crate::chain::{Chain, MINER, PRE_COMMIT, PROVE_COMMIT, encode, pre_commit_params, prove_params};
use crate::{bits, nothing};

const UPGRADE: u64 = 37;

fn upgrade(chain: &Chain, numbers: &[u64], new_expiration: Option<ChainEpoch>, value: TokenAmount) -> Receipt {
    let upgrades = numbers.iter().map(|number| {
        let (deadline, partition) = chain.place(*number);
        UpgradeSectorQuality { deadline, partition, sectors: bits(&[*number]), new_expiration }
    });
    let params = UpgradeSectorQualityParams { upgrades: upgrades.collect() };
    chain.send(UPGRADE, encode(&params), value)
}

/// A chain with sectors of version 28, after the upgrade to 29.
fn upgraded(numbers: &[u64]) -> Chain {
    let chain = Chain::with(Config { network_version: 28, ..Config::default() });
    chain.active(numbers);
    let now = chain.height();
    chain.node(|node| node.upgrade(now)).expect("an upgrade");
    chain.withdraw_all();
    chain
}

fn full_pledge(chain: &Chain) -> TokenAmount {
    chain.node(|node| node.economics.initial_pledge(&qa_power_max(node.config.sector_size), node.epoch()))
}

#[test]
fn an_old_sector_gets_ten_times_the_power_for_the_full_pledge() {
    let chain = upgraded(&[7, 8]);
    let (before, total) = (chain.on_chain_sector(7).expect("active"), chain.total());
    let missing = full_pledge(&chain) - &before.initial_pledge;
    assert!(missing.is_positive());
    let short = &missing - TokenAmount::from_atto(1);
    assert_eq!(upgrade(&chain, &[7], None, short).exit_code.value(), 19);
    let receipt = upgrade(&chain, &[7], None, missing);
    assert_eq!((receipt.exit_code.value(), receipt.return_data.bytes()), (0, &[][..]));
    let after = chain.on_chain_sector(7).expect("active");
    assert!(after.flags.bits() & 2 == 2);
    assert_eq!((after.expiration, after.initial_pledge), (before.expiration, full_pledge(&chain)));
    assert_eq!(after.daily_fee, &before.daily_fee * 10);
    assert_eq!(chain.on_chain_sector(8).expect("active").flags, before.flags);
    let miner = chain.miner();
    assert_eq!(miner.state.get_available_balance(&miner.actor.balance).expect("a balance"), nothing());
    assert_eq!(chain.total(), total);
}

#[test]
fn a_full_sector_stays_as_it_is_unless_it_is_also_extended() {
    let chain = Chain::new();
    chain.active(&[7]);
    let before = chain.on_chain_sector(7).expect("active");
    assert_eq!(upgrade(&chain, &[7], None, nothing()).exit_code.value(), 0);
    assert_eq!(chain.on_chain_sector(7).expect("active"), before);
    assert_eq!(upgrade(&chain, &[7], Some(before.expiration), nothing()).exit_code.value(), 16, "not later");
    let later = before.expiration + 1_000;
    assert_eq!(upgrade(&chain, &[7], Some(later), nothing()).exit_code.value(), 0);
    let after = chain.on_chain_sector(7).expect("active");
    assert_eq!((after.expiration, after.initial_pledge), (later, before.initial_pledge));
    let too_far = chain.height() + 3_680_640 + 100;
    assert_eq!(upgrade(&chain, &[7], Some(too_far), nothing()).exit_code.value(), 16);
}

#[test]
fn one_sector_that_cannot_be_upgraded_fails_the_message() {
    let chain = upgraded(&[7, 8, 9]);
    let flags = chain.on_chain_sector(7).expect("active").flags;
    let value = full_pledge(&chain) * 3;
    chain.node(|node| node.inject(Fault::Faulty { miner: MINER, sectors: vec![8] }));
    chain.unproven(&[10]);
    for wrong in [8, 10] {
        assert_eq!(upgrade(&chain, &[7, wrong], None, value.clone()).exit_code.value(), 16, "{wrong}");
    }
    assert_eq!(chain.on_chain_sector(7).expect("active").flags, flags);
    assert_eq!(upgrade(&chain, &[7, 9], None, value).exit_code.value(), 0);
    assert_ne!(chain.on_chain_sector(9).expect("active").flags, flags);
}

#[test]
fn a_debt_must_be_paid_with_the_upgrade() {
    let chain = upgraded(&[7]);
    let debt = 5_000_000_000_u64;
    chain.node(|node| node.inject(Fault::FeeDebt { miner: MINER, atto: debt }));
    chain.advance(2);
    let value = full_pledge(&chain) - chain.on_chain_sector(7).expect("active").initial_pledge;
    assert_eq!(upgrade(&chain, &[7], None, value.clone()).exit_code.value(), 19);
    let receipt = upgrade(&chain, &[7], None, value + TokenAmount::from_atto(debt));
    assert_eq!(receipt.exit_code.value(), 0);
    assert_eq!(chain.miner().state.fee_debt, nothing());
}

#[test]
fn the_method_exists_from_version_29_on() {
    let chain = Chain::with(Config { network_version: 28, ..Config::default() });
    chain.active(&[7]);
    let value = full_pledge(&chain);
    assert_eq!(upgrade(&chain, &[7], None, value).exit_code.value(), 22);
}

/// A chain at version 28 with an active sector, and one that is ready to be proven. The mempool holds its ProveCommit,
/// whose deposit covers only the pledge of version 28, an upgrade of the active sector, and a PreCommit with deals.
fn with_messages_in_flight() -> (Chain, [Cid; 3]) {
    let chain = Chain::with(Config { network_version: 28, ..Config::default() });
    chain.active(&[7]);
    chain.pre_committed(&[8]);
    chain.withdraw_all();
    let prove = encode(&prove_params(&[(8, b"right")], true));
    let (deadline, partition) = chain.place(7);
    let upgrades = vec![UpgradeSectorQuality { deadline, partition, sectors: bits(&[7]), new_expiration: None }];
    let upgrade = encode(&UpgradeSectorQualityParams { upgrades });
    let with_deals = SectorPreCommitInfo { deal_ids: vec![1], ..chain.sector(9) };
    chain.node(|node| node.inject(Fault::StallInclusion { on: true }));
    let messages = [
        (PROVE_COMMIT, prove, nothing()),
        (UPGRADE, upgrade, full_pledge(&chain)),
        (PRE_COMMIT, pre_commit_params(vec![with_deals]), chain.deposit()),
    ];
    let pushed = messages.map(|(method, params, value)| {
        chain.push(chain.message(chain.worker(), method, params, value)).expect("the mempool takes it")
    });
    (chain, pushed)
}

fn outcomes(chain: &Chain, messages: &[Cid; 3]) -> [u32; 3] {
    messages.map(|cid| chain.search(&cid).expect("executed").receipt.exit_code.value())
}

#[test]
fn messages_in_flight_run_under_the_version_of_the_epoch_that_includes_them() {
    let (chain, messages) = with_messages_in_flight();
    let last = chain.height() + 5;
    chain.node(|node| node.upgrade(last)).expect("an upgrade");
    chain.advance(4);
    chain.node(|node| node.inject(Fault::StallInclusion { on: false }));
    chain.advance(2);
    assert_eq!(outcomes(&chain, &messages), [0, 22, 0], "in the last epoch of version 28");
    assert_eq!(chain.on_chain_sector(8).expect("active").flags.bits(), 1);

    let (chain, messages) = with_messages_in_flight();
    let last = chain.height() + 5;
    chain.node(|node| node.upgrade(last)).expect("an upgrade");
    chain.advance(5);
    chain.node(|node| node.inject(Fault::StallInclusion { on: false }));
    chain.advance(2);
    assert_eq!(outcomes(&chain, &messages), [19, 0, 16], "in the first epoch of version 29");
    assert_eq!(chain.on_chain_sector(7).expect("active").flags.bits(), 3);
}

#[test]
fn a_fork_over_the_upgrade_runs_messages_under_their_new_epochs_version() {
    let (chain, messages) = with_messages_in_flight();
    let last = chain.height() + 2;
    chain.node(|node| node.upgrade(last)).expect("an upgrade");
    chain.advance(2);
    chain.node(|node| node.inject(Fault::StallInclusion { on: false }));
    chain.advance(2);
    assert_eq!(outcomes(&chain, &messages), [19, 0, 16]);
    let succeeded = |method| {
        let counts = chain.node(|node| node.stats.miners[&MINER].succeeded.clone());
        counts.get(&method).copied().unwrap_or_default()
    };
    let pre_commits = succeeded(PRE_COMMIT);
    assert_eq!(succeeded(UPGRADE), 1);
    chain.node(|node| node.reorganise(3, Reverted::Again)).expect("a fork");
    assert_eq!(outcomes(&chain, &messages), [0, 22, 0]);
    assert_eq!((succeeded(UPGRADE), succeeded(PRE_COMMIT)), (0, pre_commits + 1), "a fork is counted anew");
}

#[test]
fn an_upgrade_cannot_lie_in_the_past_or_come_twice() {
    let chain = Chain::with(Config { network_version: 28, ..Config::default() });
    let now = chain.height();
    let past = chain.node(|node| node.upgrade(now - 1));
    assert_eq!(past, Err(UpgradeError::Past { wanted: now - 1, now }));
    chain.node(|node| node.upgrade(now + 1)).expect("an upgrade");
    chain.advance(2);
    assert_eq!(chain.node(|node| node.upgrade(now + 9)), Err(UpgradeError::AlreadyNewest));
}
