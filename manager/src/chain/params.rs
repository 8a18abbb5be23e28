//! Parameters of the miner actor's methods, as CBOR tuples in the order of their fields. Here those of sealing.
//!
//! We define them ourselves, because the crate that has them (`fil_actor_miner_state::v19`) would pull in the proofs
//! library. Tests compare the bytes with that crate. The structs are the same in actors v18 and v19.

use cid::Cid;
use fvm_ipld_encoding::RawBytes;
use fvm_ipld_encoding::tuple::{Deserialize_tuple, Serialize_tuple, serde_tuple};
use fvm_shared::address::Address;
use fvm_shared::piece::PaddedPieceSize;
use fvm_shared::sector::{RegisteredAggregateProof, RegisteredSealProof};
use serde_json::{Value, json};

use super::json::cid_value;
use super::types::{Epoch, Index};

mod care;
mod owner;
mod post;

pub use care::*;
pub use owner::*;
pub use post::*;

/// Method of the miner actor: `PreCommitSectorBatch2`.
pub const METHOD_PRE_COMMIT_SECTOR_BATCH2: u64 = 28;
/// Method of the miner actor: `ProveCommitSectors3`.
pub const METHOD_PROVE_COMMIT_SECTORS3: u64 = 34;
/// Every actor: a transfer of value without a call.
pub const METHOD_SEND: u64 = 0;

/// The fewest sectors that the actor takes with an aggregate (`MIN_AGGREGATED_SECTORS` in `fil_actors_shared`).
pub const AGGREGATED_SECTORS_MIN: usize = 4;
/// The most sectors that the actor takes with an aggregate (`MAX_AGGREGATED_SECTORS`).
pub const AGGREGATED_SECTORS_MAX: usize = 819;

/// Parameters of `PreCommitSectorBatch2`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct PreCommitSectorBatchParams2 {
    /// The sectors.
    pub sectors: Vec<SectorPreCommitInfo>,
}

/// The PreCommit of one sector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct SectorPreCommitInfo {
    /// The proof type, with or without synthetic challenges.
    pub seal_proof: RegisteredSealProof,
    /// The sector.
    pub sector_number: Index,
    /// CommR.
    pub sealed_cid: Cid,
    /// The ticket's epoch.
    pub seal_rand_epoch: Epoch,
    /// Must be empty: deals are given in the ProveCommit.
    pub deal_ids: Vec<u64>,
    /// The epoch at which the sector expires.
    pub expiration: Epoch,
    /// CommD; `None` for committed capacity.
    pub unsealed_cid: Option<Cid>,
}

impl SectorPreCommitInfo {
    /// The JSON form for asking the node for the deposit.
    pub fn to_json(&self) -> Value {
        json!({
            "SealProof": i64::from(self.seal_proof),
            "SectorNumber": self.sector_number,
            "SealedCID": cid_value(&self.sealed_cid),
            "SealRandEpoch": self.seal_rand_epoch,
            "DealIDs": self.deal_ids,
            "Expiration": self.expiration,
            "UnsealedCid": self.unsealed_cid.as_ref().map(cid_value),
        })
    }
}

/// Parameters of `ProveCommitSectors3`: either one proof per sector, or one aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct ProveCommitSectors3Params {
    /// The sectors. The return value refers to their indices.
    pub sector_activations: Vec<SectorActivationManifest>,
    /// Their proofs, in the same order; empty with an aggregate.
    pub sector_proofs: Vec<RawBytes>,
    /// The aggregate of their proofs; empty without an aggregate.
    pub aggregate_proof: RawBytes,
    /// `None` without an aggregate.
    pub aggregate_proof_type: Option<RegisteredAggregateProof>,
    /// Whether one sector's failure fails the message.
    pub require_activation_success: bool,
    /// Whether the rejection by one notified actor fails the message.
    pub require_notification_success: bool,
}

impl ProveCommitSectors3Params {
    /// Proves one sector. If it fails, the message fails.
    pub fn single(activation: SectorActivationManifest, proof: Vec<u8>) -> Self {
        Self {
            sector_activations: vec![activation],
            sector_proofs: vec![RawBytes::new(proof)],
            aggregate_proof: RawBytes::default(),
            aggregate_proof_type: None,
            require_activation_success: true,
            require_notification_success: true,
        }
    }

