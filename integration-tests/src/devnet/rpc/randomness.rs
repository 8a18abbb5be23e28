//! Methods about randomness: drawn values and digests.

use fvm_shared::clock::ChainEpoch;
use serde_json::Value;

use super::error::RpcError;
use super::form;
use super::params::Params;
use crate::devnet::execution::beacon_digest;
use crate::devnet::node::Node;
use crate::devnet::randomness::draw;

pub fn from_tickets(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    drawn(node, params, ticket)
}

pub fn from_beacon(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    drawn(node, params, beacon)
}

pub fn digest_from_tickets(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let digest = ticket(node, params, params.decode(0)?, 1)?;
    Ok(form::bytes(&digest))
}

pub fn digest_from_beacon(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let digest = beacon(node, params, params.decode(0)?, 1)?;
    Ok(form::bytes(&digest))
}

type Digest = fn(&Node, &Params<'_>, ChainEpoch, usize) -> Result<[u8; 32], RpcError>;

fn drawn(node: &Node, params: &Params<'_>, digest: Digest) -> Result<Value, RpcError> {
    let tag: i64 = params.decode(0)?;
    let epoch: ChainEpoch = params.decode(1)?;
    let entropy = params.bytes(2)?;
    let digest = digest(node, params, epoch, 3)?;
    Ok(form::bytes(&draw(&digest, tag, epoch, &entropy)))
}

fn ticket(node: &Node, params: &Params<'_>, epoch: ChainEpoch, key: usize) -> Result<[u8; 32], RpcError> {
    let tipset = node.tipset(params.tipset_key(key)?.as_ref())?;
    Ok(node.chain.ticket_digest(epoch, &tipset)?)
}

fn beacon(node: &Node, params: &Params<'_>, epoch: ChainEpoch, key: usize) -> Result<[u8; 32], RpcError> {
    let tipset = node.tipset(params.tipset_key(key)?.as_ref())?;
    Ok(beacon_digest(node.config.seed, epoch, tipset.height())?)
}
