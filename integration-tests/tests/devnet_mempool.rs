//! The rules of the mempool, with the exact error messages of Lotus.

#[path = "devnet_support/chain.rs"]
mod chain;

use chain::{Chain, MINER};
use fvm_ipld_encoding::RawBytes;
use fvm_shared::address::Address;
use fvm_shared::econ::TokenAmount;
use fvm_shared::message::Message;
use sealbus_integration_tests::devnet::faults::{Fault, Reverted};
use sealbus_integration_tests::devnet::search::search;

fn transfer(chain: &Chain, nonce: u64) -> Message {
    let mut message = chain.message(chain.worker(), 0, RawBytes::default(), TokenAmount::from_atto(5));
    message.sequence = nonce;
    message
}

fn refused(chain: &Chain, message: Message, wanted: &str) {
    let error = chain.push(message).expect_err(wanted);
    assert!(error.contains(wanted), "{error}");
}

#[test]
fn nonces_are_checked() {
    let chain = Chain::new();
    chain.push(transfer(&chain, 0)).expect("taken");
    assert_eq!(chain.node(|node| node.next_nonce(&node.miners[0].worker_key)).expect("a nonce"), 1);
    refused(&chain, transfer(&chain, 0), "already in mpool");
    refused(&chain, transfer(&chain, 6), "too big a gap");
    chain.push(transfer(&chain, 3)).expect("a gap of two is taken");
    assert_eq!(chain.node(|node| node.next_nonce(&node.miners[0].worker_key)).expect("a nonce"), 1);
    chain.advance(2);
    assert_eq!(chain.node(|node| node.mempool.pending().len()), 1, "the gapped one waits");
    refused(&chain, transfer(&chain, 0), "message nonce too low");
    let mut dearer = transfer(&chain, 3);
    dearer.gas_premium = TokenAmount::from_atto(100_000);
    refused(&chain, dearer, "because of nonce gap");
    chain.push(transfer(&chain, 1)).expect("taken");
    chain.push(transfer(&chain, 2)).expect("taken");
    assert_eq!(chain.node(|node| node.next_nonce(&node.miners[0].worker_key)).expect("a nonce"), 4);
    chain.advance(2);
    assert!(chain.node(|node| node.mempool.pending().is_empty()));
}

#[test]
fn a_replacement_pays_a_tenth_more() {
    let chain = Chain::new();
    let old = transfer(&chain, 0);
    let old_cid = chain.push(old.clone()).expect("taken");
    let with_premium = |atto: u64| Message { gas_premium: TokenAmount::from_atto(atto), ..old.clone() };
    refused(&chain, with_premium(1_100), "replace by fee has too low GasPremium");
    let new_cid = chain.push(with_premium(1_101)).expect("taken");
    chain.advance(2);
    chain.node(|node| {
        let head = node.chain.head().clone();
        let error = search(&node.chain, &head, &old_cid, -1, false).expect_err("replaced");
        assert!(error.to_string().contains("equal nonce"), "{error}");
        let found = search(&node.chain, &head, &old_cid, -1, true).expect("a search");
        assert_eq!(found.expect("found").message, new_cid);
    });
}

#[test]
fn another_call_under_the_nonce_is_no_replacement_in_searches() {
    let chain = Chain::new();
    let old = transfer(&chain, 0);
    let old_cid = chain.push(old.clone()).expect("taken");
    let premium = TokenAmount::from_atto(2_000);
    let other = Message { value: TokenAmount::from_atto(6), gas_premium: premium, ..old };
    chain.push(other).expect("taken");
    chain.advance(2);
    chain.node(|node| {
        let error = search(&node.chain, node.chain.head(), &old_cid, -1, true).expect_err("another call");
        assert!(error.to_string().contains("NOT a valid replacement"), "{error}");
    });
}

#[test]
fn searches_honour_their_limit_and_the_message_must_be_known() {
    let chain = Chain::new();
    let cid = chain.push(transfer(&chain, 0)).expect("taken");
    chain.advance(30);
    chain.node(|node| {
        let head = node.chain.head().clone();
        let found = |limit| search(&node.chain, &head, &cid, limit, false).expect("a search").is_some();
        assert!(found(-1) && found(100) && !found(5));
        let unknown = node.chain.head().cid;
        let error = search(&node.chain, &head, &unknown, -1, true).expect_err("unknown");
        assert!(error.to_string().contains("failed to load message"), "{error}");
    });
}

#[test]
fn signatures_are_checked_for_both_kinds_of_keys() {
    let chain = Chain::new();
    for from in [chain.worker(), chain.owner()] {
        let message = Message { from, ..transfer(&chain, 0) };
        let error = chain.node(|node| {
            let mut signed = node.wallet.sign_message(&from, message.clone()).expect("signs");
            signed.message.value = TokenAmount::from_atto(6);
            node.push(signed).expect_err("another message").to_string()
        });
        assert!(error.contains("signature"), "{error}");
        let error = chain.node(|node| {
            let mut signed = node.wallet.sign_message(&from, message.clone()).expect("signs");
            signed.signature.bytes[5] ^= 1;
            node.push(signed).expect_err("a bit flipped").to_string()
        });
        assert!(error.contains("signature"), "{error}");
        chain.push(message).expect("the true one is taken");
    }
    let by_id = chain.node(|node| {
        let key = node.miners[0].worker_key;
        let from = Address::new_id(node.miners[0].worker);
        let message = Message { from, sequence: 1, ..transfer_of(key) };
        let signed = node.wallet.sign_message(&key, message).expect("signs");
        node.push(signed).expect_err("from an ID").to_string()
    });
    assert!(by_id.contains("signature"), "{by_id}");
}

