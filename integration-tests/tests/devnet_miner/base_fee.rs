//! The base fee, constant or following the demand.

use fvm_ipld_encoding::RawBytes;
use fvm_shared::econ::TokenAmount;
use fvm_shared::message::Message;
use sealbus_integration_tests::devnet::Config;
use sealbus_integration_tests::devnet::faults::{Fault, Reverted};

use crate::chain::Chain;
use crate::nothing;

fn following() -> Chain {
    Chain::with(Config { base_fee_follows: true, ..Config::default() })
}

fn base_fee(chain: &Chain) -> u64 {
    chain.node(|node| node.chain.head().header.base_fee)
}

/// A transfer that reserves this much gas for this premium.
fn transfer(chain: &Chain, gas_limit: u64, premium: u64) -> Message {
    Message {
        gas_limit,
        gas_fee_cap: TokenAmount::from_atto(1_000_000),
        gas_premium: TokenAmount::from_atto(premium),
        ..chain.message(chain.worker(), 0, RawBytes::default(), nothing())
    }
}

/// An epoch whose block has this much gas in messages with this premium.
fn epoch_with(chain: &Chain, gas: u64, premium: u64) -> u64 {
    chain.push(transfer(chain, gas / 2, premium)).expect("taken");
    chain.push(transfer(chain, gas / 2, premium)).expect("taken");
    chain.advance(1);
    assert_eq!(chain.node(|node| node.chain.head().messages.len()), 2);
    base_fee(chain)
}

#[test]
fn it_rises_only_while_most_gas_is_asked_for_with_a_premium_and_then_falls() {
    let chain = following();
    let full = 8_000_000_000;
    assert_eq!(epoch_with(&chain, full, 1_000), 100);
    assert_eq!(epoch_with(&chain, full, 1_000), 113, "as the block before was full");
    assert_eq!(epoch_with(&chain, full - 2, 1_000), 128);
    assert_eq!(epoch_with(&chain, full, 16), 112, "a little less than 80 % does not count");
    assert_eq!(epoch_with(&chain, full, 0), 114, "a premium of 16 is 2 more than an eighth");
    chain.advance(1);
    assert_eq!(base_fee(&chain), 100);
    let constant = Chain::new();
    epoch_with(&constant, full, 1_000);
    assert_eq!(epoch_with(&constant, full, 1_000), 100);
}

#[test]
fn a_null_round_carries_it_over() {
    let chain = following();
    epoch_with(&chain, 8_000_000_000, 1_000);
    chain.node(|node| node.add_null_rounds(5));
    chain.advance(6);
    assert_eq!(base_fee(&chain), 113);
}

#[test]
fn a_spike_holds_for_its_time_and_messages_below_it_wait() {
    for follows in [false, true] {
        let chain = Chain::with(Config { base_fee_follows: follows, ..Config::default() });
        chain.node(|node| node.inject(Fault::BaseFeeSpike { times: 100, epochs: 200 }));
        let fees: Vec<_> = (0..300).map(|_| (chain.advance(1), base_fee(&chain)).1).collect();
        let high = fees.iter().filter(|fee| **fee == 10_000).count();
        assert_eq!(fees.iter().max(), Some(&10_000));
        if follows {
            assert_eq!((fees[0], fees[1]), (113, 128));
            assert!((150..200).contains(&high), "{high}");
            assert!(fees[200] == 8_750 && fees[299] == 100);
        } else {
            assert_eq!((high, fees[199], fees[200]), (200, 10_000, 100));
        }
    }
    let chain = following();
    chain.node(|node| node.inject(Fault::BaseFeeSpike { times: 100, epochs: 100 }));
    chain.advance(50);
    let low = Message { gas_fee_cap: TokenAmount::from_atto(5_000), ..transfer(&chain, 10_000_000, 1_000) };
    let cid = chain.push(low).expect("taken");
    chain.advance(50);
    assert!(chain.search(&cid).is_none(), "its fee cap is below the base fee");
    chain.advance(20);
    assert_eq!(chain.search(&cid).expect("executed").receipt.exit_code.value(), 0);
}

#[test]
fn a_fork_within_a_spike_has_the_same_fees() {
    let chain = following();
    chain.node(|node| node.inject(Fault::BaseFeeSpike { times: 10, epochs: 30 }));
    chain.advance(35);
    let before = base_fee(&chain);
    chain.node(|node| node.reorganise(10, Reverted::Again)).expect("a fork");
    assert_eq!(base_fee(&chain), before);
}
