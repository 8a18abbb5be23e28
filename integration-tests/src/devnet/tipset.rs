//! Blocks and tipsets. A devnet has exactly one block a tipset.

use std::sync::Arc;

use cid::Cid;
use fvm_ipld_encoding::tuple::*;
use fvm_shared::ActorID;
use fvm_shared::clock::ChainEpoch;

use super::message::SignedMessage;

/// What a block's CID is the hash of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct BlockHeader {
    /// Actor that made the block.
    pub miner: ActorID,
    /// VRF proof of the block's ticket.
    pub ticket_vrf_proof: Vec<u8>,
    /// Beacon entries (round, data) since the parent, oldest first.
    pub beacon_entries: Vec<(i64, Vec<u8>)>,
    /// The parent tipset; none for genesis.
    pub parents: Vec<Cid>,
    /// Weight up to the parent.
    pub parent_weight: u64,
    /// Epoch.
    pub height: ChainEpoch,
    /// State root before this block's messages.
    pub parent_state_root: Cid,
    /// CID of the receipts of the parent's messages.
    pub parent_receipts: Cid,
    /// CID of the list of this block's messages.
    pub messages: Cid,
    /// Unix time, seconds.
    pub timestamp: u64,
}

/// A tipset with its one block and that block's messages.
#[derive(Debug, Clone)]
pub struct Tipset {
    /// CID of the one block; the key is the list of this one CID.
    pub cid: Cid,
    /// The block's header.
    pub header: BlockHeader,
    /// The block's messages with their CIDs, in the order of execution.
    pub messages: Vec<(Cid, Arc<SignedMessage>)>,
}

impl Tipset {
    /// Epoch of the tipset.
    pub fn height(&self) -> ChainEpoch {
        self.header.height
    }

    /// The parent tipset's block.
    pub fn parent(&self) -> Option<Cid> {
        self.header.parents.first().copied()
    }
}
