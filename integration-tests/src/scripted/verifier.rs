//! Replacements for the proofs library in the manager and the chain. [`Scripted`] is for scripted sectors.
//! [`ScriptedProofs`] is for sectors that are really sealed up to C2, which is scripted to save time. Their window PoSts,
//! which take seconds, are real. Their winning PoSts may be either.

use std::path::PathBuf;

use fvm_shared::commcid::cid_to_replica_commitment_v1;
use fvm_shared::sector::PoStProof;
use sealbus_manager::{
    aggregates::{self, Member},
    child::Program,
    files,
    proofs::{Library, Porep, Verifier},
};
use sealbus_schema::{
    Commitment, ErrorClass, ErrorCode, ErrorReport, MinerId, ProofBytes, Randomness, SealProof, SectorId, SectorNumber,
};

use super::yields;
use crate::devnet::{ProofVerifier, ProofsApi, SealInfo, proofs::PostInfo, proofs::ProofError};

/// Accepts only the scripted proof of a sector with the scripted replica.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scripted;

/// Accepts only the scripted proof of a sector's real replica. The replica's files are challenged as in production.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScriptedProofs;

impl Verifier for Scripted {
    fn verify_seal(&self, id: SectorId, _: SealProof, porep: &Porep) -> Result<(), ErrorReport> {
        let is_right = porep.comm_r == yields::comm_r(id, &porep.ticket);
        is_right.then_some(()).ok_or_else(|| wrong(ErrorCode::PROOF_INVALID, "not the scripted replica"))?;
        require_scripted_proof(id, porep)
    }

    fn aggregates_ready(&self) -> Result<(), ErrorReport> {
        Ok(())
    }

    fn aggregate(&self, _: SealProof, sectors: &[Member]) -> Result<ProofBytes, ErrorReport> {
        Ok(aggregate(sectors))
    }

    fn verify_aggregate(
        &self,
        miner: MinerId,
        proof: SealProof,
        sectors: &[Member],
        aggregate: &ProofBytes,
    ) -> Result<(), ErrorReport> {
        verify_aggregate(self, miner, proof, sectors, aggregate)
    }

    fn verify_window_post(
        &self,
        miner: MinerId,
        _: SealProof,
        randomness: Randomness,
        sectors: &[(SectorNumber, Commitment)],
        proof: &ProofBytes,
    ) -> Result<(), ErrorReport> {
        scripted_post("window", miner, randomness, sectors, proof)
    }

    fn verify_winning_post(
        &self,
        miner: MinerId,
        _: SealProof,
        randomness: Randomness,
        sectors: &[(SectorNumber, Commitment)],
        proof: &ProofBytes,
    ) -> Result<(), ErrorReport> {
        scripted_post("winning", miner, randomness, sectors, proof)
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
        let (id, comm_r) = (sector(info), comm_r(info)?);
        Ok(comm_r == yields::comm_r(id, &Randomness(info.ticket)) && proof == scripted_proof(info)?)
    }

    fn verify_aggregate(&self, infos: &[SealInfo], aggregate: &[u8]) -> Result<bool, ProofError> {
        for info in infos {
            if comm_r(info)? != yields::comm_r(sector(info), &Randomness(info.ticket)) {
                return Ok(false);
            }
        }
        Ok(aggregate == scripted_aggregate(infos)?)
    }

    fn verify_window_post(&self, info: &PostInfo, proofs: &[PoStProof]) -> Result<bool, ProofError> {
        is_scripted_post("window", info, proofs)
    }

    fn verify_winning_post(&self, info: &PostInfo, proofs: &[PoStProof]) -> Result<bool, ProofError> {
        is_scripted_post("winning", info, proofs)
    }
}

impl Verifier for ScriptedProofs {
    fn file_checker(&self) -> Program {
        real_replicas(files::COMMAND)
    }

    fn ready(&self, proof: SealProof) -> Result<(), ErrorReport> {
        Library.ready(proof)
    }

    fn verify_seal(&self, id: SectorId, _: SealProof, porep: &Porep) -> Result<(), ErrorReport> {
        require_scripted_proof(id, porep)
    }

    fn aggregator(&self) -> Program {
        real_replicas(aggregates::COMMAND)
    }

    fn aggregates_ready(&self) -> Result<(), ErrorReport> {
        Ok(())
    }