    /// Proves several sectors, each with its own proof. A sector's failure does not affect the others, and shows only
    /// in the return value.
    pub fn batch(sectors: Vec<(SectorActivationManifest, Vec<u8>)>) -> Self {
        let (sector_activations, sector_proofs) =
            sectors.into_iter().map(|(a, proof)| (a, RawBytes::new(proof))).unzip();
        Self {
            sector_activations,
            sector_proofs,
            aggregate_proof: RawBytes::default(),
            aggregate_proof_type: None,
            require_activation_success: false,
            require_notification_success: false,
        }
    }

    /// Proves several sectors with the aggregate of their proofs, in the same order. If the aggregate is wrong, the
    /// message fails. A sector whose PreCommit has expired does not affect the others, and shows only in the return
    /// value.
    pub fn aggregate(sector_activations: Vec<SectorActivationManifest>, aggregate_proof: RawBytes) -> Self {
        Self {
            sector_activations,
            sector_proofs: vec![],
            aggregate_proof,
            aggregate_proof_type: Some(RegisteredAggregateProof::SnarkPackV2),
            require_activation_success: false,
            require_notification_success: false,
        }
    }
}

/// The activation of one sector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct SectorActivationManifest {
    /// The sector.
    pub sector_number: Index,
    /// Its pieces, in order; empty for committed capacity.
    pub pieces: Vec<PieceActivationManifest>,
}

impl SectorActivationManifest {
    /// The activation of a committed-capacity sector.
    pub fn committed_capacity(sector_number: Index) -> Self {
        Self { sector_number, pieces: Vec::new() }
    }
}

/// One piece of a sector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct PieceActivationManifest {
    /// CommP.
    pub cid: Cid,
    /// Its padded size: a power of two, at least 128 bytes.
    pub size: PaddedPieceSize,
    /// The allocation that it claims. Since actors v19 it is accepted but ignored.
    pub verified_allocation_key: Option<VerifiedAllocationKey>,
    /// The actors to notify, in order.
    pub notify: Vec<DataActivationNotification>,
}

/// Identifies an allocation of verified data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct VerifiedAllocationKey {
    /// The client's actor ID.
    pub client: u64,
    /// The allocation's number.
    pub id: u64,
}

