//! Methods about miners: information, money, power and deadlines.

use fil_actor_miner_state::v19::{self as actor, PowerPair, SECTOR_QUALITY_PRECISION};
use fvm_shared::bigint::BigInt;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::sector::{RegisteredSealProof, SectorSize};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{RpcError, state_error};
use super::form;
use super::params::Params;
use crate::devnet::blocks::{for_each_partition, network_power};
use crate::devnet::config::parse_sector_size;
use crate::devnet::economics::with_margin;
use crate::devnet::node::Node;
use crate::devnet::view::{MinerView, View};

/// The miner in the first parameter, in the view of the tipset key in parameter `key`.
pub fn load<'a>(node: &'a Node, params: &Params<'_>, key: usize) -> Result<(View<'a>, MinerView), RpcError> {
    let address = params.address(0)?;
    let view = node.view(params.tipset_key(key)?.as_ref())?;
    let miner = view.miner(&address)?;
    Ok((view, miner))
}

pub fn info(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let (_, miner) = load(node, params, 1)?;
    Ok(form::miner_info(&miner.info))
}

pub fn available_balance(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let (view, miner) = load(node, params, 1)?;
    let failed = state_error("failed to compute the available balance");
    let available = miner.state.get_available_balance(&miner.actor.balance).map_err(failed)?;
    let vested = miner.state.check_vested_funds(view.store, view.tipset.height());
    let vested = vested.map_err(state_error("failed to compute vested funds"))?;
    Ok(form::amount(&(available + vested)))
}

pub fn power(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let (view, miner) = load(node, params, 1)?;
    let mut total = PowerPair::zero();
    for_each_partition(&view, &miner, |partition| total += &partition.active_power())?;
    let has_min_power = total.raw >= node.policy.minimum_consensus_power;
    let claim =
        |power: &PowerPair| json!({"RawBytePower": form::big(&power.raw), "QualityAdjPower": form::big(&power.qa)});
    let network = network_power(node, &view)?;
    Ok(json!({"MinerPower": claim(&total), "TotalPower": claim(&network), "HasMinPower": has_min_power}))
}

pub fn proving_deadline(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let (view, miner) = load(node, params, 1)?;
    let info = miner.state.deadline_info(&node.policy, view.tipset.height()).next_not_elapsed();
    serde_json::to_value(info).map_err(|error| RpcError::internal(error.to_string()))
}

pub fn deadlines(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let (view, miner) = load(node, params, 1)?;
    let failed = |error: fil_actors_shared::v19::ActorError| RpcError::generic(error.to_string());
    let deadlines = miner.state.load_deadlines(view.store).map_err(failed)?;
    let mut values = Vec::new();
    for index in 0..deadlines.due.len() as u64 {
        let deadline = deadlines.load_deadline(view.store, index).map_err(failed)?;
        let disputable = deadline.optimistic_proofs_snapshot_amt(view.store);
        let disputable = disputable.map_err(state_error("failed to read proofs"))?.count();
        values.push(json!({
            "PostSubmissions": form::bitfield(&deadline.partitions_posted),
            "DisputableProofCount": disputable,
            "DailyFee": form::amount(&deadline.daily_fee),
        }));
    }
    Ok(values.into())
}

pub fn partitions(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let (view, miner) = load(node, params, 2)?;
    let failed = |error: fil_actors_shared::v19::ActorError| RpcError::generic(error.to_string());
    let deadlines = miner.state.load_deadlines(view.store).map_err(failed)?;
    let deadline = deadlines.load_deadline(view.store, params.decode(1)?).map_err(failed)?;
    let mut values = Vec::new();
    let visited = deadline.for_each(view.store, |_, partition| {
        values.push(json!({
            "AllSectors": form::bitfield(&partition.sectors),
            "FaultySectors": form::bitfield(&partition.faults),
            "RecoveringSectors": form::bitfield(&partition.recoveries),
            "LiveSectors": form::bitfield(&partition.live_sectors()),
            "ActiveSectors": form::bitfield(&partition.active_sectors()),
        }));
        Ok(())
    });
    visited.map_err(state_error("failed to read partitions"))?;
    Ok(form::list(values))
}

/// The fields of a pre-commit that its deposit depends on.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DepositQuery {
    seal_proof: i64,
}

pub fn pre_commit_deposit(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let query: DepositQuery = params.decode(1)?;
    load(node, params, 2)?;
    let proof = RegisteredSealProof::from(query.seal_proof);
    let size =
        proof.sector_size().map_err(|error| RpcError::generic(format!("failed to get resolve size: {error}")))?;
    Ok(form::amount(&with_margin(&node.economics.pre_commit_deposit(size))))
}

pub fn creation_deposit(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let tipset = node.tipset(params.tipset_key(0)?.as_ref())?;
    Ok(form::amount(&node.economics.create_miner_deposit(&node.policy, tipset.height())))
}

pub fn initial_pledge(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let duration: ChainEpoch = params.decode(0)?;
    let size: u64 = params.decode(1)?;
    let verified: u64 = params.decode(2)?;
    let tipset = node.tipset(params.tipset_key(3)?.as_ref())?;
    if duration <= 0 {
        return Err(RpcError::generic("sector duration must greater than 0"));
    }
    if size == 0 {
        return Err(RpcError::generic("sector size must be non-zero"));
    }
    if verified > size {
        return Err(RpcError::generic("verified deal size must be less than sector size"));
    }
    let size: SectorSize =
        parse_sector_size(&size.to_string()).map_err(|error| RpcError::generic(error.to_string()))?;
    let weight = BigInt::from(verified) * duration;
    let quality = actor::quality_for_weight(size, duration, &weight);
    let qa_power = (BigInt::from(size as u64) * quality) >> SECTOR_QUALITY_PRECISION;
    let pledge = node.economics.initial_pledge(&qa_power, tipset.height());
    Ok(form::amount(&with_margin(&pledge)))
}
