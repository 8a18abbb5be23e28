//! Making blocks over RPC, as lotus-miner does, in the form that Forest describes.

use fvm_shared::address::Address;
use fvm_shared::bigint::BigInt;
use sealbus_integration_tests::devnet::Config;
use sealbus_integration_tests::devnet::blocks::wins;
use sealbus_integration_tests::devnet::randomness::{blake2b256, draw, miner_entropy};
use serde_json::{Value, json};

use super::state::Described;
use super::{Engine, Rpc, STANDARD};

struct Miner {
    rpc: Rpc,
    described: Described,
}

impl Miner {
    /// A miner with one sector, which it has had for long enough.
    async fn new() -> Self {
        let rpc = Rpc::with(Config { elections: true, window_epochs: 6, ..Config::default() }).await;
        rpc.active_sector().await;
        Self { rpc, described: Described::read() }
    }

    /// Calls a method, whose answer must be as described.
    async fn call(&self, method: &str, params: Value) -> Value {
        let result = self.rpc.call(&format!("Filecoin.{method}"), params).await;
        let schema = &self.described.0["results"][method];
        assert!(!schema.is_null(), "{method} is not described");
        self.described.check(schema, &result, method).unwrap_or_else(|error| panic!("{error}"));
        result
    }

    /// Signs randomness with the worker's key, which makes a VRF proof.
    async fn vrf(&self, worker: &Value, randomness: [u8; 32]) -> Value {
        let params = json!([worker, STANDARD.encode(randomness)]);
        let signature = self.rpc.call("Filecoin.WalletSign", params).await;
        assert_eq!(signature["Type"], json!(2), "a BLS key");
        signature["Data"].clone()
    }

    /// The template of a block for the next epoch that the miner wins, which comes next.
    async fn template(&self) -> Value {
        for _ in 0..100 {
            let head = self.rpc.call("Filecoin.ChainHead", json!([])).await;
            let round = head["Height"].as_i64().expect("a number") + 1;
            let info = self.call("MinerGetBaseInfo", json!(["t01000", round, head["Cids"]])).await;
            assert_eq!(info["EligibleForMining"], json!(true));
            let entry = info["BeaconEntries"].as_array().and_then(|all| all.last()).unwrap_or(&info["PrevBeaconEntry"]);
            let digest = blake2b256(&bytes(&entry["Data"]));
            let entropy = miner_entropy(1000);
            let election = self.vrf(&info["WorkerKey"], draw(&digest, 2, round, &entropy)).await;
            let power = |name: &str| info[name].as_str().expect("a string").parse::<BigInt>().expect("a number");
            let wins = wins(&bytes(&election), &power("MinerPower"), &power("NetworkPower"));
            if wins == 0 {
                self.rpc.call("Devnet.Advance", json!([1])).await;
                continue;
            }
            let min_ticket = bytes(&head["Blocks"][0]["Ticket"]["VRFProof"]);
            let ticket = draw(&digest, 1, round - 1, &[entropy, min_ticket].concat());
            return json!({
                "Miner": "t01000",
                "Parents": head["Cids"],
                "Ticket": {"VRFProof": self.vrf(&info["WorkerKey"], ticket).await},
                "Eproof": {"WinCount": wins, "VRFProof": election},
                "BeaconValues": info["BeaconEntries"],
                "Messages": self.call("MpoolSelect", json!([head["Cids"], 0.5])).await,
                "Epoch": round,
                "Timestamp": head["Blocks"][0]["Timestamp"].as_u64().expect("a number") + 4,
                "WinningPoStProof": [{"PoStProof": 0, "ProofBytes": STANDARD.encode("right")}],
            });
        }
        panic!("it wins nothing");
    }
}

fn bytes(base64: &Value) -> Vec<u8> {
    STANDARD.decode(base64.as_str().expect("a string")).expect("base64")
}

