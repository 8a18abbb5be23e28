//! Unsigned messages in the node's JSON.

use fvm_ipld_encoding::RawBytes;
use fvm_shared::address::{Address, Network};
use fvm_shared::econ::TokenAmount;
use fvm_shared::message::Message;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Error;
use crate::chain::json as wire;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MessageJson {
    #[serde(default)]
    version: u64,
    #[serde(deserialize_with = "wire::address::deserialize")]
    to: Address,
    #[serde(deserialize_with = "wire::address::deserialize")]
    from: Address,
    nonce: u64,
    #[serde(deserialize_with = "wire::tokens::deserialize")]
    value: TokenAmount,
    gas_limit: u64,
    #[serde(deserialize_with = "wire::tokens::deserialize")]
    gas_fee_cap: TokenAmount,
    #[serde(deserialize_with = "wire::tokens::deserialize")]
    gas_premium: TokenAmount,
    method: u64,
    #[serde(default, deserialize_with = "wire::bytes::deserialize")]
    params: Vec<u8>,
}

/// An unsigned message as the node expects it.
pub fn to_json(message: &Message, network: Network) -> Value {
    json!({
        "Version": message.version,
        "To": wire::address_text(&message.to, network),
        "From": wire::address_text(&message.from, network),
        "Nonce": message.sequence,
        "Value": wire::tokens_text(&message.value),
        "GasLimit": message.gas_limit,
        "GasFeeCap": wire::tokens_text(&message.gas_fee_cap),
        "GasPremium": wire::tokens_text(&message.gas_premium),
        "Method": message.method_num,
        "Params": wire::base64_text(message.params.bytes()),
    })
}

/// Parses an unsigned message in the node's form. Ignores a CID beside the fields.
pub fn from_json(value: Value) -> Result<Message, Error> {
    let read: MessageJson = serde_json::from_value(value)?;
    Ok(Message {
        version: read.version,
        from: read.from,
        to: read.to,
        sequence: read.nonce,
        value: read.value,
        method_num: read.method,
        params: RawBytes::new(read.params),
        gas_limit: read.gas_limit,
        gas_fee_cap: read.gas_fee_cap,
        gas_premium: read.gas_premium,
    })
}
