//! What a manager reads to preview messages and to watch miners, in the form that Forest describes.

use fil_actor_miner_state::v19::{
    ChangeBeneficiaryParams, ChangeOwnerAddressParams, ChangePeerIDParams, ChangeWorkerAddressParams,
    DeclareFaultsRecoveredParams, PoStPartition, RecoveryDeclaration, SubmitWindowedPoStParams, TerminateSectorsParams,
    TerminationDeclaration, VestingFund, WithdrawBalanceParams, WithdrawBalanceReturn,
};
use fvm_ipld_bitfield::BitField;
use fvm_ipld_encoding::{BytesDe, RawBytes, from_slice};
use fvm_shared::address::Address;
use fvm_shared::econ::TokenAmount;
use fvm_shared::message::Message;
use fvm_shared::randomness::Randomness;
use fvm_shared::sector::{PoStProof, RegisteredPoStProof};
use sealbus_integration_tests::devnet::Config;
use sealbus_integration_tests::devnet::address::to_text;
use sealbus_integration_tests::devnet::execution::CreateMinerParams;
use sealbus_integration_tests::devnet::faults::Fault;
use serde_json::{Value, json};

use super::{Engine, Rpc, STANDARD, encode, pre_commit_params, prove_params, sector};

const MINER: Address = Address::new_id(1000);

/// The results of methods as Forest describes them. `forest.json` has the same origin and licence as
/// `manager/tests/forest_rpc/methods.json`.
pub struct Described(pub Value);

impl Described {
    pub fn read() -> Self {
        Self(serde_json::from_str(include_str!("forest.json")).expect("JSON"))
    }

    pub fn check(&self, schema: &Value, value: &Value, path: &str) -> Result<(), String> {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.rsplit('/').next().expect("a name");
            return self.check(&self.0["schemas"][name], value, path);
        }
        if let Some(any) = schema["anyOf"].as_array() {
            let fits = any.iter().any(|schema| self.check(schema, value, path).is_ok());
            return if fits { Ok(()) } else { Err(format!("{path}: {value}")) };
        }
        let kinds = match &schema["type"] {
            Value::String(kind) => vec![kind.as_str()],
            kinds => kinds.as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
        };
        let is = |kind: &&str| match *kind {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            // A generated description takes Go's numbers of proof types for strings.
            _ => value.is_string() || path.ends_with("ProofType") || path.ends_with("SealProof"),
        };
        // Lotus leaves bytes out as null where Forest has an empty string.
        let is_empty_bytes = value.is_null() && (path.ends_with("Return") || path.ends_with("Params"));
        if !kinds.is_empty() && !kinds.iter().any(is) && !is_empty_bytes {
            return Err(format!("{path}: {value} is not {kinds:?}"));
        }
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for name in required {
            if value.get(name).is_none() {
                return Err(format!("{path}/{name} is missing"));
            }
        }
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            if let Some(value) = value.get(name) {
                self.check(schema, value, &format!("{path}/{name}"))?;
            }
        }
        if !schema["items"].is_null() {
            for value in value.as_array().into_iter().flatten() {
                self.check(&schema["items"], value, &format!("{path}/*"))?;
            }
        }
        Ok(())
    }
}

impl Rpc {
    pub fn keys(&self) -> (Address, Address) {
        self.devnet.with_node(|node| (node.miners[0].owner_key, node.miners[0].worker_key))
    }

    /// A message with plenty of gas.
    fn plain(&self, from: Address, to: Address, method: u64, params: RawBytes, value: &TokenAmount) -> Message {
        Message {
            version: 0,
            from,
            to,
            sequence: self.devnet.with_node(|node| node.next_nonce(&from)).expect("a nonce"),
            value: value.clone(),
            method_num: method,
            params,
            gas_limit: 1_000_000_000,
            gas_fee_cap: TokenAmount::from_atto(1_000_000),
            gas_premium: TokenAmount::from_atto(1_000),
        }
    }

