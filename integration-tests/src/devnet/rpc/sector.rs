//! Methods about a miner's sectors: allocated numbers, pre-commits, sectors and their deadlines.

use fil_actor_miner_state::v19::{ExpirationQueue, Sectors};
use fil_actors_shared::v19::ActorError;
use fvm_ipld_bitfield::BitField;
use fvm_ipld_encoding::CborStore;
use fvm_shared::clock::ChainEpoch;
use serde_json::{Value, json};

use super::error::{RpcError, state_error};
use super::form;
use super::miner::load;
use super::params::Params;
use crate::devnet::blocks::for_each_partition;
use crate::devnet::node::Node;
use crate::devnet::view::{MinerView, View};

fn actor_failed(error: ActorError) -> RpcError {
    RpcError::generic(error.to_string())
}

fn allocation(view: &View<'_>, miner: &MinerView) -> Result<BitField, RpcError> {
    let found: Option<BitField> =
        view.store.get_cbor(&miner.state.allocated_sectors).map_err(state_error("failed to load allocated sectors"))?;
    found.ok_or_else(|| RpcError::generic("allocated sectors bitfield not found"))
}

pub fn allocated(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let (view, miner) = load(node, params, 1)?;
    Ok(form::bitfield(&allocation(&view, &miner)?))
}

pub fn is_allocated(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let (view, miner) = load(node, params, 2)?;
    let number: u64 = params.decode(1)?;
    Ok(allocation(&view, &miner)?.get(number).into())
}

pub fn sectors(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let (view, miner) = load(node, params, 2)?;
    let filter = params.bitfield(1)?;
    let sectors = Sectors::load(view.store, &miner.state.sectors);
    let sectors = sectors.map_err(|error| RpcError::generic(format!("failed to load sectors: {error}")))?;
    let mut values = Vec::new();
    let visited = sectors.amt.for_each(|number, sector| {
        if filter.as_ref().is_none_or(|filter| filter.get(number)) {
            values.push(form::sector(sector));
        }
        Ok(())
    });
    visited.map_err(|error| RpcError::generic(format!("failed to read sectors: {error}")))?;
    Ok(form::list(values))
}

pub fn active_sectors(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let (view, miner) = load(node, params, 1)?;
    let mut active = BitField::new();
    for_each_partition(&view, &miner, |partition| active |= &partition.active_sectors())?;
    let sectors = miner.state.load_sector_infos(view.store, &active);
    let sectors = sectors.map_err(state_error("failed to load sectors"))?;
    Ok(form::list(sectors.iter().map(form::sector).collect()))
}

pub fn faults(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let (view, miner) = load(node, params, 1)?;
    let mut faults = BitField::new();
    for_each_partition(&view, &miner, |partition| faults |= &partition.faults)?;
    Ok(form::bitfield(&faults))
}

pub fn recoveries(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let (view, miner) = load(node, params, 1)?;
    let mut recoveries = BitField::new();
    for_each_partition(&view, &miner, |partition| recoveries |= &partition.recoveries)?;
    Ok(form::bitfield(&recoveries))
}

pub fn count(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let (view, miner) = load(node, params, 1)?;
    let (mut live, mut active, mut faulty) = (0, 0, 0);
    for_each_partition(&view, &miner, |partition| {
        live += partition.live_sectors().len();
        active += partition.active_sectors().len();
        faulty += partition.faults.len();
    })?;
    Ok(json!({"Live": live, "Active": active, "Faulty": faulty}))
}

pub fn info(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let (view, miner) = load(node, params, 2)?;
    let found = miner.state.get_sector(view.store, params.decode(1)?).map_err(actor_failed)?;
    Ok(found.as_ref().map_or(Value::Null, form::sector))
}

pub fn pre_commit_info(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let (view, miner) = load(node, params, 2)?;
    let found = miner.state.get_precommitted_sector(view.store, params.decode(1)?).map_err(actor_failed)?;
    Ok(found.as_ref().map_or(Value::Null, form::pre_commit))
}

pub fn partition(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let (view, miner) = load(node, params, 2)?;
    let (deadline, partition) = place(&view, &miner, params.decode(1)?)?;
    Ok(json!({"Deadline": deadline, "Partition": partition}))
}

fn place(view: &View<'_>, miner: &MinerView, number: u64) -> Result<(u64, u64), RpcError> {
    miner.state.find_sector(view.store, number).map_err(state_error("failed to find the sector"))
}

/// The epochs at which the sector expires: on time, and early if it stays faulty (0 if not scheduled).
pub fn expiration(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let (view, miner) = load(node, params, 2)?;
    let number: u64 = params.decode(1)?;
    let (deadline, partition) = place(&view, &miner, number)?;
    let deadlines = miner.state.load_deadlines(view.store).map_err(actor_failed)?;
    let loaded = deadlines.load_deadline(view.store, deadline).map_err(actor_failed)?;
    let partition = loaded.load_partition(view.store, partition).map_err(actor_failed)?;
    let quant = miner.state.quant_spec_for_deadline(&node.policy, deadline);
    let queue = ExpirationQueue::new(view.store, &partition.expirations_epochs, quant);
    let queue = queue.map_err(|error| RpcError::generic(format!("failed to load expirations: {error}")))?;
    let mut on_time: ChainEpoch = 0;
    let mut early: ChainEpoch = 0;
    let visited = queue.amt.for_each(|epoch, set| {
        if set.on_time_sectors.get(number) {
            on_time = epoch as ChainEpoch;
        }
        if set.early_sectors.get(number) {
            early = epoch as ChainEpoch;
        }
        Ok(())
    });
    visited.map_err(|error| RpcError::generic(format!("failed to read expirations: {error}")))?;
    // A terminated sector is in its partition until that is compacted.
    if on_time == 0 && early == 0 {
        return Err(RpcError::generic(format!("failed to find sector {number}")));
    }
    Ok(json!({"OnTime": on_time, "Early": early}))
}
