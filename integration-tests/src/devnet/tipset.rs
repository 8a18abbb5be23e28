//! Blocks and tipsets. On a devnet each tipset has exactly one block.

use std::sync::Arc;

use cid::Cid;
use fvm_ipld_encoding::{BytesSer, to_vec};
use fvm_shared::ActorID;
use fvm_shared::address::Address;
use fvm_shared::bigint::BigInt;
use fvm_shared::bigint::bigint_ser::BigIntSer;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::crypto::signature::Signature;
use fvm_shared::econ::TokenAmount;
use fvm_shared::sector::{PoStProof, RegisteredPoStProof};
use serde::{Serialize, Serializer};

use super::message::{EncodeError, SignedMessage};

/// A beacon entry: its round, which is the epoch here, and its data.
pub type BeaconEntry = (ChainEpoch, Vec<u8>);

/// Why a miner may make a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElectionProof {
    /// How often it has won the epoch.
    pub win_count: i64,
    /// Its signature of the epoch's election randomness.
    pub vrf_proof: Vec<u8>,
}

/// The header; a block's CID is the hash of its CBOR, which is that of real blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockHeader {
    /// The actor that made the block.
    pub miner: ActorID,
    /// The VRF proof of the block's ticket.
    pub ticket_vrf_proof: Vec<u8>,
    /// Why the miner may make it.
    pub election: ElectionProof,
    /// The beacon entries since the parent, oldest first.
    pub beacon_entries: Vec<BeaconEntry>,
    /// The winning PoSt.
    pub winning_post: Vec<PoStProof>,
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
    /// The aggregate of the messages' BLS signatures.
    pub bls_aggregate: Signature,
    /// The Unix time in seconds.
    pub timestamp: u64,
    /// The worker's signature.
    pub signature: Option<Signature>,
    /// The base fee of the block's own messages, in attoFIL per unit of gas (`ParentBaseFee`).
    pub base_fee: u64,
}

/// A block that the devnet makes itself. Nobody verifies its proofs and signatures: they have the form of real ones,
/// and consist of the ticket.
pub struct OwnBlock {
    /// The actor in whose name it is made.
    pub miner: ActorID,
    /// The VRF proof of its ticket.
    pub ticket_vrf_proof: Vec<u8>,
}

impl OwnBlock {
    /// The election proof, the winning PoSt and the signature.
    pub fn proofs(&self) -> (ElectionProof, Vec<PoStProof>, Signature) {
        let bytes = &self.ticket_vrf_proof;
        let post_proof = RegisteredPoStProof::StackedDRGWinning2KiBV1;
        (
            ElectionProof { win_count: 1, vrf_proof: bytes.clone() },
            vec![PoStProof { post_proof, proof_bytes: bytes.clone() }],
            Signature::new_bls(bytes.clone()),
        )
    }
}

impl Serialize for BlockHeader {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let beacon_entries = self.beacon_entries.iter().map(|(round, data)| (round, BytesSer(data)));
        (
            Address::new_id(self.miner),
            (BytesSer(&self.ticket_vrf_proof),),
            (self.election.win_count, BytesSer(&self.election.vrf_proof)),
            beacon_entries.collect::<Vec<_>>(),
            &self.winning_post,
            &self.parents,
            BigIntSer(&BigInt::from(self.parent_weight)),
            self.height,
            &self.parent_state_root,
            &self.parent_receipts,
            &self.messages,
            &self.bls_aggregate,
            self.timestamp,
            &self.signature,
            // The fork signal, which nobody uses.
            0_u64,
            TokenAmount::from_atto(self.base_fee),
        )
            .serialize(serializer)
    }
}

impl BlockHeader {
    /// The bytes that the miner's worker signs: the header without its signature.
    pub fn signing_bytes(&self) -> Result<Vec<u8>, EncodeError> {
        Ok(to_vec(&Self { signature: None, ..self.clone() })?)
    }
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
