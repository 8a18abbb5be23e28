//! The client can read every recorded answer of a real Lotus, with its exact form and wording.

use fvm_shared::address::Address;
use sealbus_manager::chain::commitment::sealed_cid;
use sealbus_manager::chain::exit::ExitCode;
use sealbus_manager::chain::json::parse_address;
use sealbus_manager::chain::message::{self, SignedMessage};
use sealbus_manager::chain::node::SignError;
use sealbus_manager::chain::params::SectorPreCommitInfo;
use sealbus_manager::chain::randomness::Domain;
use sealbus_manager::chain::types::TipSetKey;
use sealbus_manager::chain::{Error, NodeClient, PushRefusal, RpcClient};
use serde_json::Value;

use super::{Behaviour, Server};

/// One call and its answer.
struct Recorded {
    method: String,
    params: Value,
    answer: Value,
}

fn recorded() -> Vec<Recorded> {
    let lines = include_str!("recorded.jsonl").lines();
    let read = |line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let method = line["method"].as_str().unwrap().to_owned();
        Recorded { method, params: line["params"].take(), answer: line["answer"].take() }
    };
    lines.map(read).collect()
}

fn all_of(method: &str) -> Vec<Recorded> {
    let all: Vec<_> = recorded().into_iter().filter(|call| call.method == method).collect();
    assert!(!all.is_empty(), "nothing recorded of {method}");
    all
}

impl Recorded {
    fn error(&self) -> Option<&str> {
        self.answer.pointer("/error/message").and_then(Value::as_str)
    }

    /// A client of a node that gives this answer to the call, and also says what its head is.
    async fn node(&self) -> (Server, NodeClient<RpcClient>) {
        let head = all_of("ChainHead").remove(0).answer;
        let answers = vec![(self.method.clone(), self.answer.clone()), ("ChainHead".to_owned(), head)];
        let server = Server::start(Behaviour::ByMethod(answers)).await;
        let client = server.client(None);
        (server, NodeClient::new(client))
    }

    fn address(&self) -> Address {
        parse_address(self.params[0].as_str().unwrap()).unwrap().0
    }

    fn signed(&self) -> SignedMessage {
        let unsigned = message::from_json(self.params[0]["Message"].clone()).unwrap();
        SignedMessage::from_wallet(&unsigned, self.params[0].clone()).unwrap()
    }
}

/// Calls the method as the manager does. Returns the error that the client derives from the answer.
async fn outcome(call: &Recorded) -> Option<Error> {
    let (_server, node) = call.node().await;
    let (key, params) = (TipSetKey::head(), &call.params);
    let outcome = match call.method.as_str() {
        "StateNetworkName" => node.network_name().await.map(drop),
        "StateNetworkVersion" => node.network_version(&key).await.map(|version| assert_eq!(version, 28)),
        "ChainHead" => node.chain_head().await.map(|head| assert!(head.base_fee().is_some())),
        "StateMinerInfo" => node.miner_info(&call.address(), &key).await.map(drop),
        "StateAccountKey" => node.account_key(&call.address(), &key).await.map(drop),
        "WalletHas" => node.wallet_has(&call.address()).await.map(drop),
        "StateGetNetworkParams" => node.network_params().await.map(|read| assert_eq!(read.block_delay_secs, 4)),
        "ChainGetTipSetByHeight" => {
            let height = params[0].as_i64().unwrap();
            node.tipset_by_height(height, &key).await.map(|tipset| assert_eq!(tipset.height, height))
        }
        "StateMinerAllocated" => node.allocated(&call.address(), &key).await.map(drop),
        "StateGetRandomnessFromTickets" => node
            .randomness_from_tickets(Domain::SealRandomness, params[1].as_i64().unwrap(), 1003, &key)
            .await
            .map(drop),
        "StateGetRandomnessFromBeacon" => node
            .randomness_from_beacon(Domain::InteractiveSealChallengeSeed, params[1].as_i64().unwrap(), 1003, &key)
            .await
            .map(drop),
        "StateSectorPreCommitInfo" => {
            node.sector_pre_commit_info(&call.address(), params[1].as_u64().unwrap(), &key).await.map(drop)
        }
        "StateSectorGetInfo" => node.sector_info(&call.address(), params[1].as_u64().unwrap(), &key).await.map(drop),
        "StateMinerSectorAllocated" => {
            node.sector_allocated(&call.address(), params[1].as_u64().unwrap(), &key).await.map(drop)
        }
        "StateMinerPreCommitDepositForPower" => {
            let info = SectorPreCommitInfo {
                seal_proof: 5.into(),
                sector_number: 1,
                sealed_cid: sealed_cid(&[1; 32]).unwrap(),
                seal_rand_epoch: -873,
                deal_ids: vec![],
                expiration: 607_717,
                unsealed_cid: None,
            };
            node.pre_commit_deposit_for_power(&call.address(), &info, &key).await.map(drop)
        }
        "StateMinerInitialPledgeForSector" => node.initial_pledge_for_sector(607_655, 2048, 0, &key).await.map(drop),
        "GasEstimateMessageGas" => {
            let unsigned = message::from_json(params[0].clone()).unwrap();
            node.gas_estimate(&unsigned, &key).await.map(|gas| assert!(gas.limit > 0))
        }
        "MpoolGetNonce" => node.mpool_get_nonce(&call.address()).await.map(drop),
        "WalletSignMessage" => {
            let unsigned = message::from_json(params[1].clone()).unwrap();
            match node.wallet_sign_message(&unsigned).await {
                Ok(_) => Ok(()),
                Err(SignError::Node(error)) => Err(error),
                Err(error) => panic!("{error:?}"),
            }
        }
        "MpoolPush" => node.mpool_push(&call.signed()).await.map(drop),
        "StateSearchMsg" => {
            let cid = message::parse_cid(params[1]["/"].as_str().unwrap()).unwrap();
            node.search_msg(&key, i64::MAX, &cid, Some(30), true).await.map(drop)
        }
        "StateGetActor" => node.get_actor(&call.address(), &key).await.map(|actor| assert!(actor.is_some())),
        "StateMinerAvailableBalance" => node.available_balance(&call.address(), &key).await.map(drop),
        other => panic!("the manager does not call {other}: write down how it does"),
    };
    outcome.err()
}

