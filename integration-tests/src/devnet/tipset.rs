//! Blocks and tipsets. On a devnet each tipset has exactly one block.

use std::sync::Arc;

use cid::Cid;
use fvm_ipld_encoding::tuple::*;
use fvm_shared::ActorID;
use fvm_shared::clock::ChainEpoch;

use super::message::SignedMessage;

/// The header; a block's CID is its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct BlockHeader {
    /// The actor that made the block.
    pub miner: ActorID,
    /// The VRF proof of the block's ticket.
    pub ticket_vrf_proof: Vec<u8>,
    /// The beacon entries (round, data) since the parent, oldest first.
    pub beacon_entries: Vec<(i64, Vec<u8>)>,
    /// The parent tipset; empty for genesis.
    pub parents: Vec<Cid>,
    /// The chain's weight up to the parent.
    pub parent_weight: u64,
    /// The epoch.
    pub height: ChainEpoch,
    /// The state root before this block's messages.
    pub parent_state_root: Cid,
    /// The CID of the receipts of the parent's messages.
    pub parent_receipts: Cid,
    /// The CID of the list of this block's messages.
    pub messages: Cid,
    /// The Unix time in seconds.
    pub timestamp: u64,
    /// The base fee of the block's own messages, in attoFIL per unit of gas (`ParentBaseFee`).
    pub base_fee: u64,
}

/// A tipset with its one block and that block's messages.
#[derive(Debug, Clone)]
pub struct Tipset {
    /// The CID of the block. The tipset key is a list with only this CID.
    pub cid: Cid,
    /// The block's header.
    pub header: BlockHeader,
    /// The block's messages with their CIDs, in the order of execution.
    pub messages: Vec<(Cid, Arc<SignedMessage>)>,
}

impl Tipset {
    /// The tipset's epoch.
    pub fn height(&self) -> ChainEpoch {
        self.header.height
    }

    /// The parent tipset's block.
    pub fn parent(&self) -> Option<Cid> {
        self.header.parents.first().copied()
    }
}
