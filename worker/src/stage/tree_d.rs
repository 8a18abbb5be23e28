//! Builds the Merkle tree over the unsealed data. Its root is CommD.
//!
//! The library takes an existing file of the right length for a complete tree, and a partial one has the right length.
//! So the tree is built in a scratch directory and renamed when it is durable. The tree of committed capacity is not
//! built but shared ([`super::static_tree_d`]).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use filecoin_hashers::{Domain, Hasher};
use filecoin_proofs::constants::DefaultPieceHasher;
use filecoin_proofs::types::StoreConfig;
use rayon::prelude::*;
use sealbus_schema::parts::PieceInfo;
use sealbus_schema::{Commitment, SealProof};
use serde::{Deserialize, Serialize};
use storage_proofs_core::cache_key::CacheKey;
use storage_proofs_core::merkle::BinaryMerkleTree;

use super::{Stage, StageCode, StageError, StageRequest, Workspace, files, sector, static_tree_d, workspace};

type Node = <DefaultPieceHasher as Hasher>::Domain;

/// The bytes that a thread reads at once.
const WINDOW: u64 = 1 << 20;
const NODE: u64 = 32;

/// The sector to build the tree for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The sector's working directory, which contains `unsealed`.
    pub work_dir: PathBuf,
    /// The proof type, which determines the size.
    pub proof: SealProof,
    /// The pieces from add_pieces. CommD must follow from them.
    pub pieces: Vec<PieceInfo>,
    /// Directories in which the shared tree of committed capacity may be kept. The first one on the sector's file
    /// system is used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub static_dirs: Vec<PathBuf>,
}

/// The root of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// CommD, the root.
    pub comm_d: Commitment,
}

impl StageRequest for Request {
    const STAGE: Stage = Stage::TreeD;
    type Response = Response;

    fn run(&self) -> Result<Response, StageError> {
        run(self)
    }
}

/// Builds the tree, unless a complete one with the right root exists.
///
/// # Errors
/// [`StageCode::CommDMismatch`] if the data does not match the pieces; [`StageCode::InputMissing`],
/// [`StageCode::InputMismatch`]; errors of the file system.
pub fn run(request: &Request) -> Result<Response, StageError> {
    run_by(request, &|unsealed, scratch, comm_d| {
        let built = scratch.join(workspace::TREE_D_FILE);
        match static_tree_d::provide(request.proof, comm_d, unsealed, &request.static_dirs, &built)? {
            Some(origin) => {
                tracing::debug!(?origin, "tree D of committed capacity");
                Ok(comm_d)
            }
            None => build(unsealed, request.proof, scratch),
        }
    })
}

/// Like [`run`], with another function that builds the tree of the file into a directory and returns its root. The
/// expected root is passed to it.
pub(super) fn run_by(
    request: &Request,
    build: &dyn Fn(&Path, &Path, Commitment) -> Result<Commitment, StageError>,
) -> Result<Response, StageError> {
    let workspace = Workspace::open(&request.work_dir)?;
    let comm_d = sector::comm_d(request.proof, &request.pieces)?;
    if finished_root(&workspace, request.proof)? == Some(comm_d) {
        files::remove_tree(&workspace.scratch("tree_d"))?;
        return Ok(Response { comm_d });
    }
    files::require_size(&workspace.unsealed(), request.proof.sector_size().bytes())?;
    let scratch = workspace.fresh_scratch("tree_d")?;
    let root = build(&workspace.unsealed(), &scratch, comm_d)?;
    if root != comm_d {
        files::remove_tree(&scratch)?;
        let message = format!("the data's root is {root}, that of its pieces {comm_d}");
        return Err(StageError::new(StageCode::CommDMismatch, message));
    }
    let built = scratch.join(workspace::TREE_D_FILE);
    files::sync_file(&built)?;
    files::create_dir(&workspace.cache())?;
    files::rename(&built, &workspace.tree_d())?;
    files::sync_dir(&workspace.cache())?;
    files::sync_dir(workspace.dir())?;
    files::remove_tree(&scratch)?;
    Ok(Response { comm_d })
}

/// The root in the file of a complete tree: its last node.
pub(crate) fn finished_root(workspace: &Workspace, proof: SealProof) -> Result<Option<Commitment>, StageError> {
    let path = workspace.tree_d();
    if files::size_of(&path)? != Some(sector::tree_d_bytes(proof)) {
        return Ok(None);
    }
    let mut root = [0; 32];
    File::open(&path)
        .and_then(|file| file.read_exact_at(&mut root, sector::tree_d_bytes(proof) - NODE))
        .map_err(|error| StageError::io("read", &path, &error))?;
    Ok(Some(Commitment(root)))
}

fn build(unsealed: &Path, proof: SealProof, dir: &Path) -> Result<Commitment, StageError> {
    let data = File::open(unsealed).map_err(|error| StageError::io("open", unsealed, &error))?;
    let leaves = usize::try_from(proof.sector_size().bytes() / NODE).unwrap_or(usize::MAX);
    let config = StoreConfig::new(dir, CacheKey::CommDTree.to_string(), 0);
    // The library's iterator interface cannot return errors. So the first error is kept here, and its leaf is given as
    // zeros.
    let failure = std::sync::Mutex::new(None);
    let nodes = (0..leaves).into_par_iter().map_init(Window::default, |window, leaf| {
        window.node(&data, leaf as u64 * NODE).unwrap_or_else(|error| {
            if let Ok(mut first) = failure.lock() {
                first.get_or_insert(error);
            }
            Node::default()
        })
    });
    let tree = BinaryMerkleTree::<DefaultPieceHasher>::from_par_iter_with_config(nodes, config)
        .map_err(|error| StageError::library("build tree D", &error))?;
    if let Some(error) = failure.into_inner().unwrap_or_default() {
        return Err(StageError::io("read", unsealed, &error));
    }
    let mut root = [0; 32];
    tree.root().write_bytes(&mut root).map_err(|error| StageError::library("root of tree D", &error))?;
    Ok(Commitment(root))
}

/// The part of the data that a thread reads at once.
#[derive(Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn node(&mut self, data: &File, offset: u64) -> std::io::Result<Node> {
        let end = self.start + self.bytes.len() as u64;
        if offset < self.start || offset + NODE > end {
            let length = data.metadata()?.len().saturating_sub(offset).min(WINDOW);
            self.bytes.resize(usize::try_from(length).unwrap_or(0), 0);
            self.start = offset;
            data.read_exact_at(&mut self.bytes, offset)?;
        }
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let node = self.bytes.get(from..from + 32).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        Node::try_from_bytes(node)
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error.to_string()))
    }
}
