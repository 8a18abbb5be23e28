//! Withdrawing, debts, and who may act for a miner.

use fil_actor_miner_state::v19::{
    ChangeBeneficiaryParams, ChangeMultiaddrsParams, ChangeOwnerAddressParams, ChangePeerIDParams,
    ChangeWorkerAddressParams, GetControlAddressesReturn, WithdrawBalanceParams, WithdrawBalanceReturn,
};
use fvm_ipld_encoding::{BytesDe, RawBytes};
use fvm_shared::address::Address;
use fvm_shared::econ::TokenAmount;
use sealbus_integration_tests::devnet::Config;
use sealbus_integration_tests::devnet::faults::Fault;

use crate::chain::{Chain, MINER, encode};
use crate::nothing;

const CHANGE_WORKER: u64 = 3;
const WITHDRAW: u64 = 16;
const CONFIRM_WORKER: u64 = 21;
const REPAY_DEBT: u64 = 22;
const CHANGE_OWNER: u64 = 23;
const CHANGE_BENEFICIARY: u64 = 30;

/// A chain with a second miner, whose owner and worker are strangers to the first one.
fn chain() -> Chain {
    Chain::with(Config { miners: 2, ..Config::default() })
}

fn id(chain: &Chain, key: Address) -> Address {
    Address::new_id(chain.node(|node| node.latest().expect("state").world.resolve(&key).expect("on chain")))
}

fn strange_owner(chain: &Chain) -> Address {
    chain.node(|node| node.miners[1].owner_key)
}

fn strange_worker(chain: &Chain) -> Address {
    chain.node(|node| node.miners[1].worker_key)
}

fn withdraw(chain: &Chain, from: Address, amount: &TokenAmount) -> Result<TokenAmount, u32> {
    let params = WithdrawBalanceParams { amount_requested: amount.clone() };
    let receipt = chain.send_from(from, WITHDRAW, encode(&params), nothing());
    match receipt.exit_code.value() {
        0 => Ok(receipt.return_data.deserialize::<WithdrawBalanceReturn>().expect("a return").amount_withdrawn),
        code => Err(code),
    }
}

/// Gives the miner funds that are not locked.
fn fund(chain: &Chain, amount: &TokenAmount) {
    assert_eq!(chain.send(0, RawBytes::default(), amount.clone()).exit_code.value(), 0);
}

#[test]
fn only_what_is_neither_locked_nor_owed_is_withdrawn() {
    let chain = chain();
    chain.unproven(&[7]);
    let available = |chain: &Chain| {
        let miner = chain.miner();
        miner.state.get_available_balance(&miner.actor.balance).expect("a balance")
    };
    chain.withdraw_all();
    assert_eq!(available(&chain), nothing());
    let ten = TokenAmount::from_whole(10);
    fund(&chain, &ten);
    let three = TokenAmount::from_whole(3);
    for stranger in [chain.worker(), strange_owner(&chain)] {
        assert_eq!(withdraw(&chain, stranger, &three), Err(18));
    }
    assert_eq!(withdraw(&chain, chain.owner(), &-three.clone()), Err(16));
    let (owner, total) = (chain.balance(chain.owner()), chain.total());
    assert_eq!(withdraw(&chain, chain.owner(), &three), Ok(three.clone()));
    let gas = TokenAmount::from_nano(10_000_000);
    assert!(chain.balance(chain.owner()) > owner + &three - gas);
    chain.node(|node| node.inject(Fault::FeeDebt { miner: MINER, atto: 5 }));
    chain.advance(2);
    let rest = TokenAmount::from_whole(7) - TokenAmount::from_atto(5);
    assert_eq!(withdraw(&chain, chain.owner(), &ten), Ok(rest), "the debt is paid first");
    let miner = chain.miner();
    assert_eq!((available(&chain), miner.state.fee_debt), (nothing(), nothing()));
    assert_eq!(miner.actor.balance, miner.state.initial_pledge);
    assert_eq!(chain.total(), total);
}

#[test]
fn a_debt_is_burnt_as_far_as_funds_go() {
    let chain = chain();
    let debt = TokenAmount::from_atto(1_000);
    chain.node(|node| node.inject(Fault::FeeDebt { miner: MINER, atto: 1_000 }));
    chain.advance(2);
    assert_eq!(chain.miner().state.fee_debt, debt);
    assert_eq!(withdraw(&chain, chain.owner(), &nothing()), Err(19));
    let repay = |from, value| chain.send_from(from, REPAY_DEBT, RawBytes::default(), value).exit_code.value();
    assert_eq!(repay(strange_owner(&chain), nothing()), 18);
    assert_eq!(repay(chain.worker(), TokenAmount::from_atto(400)), 0);
    assert_eq!(chain.miner().state.fee_debt, TokenAmount::from_atto(600));
    assert_eq!(repay(chain.owner(), TokenAmount::from_atto(700)), 0);
    assert_eq!(chain.miner().state.fee_debt, nothing());
    assert_eq!(chain.miner().actor.balance, TokenAmount::from_atto(100));
}