#[tokio::test]
async fn every_recorded_result_is_read_and_every_recorded_error_is_one() {
    for call in recorded() {
        let read = outcome(&call).await;
        // For a push this means success, although the node reports it as an error.
        let known = call.error().is_some_and(|text| text.contains("message with nonce already exists"));
        assert_eq!(read.is_some(), call.error().is_some() && !known, "{}: {read:?}", call.method);
        if let (Some(error), Some(text)) = (&read, call.error()) {
            let one_line = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
            assert!(error.to_string().contains(&one_line), "the whole text, in one line: {error}");
        }
    }
}

#[tokio::test]
async fn the_exit_code_of_an_aborted_trial_is_found_on_the_last_line() {
    for call in all_of("GasEstimateMessageGas") {
        let Some(text) = call.error() else { continue };
        let error = outcome(&call).await.unwrap();
        let code = text.rsplit_once("(RetCode=").map(|(_, rest)| rest.split(')').next().unwrap().parse().unwrap());
        assert_eq!(error.exit_code().map(ExitCode::value), code, "{text}");
        assert_eq!(error.is_sender_unknown(), text.contains("sender validation failed"), "{text}");
        assert_eq!(error.is_not_enough_funds(), code == Some(6), "{text}");
    }
}

#[tokio::test]
async fn the_refusals_of_the_pool_are_told_apart() {
    let mut seen = Vec::new();
    for call in all_of("MpoolPush") {
        let Some(text) = call.error() else { continue };
        let Some(error) = outcome(&call).await else { continue };
        let expected = match text {
            text if text.contains("missing permission") => None,
            text if text.contains("increase GasPremium") => {
                Some(PushRefusal::NonceTaken { premium_min_atto: Some(330_001) })
            }
            text if text.contains("nonce too low") => Some(PushRefusal::NonceUsed),
            text if text.contains("fee cap too low") => Some(PushRefusal::FeeCapTooLow),
            text if text.contains("not enough funds") => Some(PushRefusal::NotEnoughFunds),
            text => panic!("{text}"),
        };
        assert_eq!(error.push_refusal(), expected, "{text}");
        seen.push(expected);
    }
    assert_eq!(seen.len(), 10, "two of each: {seen:?}");
}

#[tokio::test]
async fn a_replaced_message_is_an_answer_and_no_failure_of_the_node() {
    let mut replaced = 0;
    for call in all_of("StateSearchMsg") {
        if let Some(error) = outcome(&call).await {
            assert!(error.is_replaced() && !error.is_message_unknown() && !error.is_transient(), "{error}");
            replaced += 1;
        }
    }
    assert_eq!(replaced, 4, "with and without the prefix");
}

#[tokio::test]
async fn a_token_without_the_permission_needs_a_person() {
    for method in ["WalletHas", "WalletSignMessage", "MpoolPush"] {
        let denied =
            all_of(method).into_iter().find(|call| call.error().is_some_and(|text| text.contains("permission")));
        assert!(outcome(&denied.unwrap()).await.unwrap().needs_person(), "{method}");
    }
}
