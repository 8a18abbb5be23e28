//! The devnet over HTTP: tokens, errors, Lotus' JSON, and the life of a sector as a manager drives it.

#[path = "devnet_rpc/blocks.rs"]
mod blocks;
#[path = "devnet_support/chain.rs"]
mod chain;
#[path = "devnet_rpc/contract.rs"]
mod contract;
#[path = "devnet_rpc/messages.rs"]
mod messages;
#[path = "devnet_rpc/notify.rs"]
mod notify;
#[path = "devnet_rpc/state.rs"]
mod state;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chain::{ScriptedVerifier, encode, pre_commit_params, prove_params};
use fil_actor_miner_state::v19::{CompactCommD, SectorPreCommitInfo};
use fvm_ipld_encoding::RawBytes;
use fvm_shared::commcid::replica_commitment_v1_to_cid;
use sealbus_integration_tests::devnet::{Config, Devnet, Server};
use serde_json::{Value, json};

struct Rpc {
    _server: Server,
    devnet: Devnet,
    client: reqwest::Client,
    url: String,
}

impl Rpc {
    async fn new() -> Self {
        Self::with(Config::default()).await
    }

    async fn with(config: Config) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let devnet = Devnet::new(config, Arc::new(ScriptedVerifier::default())).expect("a devnet");
        let server = Server::start(&devnet, "127.0.0.1:0".parse().expect("an address")).await.expect("starts");
        Self { devnet, url: server.url(), _server: server, client: reqwest::Client::new() }
    }

    async fn post(&self, token: Option<&str>, body: impl Into<reqwest::Body>) -> (u16, String) {
        let mut request = self.client.post(&self.url).body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.expect("an answer");
        (response.status().as_u16(), response.text().await.expect("a body"))
    }

    async fn answer(&self, token: &str, method: &str, params: Value) -> Value {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
        let (_, text) = self.post(Some(token), body).await;
        serde_json::from_str(&text).expect("JSON")
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        let answer = self.answer(&self.devnet.tokens().admin, method, params).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    async fn error(&self, method: &str, params: Value) -> (i64, String) {
        let answer = self.answer(&self.devnet.tokens().admin, method, params).await;
        let error = answer.get("error").unwrap_or_else(|| panic!("{method}: {answer}"));
        (error["code"].as_i64().expect("a code"), error["message"].as_str().expect("a text").to_owned())
    }

    /// Estimates, signs and pushes a message as a manager does. Returns its CID.
    async fn send(&self, method: u64, params: RawBytes, value: &str) -> Value {
        let worker = self.call("Filecoin.StateMinerInfo", json!(["f01000", null])).await["Worker"].clone();
        let key = self.call("Filecoin.StateAccountKey", json!([worker, []])).await;
        let nonce = self.call("Filecoin.MpoolGetNonce", json!([key])).await;
        let message = json!({
            "Version": 0, "To": "t01000", "From": key, "Nonce": nonce, "Value": value,
            "GasLimit": 0, "GasFeeCap": "0", "GasPremium": "0",
            "Method": method, "Params": STANDARD.encode(params.bytes()),
        });
        let spec = json!({"MaxFee": "0"});
        let message = self.call("Filecoin.GasEstimateMessageGas", json!([message, spec, null])).await;
        let signed = self.call("Filecoin.WalletSignMessage", json!([key, message])).await;
        let cid = self.call("Filecoin.MpoolPush", json!([signed])).await;
        assert_eq!(cid, signed["CID"]);
        let (code, text) = self.error("Filecoin.MpoolPush", json!([signed])).await;
        assert!(code == 1 && text.contains("already in mpool"), "{text}");
        cid
    }
}

fn sector(head: i64) -> SectorPreCommitInfo {
    SectorPreCommitInfo {
        seal_proof: chain::PROOF,
        sector_number: 3,
        sealed_cid: replica_commitment_v1_to_cid(&[7; 32]).expect("a commitment"),
        seal_rand_epoch: head - 900,
        deal_ids: vec![],
        expiration: head + 700_000,
        unsealed_cid: CompactCommD::empty(),
    }
}

