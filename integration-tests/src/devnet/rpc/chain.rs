//! Methods about tipsets.

use std::sync::Arc;

use serde_json::{Value, json};

use super::error::RpcError;
use super::form;
use super::params::Params;
use crate::devnet::chain::Change;
use crate::devnet::node::Node;
use crate::devnet::tipset::Tipset;

/// Lotus' version number for the v1 API (2.3.0).
const API_VERSION: u32 = 0x0002_0300;

pub fn version(node: &mut Node, _: &Params<'_>) -> Result<Value, RpcError> {
    Ok(json!({
        "Version": concat!("sealbus-devnet-", env!("CARGO_PKG_VERSION")),
        "APIVersion": API_VERSION,
        "BlockDelay": node.config.block_delay_secs,
    }))
}

pub fn chain_head(node: &mut Node, _: &Params<'_>) -> Result<Value, RpcError> {
    Ok(form::tipset(node.chain.head()))
}

pub fn chain_get_genesis(node: &mut Node, _: &Params<'_>) -> Result<Value, RpcError> {
    let head = node.chain.head().clone();
    Ok(form::tipset(&*node.chain.at_height(0, &head)?))
}

pub fn chain_get_tipset(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let key = params.tipset_key(0)?;
    Ok(form::tipset(&*node.tipset(key.as_ref())?))
}

pub fn chain_get_tipset_by_height(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let start = node.tipset(params.tipset_key(1)?.as_ref())?;
    Ok(form::tipset(&*node.chain.at_height(params.decode(0)?, &start)?))
}

pub fn chain_get_tipset_after_height(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let start = node.tipset(params.tipset_key(1)?.as_ref())?;
    Ok(form::tipset(&*node.chain.after_height(params.decode(0)?, &start)?))
}

pub fn chain_get_path(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let from = node.tipset(params.tipset_key(0)?.as_ref())?;
    let to = node.tipset(params.tipset_key(1)?.as_ref())?;
    let path = node.chain.path(from.cid, to.cid)?;
    Ok(form::list(changes(&path)))
}

/// Over HTTP. See [`super::channels`].
pub fn chain_notify(_: &mut Node, _: &Params<'_>) -> Result<Value, RpcError> {
    Err(RpcError::needs_channel("Filecoin.ChainNotify"))
}

/// The tipsets that leave and join the chain.
pub fn changes(path: &[(Change, Arc<Tipset>)]) -> Vec<Value> {
    let change = |(change, tipset): &(Change, Arc<Tipset>)| {
        let kind = match change {
            Change::Revert => "revert",
            Change::Apply => "apply",
        };
        json!({"Type": kind, "Val": form::tipset(tipset)})
    };
    path.iter().map(change).collect()
}
