//! The devnet's answers have the form of a real Lotus, and its wording where clients parse it.

use std::collections::BTreeMap;

use base64::Engine;
use fvm_ipld_encoding::RawBytes;
use fvm_shared::{econ::TokenAmount, message::Message};
use serde_json::{Value, json};

use super::{Rpc, STANDARD, encode, pre_commit_params, prove_params, sector};

/// The recorded results and errors of each method.
fn recorded() -> BTreeMap<String, Vec<Value>> {
    let mut all = BTreeMap::<String, Vec<Value>>::new();
    for line in include_str!("../../../manager/tests/lotus_rpc/recorded.jsonl").lines() {
        let mut line: Value = serde_json::from_str(line).expect("JSON");
        all.entry(line["method"].as_str().expect("a method").to_owned()).or_default().push(line["answer"].take());
    }
    all
}

/// Compares the form of two values: they must have the same keys with the same types. Null matches anything. An object
/// whose keys name network upgrades differs from network to network.
fn same_shape(ours: &Value, theirs: &Value, path: &str) -> Result<(), String> {
    match (ours, theirs) {
        (Value::Null, _) | (_, Value::Null) => Ok(()),
        (Value::Object(_), Value::Object(_)) if path.ends_with("ForkUpgradeParams") => Ok(()),
        (Value::Object(ours), Value::Object(theirs)) => {
            let (our_keys, their_keys): (Vec<_>, Vec<_>) = (ours.keys().collect(), theirs.keys().collect());
            if our_keys != their_keys {
                return Err(format!("{path}: {our_keys:?} instead of {their_keys:?}"));
            }
            ours.iter().try_for_each(|(key, value)| same_shape(value, &theirs[key], &format!("{path}/{key}")))
        }
        (Value::Array(ours), Value::Array(theirs)) => match (ours.first(), theirs.first()) {
            (Some(ours), Some(theirs)) => same_shape(ours, theirs, &format!("{path}/0")),
            _ => Ok(()),
        },
        (Value::String(_), Value::String(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::Bool(_), Value::Bool(_)) => Ok(()),
        _ => Err(format!("{path}: {ours} instead of {theirs}")),
    }
}

/// A text without what differs from chain to chain: numbers, CIDs and addresses.
fn words(text: &str) -> String {
    let word = |word: &str| {
        let bare: String = word.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        let is_name = bare.starts_with("bafy") || bare.starts_with("Fbafy") || bare.len() > 40;
        if is_name { "#".to_owned() } else { word.chars().filter(|c| !c.is_ascii_digit()).collect() }
    };
    text.split_whitespace().map(word).collect::<Vec<_>>().join(" ").replace("..", ".")
}

fn matches_one(method: &str, ours: &Value, recorded: &BTreeMap<String, Vec<Value>>) {
    let theirs = recorded.get(method).unwrap_or_else(|| panic!("nothing recorded of {method}"));
    let of_kind = theirs.iter().filter(|answer| answer.get("error").is_some() == ours.get("error").is_some());
    let tried: Vec<_> = of_kind.map(|answer| same_shape(ours, answer, method)).collect();
    assert!(tried.iter().any(Result::is_ok), "{method}: {ours}: {tried:?}");
}

fn says_one(method: &str, ours: &Value, part: &str, recorded: &BTreeMap<String, Vec<Value>>) {
    matches_one(method, ours, recorded);
    let text = |answer: &Value| answer.pointer("/error/message").and_then(Value::as_str).map(words);
    let all: Vec<_> = recorded[method].iter().filter_map(text).filter(|text| text.contains(part)).collect();
    let ours = text(ours).unwrap_or_else(|| panic!("{method}: an error"));
    assert!(all.contains(&ours), "{method}: `{ours}` is none of {all:?}");
}

impl Rpc {
    async fn whole(&self, method: &str, params: Value) -> Value {
        self.answer(&self.devnet.tokens().admin, &format!("Filecoin.{method}"), params).await
    }
}

#[tokio::test]
async fn results_have_the_shapes_of_the_recording() {
    let recorded = recorded();
    let rpc = Rpc::new().await;
    rpc.call("Devnet.Advance", json!([20])).await;
    let info = sector(20);
    let asked = json!({
        "SealProof": 5, "SectorNumber": 3, "SealedCID": {"/": info.sealed_cid.to_string()},
        "SealRandEpoch": info.seal_rand_epoch, "DealIDs": [], "Expiration": info.expiration, "UnsealedCid": null,
    });
    let worker = rpc.call("Filecoin.StateMinerInfo", json!(["t01000", null])).await["Worker"].clone();
    let key = rpc.call("Filecoin.StateAccountKey", json!([worker, []])).await;
    let deposit = rpc.call("Filecoin.StateMinerPreCommitDepositForPower", json!(["t01000", asked, null])).await;
    let cid = rpc.send(28, pre_commit_params(vec![info.clone()]), deposit.as_str().expect("a string")).await;
    rpc.call("Devnet.Advance", json!([2])).await;
    let calls = [
        ("StateNetworkName", json!([])),
        ("StateNetworkVersion", json!([[]])),
        ("ChainHead", json!([])),
        ("StateMinerInfo", json!(["t01000", []])),
        ("StateAccountKey", json!([worker, []])),
        ("WalletHas", json!([key])),
        ("StateGetNetworkParams", json!([])),
        ("ChainGetTipSetByHeight", json!([16, []])),
        ("StateMinerAllocated", json!(["t01000", []])),
        ("StateGetRandomnessFromTickets", json!([5, -880, "QwDoBw==", []])),
        ("StateGetRandomnessFromBeacon", json!([6, 20, "QwDoBw==", []])),
        ("StateSectorPreCommitInfo", json!(["t01000", 3, []])),
        ("StateMinerPreCommitDepositForPower", json!(["t01000", asked, []])),
        ("StateMinerInitialPledgeForSector", json!([600_000, 2048, 0, []])),
        ("MpoolGetNonce", json!([key])),
        ("StateGetActor", json!([key, []])),
        ("StateSearchMsg", json!([[], cid, -1, true])),
    ];
    for (method, params) in calls {
        matches_one(method, &rpc.whole(method, params).await, &recorded);
    }
    // The sector itself, and the messages that created it.
    rpc.call("Devnet.Advance", json!([20])).await;
    rpc.send(34, encode(&prove_params(&[(3, b"right")], true)), "1000000000000000000").await;
    rpc.call("Devnet.Advance", json!([2])).await;
    matches_one("StateSectorGetInfo", &rpc.whole("StateSectorGetInfo", json!(["t01000", 3, []])).await, &recorded);
    let message = rpc.message_of(&key, 0, None, "1").await;
    let spec = json!({"MaxFee": "0", "MsgUuid": "00000000-0000-0000-0000-000000000000", "MaximizeFeeCap": false});
    let estimated = rpc.whole("GasEstimateMessageGas", json!([message, spec, []])).await;
    matches_one("GasEstimateMessageGas", &estimated, &recorded);
    let signed = rpc.whole("WalletSignMessage", json!([key, estimated["result"]])).await;
    matches_one("WalletSignMessage", &signed, &recorded);
    matches_one("MpoolPush", &rpc.whole("MpoolPush", json!([signed["result"]])).await, &recorded);
}

impl Rpc {
    async fn message_of(&self, key: &Value, method: u64, params: Option<&str>, value: &str) -> Value {
        let nonce = self.call("Filecoin.MpoolGetNonce", json!([key])).await;
        json!({
            "Version": 0, "To": "t01000", "From": key, "Nonce": nonce, "Value": value, "GasLimit": 0,
            "GasFeeCap": "0", "GasPremium": "0", "Method": method, "Params": params,
        })
    }
}

#[tokio::test]
async fn refusals_have_the_words_of_the_recording() {
    let recorded = recorded();
    let rpc = Rpc::new().await;
    rpc.call("Devnet.Advance", json!([20])).await;
    for (address, part) in [("t01999", "failed to load miner actor:"), ("t0100", "actor code is not miner")] {
        let answer = rpc.whole("StateMinerInfo", json!([address, []])).await;
        says_one("StateMinerInfo", &answer, part, &recorded);
    }
    let key = rpc.devnet.with_node(|node| node.miners[0].worker_key);
    let push = |nonce: u64, premium: u64, cap: u64, value: TokenAmount| {
        let message = Message {
            version: 0,
            from: key,
            to: key,
            sequence: nonce,
            value,
            method_num: 0,
            params: RawBytes::default(),
            gas_limit: 1_000_000,
            gas_fee_cap: TokenAmount::from_atto(cap),
            gas_premium: TokenAmount::from_atto(premium),
        };
        rpc.devnet.with_node(|node| {
            let signed = node.wallet.sign_message(&key, message).expect("signs");
            let json = json!({
                "Message": sealbus_manager::chain::message::to_json(&signed.message, fvm_shared::address::Network::Testnet),
                "Signature": {"Type": 2, "Data": STANDARD.encode(signed.signature.bytes())},
            });
            (json!([json]), signed.cid().expect("a CID").to_string())
        })
    };
    let nothing = TokenAmount::default;
    let pushed = async |(params, _): (Value, String)| rpc.whole("MpoolPush", params).await;
    let (first, lost) = push(0, 1_000, 100_000, nothing());
    rpc.whole("MpoolPush", first.clone()).await;
    says_one("MpoolPush", &rpc.whole("MpoolPush", first.clone()).await, "already exists", &recorded);
    says_one("MpoolPush", &pushed(push(0, 1_001, 100_000, nothing())).await, "increase GasPremium", &recorded);
    says_one("MpoolPush", &pushed(push(1, 1, 58, nothing())).await, "gas fee cap too low", &recorded);
    let too_much = TokenAmount::from_whole(1_500_000_000);
    says_one("MpoolPush", &pushed(push(1, 1, 1_000, too_much)).await, "not enough funds", &recorded);
    let denied = rpc.answer(&rpc.devnet.tokens().read, "Filecoin.MpoolPush", first.clone()).await;
    says_one("MpoolPush", &denied, "missing permission", &recorded);

    // Another message takes the nonce.
    pushed(push(0, 2_000, 200_000, TokenAmount::from_atto(1))).await;
    rpc.call("Devnet.Advance", json!([2])).await;
    says_one("MpoolPush", &rpc.whole("MpoolPush", first).await, "nonce too low", &recorded);
    let searched = rpc.whole("StateSearchMsg", json!([[], {"/": lost}, -1, true])).await;
    says_one("StateSearchMsg", &searched, "message was replaced", &recorded);
}

#[tokio::test]
async fn an_aborted_estimate_has_its_cause_where_lotus_has_it() {
    let recorded = recorded();
    let rpc = Rpc::new().await;
    rpc.call("Devnet.Advance", json!([20])).await;
    let spec = json!({"MaxFee": "0", "MsgUuid": "00000000-0000-0000-0000-000000000000", "MaximizeFeeCap": false});
    let key = rpc.devnet.with_node(|node| node.miners[0].worker_key);
    let key = json!(sealbus_manager::chain::json::address_text(&key, fvm_shared::address::Network::Testnet));
    let far = pre_commit_params(vec![fil_actor_miner_state::v19::SectorPreCommitInfo {
        expiration: 20 + 4_000_000,
        ..sector(20)
    }]);
    let far = STANDARD.encode(far.bytes());
    for (method, params, value, code) in
        [(28, Some(far.as_str()), "0", 16), (0, None, "9000000000000000000000000000", 6)]
    {
        let message = rpc.message_of(&key, method, params, value).await;
        let answer = rpc.whole("GasEstimateMessageGas", json!([message, spec, []])).await;
        matches_one("GasEstimateMessageGas", &answer, &recorded);
        let text = answer["error"]["message"].as_str().expect("an error");
        assert!(text.starts_with("message execution failed (exit=["), "{text}");
        assert!(text.ends_with(&format!("\n (RetCode={code})])")), "{text}");
        assert_eq!((&answer["error"]["code"], &answer["error"]["data"]), (&json!(3), &json!("0x")));
    }
    let stranger = json!("t3ux44hwk4cmyhgd2x6aon4xtyqfmncgotctifptw4ovldud7pv62n3k7fxvuimglelbbwhyirwwv7yvudi3wa");
    let message = json!({
        "Version": 0, "To": "t01000", "From": stranger, "Nonce": 0, "Value": "0", "GasLimit": 0,
        "GasFeeCap": "0", "GasPremium": "0", "Method": 0, "Params": null,
    });
    let answer = rpc.whole("GasEstimateMessageGas", json!([message, spec, []])).await;
    says_one("GasEstimateMessageGas", &answer, "not found on chain", &recorded);
}
