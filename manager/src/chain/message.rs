//! Messages to the chain: building, identifying, signing and persisting them.
//!
//! The life of a message: it is built without nonce and gas, estimated, clamped ([`super::fees`]), given a nonce, and
//! signed. Its bytes ([`SignedMessage::to_bytes`]) are stored *before* the first push. A later push always reads these
//! bytes back ([`SignedMessage::from_bytes`]); it never signs the message again.

use std::str::FromStr;

use cid::Cid;
use fvm_ipld_encoding::{DAG_CBOR, RawBytes};
use fvm_shared::address::{Address, Protocol};
use fvm_shared::crypto::signature::SignatureType;
use fvm_shared::econ::TokenAmount;
pub use fvm_shared::message::Message;
use multihash_codetable::{Code, MultihashDigest};
use serde::Serialize;

use super::fees::Gas;
use super::json as wire;
use super::params::{METHOD_PRE_COMMIT_SECTOR_BATCH2, METHOD_PROVE_COMMIT_SECTORS3, METHOD_SEND};
use super::params::{PreCommitSectorBatchParams2, ProveCommitSectors3Params};

mod json;
mod signed;

pub use json::{from_json, to_json};
pub use signed::SignedMessage;

/// The largest signed message that a message pool accepts, in bytes of CBOR (`MaxMessageSize` in Lotus
/// `chain/messagepool`).
pub const SIGNED_BYTES_MAX: usize = 64 << 10;

/// The bytes that a signature adds to a message: array header, byte string header, type, and the longer signature
/// (BLS).
const SIGNATURE_BYTES_MAX: usize = 1 + 2 + 1 + 96;