#[test]
fn a_block_reward_pays_debts_and_vests() {
    let chain = chain();
    let (reward, total) = (TokenAmount::from_whole(16), chain.total());
    chain.node(|node| {
        node.inject(Fault::FeeDebt { miner: MINER, atto: 1_000 });
        node.inject(Fault::Reward { miner: MINER, atto: 16_000_000_000_000_000_000 });
    });
    chain.advance(2);
    let miner = chain.miner();
    let debt = TokenAmount::from_atto(1_000);
    // The debt is taken from what would vest first.
    assert_eq!(miner.state.locked_funds, TokenAmount::from_whole(12) - &debt);
    assert_eq!((miner.state.fee_debt, miner.actor.balance), (nothing(), reward - &debt));
    assert_eq!(chain.balance(Address::new_id(99)), debt);
    assert_eq!(chain.total(), total);
    assert_eq!(withdraw(&chain, chain.owner(), &TokenAmount::from_whole(16)), Ok(TokenAmount::from_whole(4)));
    chain.node(|node| node.add_null_rounds(90 * 2880));
    chain.advance(90 * 2880 + 1);
    let vested = withdraw(&chain, chain.owner(), &TokenAmount::from_whole(16)).expect("a part has vested");
    assert!(vested > TokenAmount::from_whole(5) && vested < TokenAmount::from_whole(7), "{vested}");
    let stats = chain.node(|node| node.stats.miners[&MINER].clone());
    assert_eq!(stats.succeeded.get(&WITHDRAW), Some(&2));
}

#[test]
fn a_worker_takes_over_900_epochs_after_its_proposal() {
    let chain = chain();
    let (old, new) = (id(&chain, chain.worker()), strange_worker(&chain));
    let change = |from, worker: Address, controls: Vec<Address>| {
        let params = ChangeWorkerAddressParams { new_worker: worker, new_control_addresses: controls };
        chain.send_from(from, CHANGE_WORKER, encode(&params), nothing()).exit_code.value()
    };
    let confirm = || chain.send_from(chain.owner(), CONFIRM_WORKER, RawBytes::default(), nothing()).exit_code.value();
    assert_eq!(change(chain.worker(), new, vec![]), 18);
    assert_eq!(change(chain.owner(), strange_owner(&chain), vec![]), 16, "not a BLS key");
    assert_eq!(change(chain.owner(), Address::new_id(9_999), vec![]), 16, "unknown");
    assert_eq!(change(chain.owner(), Address::new_id(MINER), vec![]), 16, "not an account");
    assert_eq!(change(chain.owner(), new, vec![Address::new_id(9_999)]), 16, "unknown control address");
    assert_eq!(change(chain.owner(), new, vec![old; 11]), 16, "too many control addresses");

    let including = chain.height() + 1;
    let control = strange_owner(&chain);
    assert_eq!(change(chain.owner(), new, vec![control]), 0);
    let info = chain.miner().info;
    let pending = info.pending_worker_key.expect("a proposal");
    assert_eq!((pending.new_worker, pending.effective_at), (id(&chain, new), including + 900));
    assert_eq!(info.control_addresses, [id(&chain, control)]);
    let peer = |from, id: &[u8]| {
        let params = encode(&ChangePeerIDParams { new_id: id.to_vec() });
        chain.send_from(from, 4, params, nothing()).exit_code.value()
    };
    assert_eq!(peer(control, &[1, 2, 3]), 0, "a control address may");
    assert_eq!(chain.miner().info.peer_id, [1, 2, 3]);
    assert_eq!(peer(control, &[1; 129]), 16);

    assert_eq!(confirm(), 0);
    assert_eq!(chain.miner().info.worker, old, "too early");
    chain.advance(900);
    assert_eq!(change(chain.owner(), old, vec![]), 0);
    assert!(chain.miner().info.pending_worker_key.is_some(), "a second proposal changes only control addresses");
    assert_eq!(chain.send_from(new, CONFIRM_WORKER, RawBytes::default(), nothing()).exit_code.value(), 18);
    assert_eq!(confirm(), 0);
    let info = chain.miner().info;
    assert_eq!((info.worker, info.pending_worker_key.is_none()), (id(&chain, new), true));
    let receipt = chain.send_from(strange_owner(&chain), 2, RawBytes::default(), nothing());
    let all: GetControlAddressesReturn = receipt.return_data.deserialize().expect("a return");
    assert_eq!((all.owner, all.worker), (id(&chain, chain.owner()), id(&chain, new)));
}

