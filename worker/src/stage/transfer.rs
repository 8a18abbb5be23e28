//! Copies the files needed for proving into the permanent store: the replica, `p_aux`, `t_aux` and tree R-last.
//!
//! The layout below the store's root is the one that lotus and its relatives read: `sealed/s-t0<miner>-<n>` and
//! `cache/s-t0<miner>-<n>/…`. A file is written as `.incoming/<kind>.<name>.<token>.tmp`, synced, read back, compared by
//! BLAKE2b-256, and only then renamed. It is read-only from then on. So a file under its final name is complete. The replica comes last. An existing file with the
//! same contents counts as copied; one with other contents is an error. This stage removes and overwrites nothing but
//! its own temporary files. It never creates the store's root: if the root is missing, or is another store, the right
//! one is probably not mounted. That is checked before each file is written and again before it is renamed.

use std::path::{Path, PathBuf};

use sealbus_schema::parts::StoredFile;
use sealbus_schema::{Commitment, SectorId, Token};
use serde::{Deserialize, Serialize};

use super::transfer_file::{self, Outcome};
use super::{Stage, StageCode, StageError, StageRequest, Workspace, files, pc2, workspace};
use crate::identity;

/// Bytes that are left free in the store.
const SPARE_BYTES: u64 = 1 << 20;

/// The sector to copy, and the store to copy it to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The sector's working directory, after PC2.
    pub work_dir: PathBuf,
    /// The root of the permanent store.
    pub store_dir: PathBuf,
    /// The store's name in its identity file; empty if it is not to be compared.
    #[serde(default)]
    pub store_name: String,
    /// The store's id, if it is known. Nothing is written to a directory with another id or without one.
    #[serde(default)]
    pub store_id: Option<String>,
    /// The sector.
    pub sector: SectorId,
    /// The lease's token, which is part of the temporary names.
    pub token: Token,
    /// CommR as the chain knows it. It must be the one from PC2.
    pub comm_r: Commitment,
}

/// The files in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// All files of the sector, with the replica last.
    pub files: Vec<StoredFile>,
}

impl StageRequest for Request {
    const STAGE: Stage = Stage::Transfer;
    type Response = Response;

    fn run(&self) -> Result<Response, StageError> {
        run(self)
    }
}

/// Copies the files that are missing in the store, and verifies those that exist.
///
/// # Errors
/// [`StageCode::InputMissing`], [`StageCode::InputMismatch`]; [`StageCode::StoreUnavailable`],
/// [`StageCode::StoreFull`], [`StageCode::StoreConflict`], [`StageCode::ChecksumMismatch`]; errors of the slot's file
/// system.
pub fn run(request: &Request) -> Result<Response, StageError> {
    let workspace = Workspace::open(&request.work_dir)?;
    let record = pc2::require_record_of(&workspace, request.sector)?;
    if record.comm_r != request.comm_r {
        let message = format!("PC2 gave CommR {}, the request is for {}", record.comm_r, request.comm_r);
        return Err(StageError::new(StageCode::InputMismatch, message));
    }
    workspace::check_absolute("store_dir", &request.store_dir)?;
    let root = Root { dir: &request.store_dir, name: &request.store_name, id: request.store_id.as_deref() };
    root.check()?;
    let copied = copy_all(request, &root, &plan(&workspace, &record, request.sector)?);
    // If the store is gone, that is the cause, whatever error the file system gave.
    root.check()?;
    copied
}

fn copy_all(request: &Request, root: &Root<'_>, plan: &[Planned]) -> Result<Response, StageError> {
    require_space(&request.store_dir, plan)?;
    let mut stored = Vec::with_capacity(plan.len());
    for file in plan {
        let path = request.store_dir.join(&file.path);
        let outcome = transfer_file::copy(&file.source, &path, root, request.token.0)?;
        let (Outcome::Copied(blake2b) | Outcome::AlreadyThere(blake2b)) = outcome;
        stored.push(StoredFile { path: file.path.clone(), bytes: file.size, blake2b });
    }
    Ok(Response { files: stored })
}

/// The store's root, which is checked whenever a file becomes final.
pub(super) struct Root<'a> {
    pub(super) dir: &'a Path,
    name: &'a str,
    id: Option<&'a str>,
}

impl Root<'_> {
    /// Checks that the directory is still the right store.
    pub(super) fn check(&self) -> Result<(), StageError> {
        match (self.name, self.id) {
            ("", None) if self.dir.is_dir() => Ok(()),
            (name, id) => identity::check_store(self.dir, name, id).map(drop),
        }
    }
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
        if files::size_of(&store.join(&file.path)).map_err(StageError::in_store)?.is_none() {
            needed = needed.saturating_add(file.size);
        }
    }
    if needed == 0 {
        return Ok(());
    }
    let room = rustix::fs::statvfs(store)
        .map_err(|error| StageError::io("ask the free space of", store, &error.into()).in_store())?;
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
