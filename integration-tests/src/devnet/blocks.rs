//! Block production: what a miner is told before an epoch, the block that it makes, and the checks that a submitted
//! block must pass. The rules and the texts of errors are those of Lotus.
//!
//! A tipset has one block here. Of several blocks of an epoch the one with the smallest ticket is taken. If nobody
//! submits one, the devnet makes it.

use std::sync::Arc;

use bls_signatures::Serialize as _;
use cid::Cid;
use fvm_shared::address::Address;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::crypto::signature::{BLS_SIG_LEN, Signature, SignatureType};
use fvm_shared::sector::PoStProof;
use serde::Serialize;
use thiserror::Error;

use super::chain::ChainError;
use super::message::{EncodeError, SignedMessage, cbor_cid};
use super::node::Node;
use super::proofs::ProofError;
use super::randomness::blake2b256;
use super::tipset::{BeaconEntry, BlockHeader, ElectionProof, Tipset};
use super::view::ViewError;
use super::wallet::WalletError;

mod base_info;
mod check;
mod election;
mod waiting;

pub use base_info::{BaseInfo, base_info, for_each_partition, network_power};
pub use check::check;
pub use election::{BLOCKS_PER_EPOCH, wins};
pub use waiting::{Blocks, Waiting};

/// Why a block cannot be made or is not accepted.
#[derive(Debug, Error)]
pub enum BlockError {
    /// A tipset is missing.
    #[error("failed to load parent tipset: {0}")]
    Parents(ChainError),
    /// A rule is broken.
    #[error("{0}")]
    Invalid(String),
    /// The state could not be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The chain is inconsistent.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The node cannot sign for the miner.
    #[error("failed to sign new block: {0}")]
    Sign(#[from] WalletError),
    /// The block could not be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The proofs library failed.
    #[error("generating winning post challenges: {0}")]
    Proof(#[from] ProofError),
}

/// What has become of a submitted block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Its epoch has not come.
    Waiting,
    /// It is the block of its tipset.
    Included,
    /// Another block has a smaller ticket.
    Outbid,
    /// Its epoch had passed, or its parent was not the head any more.
    Late,
    /// It is the miner's second one of the epoch.
    Second,
}

/// A submitted block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockStats {
    /// Its epoch.
    pub epoch: ChainEpoch,
    /// Its CID.
    pub cid: String,
    /// How often the miner has won the epoch.
    pub wins: i64,
    /// What has become of it.
    pub fate: Fate,
}

/// What a block is made from.
#[derive(Debug, Clone)]
pub struct Template {
    /// The miner.
    pub miner: Address,
    /// The parent.
    pub parent: Cid,
    /// The VRF proof of the ticket.
    pub ticket_vrf_proof: Vec<u8>,
    /// Why the miner may make a block.
    pub election: ElectionProof,
    /// The beacon entries since the parent.
    pub beacon_entries: Vec<BeaconEntry>,
    /// Its messages.
    pub messages: Vec<SignedMessage>,
    /// Its epoch.
    pub epoch: ChainEpoch,
    /// Its Unix time in seconds.
    pub timestamp: u64,
    /// The winning PoSt.
    pub winning_post: Vec<PoStProof>,
}

/// A block's messages with their CIDs, in the order of execution.
pub type Messages = Vec<(Cid, Arc<SignedMessage>)>;

/// Makes a block and signs it with the worker's key in the node's wallet. Its claims are not checked.
pub fn create(node: &Node, template: Template) -> Result<(BlockHeader, Messages), BlockError> {
    let parent = node.chain.tipset(&template.parent).map_err(BlockError::Parents)?.clone();
    let execution = node.chain.execution(&parent.cid)?.clone();
    let (_, state) = base_info::lookback(node, &parent, template.epoch)?;
    let miner = state.miner(&template.miner)?;
    let worker = state.world.account_key(&miner.info.worker);
    let worker = worker.ok_or_else(|| BlockError::Invalid("failed to get miner worker: actor not found".to_owned()))?;
    let messages = in_order(template.messages)?;
    let mut header = BlockHeader {
        miner: miner.id,
        ticket_vrf_proof: template.ticket_vrf_proof,
        election: template.election,
        beacon_entries: template.beacon_entries,
        winning_post: template.winning_post,
        parents: vec![parent.cid],
        parent_weight: node.weight(&parent),
        height: template.epoch,
        parent_state_root: execution.state_root,
        parent_receipts: cbor_cid(&execution.receipts)?,
        messages: messages_cid(&messages)?,
        bls_aggregate: aggregate(&messages)?,
        timestamp: template.timestamp,
        signature: None,
        base_fee: node.base_fee_after(&parent, template.epoch),
    };
    header.signature = Some(node.wallet.sign(&worker, &header.signing_bytes()?)?);
    Ok((header, messages))
}

/// Messages with BLS signatures come first.
fn in_order(messages: Vec<SignedMessage>) -> Result<Messages, BlockError> {
    let mut messages = messages
        .into_iter()
        .map(|signed| Ok((signed.cid()?, Arc::new(signed))))
        .collect::<Result<Messages, EncodeError>>()?;
    messages.sort_by_key(|(_, signed)| !is_bls(signed));
    Ok(messages)
}

/// Whether a message is signed with BLS.
pub fn is_bls(signed: &SignedMessage) -> bool {
    signed.signature.signature_type() == SignatureType::BLS
}

/// The CID of a block's list of messages.
pub fn messages_cid(messages: &Messages) -> Result<Cid, EncodeError> {
    cbor_cid(&messages.iter().map(|(cid, _)| *cid).collect::<Vec<_>>())
}

/// The aggregate of the messages' BLS signatures. That of no signatures is the point at infinity.
fn aggregate(messages: &Messages) -> Result<Signature, BlockError> {
    let failed = |error| BlockError::Invalid(format!("failed to aggregate bls signatures: {error}"));
    let bls = messages.iter().filter(|(_, signed)| is_bls(signed));
    let signatures: Vec<_> = bls
        .map(|(_, signed)| bls_signatures::Signature::from_bytes(signed.signature.bytes()))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    if signatures.is_empty() {
        let mut infinity = vec![0; BLS_SIG_LEN];
        infinity[0] = 0xc0;
        return Ok(Signature::new_bls(infinity));
    }
    Ok(Signature::new_bls(bls_signatures::aggregate(&signatures).map_err(failed)?.as_bytes()))
}

/// What orders the tickets of an epoch.
fn ticket_order(header: &BlockHeader) -> [u8; 32] {
    blake2b256(&header.ticket_vrf_proof)
}

/// The last beacon entry of a tipset, or of the next one before it that has one.
fn latest_beacon_entry(node: &Node, tipset: &Arc<Tipset>) -> Result<BeaconEntry, ChainError> {
    let mut tipset = tipset.clone();
    loop {
        if let Some(entry) = tipset.header.beacon_entries.last() {
            return Ok(entry.clone());
        }
        match node.chain.parent(&tipset)? {
            Some(parent) => tipset = parent.clone(),
            None => return Err(ChainError::RandomnessFromFuture),
        }
    }
}
