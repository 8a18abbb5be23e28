//! Methods about the node's wallet.

use fvm_shared::address::Address;
use fvm_shared::econ::TokenAmount;
use serde_json::Value;

use super::error::RpcError;
use super::form;
use super::params::Params;
use crate::devnet::node::Node;
use crate::devnet::view::ViewError;

/// The key address of an account. An unknown key address is returned as it is.
fn key_of(node: &Node, address: &Address) -> Result<Address, RpcError> {
    let key = node.latest()?.world.account_key(address);
    key.ok_or_else(|| ViewError::ActorNotFound(crate::devnet::address::to_text(address)).into())
}

pub fn balance(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let address = params.address(0)?;
    let view = node.view(None)?;
    match view.actor(&address) {
        Ok((_, actor)) => Ok(form::amount(&actor.balance)),
        Err(ViewError::ActorNotFound(_)) => Ok(form::amount(&TokenAmount::default())),
        Err(error) => Err(error.into()),
    }
}

pub fn has(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let address = params.address(0)?;
    let key = node.latest()?.world.account_key(&address);
    Ok(key.is_some_and(|key| node.wallet.has(&key)).into())
}

pub fn list(node: &mut Node, _: &Params<'_>) -> Result<Value, RpcError> {
    Ok(form::list(node.wallet.list().iter().map(form::address).collect()))
}

pub fn sign(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let key = key_of(node, &params.address(0)?)?;
    let signature = node.wallet.sign(&key, &params.bytes(1)?)?;
    Ok(form::signature(&signature))
}

pub fn sign_message(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let key = key_of(node, &params.address(0)?)?;
    let signed = node.wallet.sign_message(&key, params.message(1)?)?;
    Ok(form::signed_message(&signed)?)
}
