//! Signed messages: checked when they are made, persisted as bytes, and read back as the same bytes.

use cid::Cid;
use fvm_ipld_encoding::tuple::{Deserialize_tuple, Serialize_tuple, serde_tuple};
use fvm_shared::address::Network;
use fvm_shared::crypto::signature::{Signature, SignatureType};
use fvm_shared::message::Message;
use serde::{Deserialize, Deserializer, de};
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
    #[serde(rename = "Type", deserialize_with = "kind")]
    kind: u8,
    #[serde(deserialize_with = "wire::bytes::deserialize")]
    data: Vec<u8>,
}

/// Nodes write the kind as a number. By its description, Forest may also write a word.
fn kind<'de, D: Deserializer<'de>>(d: D) -> Result<u8, D::Error> {
    let kind = Value::deserialize(d)?;
    let number = match kind.as_str().map(str::to_ascii_lowercase).as_deref() {
        Some("secp256k1") => Some(SignatureType::Secp256k1 as u64),
        Some("bls") => Some(SignatureType::BLS as u64),
        _ => kind.as_u64(),
    };
    let number = number.and_then(|number| u8::try_from(number).ok());
    number.ok_or_else(|| de::Error::custom(format!("Type: {kind} is no kind of signature")))
}

impl SignedMessage {
    /// Joins a message and its signature. Checks that the signature is the sender's and that the size is within the
    /// pool's limit.
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

    /// Parses a wallet's answer, and checks that it signed `asked`.
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

    /// Reads stored bytes back. Fails unless they are exactly the output of [`Self::to_bytes`], with a valid signature.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let read: Self =
            fvm_ipld_encoding::from_slice(bytes).map_err(|source| Error::Cbor { what: "decode", source })?;
        let signed = Self::new(read.message, read.signature)?;
        if signed.to_bytes()? == bytes { Ok(signed) } else { Err(Error::NotCanonical) }
    }

    /// The bytes to store before the first push, and to push every time.
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

    /// The chain's CID of the message: for BLS that of the unsigned message, because the signatures are aggregated; for
    /// secp256k1 that of the signed message.
    pub fn cid(&self) -> Result<Cid, Error> {
        match self.signature.sig_type {
            SignatureType::BLS => cid(&self.message),
            SignatureType::Secp256k1 => Ok(cid_of_bytes(&self.to_bytes()?)),
        }
    }

    /// Whether a signed message in the node's form is this one, including the signature.
    pub fn is_same_json(&self, value: Value) -> bool {
        let Ok(read) = serde_json::from_value::<SignedMessageJson>(value) else {
            return false;
        };
        read.signature.kind == self.signature.sig_type as u8
            && read.signature.data == self.signature.bytes
            && from_json(read.message).is_ok_and(|message| message == self.message)
    }

    /// The message as the node expects it.
    pub fn to_json(&self, network: Network) -> Value {
        json!({
            "Message": to_json(&self.message, network),
            "Signature": { "Type": self.signature.sig_type as u8, "Data": wire::base64_text(&self.signature.bytes) },
        })
    }
}
