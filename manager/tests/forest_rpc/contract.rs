//! What the manager sends fits Forest's description of its methods, and whatever fits the description is read.

use std::collections::BTreeSet;

use fvm_shared::address::Network;
use fvm_shared::econ::TokenAmount;
use sealbus_manager::chain::commitment::sealed_cid;
use sealbus_manager::chain::message;
use sealbus_manager::chain::node::SignError;
use sealbus_manager::chain::params::SectorPreCommitInfo;
use sealbus_manager::chain::randomness::Domain;
use sealbus_manager::chain::sector_set::SectorSet;
use sealbus_manager::chain::types::{MinerFunds, TipSetKey, Vesting};
use sealbus_manager::chain::{Error, NodeClient};
use serde_json::{Map, Value, json};

use super::{CID, Double, key, miner, node, prove_message, signed};

/// Described as strings, because Forest's generator does not know their types. Its answers, and Lotus', are like this.
fn described_wrongly(name: &str) -> Option<Value> {
    Some(match name {
        "WindowPoStProofType" => json!(8),
        "ApiDeadlineInfo" => json!({
            "CurrentEpoch": 1, "PeriodStart": 1, "Index": 1, "Open": 1, "Close": 2, "Challenge": 1, "FaultCutoff": 1,
            "WPoStPeriodDeadlines": 48, "WPoStProvingPeriod": 2880, "WPoStChallengeWindow": 60,
            "WPoStChallengeLookback": 20, "FaultDeclarationCutoff": 70,
        }),
        // Described as anything: it differs from actor to actor. This is a miner's.
        "ApiActorState" => json!({
            "Balance": "7", "Code": { "/": CID },
            "State": {"PreCommitDeposits": "1", "InitialPledge": "2", "LockedFunds": "3", "FeeDebt": "0"},
        }),
        _ => return None,
    })
}

/// How much an answer has.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Filled {
    /// Every field.
    Fully,
    /// Only the required fields, with `null` and empty lists wherever they are allowed.
    Barely,
}

/// The description.
struct Described(Value);

impl Described {
    fn read() -> Described {
        Described(serde_json::from_str(include_str!("methods.json")).unwrap())
    }

    fn methods(&self) -> impl Iterator<Item = (&str, &Value)> {
        let methods = self.0["methods"].as_array().unwrap().iter();
        methods.map(|method| (method["name"].as_str().unwrap().strip_prefix("Filecoin.").unwrap(), method))
    }

