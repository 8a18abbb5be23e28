//! The power actor's CreateMiner.

use fvm_ipld_encoding::RawBytes;
use fvm_shared::address::Address;
use fvm_shared::econ::TokenAmount;
use fvm_shared::receipt::Receipt;
use fvm_shared::sector::RegisteredPoStProof;
use sealbus_integration_tests::devnet::execution::{CreateMinerParams, CreateMinerReturn};

use crate::chain::{Chain, encode, pre_commit_params};

fn create(chain: &Chain, params: &CreateMinerParams, value: TokenAmount) -> Receipt {
    let mut message = chain.message(chain.owner(), 2, encode(params), value);
    message.to = Address::new_id(4);
    let cid = chain.push(message).expect("taken");
    chain.advance(2);
    chain.search(&cid).expect("executed").receipt
}

fn params(chain: &Chain) -> CreateMinerParams {
    CreateMinerParams {
        owner: chain.owner(),
        worker: chain.worker(),
        window_post_proof_type: RegisteredPoStProof::StackedDRGWindow2KiBV1P1,
        peer: vec![],
        multiaddrs: vec![],
    }
}

fn deposit(chain: &Chain) -> TokenAmount {
    chain.node(|node| node.economics.create_miner_deposit(&node.policy, node.epoch()))
}

#[test]
fn a_miner_is_created_with_a_deposit_that_vests() {
    let chain = Chain::new();
    let (value, total) = (&deposit(&chain) * 2, chain.total());
    let receipt = create(&chain, &params(&chain), value.clone());
    assert_eq!(receipt.exit_code.value(), 0);
    let created: CreateMinerReturn = receipt.return_data.deserialize().expect("a return");
    assert_eq!(created.id_address, Address::new_id(1001));
    let (by_id, by_robust) = chain.node(|node| {
        let view = node.view(None).expect("a view");
        (view.miner(&created.id_address).expect("by ID"), view.miner(&created.robust_address).expect("by address"))
    });
    assert_eq!((by_id.id, by_robust.id), (1001, 1001));
    assert_eq!(by_id.actor.balance, value);
    assert_eq!(by_id.state.locked_funds, deposit(&chain));
    assert_eq!(chain.total(), total);
    let vested = |epochs| {
        chain.node(|node| by_id.state.check_vested_funds(&node.store, node.epoch() + epochs).expect("a table"))
    };
    assert_eq!(vested(0), TokenAmount::default());
    assert!(vested(90 * 2880).is_positive() && vested(90 * 2880) < deposit(&chain));
    assert_eq!(vested(182 * 2880), deposit(&chain));
    let mut message = chain.message(chain.worker(), 28, pre_commit_params(vec![chain.sector(7)]), chain.deposit());
    message.to = created.robust_address;
    let cid = chain.push(message).expect("taken");
    chain.advance(2);
    assert_eq!(chain.search(&cid).expect("executed").receipt.exit_code.value(), 0, "it can seal");
    let account = chain.node(|node| node.latest().expect("state").world.account_key(&created.id_address));
    assert_eq!(account, None, "a miner has no key");
}

#[test]
fn a_miner_is_not_created_from_wrong_parameters() {
    let chain = Chain::new();
    let right = params(&chain);
    let enough = deposit(&chain);
    let short = &enough - TokenAmount::from_atto(1);
    assert_eq!(create(&chain, &right, short).exit_code.value(), 19);
    let wrong = [
        ("owner unknown", CreateMinerParams { owner: Address::new_id(9_999), ..right.clone() }),
        ("worker with a secp256k1 key", CreateMinerParams { worker: chain.owner(), ..right.clone() }),
        (
            "sector size of another network",
            CreateMinerParams {
                window_post_proof_type: RegisteredPoStProof::StackedDRGWindow32GiBV1P1,
                ..right.clone()
            },
        ),
        ("peer ID too long", CreateMinerParams { peer: vec![1; 129], ..right.clone() }),
    ];
    for (name, params) in wrong {
        assert_eq!(create(&chain, &params, enough.clone()).exit_code.value(), 16, "{name}");
    }
    let miners = chain.node(|node| node.latest().expect("state").world.miners());
    assert_eq!(miners, [1000]);
    let mut message = chain.message(chain.owner(), 3, RawBytes::default(), TokenAmount::default());
    message.to = Address::new_id(4);
    let cid = chain.push(message).expect("taken");
    chain.advance(2);
    assert_eq!(chain.search(&cid).expect("executed").receipt.exit_code.value(), 22);
}
