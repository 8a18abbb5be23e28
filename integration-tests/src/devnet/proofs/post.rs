//! Proofs of spacetime: what they are verified against, and their verification by the real library.

use std::collections::BTreeMap;

use cid::Cid;
use filecoin_proofs_api as api;
use fvm_shared::ActorID;
use fvm_shared::commcid::cid_to_replica_commitment_v1;
use fvm_shared::sector::{PoStProof, RegisteredPoStProof, SectorNumber};

use super::{ProofError, guarded, prover_id};

/// Everything that a proof of spacetime is verified against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostInfo {
    /// The miner.
    pub miner: ActorID,
    /// The randomness of the challenge. It is a field element.
    pub randomness: [u8; 32],
    /// CommR of each challenged sector.
    pub sectors: BTreeMap<SectorNumber, Cid>,
}

impl PostInfo {
    /// The proof of these sectors. A sector may be given more than once, as the stand-in of others.
    pub fn new(miner: ActorID, drawn: [u8; 32], sectors: impl IntoIterator<Item = (SectorNumber, Cid)>) -> Self {
        Self { miner, randomness: post_randomness(drawn), sectors: sectors.into_iter().collect() }
    }

    fn replicas(
        &self,
        proof: api::RegisteredPoStProof,
    ) -> Result<BTreeMap<api::SectorId, api::PublicReplicaInfo>, ProofError> {
        let replica = |(number, sealed): (&SectorNumber, &Cid)| {
            let comm_r = cid_to_replica_commitment_v1(sealed).map_err(ProofError::Commitment)?;
            Ok((api::SectorId::from(*number), api::PublicReplicaInfo::new(proof, comm_r)))
        };
        self.sectors.iter().map(replica).collect()
    }
}

/// Makes drawn randomness a field element, as prover and verifier do.
pub fn post_randomness(mut drawn: [u8; 32]) -> [u8; 32] {
    drawn[31] &= 0x3f;
    drawn
}

/// The type of the winning PoSts of a miner with this type of window PoSts. `None` for an old type.
pub fn winning_post_proof(window: RegisteredPoStProof) -> Option<RegisteredPoStProof> {
    use RegisteredPoStProof::*;
    match window {
        StackedDRGWindow2KiBV1P1 => Some(StackedDRGWinning2KiBV1),
        StackedDRGWindow8MiBV1P1 => Some(StackedDRGWinning8MiBV1),
        _ => None,
    }
}

/// Which of `count` sectors, counted from 0 in ascending order of their numbers, a winning PoSt must prove.
pub fn winning_sectors(
    window: RegisteredPoStProof,
    miner: ActorID,
    drawn: [u8; 32],
    count: u64,
) -> Result<Vec<u64>, ProofError> {
    let proof = winning_post_proof(window).ok_or_else(|| ProofError::UnknownProof(format!("{window:?}")))?;
    let proof = proof_type(proof)?;
    let randomness = post_randomness(drawn);
    guarded(|| api::post::generate_winning_post_sector_challenge(proof, &randomness, count, prover_id(miner)))
}

pub(super) fn verify_window(info: &PostInfo, proofs: &[PoStProof]) -> Result<bool, ProofError> {
    let [PoStProof { post_proof, proof_bytes }] = proofs else { return Ok(false) };
    let proof = proof_type(*post_proof)?;
    let replicas = info.replicas(proof)?;
    let proofs = [(proof, proof_bytes.as_slice())];
    guarded(|| api::post::verify_window_post(&info.randomness, &proofs, &replicas, prover_id(info.miner)))
}

pub(super) fn verify_winning(info: &PostInfo, proofs: &[PoStProof]) -> Result<bool, ProofError> {
    let [PoStProof { post_proof, proof_bytes }] = proofs else { return Ok(false) };
    let replicas = info.replicas(proof_type(*post_proof)?)?;
    guarded(|| api::post::verify_winning_post(&info.randomness, proof_bytes, &replicas, prover_id(info.miner)))
}

fn proof_type(proof: RegisteredPoStProof) -> Result<api::RegisteredPoStProof, ProofError> {
    proof.try_into().map_err(|_| ProofError::UnknownProof(format!("{proof:?}")))
}

#[cfg(test)]
mod tests {
    use fvm_shared::commcid::replica_commitment_v1_to_cid;

    use super::*;

    const WINDOW: RegisteredPoStProof = RegisteredPoStProof::StackedDRGWindow2KiBV1P1;

    #[test]
    fn the_randomness_is_a_field_element() {
        let info = PostInfo::new(1000, [255; 32], []);
        assert_eq!((info.randomness[30], info.randomness[31]), (255, 0x3f));
    }

    #[test]
    fn a_winning_post_challenges_one_of_the_sectors() {
        for byte in 0..20 {
            let drawn = winning_sectors(WINDOW, 1000, [byte; 32], 5).expect("a challenge");
            assert!(matches!(drawn.as_slice(), [index] if *index < 5), "{drawn:?}");
        }
        assert!(winning_sectors(RegisteredPoStProof::Invalid(5), 1000, [1; 32], 5).is_err());
    }

    #[test]
    fn garbage_is_a_wrong_proof_and_no_panic() {
        let sealed = replica_commitment_v1_to_cid(&[3; 32]).expect("a commitment");
        let info = PostInfo::new(1000, [1; 32], [(7, sealed)]);
        let winning = winning_post_proof(WINDOW).expect("a type");
        for bytes in [vec![], vec![0; 192], vec![255; 192], vec![7; 191]] {
            let proof = |post_proof| [PoStProof { post_proof, proof_bytes: bytes.clone() }];
            assert!(!matches!(verify_window(&info, &proof(WINDOW)), Ok(true)));
            assert!(!matches!(verify_winning(&info, &proof(winning)), Ok(true)));
            assert!(!matches!(verify_window(&info, &proof(winning)), Ok(true)), "the wrong kind");
        }
        assert!(!matches!(verify_window(&info, &[]), Ok(true)));
        assert!(!matches!(verify_winning(&PostInfo::new(1000, [1; 32], []), &[]), Ok(true)));
    }
}