    /// Puts a transfer into the mempool.
    pub fn push_plain(&self, from: Address, to: Address, value: &TokenAmount) {
        let message = self.plain(from, to, 0, RawBytes::default(), value);
        self.devnet.with_node(|node| {
            let signed = node.wallet.sign_message(&message.from, message.clone()).expect("signs");
            node.push(signed).expect("the mempool takes it")
        });
    }

    /// Has a message executed, which must succeed.
    async fn execute(&self, from: Address, to: Address, method: u64, params: RawBytes, value: &TokenAmount) {
        let message = self.plain(from, to, method, params, value);
        let cid = self.devnet.with_node(|node| {
            let signed = node.wallet.sign_message(&message.from, message.clone()).expect("signs");
            node.push(signed).expect("the mempool takes it")
        });
        self.call("Devnet.Advance", json!([2])).await;
        let found = self.call("Filecoin.StateSearchMsg", json!([null, {"/": cid.to_string()}, 100, false])).await;
        assert_eq!(found["Receipt"]["ExitCode"], json!(0), "{found}");
    }

    async fn state_call(&self, from: Address, to: Address, method: u64, params: RawBytes) -> Value {
        let message = json!({
            "Version": 0, "To": to_text(&to), "From": to_text(&from), "Nonce": 0, "Value": "0", "GasLimit": 0,
            "GasFeeCap": "0", "GasPremium": "0", "Method": method, "Params": STANDARD.encode(params.bytes()),
        });
        self.call("Filecoin.StateCall", json!([message, null])).await
    }

    /// Brings sector 3 to the point where it is active.
    pub async fn active_sector(&self) {
        self.call("Devnet.Advance", json!([20])).await;
        let worker = self.keys().1;
        let fil = TokenAmount::from_whole(1);
        self.execute(worker, MINER, 28, pre_commit_params(vec![sector(20)]), &fil).await;
        self.call("Devnet.Advance", json!([12])).await;
        self.execute(worker, MINER, 34, encode(&prove_params(&[(3, b"right")], true)), &fil).await;
        self.call("Devnet.Advance", json!([2880])).await;
    }
}

fn withdrawal(fil: i64) -> RawBytes {
    encode(&WithdrawBalanceParams { amount_requested: TokenAmount::from_whole(fil) })
}

#[tokio::test]
async fn answers_fit_forests_description() {
    let described = Described::read();
    let rpc = Rpc::new().await;
    rpc.call("Devnet.Advance", json!([2])).await;
    let check = async |method: &str, params: Value| {
        let result = rpc.call(&format!("Filecoin.{method}"), params).await;
        let schema = &described.0["results"][method];
        assert!(schema.is_object(), "{method} is not described");
        described.check(schema, &result, method).unwrap_or_else(|error| panic!("{error}"));
        result
    };
    for method in ["StateMinerActiveSectors", "StateMinerInfo", "StateReadState", "StateMinerDeadlines"] {
        check(method, json!(["t01000", []])).await;
    }
    assert_eq!(check("StateMinerActiveSectors", json!(["t01000", null])).await, Value::Null);
    assert_eq!(check("StateMinerPartitions", json!(["t01000", 0, null])).await, Value::Null);

    rpc.active_sector().await;
    let place = check("StateSectorPartition", json!(["t01000", 3, []])).await;
    let active = check("StateMinerActiveSectors", json!(["t01000", []])).await;
    assert_eq!(active, check("StateMinerSectors", json!(["t01000", [3, 1], []])).await);
    assert_eq!(active[0], check("StateSectorGetInfo", json!(["t01000", 3, []])).await);
    for method in ["StateMinerAvailableBalance", "StateMinerPower", "StateMinerInfo", "StateReadState"] {
        check(method, json!(["t01000", []])).await;
    }
    assert_eq!(check("StateMinerFaults", json!(["t01000", []])).await, json!([0]));
    check("StateMinerPartitions", json!(["t01000", place["Deadline"], []])).await;
    check("StateSectorExpiration", json!(["t01000", 3, []])).await;
    check("StateListMiners", json!([[]])).await;
    check("StateLookupID", json!([to_text(&rpc.keys().0), []])).await;
    for method in ["StateCirculatingSupply", "StateVMCirculatingSupplyInternal", "StateMinerCreationDeposit"] {
        check(method, json!([[]])).await;
    }
    let message = json!({
        "Version": 0, "To": "t01000", "From": "t0100", "Nonce": 0, "Value": "0", "GasLimit": 0, "GasFeeCap": "0",
        "GasPremium": "0", "Method": 16, "Params": STANDARD.encode(withdrawal(1).bytes()),
    });
    check("StateCall", json!([message, []])).await;

    rpc.devnet.with_node(|node| node.inject(Fault::Faulty { miner: 1000, sectors: vec![3] }));
    rpc.call("Devnet.Advance", json!([2])).await;
    assert_eq!(check("StateMinerFaults", json!(["t01000", []])).await, json!([3, 1]));
    assert_eq!(check("StateMinerActiveSectors", json!(["t01000", []])).await, Value::Null);
    let expiration = check("StateSectorExpiration", json!(["t01000", 3, []])).await;
    assert!(expiration["Early"].as_i64() > Some(0), "{expiration}");
}