fn transfer_of(from: Address) -> Message {
    Message {
        version: 0,
        from,
        to: Address::new_id(MINER),
        sequence: 0,
        value: TokenAmount::default(),
        method_num: 0,
        params: RawBytes::default(),
        gas_limit: 10_000_000,
        gas_fee_cap: TokenAmount::from_atto(1_000),
        gas_premium: TokenAmount::from_atto(10),
    }
}

#[test]
fn sizes_fields_and_funds_are_checked() {
    let chain = Chain::new();
    let right = transfer(&chain, 0);
    let params = |length| RawBytes::new(vec![0; length]);
    refused(&chain, Message { params: params(64 << 10), ..right.clone() }, "message too big");
    refused(&chain, Message { value: TokenAmount::from_atto(-1), ..right.clone() }, "negative");
    refused(&chain, Message { gas_limit: 0, ..right.clone() }, "GasLimit");
    refused(&chain, Message { gas_limit: 10_000_000_001, ..right.clone() }, "GasLimit");
    refused(&chain, Message { version: 1, ..right.clone() }, "Version");
    let premium = TokenAmount::from_atto(2_000_000);
    refused(&chain, Message { gas_premium: premium, ..right.clone() }, "GasPremium");
    let (cap, premium) = (TokenAmount::from_atto(99), TokenAmount::from_atto(1));
    refused(&chain, Message { gas_fee_cap: cap, gas_premium: premium, ..right.clone() }, "gas fee cap too low");
    refused(&chain, Message { value: TokenAmount::from_whole(1_000_001), ..right.clone() }, "not enough funds");
    let most = TokenAmount::from_whole(600_000);
    chain.push(Message { value: most.clone(), ..right.clone() }).expect("taken");
    refused(&chain, Message { value: most, sequence: 1, ..right }, "not enough funds");
}

#[test]
fn too_little_gas_is_paid_and_fails() {
    let chain = Chain::new();
    let message = Message { gas_limit: 1_000, ..transfer(&chain, 0) };
    let cid = chain.push(message).expect("taken");
    chain.advance(2);
    let receipt = chain.search(&cid).expect("executed").receipt;
    assert_eq!((receipt.exit_code.value(), receipt.gas_used), (7, 1_000));
}

#[test]
fn stalled_blocks_are_empty_and_dropped_messages_forgotten() {
    let chain = Chain::new();
    chain.node(|node| node.inject(Fault::StallInclusion { on: true }));
    let cid = chain.push(transfer(&chain, 0)).expect("taken");
    chain.advance(5);
    assert!(chain.search(&cid).is_none());
    chain.node(|node| node.inject(Fault::StallInclusion { on: false }));
    chain.advance(2);
    assert!(chain.search(&cid).is_some());

    chain.node(|node| node.inject(Fault::DropPushed { count: 1 }));
    let lost = chain.push(transfer(&chain, 1)).expect("said to be taken");
    chain.advance(5);
    chain.node(|node| assert!(search(&node.chain, node.chain.head(), &lost, -1, false).is_err()));
    let again = chain.push(transfer(&chain, 1)).expect("taken");
    assert_eq!(again, lost);
    chain.advance(2);
    assert!(chain.search(&again).is_some());
}

#[test]
fn a_reorganisation_moves_or_forgets_the_messages_of_the_epochs_that_it_replaces() {
    for (messages, includes) in [(Reverted::Again, true), (Reverted::Later, true), (Reverted::Lost, false)] {
        let chain = Chain::new();
        let early = chain.push(transfer(&chain, 0)).expect("taken");
        chain.advance(6);
        let late = chain.push(transfer(&chain, 1)).expect("taken");
        chain.advance(3);
        let (height, before) = (chain.height(), chain.search(&late).expect("executed"));
        let key =
            |chain: &Chain, height| chain.node(|node| node.chain.at_height(height, node.chain.head()).unwrap().cid);
        let (kept, replaced, head) = (key(&chain, height - 5), key(&chain, height - 4), key(&chain, height));
        let weight = |chain: &Chain| chain.node(|node| node.chain.head().header.parent_weight);
        let weighed = weight(&chain);

        chain.node(|node| node.reorganise(5, messages)).expect("a fork");
        assert_eq!((chain.height(), key(&chain, height - 5)), (height, kept));
        assert_ne!(key(&chain, height - 4), replaced);
        assert!(weight(&chain) > weighed, "the fork is heavier");
        let path = chain.node(|node| node.chain.path(head, node.chain.head().cid)).expect("a path");
        assert_eq!(path.len(), 10, "five epochs are reverted and five applied");
        assert!(chain.search(&early).is_some(), "it is older than the fork");
        let counted = |chain: &Chain| chain.node(|node| node.stats.messages);
        assert_eq!(counted(&chain), if messages == Reverted::Again { 2 } else { 1 });

        chain.advance(2);
        let after = chain.search(&late).map(|found| found.tipset.height());
        assert_eq!(after.is_some(), includes);
        match messages {
            Reverted::Again => assert_eq!(after, Some(height - 3)),
            Reverted::Later => assert_eq!(after, Some(height + 2)),
            Reverted::Lost => {
                assert_eq!(chain.message(chain.worker(), 0, RawBytes::default(), TokenAmount::default()).sequence, 1)
            }
        }
        assert_ne!(after, Some(before.tipset.height()));
    }
}