#[tokio::test]
async fn a_miner_wins_an_epoch_and_its_block_becomes_the_head() {
    let miner = Miner::new().await;
    let (owner, worker) = miner.rpc.keys();
    for sender in [owner, worker] {
        let to = Address::new_id(1000);
        let fil = fvm_shared::econ::TokenAmount::from_whole(1);
        miner.rpc.push_plain(sender, to, &fil);
    }
    let template = miner.template().await;
    let messages = template["Messages"].as_array().map(Vec::len);
    assert_eq!(messages, Some(2));
    let block = miner.call("MinerCreateBlock", json!([template])).await;
    let lists = ["BlsMessages", "SecpkMessages"].map(|name| block[name].as_array().map(Vec::len));
    assert_eq!(lists, [Some(1), Some(1)], "the worker's key is BLS, the owner's is not");
    let head = miner.rpc.call("Filecoin.ChainHead", json!([])).await;
    let weight = miner.call("ChainTipSetWeight", json!([head["Cids"]])).await;
    assert_eq!(block["Header"]["ParentWeight"], weight);
    assert_eq!(miner.call("SyncSubmitBlock", json!([block])).await, Value::Null);
    miner.rpc.call("Devnet.Advance", json!([1])).await;

    let head = miner.rpc.call("Filecoin.ChainHead", json!([])).await;
    assert_eq!(head["Blocks"][0], block["Header"]);
    let stats = miner.rpc.call("Devnet.Stats", json!([])).await;
    let made = &stats["miners"]["1000"]["blocks"][0];
    assert_eq!((&made["fate"], &made["cid"]), (&json!("included"), &head["Cids"][0]["/"]));
    let entry = miner.call("StateGetBeaconEntry", json!([head["Height"]])).await;
    assert_eq!(head["Blocks"][0]["BeaconEntries"][0], entry);
    assert_eq!(miner.call("MpoolSelect", json!([head["Cids"], 1.0])).await, Value::Null, "both messages are in");
}

#[tokio::test]
async fn a_block_that_no_node_would_take_is_an_error_in_lotus_words() {
    let miner = Miner::new().await;
    let template = miner.template().await;
    let mut wrong = template.clone();
    wrong["Ticket"]["VRFProof"] = template["Eproof"]["VRFProof"].clone();
    let block = miner.call("MinerCreateBlock", json!([wrong])).await;
    let (code, text) = miner.rpc.error("Filecoin.SyncSubmitBlock", json!([block])).await;
    assert_eq!(code, 1);
    let words = "sync to submitted block failed: validating block tickets failed";
    assert!(text.starts_with(words), "{text}");
    wrong["Parents"] = json!([block["Header"]["Messages"]]);
    let (_, text) = miner.rpc.error("Filecoin.MinerCreateBlock", json!([wrong])).await;
    assert!(text.starts_with("failed to load parent tipset"), "{text}");
    wrong["Ticket"] = Value::Null;
    let (code, text) = miner.rpc.error("Filecoin.MinerCreateBlock", json!([wrong])).await;
    assert!(code == -32700 && text.contains("nil ticket"), "{text}");
    let token = miner.rpc.devnet.tokens().write;
    let answer = miner.rpc.answer(&token, "Filecoin.MinerCreateBlock", json!([template])).await;
    assert!(answer["error"]["message"].as_str().is_some_and(|text| text.contains("need 'sign'")), "{answer}");
}

#[tokio::test]
async fn the_base_info_is_null_without_sectors_and_an_error_without_a_miner() {
    let rpc = Rpc::with(Config { elections: true, ..Config::default() }).await;
    rpc.call("Devnet.Advance", json!([3])).await;
    assert_eq!(rpc.call("Filecoin.MinerGetBaseInfo", json!(["t01000", 4, []])).await, Value::Null);
    let (_, text) = rpc.error("Filecoin.MinerGetBaseInfo", json!(["t01555", 4, []])).await;
    assert!(text.contains("actor not found"), "{text}");
    let (_, text) = rpc.error("Filecoin.MinerGetBaseInfo", json!(["t01000", 5, []])).await;
    assert!(text.contains("does not exist yet"), "{text}");
}