#[tokio::test]
async fn a_terminated_sector_has_no_expiration_any_more() {
    let rpc = Rpc::new().await;
    rpc.active_sector().await;
    let place = rpc.call("Filecoin.StateSectorPartition", json!(["t01000", 3, null])).await;
    let [deadline, partition] = ["Deadline", "Partition"].map(|name| place[name].as_u64().expect("a number"));
    let sectors = BitField::try_from_bits([3]).expect("bits");
    let terminations = vec![TerminationDeclaration { deadline, partition, sectors }];
    let params = encode(&TerminateSectorsParams { terminations });
    rpc.call("Devnet.Advance", json!([120])).await;
    rpc.execute(rpc.keys().1, MINER, 9, params, &TokenAmount::default()).await;
    let (code, text) = rpc.error("Filecoin.StateSectorExpiration", json!(["t01000", 3, null])).await;
    assert_eq!((code, text.as_str()), (1, "failed to find sector 3"));
    assert_eq!(rpc.call("Filecoin.StateMinerActiveSectors", json!(["t01000", null])).await, Value::Null);
}

#[tokio::test]
async fn the_state_of_a_miner_shows_its_funds_and_what_vests() {
    let rpc = Rpc::new().await;
    rpc.active_sector().await;
    let miner = rpc.devnet.with_node(|node| node.view(None).expect("a view").miner(&MINER).expect("the miner"));
    let read = rpc.call("Filecoin.StateReadState", json!(["t01000", null])).await;
    assert_eq!(read["Balance"], json!(miner.actor.balance.atto().to_string()));
    assert_eq!(read["State"]["InitialPledge"], json!(miner.state.initial_pledge.atto().to_string()));
    assert_eq!((&read["State"]["FeeDebt"], &read["State"]["VestingFunds"]), (&json!("0"), &Value::Null));
    rpc.devnet.with_node(|node| node.inject(Fault::FeeDebt { miner: 1000, atto: 7 }));
    rpc.call("Devnet.Advance", json!([2])).await;
    let read = rpc.call("Filecoin.StateReadState", json!(["t01000", null])).await;
    assert_eq!(read["State"]["FeeDebt"], json!("7"));

    let deposit = rpc.call("Filecoin.StateMinerCreationDeposit", json!([null])).await;
    let deposit = TokenAmount::from_atto(deposit.as_str().expect("a string").parse::<u64>().expect("a number"));
    let (owner, worker) = rpc.keys();
    let window_post_proof_type = RegisteredPoStProof::StackedDRGWindow2KiBV1P1;
    let params = CreateMinerParams { owner, worker, window_post_proof_type, peer: vec![], multiaddrs: vec![] };
    rpc.execute(owner, Address::new_id(4), 2, encode(&params), &deposit).await;
    assert_eq!(rpc.call("Filecoin.StateListMiners", json!([null])).await, json!(["t01000", "t01001"]));
    let read = rpc.call("Filecoin.StateReadState", json!(["t01001", null])).await;
    assert_eq!(read["State"]["LockedFunds"], json!(deposit.atto().to_string()));
    let vesting = &read["State"]["VestingFunds"];
    let tail = rpc.call("Filecoin.ChainReadObj", json!([vesting["Tail"]])).await;
    let tail = STANDARD.decode(tail.as_str().expect("a string")).expect("base64");
    let tail: Vec<VestingFund> = from_slice(&tail).expect("a vesting table");
    let head: u64 = vesting["Head"]["Amount"].as_str().expect("a string").parse().expect("a number");
    let all = TokenAmount::from_atto(head) + tail.iter().map(|fund| &fund.amount).sum::<TokenAmount>();
    assert_eq!(all, deposit);
    let account = rpc.call("Filecoin.StateReadState", json!(["t0100", null])).await;
    assert_eq!(account["State"], json!({"Address": to_text(&owner)}));
}

