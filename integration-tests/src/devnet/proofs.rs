//! Verification of proofs by the chain.

use std::panic::{AssertUnwindSafe, catch_unwind};

use filecoin_proofs_api as api;
use fvm_shared::ActorID;
use fvm_shared::address::Address;
use fvm_shared::commcid::{cid_to_data_commitment_v1, cid_to_replica_commitment_v1, data_commitment_v1_to_cid};
use fvm_shared::piece::{PaddedPieceSize, PieceInfo, zero_piece_commitment};
use fvm_shared::sector::{PoStProof, RegisteredSealProof, SectorNumber};
use thiserror::Error;

use cid::Cid;

mod post;

pub use post::{PostInfo, post_randomness, winning_post_proof, winning_sectors};

/// Why a proof could not be verified. This is different from an invalid proof.
#[derive(Debug, Error)]
pub enum ProofError {
    /// The proofs library does not know the proof type.
    #[error("unknown seal proof type: {0}")]
    UnknownProof(String),
    /// A commitment's CID has the wrong form.
    #[error("bad commitment: {0}")]
    Commitment(&'static str),
    /// The pieces do not fit into the sector.
    #[error("pieces of {pieces} bytes with their alignment exceed the sector's {sector}")]
    PiecesTooLarge {
        /// The padded bytes of the pieces, with alignment.
        pieces: u64,
        /// The bytes of the sector.
        sector: u64,
    },
    /// A piece has an impossible size.
    #[error("bad piece size {size}: {reason}")]
    PieceSize {
        /// The padded bytes.
        size: u64,
        /// The problem.
        reason: &'static str,
    },
    /// The library returned an error, for missing parameters or malformed points for example.
    #[error("the proofs library refused: {0}")]
    Library(String),
    /// The library panicked.
    #[error("the proofs library panicked")]
    Panicked,
}

/// Everything that a seal proof is verified against.
#[derive(Debug, Clone)]
pub struct SealInfo {
    /// The proof type.
    pub proof_type: RegisteredSealProof,
    /// The miner.
    pub miner: ActorID,
    /// The sector.
    pub sector: SectorNumber,
    /// CommR.
    pub sealed_cid: Cid,
    /// CommD.
    pub unsealed_cid: Cid,
    /// The ticket, drawn at the PreCommit's `SealRandEpoch`.
    pub ticket: [u8; 32],
    /// The seed of the interactive challenge.
    pub seed: [u8; 32],
}

/// Verifies proofs. A node uses [`ProofsApi`], unless it is started for scripted sectors. Tests of the chain's other
/// rules script the results.
pub trait ProofVerifier: Send + Sync {
    /// Whether a PoRep is valid. The node treats an error as an invalid proof.
    fn verify_seal(&self, info: &SealInfo, proof: &[u8]) -> Result<bool, ProofError>;

    /// Whether an aggregate of the PoReps of sectors of one miner and one proof type, in this order, is valid.
    fn verify_aggregate(&self, infos: &[SealInfo], aggregate: &[u8]) -> Result<bool, ProofError>;

    /// Whether a window PoSt of these sectors is valid. None is, unless a verifier knows better.
    fn verify_window_post(&self, _: &PostInfo, _: &[PoStProof]) -> Result<bool, ProofError> {
        Ok(false)
    }

    /// Whether a winning PoSt of these sectors is valid. None is, unless a verifier knows better.
    fn verify_winning_post(&self, _: &PostInfo, _: &[PoStProof]) -> Result<bool, ProofError> {
        Ok(false)
    }
}

/// The real verifier: `filecoin-proofs-api`, with the verifying keys and the SRS in `FIL_PROOFS_PARAMETER_CACHE`.
#[derive(Debug, Default, Clone, Copy)]
pub struct ProofsApi;

impl ProofVerifier for ProofsApi {
    fn verify_seal(&self, info: &SealInfo, proof: &[u8]) -> Result<bool, ProofError> {
        let proof_type: api::RegisteredSealProof = proof_type(info.proof_type)?;
        let comm_r = cid_to_replica_commitment_v1(&info.sealed_cid).map_err(ProofError::Commitment)?;
        let comm_d = cid_to_data_commitment_v1(&info.unsealed_cid).map_err(ProofError::Commitment)?;
        guarded(|| {
            api::seal::verify_seal(
                proof_type,
                comm_r,
                comm_d,
                prover_id(info.miner),
                api::SectorId::from(info.sector),
                info.ticket,
                info.seed,
                proof,
            )
        })
    }

    fn verify_aggregate(&self, infos: &[SealInfo], aggregate: &[u8]) -> Result<bool, ProofError> {
        let Some(first) = infos.first() else {
            return Ok(false);
        };
        let proof_type: api::RegisteredSealProof = proof_type(first.proof_type)?;
        let (mut comm_rs, mut seeds, mut inputs) = (Vec::new(), Vec::new(), Vec::new());
        for info in infos {
            let comm_r = cid_to_replica_commitment_v1(&info.sealed_cid).map_err(ProofError::Commitment)?;
            let comm_d = cid_to_data_commitment_v1(&info.unsealed_cid).map_err(ProofError::Commitment)?;
            let (prover, sector) = (prover_id(info.miner), api::SectorId::from(info.sector));
            inputs.extend(guarded(|| {
                api::seal::get_seal_inputs(proof_type, comm_r, comm_d, prover, sector, info.ticket, info.seed)
            })?);
            comm_rs.push(comm_r);
            seeds.push(info.seed);
        }
        let version = api::RegisteredAggregationProof::SnarkPackV2;
        let aggregate = aggregate.to_vec();
        guarded(|| {
            api::seal::verify_aggregate_seal_commit_proofs(proof_type, version, aggregate, &comm_rs, &seeds, inputs)
        })
    }

