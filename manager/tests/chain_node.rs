//! The node client's typed methods over a scripted transport: what is sent, and how answers are decoded.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Mutex;

use fvm_shared::address::{Address, Network};
use fvm_shared::econ::TokenAmount;
use sealbus_manager::chain::exit::ExitCode;
use sealbus_manager::chain::fees::Gas;
use sealbus_manager::chain::message::{self, Message, SignedMessage};
use sealbus_manager::chain::node::SignError;
use sealbus_manager::chain::params::{ProveCommitSectors3Params, SectorActivationManifest, SectorPreCommitInfo};
use sealbus_manager::chain::randomness::Domain;
use sealbus_manager::chain::sector_set::SectorSet;
use sealbus_manager::chain::types::TipSetKey;
use sealbus_manager::chain::{Error, NodeClient, Transport, commitment};
use serde_json::{Value, json};

#[path = "forest_rpc/contract.rs"]
mod forest;

const CID: &str = "bafy2bzacebbpdegvr3i4cosewthysg5xkxpqfn2wfcz6mv2hmoktwbdxkax4s";

type Script = Box<dyn Fn(&'static str, &Value) -> Result<Value, Error> + Send + Sync>;

/// A fake node that answers by a closure and records its calls.
struct Double {
    script: Script,
    calls: Mutex<Vec<(&'static str, Value)>>,
}

impl Transport for Double {
    async fn call(&self, method: &'static str, params: Value) -> Result<Value, Error> {
        self.calls.lock().unwrap().push((method, params.clone()));
        if method == "ChainHead" { Ok(tipset(100)) } else { (self.script)(method, &params) }
    }
}

fn node(script: impl Fn(&'static str, &Value) -> Result<Value, Error> + Send + Sync + 'static) -> NodeClient<Double> {
    NodeClient::new(Double { script: Box::new(script), calls: Mutex::default() })
}

fn last_params(node: &NodeClient<Double>) -> Value {
    node.transport().calls.lock().unwrap().last().unwrap().1.clone()
}

fn tipset(height: i64) -> Value {
    json!({
        "Cids": [{"/": CID}], "Height": height,
        "Blocks": [{"Miner": "t01000", "Parents": null, "Timestamp": 1_700_000_000, "ParentBaseFee": "100", "Ticket": {"VRFProof": "AA=="}}],
    })
}

fn miner() -> Address {
    Address::new_id(1000)
}

fn key() -> (bls_signatures::PrivateKey, Address) {
    use bls_signatures::Serialize;
    let key = bls_signatures::PrivateKey::new([3; 32]);
    let address = Address::new_bls(&key.public_key().as_bytes()).unwrap();
    (key, address)
}

fn prove_message() -> Message {
    let params = ProveCommitSectors3Params::single(SectorActivationManifest::committed_capacity(7), vec![1; 192]);
    message::prove_commit(key().1, miner(), &params, TokenAmount::default()).unwrap()
}

fn signed() -> SignedMessage {
    use bls_signatures::Serialize;
    let message = prove_message();
    let signature = key().0.sign(message::signing_bytes(&message).unwrap()).as_bytes();
    SignedMessage::new(message, fvm_shared::crypto::signature::Signature::new_bls(signature)).unwrap()
}

#[tokio::test]
async fn addresses_are_sent_with_the_nodes_prefix_which_is_asked_once() {
    let node = node(|_, _| Ok(json!("-5")));
    for _ in 0..3 {
        let balance = node.available_balance(&miner(), &TipSetKey::head()).await.unwrap();
        assert_eq!(balance, TokenAmount::from_atto(-5));
    }
    assert_eq!(last_params(&node), json!(["t01000", []]));
    let heads = node.transport().calls.lock().unwrap().iter().filter(|(method, _)| *method == "ChainHead").count();
    assert_eq!((heads, node.network().await.unwrap()), (1, Network::Testnet));
}

#[tokio::test]
async fn a_lagged_tipset_is_asked_for_on_the_chain_of_the_head() {
    let node = node(|_, params| Ok(tipset(params[0].as_i64().unwrap() - 1)));
    let head = node.chain_head().await.unwrap();
    assert_eq!(node.lagged_tipset(&head, 5).await.unwrap().height, 94);
    assert_eq!(last_params(&node), json!([95, [{"/": CID}]]));
    node.lagged_tipset(&head, 900).await.unwrap();
    assert_eq!(last_params(&node)[0], 0);
}

#[tokio::test]
async fn a_tipset_after_the_one_asked_for_is_a_bad_answer() {
    let node = node(|_, _| Ok(tipset(96)));
    let head = node.chain_head().await.unwrap();
    assert!(matches!(node.lagged_tipset(&head, 5).await, Err(Error::BadAnswer { .. })));
}

#[tokio::test]
async fn sectors_that_are_not_there_are_none() {
    let node = node(|_, _| Ok(Value::Null));
    let head = TipSetKey::head();
    assert_eq!(node.sector_info(&miner(), 7, &head).await.unwrap(), None);
    assert_eq!(node.sector_pre_commit_info(&miner(), 7, &head).await.unwrap(), None);
    assert_eq!(last_params(&node), json!(["t01000", 7, []]));
    assert!(node.allocated(&miner(), &head).await.unwrap().is_empty());
    assert!(matches!(node.sector_partition(&miner(), 7, &head).await, Err(Error::BadAnswer { .. })));
}

#[tokio::test]
async fn the_answer_for_another_sector_is_not_taken() {
    let node = node(|_, _| {
        Ok(
            json!({"SectorNumber": 8, "SealProof": 5, "SealedCID": {"/": CID}, "Activation": 1, "Expiration": 2, "InitialPledge": "3"}),
        )
    });
    assert!(node.sector_info(&miner(), 8, &TipSetKey::head()).await.unwrap().is_some());
    assert!(matches!(node.sector_info(&miner(), 7, &TipSetKey::head()).await, Err(Error::BadAnswer { .. })));
}

#[tokio::test]
async fn an_address_without_actor_is_none_and_other_refusals_stay() {
    let absent = node(|method, _| Err(Error::refused(method, 11, "actor not found")));
    assert_eq!(absent.get_actor(&miner(), &TipSetKey::head()).await.unwrap(), None);
    let refusing = node(|method, _| Err(Error::refused(method, 1, "tipset not found")));
    assert!(matches!(refusing.get_actor(&miner(), &TipSetKey::head()).await, Err(Error::Refused { .. })));
}

#[tokio::test]
async fn the_deposit_is_asked_for_with_the_sectors_json() {
    let node = node(|_, _| Ok(json!("110")));
    let sector = SectorPreCommitInfo {
        seal_proof: 5.into(),
        sector_number: 7,
        sealed_cid: commitment::sealed_cid(&[1; 32]).unwrap(),
        seal_rand_epoch: -800,
        deal_ids: vec![],
        expiration: 700_000,
        unsealed_cid: None,
    };
    let deposit = node.pre_commit_deposit_for_power(&miner(), &sector, &TipSetKey::head()).await.unwrap();
    assert_eq!(deposit, TokenAmount::from_atto(110));
    assert_eq!(last_params(&node)[1]["SealRandEpoch"], -800);
    let pledge = node.initial_pledge_for_sector(600_000, 2048, 2048, &TipSetKey::head()).await.unwrap();
    assert_eq!((pledge, last_params(&node)), (TokenAmount::from_atto(110), json!([600_000, 2048, 2048, []])));
}

#[tokio::test]
async fn randomness_is_drawn_with_the_miners_entropy() {
    let node = node(|_, _| Ok(json!("3MCqcLHKZ+pil4MqTS9wjsd+yPvTuTrq8PkGjEo3tYQ=")));
    let drawn = node.randomness_from_tickets(Domain::SealRandomness, 123, 1000, &TipSetKey::head()).await.unwrap();
    assert_eq!(drawn[0], 0xdc);
    // 4300e807 in base64.
    assert_eq!(last_params(&node), json!([5, 123, "QwDoBw==", []]));
}

#[tokio::test]
async fn randomness_of_another_length_is_a_bad_answer() {
    let node = node(|_, _| Ok(json!("AAAA")));
    let drawn = node.randomness_from_beacon(Domain::InteractiveSealChallengeSeed, 1, 1000, &TipSetKey::head()).await;
    assert!(matches!(drawn, Err(Error::BadAnswer { .. })));
}

#[tokio::test]
async fn an_estimate_is_its_gas_and_an_abort_its_exit_code() {
    let estimating = node(|_, params| {
        let mut message = params[0].clone();
        message["GasLimit"] = json!(1000);
        message["GasFeeCap"] = json!("300");
        message["GasPremium"] = json!("200");
        Ok(message)
    });
    let gas = estimating.gas_estimate(&prove_message(), &TipSetKey::head()).await.unwrap();
    assert_eq!(gas, Gas { limit: 1000, fee_cap: TokenAmount::from_atto(300), premium: TokenAmount::from_atto(200) });
    // Given a limit, a real node lowers the fee cap to it without saying so.
    assert_eq!(last_params(&estimating)[1]["MaxFee"], json!("2000000000000000000000000000"));

    let aborting = node(|method, _| {
        Err(Error::refused(
            method,
            3,
            "message execution failed: exit ErrForbidden(18), reason: too early (RetCode=18)",
        ))
    });
    let error = aborting.gas_estimate(&prove_message(), &TipSetKey::head()).await.unwrap_err();
    assert_eq!(error.exit_code(), Some(ExitCode::Forbidden));
}

#[tokio::test]
async fn a_message_that_is_in_the_pool_already_counts_as_pushed() {
    let ours = signed().cid().unwrap();
    let fresh = node(move |_, _| Ok(json!({"/": ours.to_string()})));
    assert_eq!(fresh.mpool_push(&signed()).await.unwrap(), ours);
    assert!(last_params(&fresh)[0]["Message"]["From"].as_str().unwrap().starts_with("t3"));
    assert_eq!(last_params(&fresh)[0]["Signature"]["Type"], 2);

    let again =
        node(|method, _| Err(Error::refused(method, 1, "message from t3x with nonce 0 already in mpool: exists")));
    assert_eq!(again.mpool_push(&signed()).await.unwrap(), ours);

    let confused = node(|_, _| Ok(json!({"/": CID})));
    assert!(confused.mpool_push(&signed()).await.unwrap_err().outcome_unknown());
}

#[tokio::test]
async fn what_the_wallet_signed_is_checked() {
    let honest = node(|_, _| Ok(signed().to_json(Network::Testnet)));
    assert_eq!(honest.wallet_sign_message(&prove_message()).await.unwrap(), signed());
    let mut other = prove_message();
    other.sequence = 9;
    assert!(matches!(
        honest.wallet_sign_message(&other).await,
        Err(SignError::Answer(message::Error::OtherMessage { .. }))
    ));
    let without_key = node(|method, _| Err(Error::refused(method, 1, "key not found")));
    assert!(matches!(
        without_key.wallet_sign_message(&prove_message()).await,
        Err(SignError::Node(Error::Refused { .. }))
    ));
}

#[tokio::test]
async fn a_landing_above_the_lagged_head_is_not_seen_yet() {
    let node = node(|_, _| {
        Ok(
            json!({"Message": {"/": CID}, "Receipt": {"ExitCode": 0, "Return": "ggEA", "GasUsed": 1}, "TipSet": [{"/": CID}], "Height": 95}),
        )
    });
    let cid = message::parse_cid(CID).unwrap();
    assert!(node.search_msg(&TipSetKey::head(), 94, &cid, None, true).await.unwrap().is_none());
    let lookup = node.search_msg(&TipSetKey::head(), 95, &cid, Some(25), true).await.unwrap().unwrap();
    assert_eq!((lookup.receipt.exit_code, lookup.receipt.return_bytes), (ExitCode::Ok, vec![0x82, 0x01, 0x00]));
    assert_eq!(last_params(&node), json!([[], {"/": CID}, 25, true]));
}

#[tokio::test]
async fn keys_and_ids_are_resolved() {
    let text = message::to_json(&prove_message(), Network::Testnet)["From"].clone();
    let node = node(move |method, _| Ok(if method == "StateAccountKey" { text.clone() } else { json!("t01001") }));
    assert_eq!(node.account_key(&miner(), &TipSetKey::head()).await.unwrap(), key().1);
    assert_eq!(node.lookup_id(&key().1, &TipSetKey::head()).await.unwrap(), Address::new_id(1001));
}

#[tokio::test]
async fn a_nonce_that_another_message_holds_is_not_pushed() {
    let dearer = node(|method, _| {
        let words =
            "message from t3x with nonce 0 already in mpool, increase GasPremium to 9 from 5 to trigger replace by fee";
        Err(Error::refused(method, 1, words))
    });
    let error = dearer.mpool_push(&signed()).await.unwrap_err();
    assert!(error.is_nonce_taken_by_another() && !error.outcome_unknown());
}

#[tokio::test]
async fn a_node_that_does_not_say_whose_message_it_has_is_asked() {
    let forest = |pending: Value| {
        node(move |method, _| match method {
            "MpoolPending" => Ok(pending.clone()),
            _ => Err(Error::refused(method, -32603, "Message with sequence already in mempool")),
        })
    };
    let mut other = signed().to_json(Network::Testnet);
    other["Message"]["Nonce"] = json!(1);
    let ours = signed().to_json(Network::Testnet);
    let unreadable = json!({"Message": {}, "Signature": {"Type": 3, "Data": null}});
    let same = forest(json!([unreadable, other, ours]));
    assert_eq!(same.mpool_push(&signed()).await.unwrap(), signed().cid().unwrap());
    for pending in [json!([other]), Value::Null] {
        let error = forest(pending).mpool_push(&signed()).await.unwrap_err();
        assert!(error.is_nonce_in_mempool() && error.outcome_unknown());
    }
}

#[tokio::test]
async fn a_deadline_without_partitions_has_none_and_sectors_of_no_number_are_not_asked_for() {
    let node = node(|_, _| Ok(Value::Null));
    assert_eq!(node.miner_partitions(&miner(), 3, &TipSetKey::head()).await.unwrap(), []);
    assert_eq!(last_params(&node), json!(["t01000", 3, []]));
    assert_eq!(node.miner_sectors(&miner(), &SectorSet::from_numbers([4, 5]), &TipSetKey::head()).await.unwrap(), []);
    assert_eq!(last_params(&node), json!(["t01000", [4, 2], []]));
    // An empty set would mean all sectors to some nodes.
    node.miner_sectors(&miner(), &SectorSet::default(), &TipSetKey::head()).await.unwrap();
    assert_eq!(last_params(&node), json!(["t01000", [4, 2], []]), "no further call");
}

#[tokio::test]
async fn a_partition_is_read_from_run_lengths() {
    let sets = json!([{
        "AllSectors": [0, 6], "FaultySectors": [1, 1], "RecoveringSectors": null, "LiveSectors": [0, 5],
        "ActiveSectors": [0, 1, 1, 2],
    }]);
    let node = node(move |_, _| Ok(sets.clone()));
    let partitions = node.miner_partitions(&miner(), 0, &TipSetKey::head()).await.unwrap();
    assert_eq!(partitions[0].active_sectors.iter().collect::<Vec<_>>(), [0, 2, 3]);
    assert!(partitions[0].faulty_sectors.contains(1) && partitions[0].recovering_sectors.is_empty());
}

#[tokio::test]
async fn a_miners_funds_come_from_its_state_and_another_actor_has_none() {
    let node = node(|method, params| match (method, params[0].as_str()) {
        // [[100, 5]] in CBOR.
        ("ChainReadObj", _) => Ok(json!("gYIYZEIABQ==")),
        (_, Some("t01000")) => Ok(json!({
            "Balance": "100", "Code": {"/": CID},
            "State": {
                "PreCommitDeposits": "1", "InitialPledge": "20", "LockedFunds": "30", "FeeDebt": "4",
                "EarlyTerminations": [2, 1], "VestingFunds": {"Head": {"Epoch": 7, "Amount": "3"}, "Tail": {"/": CID}},
            },
        })),
        _ => Ok(json!({ "Balance": "100", "Code": {"/": CID}, "State": {"Address": "t01"} })),
    });
    let funds = node.miner_funds(&miner(), &TipSetKey::head()).await.unwrap();
    let atto =
        [&funds.balance, &funds.pre_commit_deposits, &funds.initial_pledge, &funds.locked_funds, &funds.fee_debt];
    assert_eq!(atto.map(ToString::to_string), [100, 1, 20, 30, 4].map(|n| TokenAmount::from_atto(n).to_string()));
    assert!(funds.early_terminations.contains(2));
    let vesting = node.vesting(&funds).await.unwrap();
    assert_eq!(vesting, [(7, TokenAmount::from_atto(3)), (100, TokenAmount::from_atto(5))]);
    assert_eq!(last_params(&node), json!([{"/": CID}]));
    let other = node.miner_funds(&Address::new_id(5), &TipSetKey::head()).await;
    assert!(matches!(other, Err(Error::BadAnswer { .. })), "{other:?}");
}

#[tokio::test]
async fn a_trial_has_its_receipt_and_what_could_not_be_executed_is_a_refusal() {
    let node = node(|_, params| {
        let receipt = match params[0]["Method"].as_u64() {
            Some(34) => json!({ "ExitCode": 16, "Return": null, "GasUsed": 7, "EventsRoot": null }),
            _ => Value::Null,
        };
        Ok(json!({ "MsgRct": receipt, "Error": "bad proof (RetCode=16)", "Duration": 1 }))
    });
    let trial = node.try_message(&prove_message(), &TipSetKey::head()).await.unwrap();
    assert_eq!((trial.receipt.exit_code, trial.receipt.gas_used), (ExitCode::IllegalArgument, 7));
    assert!(trial.said.contains("bad proof"));
    let refused = node.try_message(&message::nonce_filler(key().1).unwrap(), &TipSetKey::head()).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
}