    fn method(&self, name: &str) -> &Value {
        self.methods().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("Forest has no {name}")).1
    }

    fn schema<'a>(&'a self, reference: &'a Value) -> Option<(&'a str, &'a Value)> {
        let name = reference["$ref"].as_str()?.rsplit('/').next()?;
        Some((name, &self.0["schemas"][name]))
    }

    /// Whether a value is as its schema says. The schemas use only these words.
    fn check(&self, schema: &Value, value: &Value) -> Result<(), String> {
        if *schema == Value::Bool(true) {
            return Ok(());
        }
        match self.schema(schema) {
            Some((name, _)) if described_wrongly(name).is_some() => return Ok(()),
            Some((_, schema)) => return self.check(schema, value),
            None => {}
        }
        if let Some(any) = schema["anyOf"].as_array() {
            let fits = any.iter().any(|schema| self.check(schema, value).is_ok());
            return if fits { Ok(()) } else { Err(format!("{value} is none of {any:?}")) };
        }
        let is = |kind: &str| match kind {
            "null" => value.is_null(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("{other}: another kind"),
        };
        let kinds = kinds(schema);
        if !kinds.is_empty() && !kinds.iter().any(|kind| is(kind)) {
            return Err(format!("{value} is not one of {kinds:?}"));
        }
        if value.as_i64().is_some_and(|value| schema["minimum"].as_i64().is_some_and(|least| value < least)) {
            return Err(format!("{value} is too small"));
        }
        if schema["enum"].as_array().is_some_and(|known| !known.contains(value)) {
            return Err(format!("{value} is not one of {}", schema["enum"]));
        }
        for item in value.as_array().into_iter().flatten() {
            self.check(&schema["items"], item)?;
        }
        let Some(fields) = value.as_object() else { return Ok(()) };
        for required in schema["required"].as_array().into_iter().flatten() {
            let name = required.as_str().unwrap();
            fields.get(name).ok_or(format!("{name} is missing in {value}"))?;
        }
        for (name, field) in fields.iter().filter(|(name, _)| described_wrongly(name).is_none()) {
            let known = schema["properties"].get(name).ok_or(format!("no field {name}"))?;
            self.check(known, field).map_err(|problem| format!("{name}: {problem}"))?;
        }
        Ok(())
    }

    /// A value that fits a schema.
    fn sample(&self, schema: &Value, filled: Filled) -> Value {
        if let Some((name, schema)) = self.schema(schema) {
            return described_wrongly(name).unwrap_or_else(|| match name {
                "Address" => json!("t01000"),
                "Cid" => json!({ "/": CID }),
                "BigInt" => json!("7"),
                // They contain each other.
                "Nullable_Array_of_ExecutionTrace" => json!([]),
                "Base64String" if filled == Filled::Fully => json!("AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM="),
                // Its calls are like itself.
                // What is required of it is what a request needs. Answers have every field.
                "Message" => self.sample(schema, Filled::Fully),
                _ => self.sample(schema, filled),
            });
        }
        let kinds = kinds(schema);
        let may_be_null = kinds.contains(&"null")
            || schema["anyOf"].as_array().is_some_and(|any| any.contains(&json!({ "type": "null" })));
        if may_be_null && filled == Filled::Barely {
            return Value::Null;
        }
        if let Some(any) = schema["anyOf"].as_array() {
            return self.sample(&any[0], filled);
        }
        match kinds.first() {
            None => Value::Null,
            Some(&"string") => schema["enum"].get(0).cloned().unwrap_or_else(|| json!("text")),
            Some(&"boolean") => json!(true),
            Some(&"integer") => json!(1),
            Some(&"array") if filled == Filled::Barely && schema["minItems"].is_null() => json!([]),
            Some(&"array") => json!([self.sample(&schema["items"], filled)]),
            Some(_) => {
                let field = |name: &str, schema| described_wrongly(name).unwrap_or_else(|| self.sample(schema, filled));
                let all = schema["properties"].as_object().unwrap().iter();
                let required = schema["required"].as_array().cloned().unwrap_or_default();
                let kept = all.filter(|(name, _)| filled == Filled::Fully || required.contains(&json!(name)));
                let fields: Map<_, _> = kept.map(|(name, schema)| (name.clone(), field(name, schema))).collect();
                Value::Object(fields)
            }
        }
    }

    /// An answer to a call. Some must agree with the question.
    fn answer(&self, method: &str, filled: Filled) -> Value {
        match method {
            "MpoolPush" => json!({ "/": signed().cid().unwrap().to_string() }),
            "WalletSignMessage" => signed().to_json(Network::Testnet),
            // [[100, 5]] in CBOR.
            "ChainReadObj" => json!("gYIYZEIABQ=="),
            "StateReadState" => {
                let mut answer = self.sample(&self.method(method)["result"]["schema"], filled);
                answer["State"] = miner_state();
                answer
            }
            _ => self.sample(&self.method(method)["result"]["schema"], filled),
        }
    }
}

/// A miner's state, which the description leaves open: as in `src/lotus_json/actors/states/miner_state.rs` of Forest.
fn miner_state() -> Value {
    let link = json!({ "/": "baeaaaaa" });
    json!({
        "Info": link, "PreCommitDeposits": "0", "LockedFunds": "0", "VestingFunds": null, "FeeDebt": "0",
        "InitialPledge": "0", "PreCommittedSectors": link, "PreCommittedSectorsCleanUp": link, "AllocatedSectors": link,
        "Sectors": link, "ProvingPeriodStart": 0, "CurrentDeadline": 0, "Deadlines": link, "EarlyTerminations": [0],
        "DeadlineCronActive": false,
    })
}

fn kinds(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    }
}

