//! Methods about the network, actors, and where messages were executed.

use fvm_shared::address::Address;
use fvm_shared::clock::ChainEpoch;
use serde_json::{Value, json};

use super::error::RpcError;
use super::form;
use super::params::Params;
use crate::devnet::address::{id_to_text, to_text};
use crate::devnet::config::NETWORK_VERSION_MAX;
use crate::devnet::node::Node;
use crate::devnet::search::search;

/// The epoch that Lotus' 2k network reports for past upgrades: before genesis.
const PAST_UPGRADE: ChainEpoch = -1;
/// The epoch for an upgrade that is not planned, as in Lotus.
const FAR_UPGRADE: ChainEpoch = 999_999_999_999_999;

pub fn network_name(node: &mut Node, _: &Params<'_>) -> Result<Value, RpcError> {
    Ok(node.config.network_name.clone().into())
}

pub fn network_version(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let tipset = node.tipset(params.tipset_key(0)?.as_ref())?;
    Ok(node.config.network_version_at(tipset.height()).into())
}

pub fn network_params(node: &mut Node, _: &Params<'_>) -> Result<Value, RpcError> {
    let solstice = match (node.config.upgrade_epoch, node.config.network_version) {
        (Some(last), _) => last,
        (None, NETWORK_VERSION_MAX) => PAST_UPGRADE,
        (None, _) => FAR_UPGRADE,
    };
    Ok(json!({
        "NetworkName": node.config.network_name,
        "BlockDelaySecs": node.config.block_delay_secs,
        "ConsensusMinerMinPower": node.policy.minimum_consensus_power.to_string(),
        "PreCommitChallengeDelay": node.policy.pre_commit_challenge_delay,
        "ForkUpgradeParams": {"UpgradeSolsticeHeight": solstice},
        "Eip155ChainID": 31_415_926,
        "GenesisTimestamp": node.config.genesis_timestamp,
    }))
}

pub fn get_actor(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let address = params.address(0)?;
    let view = node.view(params.tipset_key(1)?.as_ref())?;
    let (_, actor) = view.actor(&address)?;
    Ok(json!({
        "Code": form::cid(&actor.kind.code()),
        "Head": form::cid(&actor.head),
        "Nonce": actor.nonce,
        "Balance": form::amount(&actor.balance),
        "DelegatedAddress": actor.key().as_ref().map(form::address),
    }))
}

pub fn account_key(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let address = params.address(0)?;
    let view = node.view(params.tipset_key(1)?.as_ref())?;
    let key = view.world.account_key(&address).ok_or_else(|| no_account(&address))?;
    Ok(form::address(&key))
}

fn no_account(address: &Address) -> RpcError {
    let text = to_text(address);
    RpcError::generic(format!("failed to get account actor state for {text}: actor not found or not an account"))
}

pub fn lookup_id(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let address = params.address(0)?;
    let view = node.view(params.tipset_key(1)?.as_ref())?;
    let (id, _) = view.actor(&address)?;
    Ok(id_to_text(id).into())
}

pub fn list_miners(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let view = node.view(params.tipset_key(0)?.as_ref())?;
    let miners = view.world.miners().into_iter().map(|id| id_to_text(id).into());
    Ok(form::list(miners.collect()))
}

pub fn search_message(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let from = node.tipset(params.tipset_key(0)?.as_ref())?;
    let cid = params.cid(1)?;
    let limit = params.decode(2)?;
    let found = search(&node.chain, &from, &cid, limit, params.decode(3)?)?;
    Ok(found.as_ref().map_or(Value::Null, form::lookup))
}
