//! Decodes the parameters of a call one by one. Errors name the call.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cid::Cid;
use fvm_ipld_bitfield::BitField;
use fvm_ipld_bitfield::json::BitFieldJson;
use fvm_ipld_encoding::RawBytes;
use fvm_shared::address::Address;
use fvm_shared::bigint::BigInt;
use fvm_shared::crypto::signature::Signature;
use fvm_shared::econ::TokenAmount;
use fvm_shared::message::Message;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::RpcError;
use crate::devnet::address;
use crate::devnet::message::SignedMessage;

/// The maximum number of decimal digits in an amount.
const AMOUNT_DIGITS_MAX: usize = 40;

/// The parameters of one call.
pub struct Params<'a> {
    method: &'a str,
    values: &'a [Value],
}

impl<'a> Params<'a> {
    /// Checks that the call has the right number of parameters.
    pub fn new(method: &'a str, wanted: usize, params: Option<&'a Value>) -> Result<Self, RpcError> {
        let values: &[Value] = match params {
            None | Some(Value::Null) => &[],
            Some(Value::Array(values)) => values,
            Some(_) => {
                return Err(RpcError::parse(format!("unmarshaling params for '{method}': not an array")));
            }
        };
        if values.len() != wanted {
            return Err(RpcError::parameter_count(method, values.len(), wanted));
        }
        Ok(Self { method, values })
    }

    /// A parameter as JSON.
    pub fn value(&self, index: usize) -> &Value {
        self.values.get(index).unwrap_or(&Value::Null)
    }

    /// Decodes a parameter with serde.
    pub fn decode<T: DeserializeOwned>(&self, index: usize) -> Result<T, RpcError> {
        T::deserialize(self.value(index)).map_err(|error| self.bad(index, error))
    }

    /// An address with either prefix.
    pub fn address(&self, index: usize) -> Result<Address, RpcError> {
        parse_address(&self.decode::<String>(index)?).map_err(|error| self.bad(index, error))
    }

    /// A CID in its JSON form.
    pub fn cid(&self, index: usize) -> Result<Cid, RpcError> {
        parse_cid(self.value(index)).map_err(|error| self.bad(index, error))
    }

    /// A tipset key. Null and the empty key mean the head.
    pub fn tipset_key(&self, index: usize) -> Result<Option<Cid>, RpcError> {
        let cids: Option<Vec<Value>> = self.decode(index)?;
        match cids.unwrap_or_default().as_slice() {
            [] => Ok(None),
            [cid] => parse_cid(cid).map(Some).map_err(|error| self.bad(index, error)),
            _ => Err(RpcError::generic("load tipset: block not found")),
        }
    }

    /// Bytes in base64; null means no bytes.
    pub fn bytes(&self, index: usize) -> Result<Vec<u8>, RpcError> {
        let text: Option<String> = self.decode(index)?;
        parse_bytes(text.as_deref()).map_err(|error| self.bad(index, error))
    }

    /// A bitfield as run lengths; null means `None`.
    pub fn bitfield(&self, index: usize) -> Result<Option<BitField>, RpcError> {
        let bitfield: Option<BitFieldJson> = self.decode(index)?;
        Ok(bitfield.map(BitField::from))
    }

    /// An unsigned message.
    pub fn message(&self, index: usize) -> Result<Message, RpcError> {
        let json: MessageJson = self.decode(index)?;
        json.read().map_err(|error| self.bad(index, error))
    }

    /// A signed message.
    pub fn signed_message(&self, index: usize) -> Result<SignedMessage, RpcError> {
        let json: SignedMessageJson = self.decode(index)?;
        json.read().map_err(|error| self.bad(index, error))
    }

    /// A parameter that cannot be read.
    pub fn bad(&self, index: usize, error: impl std::fmt::Display) -> RpcError {
        RpcError::parse(format!("unmarshaling params for '{}' (param: {index}): {error}", self.method))
    }
}

/// Parses an amount in attoFIL.
pub fn parse_amount(text: &str) -> Result<TokenAmount, String> {
    if text.is_empty() {
        return Ok(TokenAmount::default());
    }
    if text.len() > AMOUNT_DIGITS_MAX {
        return Err(format!("big int of {} digits is too long", text.len()));
    }
    let amount = BigInt::from_str(text).map_err(|_| format!("failed to parse bigint string: {text:?}"))?;
    Ok(TokenAmount::from_atto(amount))
}

/// Parses an address with either prefix.
pub fn parse_address(text: &str) -> Result<Address, String> {
    address::parse(text).map_err(|error| error.to_string())
}

/// Parses a CID in its JSON form.
pub fn parse_cid(value: &Value) -> Result<Cid, String> {
    let text = value.get("/").and_then(Value::as_str).ok_or("not a CID")?;
    Cid::from_str(text).map_err(|error| error.to_string())
}

/// Parses base64; `None` means no bytes.
pub fn parse_bytes(text: Option<&str>) -> Result<Vec<u8>, String> {
    STANDARD.decode(text.unwrap_or_default()).map_err(|error| error.to_string())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MessageJson {
    #[serde(default)]
    version: u64,
    to: String,
    from: String,
    #[serde(default)]
    nonce: u64,
    #[serde(default)]
    value: String,
    #[serde(default)]
    gas_limit: u64,
    #[serde(default)]
    gas_fee_cap: String,
    #[serde(default)]
    gas_premium: String,
    #[serde(default)]
    method: u64,
    #[serde(default)]
    params: Option<String>,
}

impl MessageJson {
    fn read(self) -> Result<Message, String> {
        Ok(Message {
            version: self.version,
            from: parse_address(&self.from)?,
            to: parse_address(&self.to)?,
            sequence: self.nonce,
            value: parse_amount(&self.value)?,
            method_num: self.method,
            params: RawBytes::new(parse_bytes(self.params.as_deref())?),
            gas_limit: self.gas_limit,
            gas_fee_cap: parse_amount(&self.gas_fee_cap)?,
            gas_premium: parse_amount(&self.gas_premium)?,
        })
    }
}

/// A signed message.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SignedMessageJson {
    message: MessageJson,
    signature: SignatureJson,
}

/// A signature.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct SignatureJson {
    #[serde(rename = "Type")]
    kind: u8,
    data: Option<String>,
}

impl SignatureJson {
    /// The signature.
    pub fn read(self) -> Result<Signature, String> {
        let data = parse_bytes(self.data.as_deref())?;
        match self.kind {
            1 => Ok(Signature::new_secp256k1(data)),
            2 => Ok(Signature::new_bls(data)),
            other => Err(format!("unknown signature type {other}")),
        }
    }
}

impl SignedMessageJson {
    /// The message.
    pub fn read(self) -> Result<SignedMessage, String> {
        Ok(SignedMessage { message: self.message.read()?, signature: self.signature.read()? })
    }
}
