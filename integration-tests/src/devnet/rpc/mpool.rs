//! Methods about the mempool.

use serde_json::Value;

use super::error::RpcError;
use super::form;
use super::params::Params;
use crate::devnet::node::Node;

pub fn get_nonce(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    Ok(node.next_nonce(&params.address(0)?)?.into())
}

pub fn push(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let cid = node.push(params.signed_message(0)?)?;
    Ok(form::cid(&cid))
}

pub fn pending(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    node.tipset(params.tipset_key(0)?.as_ref())?;
    let pending = node.mempool.pending();
    let values: Result<Vec<Value>, _> = pending.iter().map(|(_, signed)| form::signed_message(signed)).collect();
    Ok(form::list(values?))
}
