//! Copies what a proving sector needs into the permanent store: the replica, `p_aux`, `t_aux` and tree R-last.
//!
//! Layout under the store's root, as lotus and its kin read it: `sealed/s-t0<miner>-<n>` and `cache/s-t0<miner>-<n>/…`.
//! A file is written as `.<name>.<token>.tmp`, synced, read back and compared by BLAKE2b-256, and only then renamed; so
//! a final name stands for a whole file. The replica comes last. A file that is already there with the same contents
//! counts as copied, one with other contents is an error: this stage removes and overwrites nothing but its own
//! temporary files. The store's root is never made: if it is not there, it is probably not mounted.

use std::path::{Path, PathBuf};

use sealbus_schema::message::StoredFile;
use sealbus_schema::{Commitment, SectorId, Token};
use serde::{Deserialize, Serialize};

use super::transfer_file::{self, Outcome};
use super::{Stage, StageCode, StageError, StageRequest, Workspace, files, pc2, workspace};

/// Space that is left free on the store.
const SPARE_BYTES: u64 = 1 << 20;

/// What to copy where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The sector's working directory, after PC2.
    pub work_dir: PathBuf,
    /// The root of the permanent store.
    pub store_dir: PathBuf,
    /// The sector.
    pub sector: SectorId,
    /// The lease's token, part of the temporary names.
    pub token: Token,
    /// The commitment that the chain knows; must be that of PC2.
    pub comm_r: Commitment,
}

/// What lies in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// All files of the sector, the replica last.
    pub files: Vec<StoredFile>,
}

impl StageRequest for Request {
    const STAGE: Stage = Stage::Transfer;
    type Response = Response;

    fn run(&self) -> Result<Response, StageError> {
        run(self)
    }
}

/// Copies the files that are not there yet, and verifies those that are.
///
/// # Errors
/// [`StageCode::InputMissing`], [`StageCode::InputMismatch`]; [`StageCode::StoreUnavailable`],
/// [`StageCode::StoreFull`], [`StageCode::StoreConflict`], [`StageCode::ChecksumMismatch`]; of the file systems.
pub fn run(request: &Request) -> Result<Response, StageError> {
    let workspace = Workspace::open(&request.work_dir)?;
    let record = pc2::require_record_of(&workspace, request.sector)?;
    if record.comm_r != request.comm_r {
        let message = format!("PC2 gave CommR {}, the request is for {}", record.comm_r, request.comm_r);
        return Err(StageError::new(StageCode::InputMismatch, message));
    }
    workspace::check_absolute("store_dir", &request.store_dir)?;
    if !request.store_dir.is_dir() {
        return Err(StageError::new(
            StageCode::StoreUnavailable,
            format!("store {} is not there", request.store_dir.display()),
        ));
    }
    let plan = plan(&workspace, &record, request.sector)?;
    require_space(&request.store_dir, &plan)?;
    let mut stored = Vec::with_capacity(plan.len());
    for file in &plan {
        let path = request.store_dir.join(&file.path);
        let outcome = transfer_file::copy(&file.source, &path, &request.store_dir, request.token.0)?;
        let (Outcome::Copied(blake2b) | Outcome::AlreadyThere(blake2b)) = outcome;
        stored.push(StoredFile { path: file.path.clone(), bytes: file.size, blake2b });
    }
    Ok(Response { files: stored })
}

struct Planned {
    source: PathBuf,
    path: String,
    size: u64,
}

fn plan(workspace: &Workspace, record: &pc2::Record, sector: SectorId) -> Result<Vec<Planned>, StageError> {
    let name = sector.file_name();
    let mut plan = Vec::new();
    for (file, size) in &record.cache_files {
        if file == "p_aux" || file == "t_aux" || file.starts_with(workspace::TREE_R_LAST_PREFIX) {
            plan.push(Planned {
                source: workspace.cache().join(file),
                path: format!("cache/{name}/{file}"),
                size: *size,
            });
        }
    }
    plan.push(Planned {
        source: workspace.sealed(),
        path: format!("sealed/{name}"),
        size: record.key.proof.sector_size().bytes(),
    });
    for file in &plan {
        files::require_size(&file.source, file.size)?;
    }
    Ok(plan)
}

fn require_space(store: &Path, plan: &[Planned]) -> Result<(), StageError> {
    let mut needed = 0_u64;
    for file in plan {
        if files::size_of(&store.join(&file.path))?.is_none() {
            needed = needed.saturating_add(file.size);
        }
    }
    if needed == 0 {
        return Ok(());
    }
    let room =
        rustix::fs::statvfs(store).map_err(|error| StageError::io("ask the free space of", store, &error.into()))?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    check_space(store, needed, free)
}

fn check_space(store: &Path, needed: u64, free: u64) -> Result<(), StageError> {
    if free < needed.saturating_add(SPARE_BYTES) {
        let message = format!(
            "store {} has {free} bytes free, the sector needs {needed} and {SPARE_BYTES} to spare",
            store.display()
        );
        return Err(StageError::new(StageCode::StoreFull, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_without_room_is_critical_before_anything_is_copied() {
        let error = check_space(Path::new("/store"), 2048, 2047 + SPARE_BYTES).expect_err("full");
        assert_eq!((error.code, error.class()), (StageCode::StoreFull, sealbus_schema::ErrorClass::Crit));
        check_space(Path::new("/store"), 2048, 2048 + SPARE_BYTES).expect("room");
        check_space(Path::new("/store"), u64::MAX, u64::MAX - 1).expect_err("full");
    }
}
