//! PC2: encodes the replica and builds the trees over labels and replica.
//!
//! The library encodes the sealed file in place and takes existing tree files for complete ones. So a second run after
//! a kill would give a wrong CommR. Here each run works in a scratch directory that is emptied first. A copy of the
//! data becomes the replica. The inputs (layers and tree D) are hard links, which the library only reads. The result is
//! checked ([`super::pc2_check`]), synced and renamed into place file by file. Last, `pc2.json` records that it is
//! complete. Without `pc2.json` the next run starts again from the untouched inputs.

use std::fs;
use std::path::{Path, PathBuf};

use filecoin_proofs_api::seal::{self, SealPreCommitPhase2Output};
use sealbus_schema::parts::PieceInfo;
use sealbus_schema::{Commitment, Randomness, SealProof, SectorId};
use serde::{Deserialize, Serialize};

use super::pc1::{self, ReplicaKey};
use super::{Stage, StageCode, StageError, StageRequest, Workspace};
use super::{files, pc2_check, sector, workspace};

/// The sector to encode.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The sector's working directory, after PC1.
    pub work_dir: PathBuf,
    /// The proof type.
    pub proof: SealProof,
    /// The sector.
    pub sector: SectorId,
    /// The ticket that PC1 ran with.
    pub ticket: Randomness,
    /// The pieces, to check the result.
    pub pieces: Vec<PieceInfo>,
}

/// The commitments for the PreCommit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The commitment to the replica.
    pub comm_r: Commitment,
    /// The commitment to the data.
    pub comm_d: Commitment,
}

impl StageRequest for Request {
    const STAGE: Stage = Stage::Pc2;
    type Response = Response;

    fn run(&self) -> Result<Response, StageError> {
        run(self)
    }
}

/// The contents of `pc2.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) key: ReplicaKey,
    pub(crate) comm_r: Commitment,
    /// Names and sizes in bytes of the files that PC2 created in the cache directory.
    pub(crate) cache_files: Vec<(String, u64)>,
}

/// Encodes, checks and moves the result into place. If that has already been done for the same request, it only
/// answers.
///
/// # Errors
/// [`StageCode::InputMissing`] or [`StageCode::InputMismatch`] if PC1's files are not complete;
/// [`StageCode::CommDMismatch`] or [`StageCode::CommRMismatch`] if the result is wrong; errors of the library and the
/// file system.
pub fn run(request: &Request) -> Result<Response, StageError> {
    run_by(request, &|pc1::Output { ours, .. }, cache, sealed| {
        seal::seal_pre_commit_phase2(ours, cache, sealed)
            .map_err(|error| StageError::library("encode and build trees", &error))
    })
}

/// Like [`run`], with another function that encodes the file in place and builds the trees into a cache directory.
pub(super) fn run_by(
    request: &Request,
    encode: &dyn Fn(pc1::Output, &Path, &Path) -> Result<SealPreCommitPhase2Output, StageError>,
) -> Result<Response, StageError> {
    let workspace = Workspace::open(&request.work_dir)?;
    if let Some(record) = finished(&workspace, request)? {
        // A run killed at its very end leaves the scratch directory behind. Its hard links would keep the layers' disk
        // space in use.
        files::remove_tree(&workspace.scratch("pc2"))?;
        return Ok(Response { comm_r: record.comm_r, comm_d: record.key.comm_d });
    }
    let pc1::Record { key, output, theirs } =
        pc1::require_record(&workspace, request.proof, request.sector, request.ticket)?;
    // Removed before the work begins, because the record vouches for the files that are about to be replaced.
    files::remove_tree(&workspace.pc2_record())?;
    let scratch = prepare(&workspace, request.proof)?;

    let pre_commit = encode(pc1::Output { ours: output, theirs }, &scratch.cache, &scratch.sealed)?;
    pc2_check::check(&key, &pre_commit, &request.pieces, &scratch.cache, &scratch.sealed)?;
    pc2_check::normalise_t_aux(request.proof, &scratch.cache)?;

    let cache_files = move_into_place(&workspace, &scratch)?;
    let comm_r = Commitment(pre_commit.comm_r);
    let comm_d = key.comm_d;
    // Written last: it says that all files are in place.
    files::write_json(&workspace.pc2_record(), &Record { key, comm_r, cache_files })?;
    files::remove_tree(&scratch.dir)?;
    Ok(Response { comm_r, comm_d })
}