#[test]
fn a_new_owner_confirms_what_the_old_one_proposed() {
    let chain = chain();
    let (old, new) = (id(&chain, chain.owner()), id(&chain, strange_owner(&chain)));
    let change = |from, owner| {
        let params = encode(&ChangeOwnerAddressParams { new_owner: owner });
        chain.send_from(from, CHANGE_OWNER, params, nothing()).exit_code.value()
    };
    assert_eq!(change(chain.owner(), strange_owner(&chain)), 16, "only an ID address");
    assert_eq!(change(strange_owner(&chain), new), 18, "nobody proposed it");
    assert_eq!(change(chain.owner(), new), 0);
    assert_eq!(chain.miner().info.pending_owner_address, Some(new));
    assert_eq!(change(chain.owner(), old), 0);
    assert_eq!(chain.miner().info.pending_owner_address, None, "taken back");
    assert_eq!(change(chain.owner(), new), 0);
    assert_eq!(change(chain.worker(), new), 18);
    assert_eq!(change(strange_owner(&chain), old), 16);
    assert_eq!(change(strange_owner(&chain), new), 0);
    let info = chain.miner().info;
    assert_eq!((info.owner, info.beneficiary, info.pending_owner_address), (new, new, None));
    assert_eq!(change(chain.owner(), old), 18);
}

#[test]
fn a_beneficiary_receives_withdrawals_within_its_quota() {
    let chain = chain();
    let nominee = strange_owner(&chain);
    let change = |from, beneficiary, fil: i64, expiration| {
        let new_quota = TokenAmount::from_whole(fil);
        let params = ChangeBeneficiaryParams::new(beneficiary, new_quota, expiration);
        chain.send_from(from, CHANGE_BENEFICIARY, encode(&params), nothing()).exit_code.value()
    };
    let expiration = chain.height() + 100;
    assert_eq!(change(nominee, nominee, 5, expiration), 18, "nobody proposed it");
    assert_eq!(change(chain.owner(), nominee, 0, expiration), 16);
    assert_eq!(change(chain.owner(), chain.owner(), 5, 0), 16);
    assert_eq!(change(chain.owner(), Address::new_id(9_999), 5, expiration), 16);
    assert_eq!(change(chain.owner(), nominee, 5, expiration), 0);
    let pending = chain.miner().info.pending_beneficiary_term.expect("a proposal");
    assert!(pending.approved_by_beneficiary && !pending.approved_by_nominee);
    assert_eq!(change(chain.worker(), nominee, 5, expiration), 18);
    assert_eq!(change(nominee, nominee, 6, expiration), 16);
    assert_eq!(change(nominee, nominee, 5, expiration + 1), 16);
    assert_eq!(change(nominee, nominee, 5, expiration), 0);
    assert_eq!(chain.miner().info.beneficiary, id(&chain, nominee));

    fund(&chain, &TokenAmount::from_whole(10));
    let before = chain.balance(nominee);
    assert_eq!(withdraw(&chain, chain.owner(), &TokenAmount::from_whole(2)), Ok(TokenAmount::from_whole(2)));
    assert_eq!(chain.balance(nominee) - before, TokenAmount::from_whole(2));
    assert_eq!(change(chain.owner(), chain.owner(), 0, 0), 0);
    assert_eq!(chain.miner().info.beneficiary, id(&chain, nominee), "it has quota left, so it must approve");
    assert_eq!(withdraw(&chain, chain.owner(), &TokenAmount::from_whole(8)), Ok(TokenAmount::from_whole(3)));
    assert_eq!(withdraw(&chain, nominee, &TokenAmount::from_whole(1)), Err(18), "the quota is used up");
    assert_eq!(change(nominee, chain.owner(), 0, 0), 0);
    assert_eq!(chain.miner().info.beneficiary, id(&chain, chain.owner()));
}

#[test]
fn multiaddresses_are_set_within_their_limits() {
    let chain = chain();
    let change = |from, addresses: Vec<Vec<u8>>| {
        let new_multi_addrs = addresses.into_iter().map(BytesDe).collect();
        let params = encode(&ChangeMultiaddrsParams { new_multi_addrs });
        chain.send_from(from, 18, params, nothing()).exit_code.value()
    };
    assert_eq!(change(strange_owner(&chain), vec![vec![1]]), 18);
    assert_eq!(change(chain.worker(), vec![vec![]]), 16);
    assert_eq!(change(chain.worker(), vec![vec![1; 600], vec![1; 425]]), 16);
    assert_eq!(change(chain.worker(), vec![vec![4, 127, 0, 0, 1]]), 0);
    assert_eq!(chain.miner().info.multi_address, [BytesDe(vec![4, 127, 0, 0, 1])]);
}
