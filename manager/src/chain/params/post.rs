//! Parameters of the methods that prove sectors and declare them as recovered.

use fvm_ipld_bitfield::BitField;
use fvm_ipld_encoding::{
    RawBytes,
    tuple::{Deserialize_tuple, Serialize_tuple, serde_tuple},
};
use fvm_shared::sector::RegisteredPoStProof;

use crate::chain::types::{Epoch, Index};

/// Method of the miner actor: `SubmitWindowedPoSt`.
pub const METHOD_SUBMIT_WINDOWED_POST: u64 = 5;
/// Method of the miner actor: `DeclareFaultsRecovered`.
pub const METHOD_DECLARE_FAULTS_RECOVERED: u64 = 11;

/// Parameters of `SubmitWindowedPoSt`.
#[derive(Debug, Clone, PartialEq, Serialize_tuple, Deserialize_tuple)]
pub struct SubmitWindowedPoStParams {
    /// The deadline, which must be open.
    pub deadline: Index,
    /// The partitions that are proven.
    pub partitions: Vec<PoStPartition>,
    /// Exactly one proof.
    pub proofs: Vec<PoStProof>,
    /// An epoch from the challenge on, before the present one.
    pub chain_commit_epoch: Epoch,
    /// The randomness of that epoch's ticket, which says on which chain the proof was made.
    #[serde(with = "fvm_ipld_encoding::strict_bytes")]
    pub chain_commit_rand: Vec<u8>,
}

/// A partition that is proven.
#[derive(Debug, Clone, PartialEq, Serialize_tuple, Deserialize_tuple)]
pub struct PoStPartition {
    /// Its index in the deadline.
    pub index: Index,
    /// Its sectors that are not proven. They become faulty.
    pub skipped: BitField,
}

/// A proof of spacetime.
#[derive(Debug, Clone, PartialEq, Serialize_tuple, Deserialize_tuple)]
pub struct PoStProof {
    /// The miner's window PoSt type.
    pub post_proof: RegisteredPoStProof,
    /// 192 bytes a partition.
    #[serde(with = "fvm_ipld_encoding::strict_bytes")]
    pub proof_bytes: Vec<u8>,
}

/// Parameters of `DeclareFaultsRecovered`.
#[derive(Debug, Clone, PartialEq, Serialize_tuple, Deserialize_tuple)]
pub struct DeclareFaultsRecoveredParams {
    /// The sectors, by partition.
    pub recoveries: Vec<RecoveryDeclaration>,
}

/// Sectors of a partition that are declared as recovered.
#[derive(Debug, Clone, PartialEq, Serialize_tuple, Deserialize_tuple)]
pub struct RecoveryDeclaration {
    /// The deadline.
    pub deadline: Index,
    /// The partition in it.
    pub partition: Index,
    /// The sectors.
    pub sectors: BitField,
}

/// What `SubmitWindowedPoSt` says of one partition.
pub fn submit_one_partition(
    deadline: Index,
    partition: PoStPartition,
    proof: PoStProof,
    (chain_commit_epoch, chain_commit_rand): (Epoch, [u8; 32]),
) -> Result<RawBytes, fvm_ipld_encoding::Error> {
    let chain_commit_rand = chain_commit_rand.to_vec();
    let (partitions, proofs) = (vec![partition], vec![proof]);
    RawBytes::serialize(SubmitWindowedPoStParams {
        deadline,
        partitions,
        proofs,
        chain_commit_epoch,
        chain_commit_rand,
    })
}
