//! DisputeWindowedPoSt: a wrong proof that was believed.

use fil_actor_miner_state::v19::{
    DisputeWindowedPoStParams, pledge_penalty_for_invalid_windowpost, qa_power_for_sector,
};
use fvm_shared::address::Address;
use fvm_shared::econ::TokenAmount;
use fvm_shared::receipt::Receipt;
use sealbus_integration_tests::devnet::Config;

use crate::chain::{Chain, encode};
use crate::nothing;

const DISPUTE: u64 = 24;

/// A chain with a second miner, whose worker disputes.
fn chain() -> Chain {
    let chain = Chain::with(Config { proving: true, miners: 2, ..Config::default() });
    chain.proven(&[7]);
    chain
}

fn dispute(chain: &Chain, deadline: u64, post_index: u64) -> Receipt {
    let disputer = chain.node(|node| node.miners[1].worker_key);
    let params = encode(&DisputeWindowedPoStParams { deadline, post_index });
    chain.send_from(disputer, DISPUTE, params, nothing())
}

fn submit_wrong(chain: &Chain) {
    chain.until_open(7);
    let mut params = chain.post(7, &[]);
    params.proofs[0].proof_bytes = b"wrong".to_vec();
    assert_eq!(chain.submit(&params).exit_code.value(), 0);
}

/// What the miner of sector 7 pays besides the disputer's reward.
fn penalty(chain: &Chain) -> TokenAmount {
    let sector = chain.on_chain_sector(7).expect("on chain");
    chain.node(|node| {
        let (power, economics) = (qa_power_for_sector(node.config.sector_size, &sector), &node.economics);
        pledge_penalty_for_invalid_windowpost(&economics.reward, &economics.network_qa_power, &power)
    })
}

#[test]
fn a_wrong_proof_makes_its_sectors_faulty_and_pays_who_shows_it() {
    let chain = chain();
    chain.fund(TokenAmount::from_whole(100));
    submit_wrong(&chain);
    chain.past_deadline(7);
    assert!(chain.is_active(7));
    let disputer = chain.node(|node| node.miners[1].worker_key);
    let (had, funds, total) = (chain.miner().actor.balance, chain.balance(disputer), chain.total());
    let burnt = chain.balance(Address::new_id(99));
    let receipt = dispute(&chain, chain.place(7).0, 0);
    assert_eq!(receipt.exit_code.value(), 0, "{}", chain.last_error());
    assert!(receipt.gas_used > 117_680_921, "the proof is verified");
    assert!(chain.is_faulty(7));
    let (penalty, reward) = (penalty(&chain), TokenAmount::from_whole(4));
    assert!(penalty > TokenAmount::from_whole(20));
    assert_eq!(had - chain.miner().actor.balance, &penalty + &reward);
    let gas = TokenAmount::from_atto(100 * receipt.gas_used);
    assert_eq!(chain.balance(Address::new_id(99)) - burnt, &penalty + &gas);
    assert_eq!(chain.balance(disputer) - funds, reward - gas - TokenAmount::from_atto(1_000 * 1_000_000_000_u64));
    assert_eq!(chain.total(), total);
    assert_eq!(dispute(&chain, chain.place(7).0, 0).exit_code.value(), 16, "it is disputed once");
}

#[test]
fn what_the_miner_cannot_pay_becomes_debt_and_the_reward_comes_first() {
    let chain = chain();
    submit_wrong(&chain);
    chain.past_deadline(7);
    chain.withdraw_all();
    chain.fund(TokenAmount::from_whole(3));
    let (burnt, total) = (chain.balance(Address::new_id(99)), chain.total());
    let receipt = dispute(&chain, chain.place(7).0, 0);
    assert_eq!(receipt.exit_code.value(), 0, "{}", chain.last_error());
    let owed = penalty(&chain) + TokenAmount::from_whole(4) - TokenAmount::from_whole(3);
    assert_eq!(chain.miner().state.fee_debt, owed);
    assert_eq!(chain.balance(Address::new_id(99)) - burnt, TokenAmount::from_atto(100 * receipt.gas_used));
    assert_eq!(chain.total(), total);
}

#[test]
fn a_right_proof_cannot_be_disputed() {
    let chain = chain();
    chain.prove_window(7, &[]);
    chain.past_deadline(7);
    let receipt = dispute(&chain, chain.place(7).0, 0);
    assert_eq!(receipt.exit_code.value(), 16);
    assert!(chain.last_error().contains("failed to dispute valid post"), "{}", chain.last_error());
    assert!(receipt.gas_used > 117_680_921, "the sender pays for the verification");
    assert!(chain.is_active(7));
    assert_eq!(dispute(&chain, chain.place(7).0, 1).exit_code.value(), 16, "there is one proof");
    assert_eq!(dispute(&chain, 48, 0).exit_code.value(), 16);
}

#[test]
fn a_proof_can_be_disputed_from_the_close_of_its_deadline_for_1800_epochs() {
    let chain = chain();
    submit_wrong(&chain);
    let (deadline, info) = (chain.place(7).0, chain.deadline_of(7));
    assert_eq!(dispute(&chain, deadline, 0).exit_code.value(), 18, "it is open");
    chain.skip_to(info.close + 1800 - 1);
    assert_eq!(dispute(&chain, deadline, 0).exit_code.value(), 18, "it is too late");
    assert!(chain.last_error().contains("1800 epochs"), "{}", chain.last_error());

    submit_wrong(&chain);
    let info = chain.deadline_of(7);
    chain.fund(TokenAmount::from_whole(100));
    chain.skip_to(info.close + 1800 - 2);
    assert_eq!(dispute(&chain, deadline, 0).exit_code.value(), 0, "{}", chain.last_error());
}