#[tokio::test]
async fn a_sectors_life_as_a_manager_drives_it() {
    let rpc = Rpc::new().await;
    assert_eq!(rpc.call("Devnet.Advance", json!([5])).await, json!(5));
    let info = sector(5);
    let asked = json!({
        "SealProof": 5, "SectorNumber": 3, "SealedCID": {"/": info.sealed_cid.to_string()},
        "SealRandEpoch": info.seal_rand_epoch, "DealIDs": null, "Expiration": info.expiration, "UnsealedCid": null,
    });
    let deposit = rpc.call("Filecoin.StateMinerPreCommitDepositForPower", json!(["t01000", asked, null])).await;
    assert_eq!(rpc.call("Filecoin.StateSectorPreCommitInfo", json!(["t01000", 3, null])).await, Value::Null);
    let cid = rpc.send(28, pre_commit_params(vec![info]), deposit.as_str().expect("a string")).await;
    let lookup = json!([null, cid, -1, true]);
    assert_eq!(rpc.call("Filecoin.StateSearchMsg", lookup.clone()).await, Value::Null);
    rpc.call("Devnet.Advance", json!([2])).await;
    let found = rpc.call("Filecoin.StateSearchMsg", lookup).await;
    assert_eq!((&found["Height"], &found["Receipt"]["ExitCode"]), (&json!(7), &json!(0)));
    assert_eq!(found["Receipt"]["Return"], Value::Null);
    let pre_commit = rpc.call("Filecoin.StateSectorPreCommitInfo", json!(["t01000", 3, []])).await;
    assert_eq!(pre_commit["PreCommitEpoch"], json!(6));
    assert_eq!((&pre_commit["Info"]["DealIDs"], &pre_commit["Info"]["UnsealedCid"]), (&Value::Null, &Value::Null));
    assert_eq!(rpc.call("Filecoin.StateMinerSectorAllocated", json!(["t01000", 3, null])).await, json!(true));
    assert_eq!(rpc.call("Filecoin.StateMinerAllocated", json!(["t01000", null])).await, json!([3, 1]));

    let (code, text) = rpc.error("Filecoin.StateGetRandomnessFromBeacon", json!([6, 16, "QwDoBw==", null])).await;
    assert!(code == 1 && text == "cannot draw randomness from the future", "{text}");
    rpc.call("Devnet.Advance", json!([10])).await;
    let seed = rpc.call("Filecoin.StateGetRandomnessFromBeacon", json!([6, 16, "QwDoBw==", null])).await;
    assert_eq!(STANDARD.decode(seed.as_str().expect("a string")).expect("base64").len(), 32);

    let pledge = rpc.call("Filecoin.StateMinerInitialPledgeForSector", json!([700_000, 2048, 2048, null])).await;
    let cid = rpc.send(34, encode(&prove_params(&[(3, b"right")], true)), pledge.as_str().expect("a string")).await;
    rpc.call("Devnet.Advance", json!([2])).await;
    let found = rpc.call("Filecoin.StateSearchMsg", json!([null, cid, 100, false])).await;
    assert_eq!(found["Receipt"]["Return"], json!("ggGA"));
    let active = rpc.call("Filecoin.StateSectorGetInfo", json!(["t01000", 3, null])).await;
    assert_eq!(
        (&active["SectorNumber"], &active["Flags"], &active["SectorKeyCID"]),
        (&json!(3), &json!(2), &Value::Null)
    );
    assert_eq!(rpc.call("Filecoin.StateSectorPreCommitInfo", json!(["t01000", 3, null])).await, Value::Null);
    let place = rpc.call("Filecoin.StateSectorPartition", json!(["t01000", 3, null])).await;
    let partitions = rpc.call("Filecoin.StateMinerPartitions", json!(["t01000", place["Deadline"], null])).await;
    assert_eq!((&partitions[0]["AllSectors"], &partitions[0]["ActiveSectors"]), (&json!([3, 1]), &json!([0])));
    let expiration = rpc.call("Filecoin.StateSectorExpiration", json!(["t01000", 3, null])).await;
    assert!(expiration["OnTime"].as_i64() >= active["Expiration"].as_i64() && expiration["Early"] == json!(0));
    let stats = rpc.call("Devnet.Stats", json!([])).await;
    assert_eq!(stats["miners"]["1000"]["sectors"]["3"], json!({"pre_commits": 1, "prove_commits": 1}));
}