/// Why a message was not made or was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// CBOR could not be written or read.
    #[error("cannot {what} a message in CBOR")]
    Cbor {
        /// `encode` or `decode`.
        what: &'static str,
        /// What failed.
        source: fvm_ipld_encoding::Error,
    },
    /// The JSON is not a message.
    #[error("cannot read a message from JSON")]
    Json(#[from] serde_json::Error),
    /// The stored bytes differ from the canonical encoding of their message.
    #[error("the bytes are not the canonical encoding of the message in them")]
    NotCanonical,
    /// The message is too large for the message pool. Send fewer sectors.
    #[error("the message has {bytes} bytes signed, the limit is {SIGNED_BYTES_MAX}")]
    TooLarge {
        /// Its size with signature.
        bytes: usize,
    },
    /// The sender is not a key's address. Resolve it first.
    #[error("{from} is not the address of a BLS or secp256k1 key")]
    NotAKey {
        /// The sender.
        from: Address,
    },
    /// The value is negative.
    #[error("the value of {value_atto} attoFIL is negative")]
    NegativeValue {
        /// The value.
        value_atto: String,
    },
    /// The gas fields are unusable.
    #[error("the gas of the message cannot be used")]
    Gas(#[from] super::fees::Error),
    /// The wallet signed a different message.
    #[error("asked to sign {asked}, the wallet signed {signed}")]
    OtherMessage {
        /// CID of the message that was asked for.
        asked: Box<Cid>,
        /// CID of the message that came back.
        signed: Box<Cid>,
    },
    /// A key of this machine made no signature. This can happen for one message in 2^128.
    #[error("the key in its file cannot sign this message")]
    KeyUnusable,
    /// The signature is not the sender's over this message.
    #[error("the signature of {from} over {message} does not verify: {reason}")]
    Signature {
        /// The sender.
        from: Address,
        /// CID of the unsigned message.
        message: Box<Cid>,
        /// What the library said.
        reason: String,
    },
}

/// A PreCommit of sectors, without nonce and gas. `value` is the sum of the deposits.
pub fn pre_commit(
    from: Address,
    miner: Address,
    params: &PreCommitSectorBatchParams2,
    value: TokenAmount,
) -> Result<Message, Error> {
    build(from, miner, METHOD_PRE_COMMIT_SECTOR_BATCH2, encode(params)?, value)
}

/// A ProveCommit of sectors, without nonce and gas. `value` comes from [`prove_commit_value`].
pub fn prove_commit(
    from: Address,
    miner: Address,
    params: &ProveCommitSectors3Params,
    value: TokenAmount,
) -> Result<Message, Error> {
    build(from, miner, METHOD_PROVE_COMMIT_SECTORS3, encode(params)?, value)
}

/// Any call, without nonce and gas. Nothing is checked yet; see [`check_before_signing`].
pub fn unsigned(from: Address, to: Address, method_num: u64, params: RawBytes, value: TokenAmount) -> Message {
    Message {
        version: 0,
        from,
        to,
        sequence: 0,
        value,
        method_num,
        params,
        gas_limit: 0,
        gas_fee_cap: TokenAmount::default(),
        gas_premium: TokenAmount::default(),
    }
}

/// A transfer of 0 FIL from a key to itself. It is the only way to give up a nonce.
pub fn nonce_filler(from: Address) -> Result<Message, Error> {
    build(from, from, METHOD_SEND, Vec::new(), TokenAmount::default())
}

/// Any call of an actor's method, without nonce and gas. `params` is its CBOR.
pub fn of_errand(
    from: Address,
    to: Address,
    method: u64,
    params: RawBytes,
    value: TokenAmount,
) -> Result<Message, Error> {
    build(from, to, method, params.into(), value)
}

/// The value that a ProveCommit must carry: its sectors' pledges less the released deposits. `sectors` are pairs of
/// pledge and deposit, in attoFIL.
pub fn prove_commit_value(sectors: &[(TokenAmount, TokenAmount)]) -> TokenAmount {
    let missing: TokenAmount = sectors.iter().map(|(pledge, deposit)| pledge.clone() - deposit).sum();
    missing.max(TokenAmount::default())
}

/// The CID of an unsigned message: BLAKE2b-256 of its CBOR. This is what is signed, and the chain's CID of a BLS-signed
/// message.
pub fn cid(message: &Message) -> Result<Cid, Error> {
    Ok(cid_of_bytes(&encode(message)?))
}

/// The canonical CBOR of an unsigned message.
pub fn unsigned_bytes(message: &Message) -> Result<Vec<u8>, Error> {
    encode(message)
}

/// Reads [`unsigned_bytes`] back.
pub fn from_unsigned_bytes(bytes: &[u8]) -> Result<Message, Error> {
    fvm_ipld_encoding::from_slice(bytes).map_err(|source| Error::Cbor { what: "decode", source })
}

/// The bytes that a key signs: those of the CID.
pub fn signing_bytes(message: &Message) -> Result<Vec<u8>, Error> {
    Ok(cid(message)?.to_bytes())
}

/// Checks everything that is known before signing: the kind of sender, the value, gas within `max_fee`, and the size.
pub fn check_before_signing(message: &Message, max_fee: &TokenAmount) -> Result<(), Error> {
    signature_type(&message.from)?;
    if message.value.is_negative() {
        return Err(Error::NegativeValue { value_atto: wire::tokens_text(&message.value) });
    }
    gas_of(message).check(max_fee)?;
    check_size(message)
}

/// Checks that a message pool takes a message of this size. A node may fail in any way for a larger one.
pub fn check_size(message: &Message) -> Result<(), Error> {
    let bytes = encode(message)?.len() + SIGNATURE_BYTES_MAX;
    if bytes > SIGNED_BYTES_MAX { Err(Error::TooLarge { bytes }) } else { Ok(()) }
}

/// The gas fields of a message.
pub fn gas_of(message: &Message) -> Gas {
    Gas { limit: message.gas_limit, fee_cap: message.gas_fee_cap.clone(), premium: message.gas_premium.clone() }
}

/// The message with these gas fields and this nonce.
pub fn with_gas_and_nonce(mut message: Message, gas: Gas, nonce: u64) -> Message {
    message.gas_limit = gas.limit;
    message.gas_fee_cap = gas.fee_cap;
    message.gas_premium = gas.premium;
    message.sequence = nonce;
    message
}

fn build(from: Address, to: Address, method_num: u64, params: Vec<u8>, value: TokenAmount) -> Result<Message, Error> {
    signature_type(&from)?;
    if value.is_negative() {
        return Err(Error::NegativeValue { value_atto: wire::tokens_text(&value) });
    }
    Ok(unsigned(from, to, method_num, RawBytes::new(params), value))
}

fn signature_type(from: &Address) -> Result<SignatureType, Error> {
    match from.protocol() {
        Protocol::BLS => Ok(SignatureType::BLS),
        Protocol::Secp256k1 => Ok(SignatureType::Secp256k1),
        _ => Err(Error::NotAKey { from: *from }),
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    fvm_ipld_encoding::to_vec(value).map_err(|source| Error::Cbor { what: "encode", source })
}

fn cid_of_bytes(bytes: &[u8]) -> Cid {
    Cid::new_v1(DAG_CBOR, Code::Blake2b256.digest(bytes))
}

/// Parses a CID that was stored as text.
pub fn parse_cid(text: &str) -> Result<Cid, cid::Error> {
    Cid::from_str(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