    fn verify_window_post(&self, info: &PostInfo, proofs: &[PoStProof]) -> Result<bool, ProofError> {
        post::verify_window(info, proofs)
    }

    fn verify_winning_post(&self, info: &PostInfo, proofs: &[PoStProof]) -> Result<bool, ProofError> {
        post::verify_winning(info, proofs)
    }
}

/// The prover ID in proofs: the payload of the ID address, padded with zeros.
pub fn prover_id(miner: ActorID) -> [u8; 32] {
    let mut id = [0; 32];
    // The payload of an ID address has at most 10 bytes.
    for (to, from) in id.iter_mut().zip(Address::new_id(miner).payload_bytes()) {
        *to = from;
    }
    id
}

/// CommD of the pieces in this order. Each piece is aligned to its size, and the rest is zeros.
pub fn unsealed_cid(proof: RegisteredSealProof, pieces: &[PieceInfo]) -> Result<Cid, ProofError> {
    let sector = proof.sector_size().map_err(ProofError::UnknownProof)? as u64;
    let mut laid_out = Vec::new();
    let mut sum = 0_u64;
    for piece in pieces {
        let size = piece.size;
        let bad_size = |reason| ProofError::PieceSize { size: size.0, reason };
        size.validate().map_err(bad_size)?;
        pad(&mut laid_out, &mut sum, size.0);
        let commitment = cid_to_data_commitment_v1(&piece.cid).map_err(ProofError::Commitment)?;
        laid_out.push(piece_info(commitment, size));
        sum = sum.saturating_add(size.0);
        if sum > sector {
            return Err(ProofError::PiecesTooLarge { pieces: sum, sector });
        }
    }
    pad(&mut laid_out, &mut sum, sector);
    let proof_type = proof_type(proof)?;
    let commitment = guarded(|| api::seal::compute_comm_d(proof_type, &laid_out))?;
    data_commitment_v1_to_cid(&commitment).map_err(ProofError::Commitment)
}

/// Adds zero pieces until `sum` is a multiple of `alignment` (a power of two). Each piece is aligned, and the largest
/// come last.
fn pad(pieces: &mut Vec<api::PieceInfo>, sum: &mut u64, alignment: u64) {
    while !sum.is_multiple_of(alignment) {
        let size = PaddedPieceSize(1 << sum.trailing_zeros());
        pieces.push(piece_info(zero_piece_commitment(size), size));
        *sum += size.0;
    }
}

fn piece_info(commitment: [u8; 32], size: PaddedPieceSize) -> api::PieceInfo {
    api::PieceInfo { commitment, size: api::UnpaddedBytesAmount(size.unpadded().0) }
}

fn proof_type(proof: RegisteredSealProof) -> Result<api::RegisteredSealProof, ProofError> {
    proof.try_into().map_err(|_| ProofError::UnknownProof(format!("{proof:?}")))
}

/// Catches panics: the library panics on some malformed input, and a node must not.
fn guarded<T>(check: impl FnOnce() -> anyhow::Result<T>) -> Result<T, ProofError> {
    match catch_unwind(AssertUnwindSafe(check)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(ProofError::Library(format!("{error:#}"))),
        Err(_) => Err(ProofError::Panicked),
    }
}

#[cfg(test)]
mod tests {
    use fil_actor_miner_state::v19::CompactCommD;

    use super::*;

    const PROOF: RegisteredSealProof = RegisteredSealProof::StackedDRG2KiBV1P1;

    #[test]
    fn the_prover_id_is_the_padded_payload() {
        assert_eq!(hex::encode(&prover_id(1000)[..4]), "e8070000");
    }

    #[test]
    fn a_zero_piece_anywhere_gives_the_zero_commd() {
        let size = PaddedPieceSize(256);
        let cid = data_commitment_v1_to_cid(&zero_piece_commitment(size)).expect("a commitment");
        let zero = CompactCommD::empty().get_cid(PROOF).expect("a known type");
        let computed = unsealed_cid(PROOF, &[PieceInfo { cid, size }, PieceInfo { cid, size }]);
        assert_eq!(computed.ok(), Some(zero));
    }

    #[test]
    fn pieces_that_do_not_fit_are_refused() {
        let size = PaddedPieceSize(2048);
        let cid = data_commitment_v1_to_cid(&[1; 32]).expect("a commitment");
        let piece = PieceInfo { cid, size };
        assert!(unsealed_cid(PROOF, std::slice::from_ref(&piece)).is_ok());
        assert!(matches!(unsealed_cid(PROOF, &[piece.clone(), piece]), Err(ProofError::PiecesTooLarge { .. })));
    }

    #[test]
    fn garbage_is_a_wrong_proof_and_no_panic() {
        let zero = CompactCommD::empty().get_cid(PROOF).expect("a known type");
        let sealed_cid = fvm_shared::commcid::replica_commitment_v1_to_cid(&[3; 32]).expect("cid");
        let info = SealInfo {
            proof_type: PROOF,
            miner: 1000,
            sector: 1,
            sealed_cid,
            unsealed_cid: zero,
            ticket: [1; 32],
            seed: [2; 32],
        };
        for proof in [vec![], vec![0; 192], vec![255; 192], vec![7; 191]] {
            assert!(!matches!(ProofsApi.verify_seal(&info, &proof), Ok(true)));
            assert!(!matches!(ProofsApi.verify_aggregate(&vec![info.clone(); 4], &proof), Ok(true)));
        }
    }
}
