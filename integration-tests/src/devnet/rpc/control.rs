//! Methods that control the test chain. No real node has them.
//!
//! | method | parameters | answer |
//! |---|---|---|
//! | `Devnet.Advance` | `[n]` | the clock's epoch after `n` more epochs |
//! | `Devnet.NullRounds` | `[n]` | null; the next `n` epochs have no block |
//! | `Devnet.Reorganise` | `[n, "again"]`, `"later"` or `"lost"` ([`Reverted`]) | null; the last `n` epochs are replaced |
//! | `Devnet.Upgrade` | `[epoch]` | null; the network has version 29 after this epoch |
//! | `Devnet.SetEpochMillis` | `[ms]` | null; 0 stops the clock |
//! | `Devnet.Fault` | `[{"kind": …}]` ([`Fault`]) | null |
//! | `Devnet.Stats` | `[]` | [`crate::devnet::stats::Stats`] |

use serde_json::Value;

use super::error::RpcError;
use super::params::Params;
use crate::devnet::faults::{Fault, Reverted};
use crate::devnet::node::Node;

/// The maximum number of epochs in one call.
const ADVANCE_MAX: u64 = 100_000;

pub(super) fn advance(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    for _ in 0..bounded(params)? {
        node.advance_epoch()?;
    }
    Ok(node.epoch().into())
}

pub(super) fn null_rounds(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    node.add_null_rounds(bounded(params)?);
    Ok(Value::Null)
}

pub(super) fn reorganise(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let (depth, messages): (u64, Reverted) = (bounded(params)?, params.decode(1)?);
    node.reorganise(depth, messages)?;
    Ok(Value::Null)
}

pub(super) fn upgrade(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    node.upgrade(params.decode(0)?)?;
    Ok(Value::Null)
}

pub(super) fn set_epoch_millis(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let set = node.set_epoch_millis(params.decode(0)?);
    set.map_err(|error| RpcError::generic(error.to_string()))?;
    Ok(Value::Null)
}

pub(super) fn fault(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let fault: Fault = params.decode(0)?;
    node.inject(fault);
    Ok(Value::Null)
}

pub(super) fn stats(node: &mut Node, _: &Params<'_>) -> Result<Value, RpcError> {
    serde_json::to_value(&node.stats).map_err(|error| RpcError::internal(error.to_string()))
}

fn bounded(params: &Params<'_>) -> Result<u64, RpcError> {
    let count: u64 = params.decode(0)?;
    if count > ADVANCE_MAX {
        return Err(RpcError::generic(format!("{count} epochs are too many for one call, at most {ADVANCE_MAX}")));
    }
    Ok(count)
}