/// The record of PC2 in `workspace`. It must be for this sector and ticket.
pub(crate) fn require_record(
    workspace: &Workspace,
    proof: SealProof,
    sector: SectorId,
    ticket: Randomness,
) -> Result<Record, StageError> {
    let record = require_record_of(workspace, sector)?;
    let key = &record.key;
    if (key.proof, key.sector, key.ticket) != (proof, sector, ticket) {
        let message = format!(
            "{} is for {key:?}, not for {proof:?} {sector:?} ticket {ticket}",
            workspace.pc2_record().display()
        );
        return Err(StageError::new(StageCode::InputMismatch, message));
    }
    Ok(record)
}

/// The record of PC2 in `workspace`. It must be for this sector; the ticket may be any.
pub(crate) fn require_record_of(workspace: &Workspace, sector: SectorId) -> Result<Record, StageError> {
    let path = workspace.pc2_record();
    let Some(record) = files::read_json::<Record>(&path)? else {
        return Err(StageError::new(
            StageCode::InputMissing,
            format!("{} is not there or not readable", path.display()),
        ));
    };
    if record.key.sector != sector {
        let message = format!("{} is for {:?}, not for {sector:?}", path.display(), record.key.sector);
        return Err(StageError::new(StageCode::InputMismatch, message));
    }
    Ok(record)
}

fn finished(workspace: &Workspace, request: &Request) -> Result<Option<Record>, StageError> {
    let Some(record) = files::read_json::<Record>(&workspace.pc2_record())? else { return Ok(None) };
    let key = &record.key;
    if (key.proof, key.sector, key.ticket) != (request.proof, request.sector, request.ticket) {
        return Ok(None);
    }
    let mut whole = files::size_of(&workspace.sealed())? == Some(request.proof.sector_size().bytes());
    for (name, size) in &record.cache_files {
        whole &= files::size_of(&workspace.cache().join(name))? == Some(*size);
    }
    Ok(whole.then_some(record))
}

struct Scratch {
    dir: PathBuf,
    cache: PathBuf,
    sealed: PathBuf,
}

fn prepare(workspace: &Workspace, proof: SealProof) -> Result<Scratch, StageError> {
    files::require_size(&workspace.unsealed(), proof.sector_size().bytes())?;
    files::require_size(&workspace.tree_d(), sector::tree_d_bytes(proof))?;
    for layer in 1..=sector::layers(proof) {
        files::require_size(&workspace.layer(layer), proof.sector_size().bytes())?;
    }
    let dir = workspace.fresh_scratch("pc2")?;
    let scratch = Scratch { cache: dir.join("cache"), sealed: dir.join("sealed"), dir };
    files::create_dir(&scratch.cache)?;
    link(&workspace.tree_d(), &scratch.cache)?;
    for layer in 1..=sector::layers(proof) {
        link(&workspace.layer(layer), &scratch.cache)?;
    }
    fs::copy(workspace.unsealed(), &scratch.sealed)
        .map_err(|error| StageError::io("copy data to", &scratch.sealed, &error))?;
    Ok(scratch)
}

fn link(from: &Path, dir: &Path) -> Result<(), StageError> {
    let to = dir.join(files::name_of(from));
    fs::hard_link(from, &to).map_err(|error| StageError::io("link", &to, &error))
}

fn is_input(name: &str) -> bool {
    name == workspace::TREE_D_FILE || name.starts_with(workspace::LAYER_PREFIX)
}

/// Syncs and renames the files that PC2 created. Returns their names and sizes.
fn move_into_place(workspace: &Workspace, scratch: &Scratch) -> Result<Vec<(String, u64)>, StageError> {
    let made: Vec<PathBuf> =
        files::list(&scratch.cache)?.into_iter().filter(|path| !is_input(&files::name_of(path))).collect();
    let mut cache_files = Vec::with_capacity(made.len());
    for path in made.iter().chain([&scratch.sealed]) {
        files::sync_file(path)?;
    }
    for path in &made {
        let name = files::name_of(path);
        let size = files::size_of(path)?
            .ok_or_else(|| StageError::new(StageCode::InputMissing, format!("{} went away", path.display())))?;
        files::rename(path, &workspace.cache().join(&name))?;
        cache_files.push((name, size));
    }
    files::rename(&scratch.sealed, &workspace.sealed())?;
    files::sync_dir(&workspace.cache())?;
    files::sync_dir(workspace.dir())?;
    Ok(cache_files)
}