/// Makes the call as the manager does. `None` if it is not a call about the chain's state, messages or keys.
async fn call(node: &NodeClient<Double>, method: &str) -> Option<Result<(), Error>> {
    let (at, address) = (TipSetKey(vec![message::parse_cid(CID).unwrap()]), miner());
    Some(match method {
        "ChainHead" => node.chain_head().await.map(drop),
        "ChainGetTipSetByHeight" => node.tipset_by_height(1, &at).await.map(drop),
        "StateNetworkName" => node.network_name().await.map(drop),
        "StateNetworkVersion" => node.network_version(&at).await.map(drop),
        "StateGetNetworkParams" => node.network_params().await.map(drop),
        "StateAccountKey" => node.account_key(&address, &at).await.map(drop),
        "StateLookupID" => node.lookup_id(&address, &at).await.map(drop),
        "WalletHas" => node.wallet_has(&address).await.map(drop),
        "WalletSignMessage" => match node.wallet_sign_message(&prove_message()).await {
            Ok(_) => Ok(()),
            Err(SignError::Node(error)) => Err(error),
            Err(error) => panic!("{error:?}"),
        },
        "MpoolGetNonce" => node.mpool_get_nonce(&key().1).await.map(drop),
        "MpoolPush" => node.mpool_push(&signed()).await.map(drop),
        "MpoolPending" => node.mpool_has(&signed()).await.map(drop),
        "GasEstimateMessageGas" => node.gas_estimate(&prove_message(), &at).await.map(drop),
        "StateSearchMsg" => node.search_msg(&at, 100, &signed().cid().unwrap(), Some(30), true).await.map(drop),
        "StateGetRandomnessFromTickets" => {
            node.randomness_from_tickets(Domain::SealRandomness, 1, 1000, &at).await.map(drop)
        }
        "StateGetRandomnessFromBeacon" => {
            node.randomness_from_beacon(Domain::InteractiveSealChallengeSeed, 1, 1000, &at).await.map(drop)
        }
        "StateMinerInfo" => node.miner_info(&address, &at).await.map(drop),
        "StateSectorPreCommitInfo" => node.sector_pre_commit_info(&address, 1, &at).await.map(drop),
        "StateSectorGetInfo" => node.sector_info(&address, 1, &at).await.map(drop),
        "StateSectorPartition" => node.sector_partition(&address, 1, &at).await.map(drop),
        "StateMinerSectorAllocated" => node.sector_allocated(&address, 1, &at).await.map(drop),
        "StateMinerAllocated" => node.allocated(&address, &at).await.map(drop),
        "StateMinerProvingDeadline" => node.miner_proving_deadline(&address, &at).await.map(drop),
        "StateMinerPreCommitDepositForPower" => {
            let info = SectorPreCommitInfo {
                seal_proof: 8.into(),
                sector_number: 1,
                sealed_cid: sealed_cid(&[1; 32]).unwrap(),
                seal_rand_epoch: 1,
                deal_ids: vec![],
                expiration: 2,
                unsealed_cid: None,
            };
            node.pre_commit_deposit_for_power(&address, &info, &at).await.map(drop)
        }
        "StateMinerPartitions" => node.miner_partitions(&address, 3, &at).await.map(drop),
        "StateMinerSectors" => node.miner_sectors(&address, &SectorSet::from_numbers([1, 7]), &at).await.map(drop),
        "ChainReadObj" => {
            let vesting = Vesting { epoch: 1, amount: TokenAmount::default(), tail: at.0[0] };
            node.vesting(&MinerFunds { vesting: Some(vesting), ..MinerFunds::default() }).await.map(drop)
        }
        "StateReadState" => node.miner_funds(&address, &at).await.map(drop),
        "StateCall" => node.try_message(&prove_message(), &at).await.map(drop),
        "StateMinerCreationDeposit" => node.creation_deposit(&at).await.map(drop),
        "StateMinerInitialPledgeForSector" => node.initial_pledge_for_sector(1, 2048, 0, &at).await.map(drop),
        "StateMinerAvailableBalance" => node.available_balance(&address, &at).await.map(drop),
        "ChainGetTipSetAfterHeight" => node.tipset_after_height(1, &at).await.map(drop),
        "ChainGetMessagesInTipset" => node.messages_in_tipset(&at).await.map(drop),
        "StateReplay" => node.replay(&at, &message::parse_cid(CID).unwrap()).await.map(drop),
        "StateMinerDeadlines" => node.daily_fee(&address, 0, &at).await.map(drop),
        "StateGetActor" => node.get_actor(&address, &at).await.map(drop),
        // See `chain_rpc` and the tests of `nodes`.
        "AuthVerify" | "ChainGetGenesis" => return None,
        other => panic!("{other} is described, and the manager does not call it"),
    })
}

