//! Messages, their CIDs and signatures, as the chain defines them.

use cid::Cid;
use fvm_ipld_encoding::{DAG_CBOR, to_vec};
use fvm_shared::crypto::signature::{Signature, SignatureType};
use fvm_shared::econ::TokenAmount;
use fvm_shared::message::Message;
use multihash_codetable::{Code, MultihashDigest};
use serde::Serialize;
use thiserror::Error;

/// A message or header could not be encoded. Possible only for values that no decoder produces.
#[derive(Debug, Error)]
#[error("failed to encode as CBOR")]
pub struct EncodeError(#[from] fvm_ipld_encoding::Error);

/// The CID (dag-cbor, blake2b-256) of an encodable object.
pub fn cbor_cid<T: Serialize>(object: &T) -> Result<Cid, EncodeError> {
    let bytes = to_vec(object)?;
    Ok(Cid::new_v1(DAG_CBOR, Code::Blake2b256.digest(&bytes)))
}

/// The CID of an unsigned message. It is what the signature covers, and what identifies a BLS message on chain.
pub fn message_cid(message: &Message) -> Result<Cid, EncodeError> {
    cbor_cid(message)
}

/// The maximum cost of a message for its sender: gas at the fee cap, plus the value.
pub fn required_funds(message: &Message) -> TokenAmount {
    gas_funds(message) + &message.value
}

/// The maximum cost of a message's gas.
pub fn gas_funds(message: &Message) -> TokenAmount {
    &message.gas_fee_cap * message.gas_limit
}

/// Whether two messages make the same call, ignoring gas and signature.
pub fn equal_call(a: &Message, b: &Message) -> bool {
    a.version == b.version
        && a.from == b.from
        && a.to == b.to
        && a.sequence == b.sequence
        && a.value == b.value
        && a.method_num == b.method_num
        && a.params == b.params
}

/// A message with its sender's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedMessage {
    /// The message.
    pub message: Message,
    /// The signature over the bytes of the message's CID.
    pub signature: Signature,
}

impl SignedMessage {
    /// The CID that the chain uses: that of the unsigned message if it is signed with BLS, otherwise that of the signed
    /// one.
    pub fn cid(&self) -> Result<Cid, EncodeError> {
        match self.signature.signature_type() {
            SignatureType::BLS => message_cid(&self.message),
            SignatureType::Secp256k1 => cbor_cid(&(&self.message, &self.signature)),
        }
    }

    /// The size of the message in bytes, as the mempool counts it.
    pub fn chain_length(&self) -> Result<usize, EncodeError> {
        let length = match self.signature.signature_type() {
            SignatureType::BLS => to_vec(&self.message)?.len(),
            SignatureType::Secp256k1 => to_vec(&(&self.message, &self.signature))?.len(),
        };
        Ok(length)
    }

    /// Checks the signature against the sender's key address.
    pub fn verify(&self) -> Result<(), String> {
        let cid = message_cid(&self.message).map_err(|error| error.to_string())?;
        self.signature.verify(&cid.to_bytes(), &self.message.from)
    }
}

#[cfg(test)]
mod tests {
    use fvm_ipld_encoding::RawBytes;
    use fvm_shared::address::Address;

    use super::*;

    #[test]
    fn the_cid_of_the_default_message_is_the_known_one() {
        let message = Message {
            version: 0,
            from: Address::new_id(0),
            to: Address::new_id(0),
            sequence: 0,
            value: TokenAmount::default(),
            method_num: 0,
            params: RawBytes::default(),
            gas_limit: 0,
            gas_fee_cap: TokenAmount::default(),
            gas_premium: TokenAmount::default(),
        };
        let cid = message_cid(&message).expect("encodes").to_string();
        assert!(cid.starts_with("bafy2bzaced3xdk2u"), "{cid}");
    }
}