    fn aggregate(&self, _: SealProof, sectors: &[Member]) -> Result<ProofBytes, ErrorReport> {
        Ok(aggregate(sectors))
    }

    fn verify_aggregate(
        &self,
        miner: MinerId,
        proof: SealProof,
        sectors: &[Member],
        aggregate: &ProofBytes,
    ) -> Result<(), ErrorReport> {
        verify_aggregate(self, miner, proof, sectors, aggregate)
    }

    fn verify_window_post(
        &self,
        miner: MinerId,
        proof: SealProof,
        randomness: Randomness,
        sectors: &[(SectorNumber, Commitment)],
        made: &ProofBytes,
    ) -> Result<(), ErrorReport> {
        Library.verify_window_post(miner, proof, randomness, sectors, made)
    }

    fn verify_winning_post(
        &self,
        miner: MinerId,
        proof: SealProof,
        randomness: Randomness,
        sectors: &[(SectorNumber, Commitment)],
        made: &ProofBytes,
    ) -> Result<(), ErrorReport> {
        match Verifier::verify_winning_post(&Scripted, miner, proof, randomness, sectors, made) {
            Ok(()) => Ok(()),
            Err(_) => Library.verify_winning_post(miner, proof, randomness, sectors, made),
        }
    }

    fn challenge_files(
        &self,
        id: SectorId,
        proof: SealProof,
        comm_r: Commitment,
        cache: PathBuf,
        sealed: PathBuf,
        randomness: [u8; 32],
    ) -> Result<(), ErrorReport> {
        Library.challenge_files(id, proof, comm_r, cache, sealed, randomness)
    }
}

impl ProofVerifier for ScriptedProofs {
    fn verify_seal(&self, info: &SealInfo, proof: &[u8]) -> Result<bool, ProofError> {
        Ok(proof == scripted_proof(info)?)
    }

    fn verify_aggregate(&self, infos: &[SealInfo], aggregate: &[u8]) -> Result<bool, ProofError> {
        Ok(aggregate == scripted_aggregate(infos)?)
    }

    fn verify_window_post(&self, info: &PostInfo, proofs: &[PoStProof]) -> Result<bool, ProofError> {
        ProofsApi.verify_window_post(info, proofs)
    }

    fn verify_winning_post(&self, info: &PostInfo, proofs: &[PoStProof]) -> Result<bool, ProofError> {
        Ok(is_scripted_post("winning", info, proofs)? || ProofsApi.verify_winning_post(info, proofs)?)
    }
}

/// The program that works with real replicas in a separate process.
fn real_replicas(command: &str) -> Program {
    let mut program = Program::this(command);
    program.arguments.push("--real-replicas".into());
    program
}

fn sector(info: &SealInfo) -> SectorId {
    SectorId { miner: MinerId(info.miner), number: SectorNumber(info.sector) }
}

fn comm_r(info: &SealInfo) -> Result<Commitment, ProofError> {
    cid_to_replica_commitment_v1(&info.sealed_cid).map(Commitment).map_err(ProofError::Commitment)
}

/// Whether a proof of spacetime is the scripted one of these sectors.
pub fn is_scripted_post(kind: &str, info: &PostInfo, proofs: &[PoStProof]) -> Result<bool, ProofError> {
    let [proof] = proofs else { return Ok(false) };
    let sectors = info.sectors.iter().map(|(number, sealed)| {
        let comm_r = cid_to_replica_commitment_v1(sealed).map(Commitment).map_err(ProofError::Commitment)?;
        Ok((SectorNumber(*number), comm_r))
    });
    let sectors = sectors.collect::<Result<Vec<_>, ProofError>>()?;
    let expected = yields::post(kind, MinerId(info.miner), &Randomness(info.randomness), &sectors);
    Ok(proof.proof_bytes == expected)
}

/// The only proof that the chain takes.
fn scripted_proof(info: &SealInfo) -> Result<Vec<u8>, ProofError> {
    Ok(yields::proof(sector(info), &comm_r(info)?, &Randomness(info.ticket), &Randomness(info.seed)))
}

fn scripted_aggregate(infos: &[SealInfo]) -> Result<Vec<u8>, ProofError> {
    let proofs = infos.iter().map(scripted_proof).collect::<Result<Vec<_>, _>>()?;
    Ok(yields::aggregate(proofs.iter().map(Vec::as_slice)))
}

