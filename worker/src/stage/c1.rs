//! C1: opens the nodes that are challenged by the chain's seed.
//!
//! The result takes tens of megabytes for a 32 GiB sector, so it stays in the slot as `c1.json`. The library verifies
//! the openings before it returns them.

use std::path::PathBuf;

use filecoin_proofs_api::seal::{self, SealCommitPhase1Output, SealPreCommitPhase2Output};
use sealbus_schema::parts::PieceInfo;
use sealbus_schema::{Commitment, Randomness, SealProof, SectorId};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::pc1::ReplicaKey;
use super::{Stage, StageCode, StageError, StageRequest, Workspace, files, pc2, sector};

/// The sector, and the seed that gives the challenges.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The sector's working directory, after PC2.
    pub work_dir: PathBuf,
    /// The proof type.
    pub proof: SealProof,
    /// The sector.
    pub sector: SectorId,
    /// The ticket that PC1 ran with.
    pub ticket: Randomness,
    /// The chain's randomness that gives the challenges.
    pub seed: Randomness,
    /// CommR as the chain knows it. It must be the one from PC2.
    pub comm_r: Commitment,
    /// The pieces. CommD must follow from them.
    pub pieces: Vec<PieceInfo>,
}

/// The response. The openings themselves stay in the slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The size of `c1.json` in bytes.
    pub bytes: u64,
}

impl StageRequest for Request {
    const STAGE: Stage = Stage::C1;
    type Response = Response;

    fn run(&self) -> Result<Response, StageError> {
        run(self)
    }
}

/// What the openings in `c1.json` are for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) replica: ReplicaKey,
    pub(crate) comm_r: Commitment,
    pub(crate) seed: Randomness,
}

/// The contents of `c1.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record<Output = SealCommitPhase1Output> {
    pub(crate) key: Key,
    pub(crate) output: Output,
}

/// Opens the challenges and writes `c1.json`. An existing one is kept if it has the same seed, otherwise replaced.
///
/// # Errors
/// [`StageCode::InputMissing`] or [`StageCode::InputMismatch`] if PC2's result is missing or belongs to something else;
/// errors of the library and the file system.
pub fn run(request: &Request) -> Result<Response, StageError> {
    let workspace = Workspace::open(&request.work_dir)?;
    let pc2::Record { key: replica, comm_r, .. } =
        pc2::require_record(&workspace, request.proof, request.sector, request.ticket)?;
    if comm_r != request.comm_r {
        let message = format!("PC2 gave CommR {comm_r}, the request is for {}", request.comm_r);
        return Err(StageError::new(StageCode::InputMismatch, message));
    }
    let key = Key { replica, comm_r, seed: request.seed };
    let path = workspace.c1_record();
    let found = files::read_json::<Record<IgnoredAny>>(&path)?;
    if !found.is_some_and(|found| found.key == key) {
        let output = open_challenges(request, &workspace, &key)?;
        files::write_json(&path, &Record { key, output })?;
    }
    let bytes = files::size_of(&path)?.unwrap_or(0);
    Ok(Response { bytes })
}

fn open_challenges(request: &Request, workspace: &Workspace, key: &Key) -> Result<SealCommitPhase1Output, StageError> {
    let pre_commit = SealPreCommitPhase2Output {
        registered_proof: sector::registered(request.proof),
        comm_r: key.comm_r.0,
        comm_d: key.replica.comm_d.0,
    };
    seal::seal_commit_phase1(
        workspace.cache(),
        workspace.sealed(),
        sector::prover_id(request.sector.miner),
        sector::api_number(request.sector.number),
        request.ticket.0,
        request.seed.0,
        pre_commit,
        &sector::api_pieces(&request.pieces)?,
    )
    .map_err(|error| StageError::library("open challenges", &error))
}