#[tokio::test]
async fn a_message_is_tried_without_being_sent() {
    let rpc = Rpc::new().await;
    rpc.call("Devnet.Advance", json!([20])).await;
    let (owner, worker) = rpc.keys();
    rpc.execute(worker, MINER, 0, RawBytes::default(), &TokenAmount::from_whole(3)).await;
    let before = rpc.call("Filecoin.StateGetActor", json!([to_text(&owner), null])).await;
    let tried = rpc.state_call(owner, MINER, 16, withdrawal(5)).await;
    assert_eq!((&tried["MsgRct"]["ExitCode"], &tried["Error"]), (&json!(0), &json!("")));
    let returned = STANDARD.decode(tried["MsgRct"]["Return"].as_str().expect("a string")).expect("base64");
    let returned: WithdrawBalanceReturn = from_slice(&returned).expect("a return");
    assert_eq!(returned.amount_withdrawn, TokenAmount::from_whole(3));
    let refused = rpc.state_call(worker, MINER, 16, withdrawal(5)).await;
    assert_eq!(refused["MsgRct"]["ExitCode"], json!(18));
    assert!(refused["Error"].as_str().is_some_and(|text| text.contains("not one of supported")), "{refused}");
    assert_eq!(refused["MsgRct"]["Return"], Value::Null);
    assert_eq!(rpc.call("Filecoin.StateGetActor", json!([to_text(&owner), null])).await, before);
}

#[tokio::test]
async fn the_info_of_a_miner_shows_who_acts_for_it_and_who_will() {
    let rpc = Rpc::new().await;
    let (owner, worker) = rpc.keys();
    let nothing = TokenAmount::default();
    // A new account with a BLS key becomes the worker.
    let new = rpc.devnet.with_node(|node| node.wallet.derive_bls(9, "a new worker").expect("a key"));
    rpc.execute(owner, new, 0, RawBytes::default(), &TokenAmount::from_whole(1)).await;
    let id = rpc.call("Filecoin.StateLookupID", json!([to_text(&new), null])).await;
    let params = ChangeWorkerAddressParams { new_worker: new, new_control_addresses: vec![worker, new] };
    rpc.execute(owner, MINER, 3, encode(&params), &nothing).await;
    let including = rpc.devnet.with_node(|node| node.epoch()) - 1;
    let params = ChangePeerIDParams { new_id: [&[0, 36, 8, 1, 18, 32], &[7; 32][..]].concat() };
    rpc.execute(worker, MINER, 4, encode(&params), &nothing).await;
    let multiaddrs = encode(&(vec![BytesDe(vec![4, 127, 0, 0, 1])],));
    rpc.execute(worker, MINER, 18, multiaddrs, &nothing).await;
    let new_owner = Address::new_id(101);
    rpc.execute(owner, MINER, 23, encode(&ChangeOwnerAddressParams { new_owner }), &nothing).await;
    let params = ChangeBeneficiaryParams::new(new_owner, TokenAmount::from_atto(5), 900);
    rpc.execute(owner, MINER, 30, encode(&params), &nothing).await;

    let info = rpc.call("Filecoin.StateMinerInfo", json!(["t01000", null])).await;
    assert_eq!((&info["NewWorker"], &info["WorkerChangeEpoch"]), (&id, &json!(including + 900)));
    assert_eq!(info["ControlAddresses"], json!(["t0101", id]));
    assert!(info["PeerId"].as_str().is_some_and(|id| id.starts_with("12D3KooW")), "{info}");
    assert_eq!(info["Multiaddrs"], json!(["BH8AAAE="]));
    assert_eq!((&info["Owner"], &info["PendingOwnerAddress"]), (&json!("t0100"), &json!("t0101")));
    let pending = json!({
        "NewBeneficiary": "t0101", "NewQuota": "5", "NewExpiration": 900, "ApprovedByBeneficiary": true,
        "ApprovedByNominee": false,
    });
    assert_eq!((&info["Beneficiary"], &info["PendingBeneficiaryTerm"]), (&json!("t0100"), &pending));
}

