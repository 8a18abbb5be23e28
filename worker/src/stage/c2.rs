//! C2: turns the openings into a Groth16 proof of 192 bytes per partition, and verifies it as the chain will.

use std::path::PathBuf;

use filecoin_proofs_api::seal::{self, SealCommitPhase1Output};
use sealbus_schema::{ProofBytes, Randomness, SealProof, SectorId};
use serde::{Deserialize, Serialize};

use super::{Stage, StageCode, StageError, StageRequest, Workspace, c1, files, sector};

/// The openings to prove.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The sector's working directory, which contains `c1.json`.
    pub work_dir: PathBuf,
    /// The proof type.
    pub proof: SealProof,
    /// The sector.
    pub sector: SectorId,
    /// The ticket that PC1 ran with.
    pub ticket: Randomness,
    /// The seed that C1 ran with.
    pub seed: Randomness,
}

/// The proof for ProveCommit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// 192 bytes for each partition, concatenated.
    pub proof: ProofBytes,
}

impl StageRequest for Request {
    const STAGE: Stage = Stage::C2;
    type Response = Response;

    fn run(&self) -> Result<Response, StageError> {
        run(self)
    }
}

/// Creates and verifies the proof.
///
/// # Errors
/// [`StageCode::InputMissing`] or [`StageCode::InputMismatch`] if `c1.json` is missing or belongs to something else;
/// [`StageCode::ParamsMissing`]; [`StageCode::ProofInvalid`]; errors of the library.
pub fn run(request: &Request) -> Result<Response, StageError> {
    run_by(request, &|openings| {
        require_parameters_of(request.proof)?;
        let SectorId { miner, number } = request.sector;
        seal::seal_commit_phase2(openings, sector::prover_id(miner), sector::api_number(number))
            .map(|output| output.proof)
            .map_err(|error| StageError::library("prove", &error))
    })
}

/// Like [`run`], with another function that makes the proof from the openings. The verifying key must be available in
/// any case.
pub(super) fn run_by(
    request: &Request,
    prove: &dyn Fn(SealCommitPhase1Output) -> Result<Vec<u8>, StageError>,
) -> Result<Response, StageError> {
    let workspace = Workspace::open(&request.work_dir)?;
    let c1::Record { key, output } = require_openings(&workspace, request)?;
    let Request { proof, sector, ticket, seed, .. } = *request;
    let path = sector::registered(proof).cache_verifying_key_path();
    // Checked before the computation: without the key the proof could not be verified, and minutes would be lost.
    require_parameters(path.map_err(|error| StageError::library("name the verifying key", &error))?)?;
    let proof_bytes = prove(output)?;
    let valid = seal::verify_seal(
        sector::registered(proof),
        key.comm_r.0,
        key.replica.comm_d.0,
        sector::prover_id(sector.miner),
        sector::api_number(sector.number),
        ticket.0,
        seed.0,
        &proof_bytes,
    )
    .map_err(|error| StageError::library("verify the proof", &error))?;
    if !valid {
        return Err(StageError::new(
            StageCode::ProofInvalid,
            format!("the proof of {sector:?} with seed {seed} does not verify"),
        ));
    }
    Ok(Response { proof: ProofBytes(proof_bytes) })
}

fn require_openings(workspace: &Workspace, request: &Request) -> Result<c1::Record, StageError> {
    let path = workspace.c1_record();
    let Some(record) = files::read_json::<c1::Record>(&path)? else {
        return Err(StageError::new(
            StageCode::InputMissing,
            format!("{} is not there or not readable", path.display()),
        ));
    };
    let replica = &record.key.replica;
    if (replica.proof, replica.sector, replica.ticket, record.key.seed)
        != (request.proof, request.sector, request.ticket, request.seed)
    {
        let message =
            format!("{} is for {:?}, not for {:?} seed {}", path.display(), record.key, request.sector, request.seed);
        return Err(StageError::new(StageCode::InputMismatch, message));
    }
    Ok(record)
}

/// Checks that the parameters of a proof type are in this process's parameter directory.
///
/// # Errors
/// [`StageCode::ParamsMissing`]; errors of the file system.
pub(super) fn require_parameters_of(proof: SealProof) -> Result<(), StageError> {
    let path = sector::registered(proof).cache_params_path();
    require_parameters(path.map_err(|error| StageError::library("name the parameters", &error))?)
}

fn require_parameters(path: PathBuf) -> Result<(), StageError> {
    match files::size_of(&path)? {
        Some(_) => Ok(()),
        None => Err(StageError::new(StageCode::ParamsMissing, format!("{} is not there", path.display()))),
    }
}