/// The notification of an actor about a piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct DataActivationNotification {
    /// The actor.
    pub address: Address,
    /// The notification's payload.
    pub payload: RawBytes,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::chain::commitment::{sealed_cid, unsealed_cid};
    use fil_actor_miner_state::v19 as actor;
    use fvm_ipld_encoding::{from_slice, to_vec};

    fn pre_commit(number: u64, seal_proof: i64, unsealed: bool) -> SectorPreCommitInfo {
        SectorPreCommitInfo {
            seal_proof: seal_proof.into(),
            sector_number: number,
            sealed_cid: sealed_cid(&[number as u8 & 0x3f; 32]).unwrap(),
            seal_rand_epoch: number as i64 - 900,
            deal_ids: vec![],
            expiration: 700_000 + number as i64,
            unsealed_cid: unsealed.then(|| unsealed_cid(&[7; 32]).unwrap()),
        }
    }

    #[test]
    fn one_proven_sector_has_the_golden_bytes() {
        let params = ProveCommitSectors3Params::single(SectorActivationManifest::committed_capacity(7), vec![1, 2, 3]);
        assert_eq!(hex::encode(to_vec(&params).unwrap()), "8681820780814301020340f6f5f5");
    }

    #[test]
    fn pre_commits_encode_as_the_actor_does() {
        for number in [0, 1, 23, 24, 255, 256, 70_000, 1 << 40, i64::MAX as u64] {
            for (seal_proof, unsealed) in [(5, false), (8, true), (13, false)] {
                let ours = PreCommitSectorBatchParams2 {
                    sectors: vec![pre_commit(number.min(1 << 40), seal_proof, unsealed); 1 + number as usize % 3],
                };
                let theirs = actor::PreCommitSectorBatchParams2 {
                    sectors: ours
                        .sectors
                        .iter()
                        .map(|s| actor::SectorPreCommitInfo {
                            seal_proof: s.seal_proof,
                            sector_number: s.sector_number,
                            sealed_cid: s.sealed_cid,
                            seal_rand_epoch: s.seal_rand_epoch,
                            deal_ids: vec![],
                            expiration: s.expiration,
                            unsealed_cid: actor::CompactCommD::new(s.unsealed_cid),
                        })
                        .collect(),
                };
                let bytes = to_vec(&ours).unwrap();
                assert_eq!(bytes, to_vec(&theirs).unwrap());
                assert_eq!(from_slice::<PreCommitSectorBatchParams2>(&bytes).unwrap(), ours);
            }
        }
    }

    #[test]
    fn proven_sectors_encode_as_the_actor_does() {
        for sectors in 1..5u64 {
            for with_data in [false, true] {
                let piece = PieceActivationManifest {
                    cid: unsealed_cid(&[9; 32]).unwrap(),
                    size: PaddedPieceSize(2048),
                    verified_allocation_key: with_data.then_some(VerifiedAllocationKey { client: 1003, id: sectors }),
                    notify: vec![DataActivationNotification {
                        address: Address::new_id(5),
                        payload: RawBytes::new(vec![0x18, 0x2a]),
                    }],
                };
                let pieces = if with_data { vec![piece.clone(); 2] } else { vec![] };
                let manifest = |n| SectorActivationManifest { sector_number: n, pieces: pieces.clone() };
                let ours =
                    ProveCommitSectors3Params::batch((0..sectors).map(|n| (manifest(n), vec![n as u8; 192])).collect());
                let theirs = actor::ProveCommitSectors3Params {
                    sector_activations: (0..sectors)
                        .map(|n| actor::SectorActivationManifest {
                            sector_number: n,
                            pieces: pieces
                                .iter()
                                .map(|p| actor::PieceActivationManifest {
                                    cid: p.cid,
                                    size: p.size,
                                    verified_allocation_key: p
                                        .verified_allocation_key
                                        .as_ref()
                                        .map(|k| actor::VerifiedAllocationKey { client: k.client, id: k.id }),
                                    notify: p
                                        .notify
                                        .iter()
                                        .map(|n| actor::DataActivationNotification {
                                            address: n.address,
                                            payload: n.payload.clone(),
                                        })
                                        .collect(),
                                })
                                .collect(),
                        })
                        .collect(),
                    sector_proofs: ours.sector_proofs.clone(),
                    aggregate_proof: RawBytes::default(),
                    aggregate_proof_type: None,
                    require_activation_success: false,
                    require_notification_success: false,
                };
                let bytes = to_vec(&ours).unwrap();
                assert_eq!(bytes, to_vec(&theirs).unwrap());
                assert_eq!(from_slice::<ProveCommitSectors3Params>(&bytes).unwrap(), ours);
            }
        }
    }

    #[test]
    fn an_aggregate_encodes_as_the_actor_does() {
        let proof = RawBytes::new(vec![7; 20_116]);
        let numbers = [9, 7, 8, 300];
        let ours = ProveCommitSectors3Params::aggregate(
            numbers.map(SectorActivationManifest::committed_capacity).to_vec(),
            proof.clone(),
        );
        let theirs = actor::ProveCommitSectors3Params {
            sector_activations: numbers
                .map(|sector_number| actor::SectorActivationManifest { sector_number, pieces: vec![] })
                .to_vec(),
            sector_proofs: vec![],
            aggregate_proof: proof,
            aggregate_proof_type: Some(RegisteredAggregateProof::SnarkPackV2),
            require_activation_success: false,
            require_notification_success: false,
        };
        let bytes = to_vec(&ours).unwrap();
        assert_eq!(bytes, to_vec(&theirs).unwrap());
        assert_eq!(from_slice::<ProveCommitSectors3Params>(&bytes).unwrap(), ours);
        // Type 1, and neither flag.
        assert_eq!(hex::encode(&bytes[bytes.len() - 3..]), "01f4f4");
    }

    #[test]
    fn the_json_of_a_pre_commit_names_what_the_node_reads() {
        let value = pre_commit(3, 5, false).to_json();
        assert_eq!(value["UnsealedCid"], Value::Null);
        assert_eq!(value["DealIDs"], json!([]));
        assert_eq!((value["SealProof"].as_i64(), value["SealRandEpoch"].as_i64()), (Some(5), Some(-897)));
        assert!(value["SealedCID"]["/"].as_str().unwrap().starts_with("bagboea4b5abc"));
    }
}
