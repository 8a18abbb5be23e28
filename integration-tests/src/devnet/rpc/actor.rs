//! Methods that show an actor's state, and how much FIL there is.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fil_actor_miner_state::v19::State;
use fvm_ipld_blockstore::Blockstore;
use fvm_ipld_encoding::CborStore;
use fvm_shared::address::Address;
use serde_json::{Value, json};

use super::error::{RpcError, state_error};
use super::form;
use super::params::Params;
use crate::devnet::node::Node;
use crate::devnet::world::{BURNT_FUNDS, Kind};

pub fn read_state(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let address = params.address(0)?;
    let view = node.view(params.tipset_key(1)?.as_ref())?;
    let (_, actor) = view.actor(&address)?;
    let state = match (actor.kind, &actor.robust) {
        (Kind::Miner, _) => {
            let state: Option<State> = view.store.get_cbor(&actor.head).map_err(state_error("failed to load state"))?;
            miner_state(&state.ok_or_else(|| RpcError::generic("failed to load state: ipld: not found"))?)
        }
        (Kind::Account, Some(key)) => json!({"Address": form::address(key)}),
        _ => json!({}),
    };
    Ok(json!({
        "Balance": form::amount(&actor.balance),
        "Code": form::cid(&actor.kind.code()),
        "State": state,
    }))
}

/// The fields of Go's struct. The vesting table begins in `Head`; `Tail` is the CID of the rest, a list of
/// `[epoch, amount]` that `ChainReadObj` gives.
fn miner_state(state: &State) -> Value {
    let vesting = state.vesting_funds.0.as_ref().map(|funds| {
        json!({
            "Head": {"Epoch": funds.head.epoch, "Amount": form::amount(&funds.head.amount)},
            "Tail": form::cid(&funds.tail),
        })
    });
    json!({
        "Info": form::cid(&state.info),
        "PreCommitDeposits": form::amount(&state.pre_commit_deposits),
        "LockedFunds": form::amount(&state.locked_funds),
        "VestingFunds": vesting,
        "FeeDebt": form::amount(&state.fee_debt),
        "InitialPledge": form::amount(&state.initial_pledge),
        "PreCommittedSectors": form::cid(&state.pre_committed_sectors),
        "PreCommittedSectorsCleanUp": form::cid(&state.pre_committed_sectors_cleanup),
        "AllocatedSectors": form::cid(&state.allocated_sectors),
        "Sectors": form::cid(&state.sectors),
        "ProvingPeriodStart": state.proving_period_start,
        "CurrentDeadline": state.current_deadline,
        "Deadlines": form::cid(&state.deadlines),
        "EarlyTerminations": form::bitfield(&state.early_terminations),
        "DeadlineCronActive": state.deadline_cron_active,
    })
}

pub fn read_object(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let cid = params.cid(0)?;
    let found = node.store.get(&cid).map_err(state_error("blockstore get"))?;
    let bytes = found.ok_or_else(|| RpcError::generic(format!("blockstore get: ipld: could not find {cid}")))?;
    Ok(STANDARD.encode(bytes).into())
}

pub fn circulating_supply(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    node.tipset(params.tipset_key(0)?.as_ref())?;
    Ok(form::amount(&node.economics.circulating_supply))
}

/// The supply that the actors reckon with. Only what is burnt is counted here, the rest is made up.
pub fn circulating_supply_internal(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let view = node.view(params.tipset_key(0)?.as_ref())?;
    let (_, burnt) = view.actor(&Address::new_id(BURNT_FUNDS))?;
    Ok(json!({
        "FilVested": form::amount(&node.economics.circulating_supply),
        "FilMined": "0",
        "FilBurnt": form::amount(&burnt.balance),
        "FilLocked": "0",
        "FilCirculating": form::amount(&node.economics.circulating_supply),
        "FilReserveDisbursed": "0",
    }))
}