#[tokio::test]
async fn gas_estimation_reports_what_the_actor_would() {
    let rpc = Rpc::new().await;
    rpc.call("Devnet.Advance", json!([5])).await;
    let worker = rpc.call("Filecoin.StateMinerInfo", json!(["f01000", null])).await["Worker"].clone();
    let message = |params: RawBytes, value: &str| {
        json!({
            "To": "f01000", "From": worker, "Value": value, "Method": 28, "Params": STANDARD.encode(params.bytes()),
        })
    };
    let params = pre_commit_params(vec![sector(5)]);
    let (code, text) =
        rpc.error("Filecoin.GasEstimateMessageGas", json!([message(params.clone(), "1"), null, null])).await;
    assert!(code == 3 && text.contains("RetCode=19"), "{code} {text}");
    let (code, text) = rpc
        .error("Filecoin.GasEstimateMessageGas", json!([message(params, "9000000000000000000000000"), null, null]))
        .await;
    assert!(code == 3 && text.contains("RetCode=6"), "{code} {text}");
    assert_eq!(rpc.call("Filecoin.MpoolPending", json!([null])).await, Value::Null);
}

#[tokio::test]
async fn a_token_is_needed_and_must_allow_the_method() {
    let rpc = Rpc::new().await;
    let tokens = rpc.devnet.tokens();
    let head = r#"{"jsonrpc":"2.0","id":1,"method":"Filecoin.ChainHead","params":[]}"#;
    assert_eq!(rpc.post(None, head).await.0, 401);
    assert_eq!(rpc.post(Some("nonsense"), head).await.0, 401);
    assert_eq!(rpc.post(Some(&tokens.read), head).await.0, 200);
    let answer = rpc.answer(&tokens.read, "Filecoin.MpoolPush", json!([{}])).await;
    assert_eq!(answer["error"]["message"], "missing permission to invoke 'MpoolPush' (need 'write')");
    let answer = rpc.answer(&tokens.read, "Filecoin.WalletSign", json!(["t0100", "AA=="])).await;
    assert_eq!(answer["error"]["message"], "missing permission to invoke 'WalletSign' (need 'sign')");
    let answer = rpc.answer(&tokens.sign, "Devnet.Advance", json!([1])).await;
    assert_eq!(answer["error"]["message"], "missing permission to invoke 'Advance' (need 'admin')");
}

