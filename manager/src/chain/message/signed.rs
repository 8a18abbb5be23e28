//! Signed messages: checked when they are made, persisted as bytes, re-read as the same bytes.

use cid::Cid;
use fvm_ipld_encoding::tuple::{Deserialize_tuple, Serialize_tuple, serde_tuple};
use fvm_shared::address::Network;
use fvm_shared::crypto::signature::{Signature, SignatureType};
use fvm_shared::message::Message;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Error, SIGNED_BYTES_MAX, cid, cid_of_bytes, encode, from_json, signature_type, to_json};
use crate::chain::json as wire;

/// A message with its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct SignedMessage {
    message: Message,
    signature: Signature,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SignedMessageJson {
    message: Value,
    signature: SignatureJson,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SignatureJson {
    #[serde(rename = "Type")]
    kind: u8,
    #[serde(deserialize_with = "wire::bytes::deserialize")]
    data: Vec<u8>,
}

impl SignedMessage {
    /// Joins a message and its signature, if the one is the sender's over the other and both fit the message pool.
    pub fn new(message: Message, signature: Signature) -> Result<Self, Error> {
        let expected = signature_type(&message.from)?;
        let unsigned = cid(&message)?;
        let outcome = if signature.sig_type == expected {
            signature.verify(&unsigned.to_bytes(), &message.from)
        } else {
            Err(format!("it is of kind {:?} instead of {expected:?}", signature.sig_type))
        };
        outcome.map_err(|reason| Error::Signature { from: message.from, message: Box::new(unsigned), reason })?;
        let signed = Self { message, signature };
        let bytes = signed.to_bytes()?.len();
        if bytes > SIGNED_BYTES_MAX {
            return Err(Error::TooLarge { bytes });
        }
        Ok(signed)
    }

    /// Reads the answer of a wallet, and insists that it is `asked` that was signed.
    pub fn from_wallet(asked: &Message, answer: Value) -> Result<Self, Error> {
        let read: SignedMessageJson = serde_json::from_value(answer)?;
        let message = from_json(read.message)?;
        if message != *asked {
            return Err(Error::OtherMessage { asked: Box::new(cid(asked)?), signed: Box::new(cid(&message)?) });
        }
        let sig_type = match read.signature.kind {
            1 => SignatureType::Secp256k1,
            2 => SignatureType::BLS,
            kind => {
                let reason = format!("it is of unknown kind {kind}");
                return Err(Error::Signature { from: message.from, message: Box::new(cid(&message)?), reason });
            }
        };
        Self::new(message, Signature { sig_type, bytes: read.signature.data })
    }

    /// Reads stored bytes back. Fails unless they are exactly what [`Self::to_bytes`] gives, with a signature that verifies.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let read: Self =
            fvm_ipld_encoding::from_slice(bytes).map_err(|source| Error::Cbor { what: "decode", source })?;
        let signed = Self::new(read.message, read.signature)?;
        if signed.to_bytes()? == bytes { Ok(signed) } else { Err(Error::NotCanonical) }
    }

    /// The bytes to store before the first push, and to send ever after.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        encode(self)
    }

    /// The message.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The signature.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The name by which the chain knows it: of the unsigned message for BLS, whose signatures are aggregated away, of the signed one for secp256k1.
    pub fn cid(&self) -> Result<Cid, Error> {
        match self.signature.sig_type {
            SignatureType::BLS => cid(&self.message),
            SignatureType::Secp256k1 => Ok(cid_of_bytes(&self.to_bytes()?)),
        }
    }

    /// Whether the node's form of a signed message is of this one, signature included.
    pub fn is_same_json(&self, value: Value) -> bool {
        let Ok(read) = serde_json::from_value::<SignedMessageJson>(value) else {
            return false;
        };
        read.signature.kind == self.signature.sig_type as u8
            && read.signature.data == self.signature.bytes
            && from_json(read.message).is_ok_and(|message| message == self.message)
    }

    /// The form that the node takes.
    pub fn to_json(&self, network: Network) -> Value {
        json!({
            "Message": to_json(&self.message, network),
            "Signature": { "Type": self.signature.sig_type as u8, "Data": wire::base64_text(&self.signature.bytes) },
        })
    }
}