#[tokio::test]
async fn the_network_version_is_that_of_the_tipset() {
    let rpc = Rpc::new().await;
    let (code, text) = rpc.error("Devnet.Upgrade", json!([9])).await;
    assert!(code == 1 && text.contains("has version 29 already"), "{text}");
    rpc.devnet.with_node(|node| node.config.network_version = 28);
    rpc.call("Devnet.Upgrade", json!([3])).await;
    rpc.call("Devnet.Advance", json!([5])).await;
    for (height, version) in [(3, 28), (4, 29)] {
        let tipset = rpc.call("Filecoin.ChainGetTipSetByHeight", json!([height, null])).await;
        let found = rpc.call("Filecoin.StateNetworkVersion", json!([tipset["Cids"]])).await;
        assert_eq!(found, json!(version), "at {height}");
    }
    let network = rpc.call("Filecoin.StateGetNetworkParams", json!([])).await;
    assert_eq!(network["ForkUpgradeParams"]["UpgradeSolsticeHeight"], json!(3));
}

#[tokio::test]
async fn deadlines_tell_what_was_proven_and_what_can_be_disputed() {
    let rpc = Rpc::with(Config { proving: true, ..Config::default() }).await;
    rpc.active_sector().await;
    let described = Described::read();
    let check = async |method: &str, params: Value| {
        let result = rpc.call(&format!("Filecoin.{method}"), params).await;
        described.check(&described.0["results"][method], &result, method).unwrap_or_else(|error| panic!("{error}"));
        result
    };
    // Nobody has proven the sector in its first deadline.
    assert_eq!(check("StateMinerFaults", json!(["t01000", []])).await, json!([3, 1]));
    assert_eq!(check("StateMinerRecoveries", json!(["t01000", []])).await, json!([0]));
    let count = check("StateMinerSectorCount", json!(["t01000", []])).await;
    assert_eq!(count, json!({"Live": 1, "Active": 0, "Faulty": 1}));
    let place = rpc.call("Filecoin.StateSectorPartition", json!(["t01000", 3, []])).await;
    let [deadline, partition] = ["Deadline", "Partition"].map(|name| place[name].as_u64().expect("a number"));
    let sectors = BitField::try_from_bits([3]).expect("bits");
    let recoveries = vec![RecoveryDeclaration { deadline, partition, sectors }];
    rpc.execute(rpc.keys().0, MINER, 0, RawBytes::default(), &TokenAmount::from_whole(1)).await;
    let params = encode(&DeclareFaultsRecoveredParams { recoveries });
    rpc.execute(rpc.keys().1, MINER, 11, params, &TokenAmount::default()).await;
    assert_eq!(check("StateMinerRecoveries", json!(["t01000", []])).await, json!([3, 1]));
    let partitions = check("StateMinerPartitions", json!(["t01000", deadline, []])).await;
    assert_eq!(partitions[0]["RecoveringSectors"], json!([3, 1]));

    let deadlines = check("StateMinerDeadlines", json!(["t01000", []])).await;
    assert_eq!(deadlines[deadline as usize]["PostSubmissions"], json!([0]));
    for disputable in [0, 1] {
        let info = rpc.until_open(deadline).await;
        rpc.submit_post(&info, partition).await;
        let deadlines = check("StateMinerDeadlines", json!(["t01000", []])).await;
        assert_eq!(deadlines[deadline as usize]["PostSubmissions"], json!([0, 1]));
        let close = info["Close"].as_i64().expect("a number") - rpc.devnet.with_node(|node| node.epoch());
        rpc.call("Devnet.Advance", json!([close])).await;
        let deadlines = check("StateMinerDeadlines", json!(["t01000", []])).await;
        let deadline = &deadlines[deadline as usize];
        assert_eq!(deadline["PostSubmissions"], json!([0]), "the next period begins");
        // The first proof has recovered the sector, so the chain has verified it.
        assert_eq!(deadline["DisputableProofCount"], json!(disputable));
    }
    assert_eq!(
        check("StateMinerSectorCount", json!(["t01000", []])).await,
        json!({"Live": 1, "Active": 1, "Faulty": 0})
    );
    let active = check("StateMinerActiveSectors", json!(["t01000", []])).await;
    assert_eq!(active.as_array().map(Vec::len), Some(1));
}