#[tokio::test]
async fn malformed_requests_are_errors_and_the_node_lives_on() {
    let rpc = Rpc::new().await;
    let token = rpc.devnet.tokens().admin;
    let codes = [
        ("{", -32700),
        ("[]", -32600),
        ("7", -32600),
        (r#"{"jsonrpc":"2.0","id":{},"method":"Filecoin.Version"}"#, -32600),
        (r#"{"id":1,"method":"Filecoin.Nonsense","params":[]}"#, -32601),
        (r#"{"id":1,"method":"Filecoin.ChainGetTipSet","params":[]}"#, -32602),
        (r#"{"id":1,"method":"Filecoin.ChainGetTipSet","params":{"a":1}}"#, -32700),
        (r#"{"id":1,"method":"Filecoin.ChainGetTipSet","params":[[{"/":"x"}]]}"#, -32700),
        (r#"{"id":1,"method":"Filecoin.StateMinerInfo","params":["q0",null]}"#, -32700),
        (r#"{"id":1,"method":"Filecoin.StateMinerInfo","params":["t0555",null]}"#, 1),
        (r#"{"id":1,"method":"Filecoin.StateMinerInfo","params":["t0100",null]}"#, 1),
        (r#"{"id":1,"method":"Filecoin.StateMinerPartitions","params":["t01000",48,null]}"#, 1),
        (r#"{"id":1,"method":"Filecoin.StateSectorPartition","params":["t01000",18446744073709551615,null]}"#, 1),
        (r#"{"id":1,"method":"Filecoin.StateSectorGetInfo","params":["t01000",-1,null]}"#, -32700),
        (r#"{"id":1,"method":"Filecoin.ChainGetTipSetByHeight","params":[-1,null]}"#, 1),
        (r#"{"id":1,"method":"Filecoin.ChainGetTipSetByHeight","params":[9,null]}"#, 1),
        (
            r#"{"id":1,"method":"Filecoin.MpoolPush","params":[{"Message":{},"Signature":{"Type":9,"Data":null}}]}"#,
            -32700,
        ),
        (
            r#"{"id":1,"method":"Filecoin.StateMinerInitialPledgeForSector","params":[9223372036854775807,2048,2049,null]}"#,
            1,
        ),
        (r#"{"id":1,"method":"Devnet.Fault","params":[{"kind":"meteor"}]}"#, -32700),
        (r#"{"id":1,"method":"Devnet.SetEpochMillis","params":[18446744073709551615]}"#, 1),
        (r#"{"id":1,"method":"Devnet.Advance","params":[100001]}"#, 1),
    ];
    for (body, code) in codes {
        let (_, text) = rpc.post(Some(&token), body).await;
        let answer: Value = serde_json::from_str(&text).expect(body);
        assert_eq!(answer["error"]["code"], json!(code), "{body}: {answer}");
    }
    for number in ["18446744073709551615", "9223372036854775807"] {
        let body =
            format!(r#"{{"id":1,"method":"Filecoin.StateMinerSectorAllocated","params":["t01000",{number},null]}}"#);
        let (status, text) = rpc.post(Some(&token), body).await;
        assert_eq!(status, 200, "{text}");
    }
    assert_eq!(rpc.post(Some(&token), vec![b' '; 5 << 20]).await.0, 413);
    let nested = "[".repeat(100_000);
    assert_eq!(rpc.post(Some(&token), nested).await.0, 500);
    assert_eq!(rpc.call("Filecoin.ChainHead", json!([])).await["Height"], json!(0));
    let batch = r#"[{"id":1,"method":"Filecoin.Version"},{"method":"Filecoin.Version"},{"id":2,"method":"x"}]"#;
    let (status, text) = rpc.post(Some(&token), batch).await;
    let answers: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((status, answers.as_array().map(Vec::len)), (200, Some(2)));
}

#[tokio::test]
async fn tipsets_network_and_accounts_have_lotus_forms() {
    let rpc = Rpc::new().await;
    rpc.call("Devnet.NullRounds", json!([2])).await;
    rpc.call("Devnet.Advance", json!([4])).await;
    let head = rpc.call("Filecoin.ChainHead", json!([])).await;
    assert_eq!(head["Height"], json!(4));
    assert_eq!(head["Blocks"][0]["Parents"].as_array().map(Vec::len), Some(1));
    let at = rpc.call("Filecoin.ChainGetTipSetByHeight", json!([2, head["Cids"]])).await;
    let after = rpc.call("Filecoin.ChainGetTipSetAfterHeight", json!([2, null])).await;
    assert_eq!((&at["Height"], &after["Height"]), (&json!(0), &json!(3)));
    assert_eq!(rpc.call("Filecoin.ChainGetTipSet", json!([head["Cids"]])).await, head);
    let path = rpc.call("Filecoin.ChainGetPath", json!([at["Cids"], head["Cids"]])).await;
    let heights: Vec<_> =
        path.as_array().expect("a list").iter().map(|step| (&step["Type"], &step["Val"]["Height"])).collect();
    assert_eq!(heights, [(&json!("apply"), &json!(3)), (&json!("apply"), &json!(4))]);
    let back = rpc.call("Filecoin.ChainGetPath", json!([head["Cids"], at["Cids"]])).await;
    assert_eq!(back[0]["Type"], json!("revert"));
    assert_eq!(rpc.call("Filecoin.ChainGetPath", json!([head["Cids"], head["Cids"]])).await, Value::Null);

    assert_eq!(rpc.call("Filecoin.StateNetworkVersion", json!([null])).await, json!(29));
    assert_eq!(rpc.call("Filecoin.StateNetworkName", json!([])).await, json!("sealbus-devnet"));
    let params = rpc.call("Filecoin.StateGetNetworkParams", json!([])).await;
    assert_eq!((&params["PreCommitChallengeDelay"], &params["BlockDelaySecs"]), (&json!(10), &json!(4)));
    let info = rpc.call("Filecoin.StateMinerInfo", json!(["t01000", null])).await;
    assert_eq!((&info["SectorSize"], &info["WindowPoStProofType"]), (&json!(2048), &json!(10)));
    assert_eq!((&info["ControlAddresses"], &info["NewWorker"]), (&Value::Null, &json!("<empty>")));
    let key = rpc.call("Filecoin.StateAccountKey", json!([info["Worker"], null])).await;
    assert!(key.as_str().is_some_and(|text| text.starts_with("t3")));
    assert_eq!(rpc.call("Filecoin.StateLookupID", json!([key, null])).await, info["Worker"]);
    assert_eq!(rpc.call("Filecoin.WalletHas", json!([info["Worker"]])).await, json!(true));
    assert_eq!(rpc.call("Filecoin.WalletBalance", json!([key])).await, json!("1000000000000000000000000"));
    let deadline = rpc.call("Filecoin.StateMinerProvingDeadline", json!(["t01000", null])).await;
    assert_eq!((&deadline["WPoStPeriodDeadlines"], &deadline["CurrentEpoch"]), (&json!(48), &json!(4)));
    let deadlines = rpc.call("Filecoin.StateMinerDeadlines", json!(["t01000", null])).await;
    assert_eq!(deadlines.as_array().map(Vec::len), Some(48));
    assert_eq!(deadlines[0], json!({"PostSubmissions": [0], "DisputableProofCount": 0, "DailyFee": "0"}));
    assert_eq!(rpc.call("Filecoin.StateMinerSectors", json!(["t01000", null, null])).await, Value::Null);
    assert_eq!(rpc.call("Filecoin.StateMinerAvailableBalance", json!(["t01000", null])).await, json!("0"));
    assert_eq!(rpc.call("Filecoin.StateMinerPower", json!(["t01000", null])).await["HasMinPower"], json!(false));
    let digest = rpc.call("Filecoin.StateGetRandomnessDigestFromTickets", json!([-896, null])).await;
    assert_eq!(digest, rpc.call("Filecoin.StateGetRandomnessDigestFromTickets", json!([0, null])).await);
    let drawn = rpc.call("Filecoin.StateGetRandomnessFromTickets", json!([5, -896, "QwDoBw==", null])).await;
    assert_ne!(drawn, rpc.call("Filecoin.StateGetRandomnessFromTickets", json!([5, 0, "QwDoBw==", null])).await);
}

#[tokio::test]
async fn calls_can_be_made_to_fail_before_and_after_their_effect() {
    let rpc = Rpc::new().await;
    let token = rpc.devnet.tokens().admin;
    let head = r#"{"jsonrpc":"2.0","id":1,"method":"Filecoin.ChainHead","params":[]}"#;
    let fault = |when: &str, answer: &str| {
        json!([{
            "kind": "fail_calls", "method": "Filecoin.ChainHead", "when": when, "count": 1, "answer": answer,
        }])
    };
    rpc.call("Devnet.Fault", fault("before", "http503")).await;
    assert_eq!(rpc.post(Some(&token), head).await.0, 503);
    rpc.call("Devnet.Fault", fault("after", "rpc_error")).await;
    assert_eq!(rpc.error("Filecoin.ChainHead", json!([])).await, (1, "injected fault".to_owned()));
    rpc.call("Filecoin.ChainHead", json!([])).await;
}

#[tokio::test]
async fn the_clock_runs_at_the_asked_rate_and_stops() {
    let rpc = Rpc::new().await;
    let height = || rpc.devnet.with_node(|node| node.epoch());
    assert_eq!(height(), 0);
    rpc.call("Devnet.SetEpochMillis", json!([2])).await;
    let reached = tokio::time::timeout(Duration::from_secs(30), async {
        while height() < 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    reached.await.expect("epochs pass");
    rpc.call("Devnet.SetEpochMillis", json!([0])).await;
    let stopped = height();
    // Time for 25 more epochs. One may have been in progress.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(height() <= stopped + 1, "{} after {stopped}", height());
}

#[tokio::test]
async fn only_loopback_is_served() {
    let devnet = Devnet::new(Config::default(), Arc::new(ScriptedVerifier::default())).expect("a devnet");
    let refused = Server::start(&devnet, "0.0.0.0:0".parse().expect("an address")).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("loopback")));
}