fn described_node(filled: Filled) -> NodeClient<Double> {
    let described = Described::read();
    node(move |method, _| Ok(described.answer(method, filled)))
}

#[tokio::test]
async fn what_is_sent_to_each_method_fits_its_description() {
    let described = Described::read();
    for (method, _) in described.methods() {
        let node = described_node(Filled::Fully);
        let _ = call(&node, method).await;
        for (called, params) in node.transport().calls.lock().unwrap().iter() {
            let expected = described.method(called)["params"].as_array().unwrap();
            let params = params.as_array().unwrap();
            assert_eq!(params.len(), expected.len(), "{called}: {params:?}");
            for (param, expected) in params.iter().zip(expected) {
                let fits = described.check(&expected["schema"], param);
                assert_eq!(fits, Ok(()), "{called}, {}: {param}", expected["name"]);
            }
        }
    }
}

#[tokio::test]
async fn every_answer_that_fits_the_description_is_read_with_all_fields_or_only_those_that_it_must_have() {
    let described = Described::read();
    for filled in [Filled::Fully, Filled::Barely] {
        for (method, description) in described.methods() {
            let answer = described.answer(method, filled);
            assert_eq!(described.check(&description["result"]["schema"], &answer), Ok(()), "{method}: {answer}");
            let read = call(&described_node(filled), method).await.unwrap_or(Ok(()));
            match (method, filled) {
                // Bytes may be null in general, but not these.
                ("StateGetRandomnessFromTickets" | "StateGetRandomnessFromBeacon", Filled::Barely) => {
                    assert!(matches!(read, Err(Error::BadAnswer { .. })), "{method}: {read:?}");
                }
                // A call without a receipt was not executed.
                ("StateCall", Filled::Barely) => assert!(matches!(read, Err(Error::Refused { .. })), "{read:?}"),
                _ => assert!(read.is_ok(), "{method}, {filled:?}: {read:?}\n{answer}"),
            }
        }
    }
}

#[tokio::test]
async fn a_signature_names_its_kind_by_a_number_or_a_word() {
    for kind in [json!(2), json!("Bls"), json!("bls")] {
        let node = node(move |_, _| {
            let mut answer = signed().to_json(Network::Testnet);
            answer["Signature"]["Type"] = kind.clone();
            Ok(answer)
        });
        node.wallet_sign_message(&prove_message()).await.unwrap();
    }
}

#[test]
fn every_method_that_the_client_names_is_described() {
    let sources = [
        include_str!("../../src/chain/node.rs"),
        include_str!("../../src/chain/node/care.rs"),
        include_str!("../../src/chain/node/messages.rs"),
        include_str!("../../src/chain/node/money.rs"),
        include_str!("../../src/chain/node/randomness.rs"),
        include_str!("../../src/chain/node/state.rs"),
        include_str!("../../src/chain/nodes/look.rs"),
        include_str!("../../src/chain/rpc.rs"),
    ];
    let is_method = |word: &&str| {
        let kinds = ["Auth", "Chain", "Gas", "Mpool", "State", "Wallet"];
        kinds.iter().any(|kind| word.starts_with(kind)) && word.chars().all(|c| c.is_ascii_alphabetic())
    };
    let named: BTreeSet<&str> = sources.iter().flat_map(|text| text.split('"')).filter(is_method).collect();
    let described = Described::read();
    let known: BTreeSet<&str> = described.methods().map(|(name, _)| name).collect();
    assert_eq!(named, known);
}