fn aggregate(sectors: &[Member]) -> ProofBytes {
    ProofBytes(yields::aggregate(sectors.iter().map(|sector| sector.porep.proof.0.as_slice())))
}

/// An aggregate is right if it is that of right proofs.
fn verify_aggregate(
    verifier: &impl Verifier,
    miner: MinerId,
    proof: SealProof,
    sectors: &[Member],
    of: &ProofBytes,
) -> Result<(), ErrorReport> {
    for Member { number, porep } in sectors {
        verifier.verify_seal(SectorId { miner, number: *number }, proof, porep)?;
    }
    let is_right = *of == aggregate(sectors);
    is_right.then_some(()).ok_or_else(|| wrong(ErrorCode::PROOF_INVALID, "not the scripted aggregate"))
}

fn require_scripted_proof(id: SectorId, porep: &Porep) -> Result<(), ErrorReport> {
    let expected = yields::proof(id, &porep.comm_r, &porep.ticket, &porep.seed);
    let is_right = porep.proof.0 == expected;
    is_right.then_some(()).ok_or_else(|| wrong(ErrorCode::PROOF_INVALID, "not the scripted proof"))
}

/// Compares a proof of spacetime, `window` or `winning`, with the scripted one.
fn scripted_post(
    kind: &str,
    miner: MinerId,
    randomness: Randomness,
    sectors: &[(SectorNumber, Commitment)],
    proof: &ProofBytes,
) -> Result<(), ErrorReport> {
    let is_right = proof.0 == yields::post(kind, miner, &randomness, sectors);
    is_right.then_some(()).ok_or_else(|| wrong(ErrorCode::PROOF_INVALID, &format!("not the scripted {kind} PoSt")))
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
        let good = yields::proof(sector, &yields::comm_r(sector, &ticket), &ticket, &seed);
        let takes =
            |info: &SealInfo, proof: &[u8]| ProofVerifier::verify_seal(&Scripted, info, proof).expect("a verdict");
        assert!(takes(&info, &good));
        let mut flipped = good.clone();
        flipped[100] ^= 1;
        assert!(!takes(&info, &flipped) && !takes(&info, &good[1..]));
        assert!(!takes(&SealInfo { sector: 8, ..info.clone() }, &good));
        assert!(!takes(&SealInfo { seed: [5; 32], ..info.clone() }, &good));
        assert!(!takes(&SealInfo { ticket: [5; 32], ..info.clone() }, &good));

        let infos = [1, 2, 3, 4].map(|number| SealInfo { sector: number, ..info.clone() });
        let infos = infos.map(|info| {
            let id = SectorId { number: SectorNumber(info.sector), ..sector };
            let sealed_cid = replica_commitment_v1_to_cid(&yields::comm_r(id, &ticket).0).expect("a commitment");
            SealInfo { sealed_cid, ..info }
        });
        let aggregate = scripted_aggregate(&infos).expect("an aggregate");
        let takes =
            |infos: &[SealInfo]| ProofVerifier::verify_aggregate(&Scripted, infos, &aggregate).expect("a verdict");
        let reversed: Vec<_> = infos.iter().rev().cloned().collect();
        assert!(takes(&infos) && !takes(&reversed) && !takes(&infos[..3]));
    }

    #[test]
    fn a_real_replica_needs_the_scripted_proof_of_this_replica() {
        let sector: SectorId = "f01000/7".parse().expect("a sector");
        let (ticket, seed) = (Randomness([3; 32]), Randomness([4; 32]));
        let replicas = [Commitment([5; 32]), Commitment([6; 32])];
        let [info, other] = replicas.map(|comm_r| {
            let sealed_cid = replica_commitment_v1_to_cid(&comm_r.0).expect("a commitment");
            SealInfo {
                proof_type: RegisteredSealProof::StackedDRG2KiBV1P1,
                miner: 1000,
                sector: 7,
                sealed_cid,
                unsealed_cid: sealed_cid,
                ticket: ticket.0,
                seed: seed.0,
            }
        });
        let proof = yields::proof(sector, &replicas[0], &ticket, &seed);
        let takes = |info| ProofVerifier::verify_seal(&ScriptedProofs, info, &proof).expect("a verdict");
        assert!(takes(&info) && !takes(&other));
    }
}