impl Rpc {
    /// Advances until a message can be included in a deadline, and returns its times.
    async fn until_open(&self, deadline: u64) -> Value {
        loop {
            let info = self.call("Filecoin.StateMinerProvingDeadline", json!(["t01000", []])).await;
            if info["Index"] == json!(deadline) {
                return info;
            }
            let left = info["Close"].as_i64().expect("a number") - self.devnet.with_node(|node| node.epoch());
            self.call("Devnet.Advance", json!([left])).await;
        }
    }

    /// Proves a partition with what the node tells about its deadline.
    async fn submit_post(&self, info: &Value, partition: u64) {
        let challenge = info["Challenge"].as_i64().expect("a number");
        let asked = json!([9, challenge, null, []]);
        let drawn = self.call("Filecoin.StateGetRandomnessFromTickets", asked).await;
        let params = SubmitWindowedPoStParams {
            deadline: info["Index"].as_u64().expect("a number"),
            partitions: vec![PoStPartition { index: partition, skipped: BitField::new() }],
            proofs: vec![PoStProof {
                post_proof: RegisteredPoStProof::StackedDRGWindow2KiBV1P1,
                proof_bytes: b"right".to_vec(),
            }],
            chain_commit_epoch: challenge,
            chain_commit_rand: Randomness(STANDARD.decode(drawn.as_str().expect("a string")).expect("base64")),
        };
        self.execute(self.keys().1, MINER, 5, encode(&params), &TokenAmount::default()).await;
    }
}

#[tokio::test]
async fn the_times_of_a_deadline_have_lotus_names() {
    let rpc = Rpc::new().await;
    let info = rpc.call("Filecoin.StateMinerProvingDeadline", json!(["t01000", []])).await;
    let names = [
        "Challenge",
        "Close",
        "CurrentEpoch",
        "FaultCutoff",
        "FaultDeclarationCutoff",
        "Index",
        "Open",
        "PeriodStart",
        "WPoStChallengeLookback",
        "WPoStChallengeWindow",
        "WPoStPeriodDeadlines",
        "WPoStProvingPeriod",
    ];
    let found: Vec<&str> = info.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(found, names);
    let open = info["Open"].as_i64().expect("a number");
    assert_eq!((&info["Challenge"], &info["FaultCutoff"]), (&json!(open - 20), &json!(open - 70)));
}

#[tokio::test]
async fn a_node_that_is_away_answers_nothing_and_its_chain_grows() {
    let rpc = Rpc::new().await;
    rpc.call("Devnet.Fault", json!([{"kind": "away", "on": true}])).await;
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "Filecoin.ChainHead", "params": []}).to_string();
    let token = rpc.devnet.tokens().admin;
    assert_eq!(rpc.post(Some(&token), body.clone()).await, (503, String::new()));
    rpc.call("Devnet.Advance", json!([3])).await;
    rpc.call("Devnet.Fault", json!([{"kind": "away", "on": false}])).await;
    let head = rpc.call("Filecoin.ChainHead", json!([])).await;
    assert_eq!(head["Height"], json!(3));
}
