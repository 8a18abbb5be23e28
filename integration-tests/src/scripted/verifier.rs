//! Who else would need the proofs library: the manager and the chain, each with what a scripted sector must have.

use std::path::PathBuf;

use fvm_shared::commcid::cid_to_replica_commitment_v1;
use sealbus_manager::proofs::Verifier;
use sealbus_schema::{
    Commitment, ErrorClass, ErrorCode, ErrorReport, MinerId, Randomness, SealProof, SectorId, SectorNumber,
    workflows::seal::manager::Proven,
};

use super::yields;
use crate::devnet::{ProofVerifier, SealInfo, proofs::ProofError};

/// Takes the scripted proof of a sector, and no other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scripted;

impl Verifier for Scripted {
    fn verify_seal(&self, id: SectorId, _: SealProof, proven: &Proven) -> Result<(), ErrorReport> {
        let sealed = &proven.seeded.stored.precommitted.sealed;
        let ticket = &sealed.ticket.randomness;
        let is_right = sealed.comm_r == yields::comm_r(id, ticket)
            && proven.proof.0 == yields::proof(id, ticket, &proven.seeded.seed.randomness);
        is_right.then_some(()).ok_or_else(|| wrong(ErrorCode::PROOF_INVALID, "not the scripted proof"))
    }

    fn challenge_files(
        &self,
        _: SectorId,
        _: SealProof,
        comm_r: Commitment,
        _: PathBuf,
        sealed: PathBuf,
        _: [u8; 32],
    ) -> Result<(), ErrorReport> {
        match std::fs::read(&sealed) {
            Ok(content) if content == yields::file("replica", &comm_r.0) => Ok(()),
            Ok(_) => Err(wrong(ErrorCode::FILES_UNPROVABLE, "not the scripted replica")),
            Err(error) => Err(wrong(ErrorCode::FILES_UNPROVABLE, &error.to_string())),
        }
    }
}

impl ProofVerifier for Scripted {
    fn verify_seal(&self, info: &SealInfo, proof: &[u8]) -> Result<bool, ProofError> {
        let id = SectorId { miner: MinerId(info.miner), number: SectorNumber(info.sector) };
        let (ticket, seed) = (Randomness(info.ticket), Randomness(info.seed));
        let comm_r = cid_to_replica_commitment_v1(&info.sealed_cid).map_err(ProofError::Commitment)?;
        Ok(comm_r == yields::comm_r(id, &ticket).0 && proof == yields::proof(id, &ticket, &seed))
    }
}

fn wrong(code: ErrorCode, message: &str) -> ErrorReport {
    ErrorReport::new(ErrorClass::Perm, code, message)
}

#[cfg(test)]
mod tests {
    use fvm_shared::{commcid::replica_commitment_v1_to_cid, sector::RegisteredSealProof};

    use super::*;

    #[test]
    fn the_chain_takes_exactly_the_scripted_proof_of_a_sector() {
        let sector: SectorId = "f01000/7".parse().expect("a sector");
        let (ticket, seed) = (Randomness([3; 32]), Randomness([4; 32]));
        let sealed_cid = replica_commitment_v1_to_cid(&yields::comm_r(sector, &ticket).0).expect("a commitment");
        let info = SealInfo {
            proof_type: RegisteredSealProof::StackedDRG2KiBV1P1,
            miner: 1000,
            sector: 7,
            sealed_cid,
            unsealed_cid: sealed_cid,
            ticket: ticket.0,
            seed: seed.0,
        };
        let good = yields::proof(sector, &ticket, &seed);
        let takes =
            |info: &SealInfo, proof: &[u8]| ProofVerifier::verify_seal(&Scripted, info, proof).expect("a verdict");
        assert!(takes(&info, &good));
        let mut flipped = good.clone();
        flipped[100] ^= 1;
        assert!(!takes(&info, &flipped) && !takes(&info, &good[1..]));
        assert!(!takes(&SealInfo { sector: 8, ..info.clone() }, &good));
        assert!(!takes(&SealInfo { seed: [5; 32], ..info.clone() }, &good));
        assert!(!takes(&SealInfo { ticket: [5; 32], ..info }, &good));
    }
}
