//! Tree D of committed capacity, which is the same for all sectors of one size.
//!
//! All data is zeros, so each level of the tree repeats one node. The file is written without hashing, and its leaves,
//! half of the file, are a hole that takes no space. One such file is kept per file system and sector size. A sector's
//! own tree D is a hard link to it, or a clone. If no directory is usable for it, the sector gets its own file, written
//! in the same way.
//!
//! All readers open tree D read-only and replace it only by renaming. The file's permissions are read-only, so that a
//! processor that tries to write gets an error. The file gets its name only when all of it has been read back from
//! disk. After that, its size and both ends of each level are checked before each use, and a file that fails is created
//! again.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use filecoin_hashers::{Domain, HashFunction, Hasher};
use filecoin_proofs::constants::DefaultPieceHasher;
use rustix::{
    fs::{Access, Advice},
    io::Errno,
};
use sealbus_schema::{Commitment, SealProof};

use super::{StageCode, StageError, files, lock};

type Node = <DefaultPieceHasher as Hasher>::Domain;
type Function = <DefaultPieceHasher as Hasher>::Function;

/// How long another processor may take to create the file.
const MAKING_MAX: Duration = Duration::from_secs(3600);
const NODE: u64 = 32;
const BUFFER: usize = 1 << 20;

/// How a sector got its tree D.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A clone of the kept file. Its extents are copied when somebody writes to it.
    Cloned(PathBuf),
    /// A hard link to the kept file.
    Linked(PathBuf),
    /// Written for this sector alone, because no directory could be used.
    Written,
}

/// The tree over a sector of zeros.
#[derive(Clone, Debug)]
pub struct ZeroTree {
    /// The node that each level repeats, leaves first.
    levels: Vec<[u8; 32]>,
}

impl ZeroTree {
    /// The tree for `proof`'s sector size.
    ///
    /// # Errors
    /// [`StageError`] of the library.
    pub fn of(proof: SealProof) -> Result<Self, StageError> {
        let leaves = proof.sector_size().bytes() / NODE;
        let mut node = Node::default();
        let mut levels = Vec::new();
        for _ in 0..=leaves.ilog2() {
            let mut bytes = [0; 32];
            node.write_bytes(&mut bytes).map_err(|error| StageError::library("node of tree D", &error))?;
            levels.push(bytes);
            node = Function::hash2(&node, &node);
        }
        Ok(Self { levels })
    }

    /// The root, which is CommD of committed capacity.
    #[must_use]
    pub fn root(&self) -> Commitment {
        Commitment(self.levels.last().copied().unwrap_or_default())
    }

    fn bytes(&self) -> u64 {
        (2 * self.leaves() - 1) * NODE
    }

    fn leaves(&self) -> u64 {
        1 << (self.levels.len() - 1)
    }

    /// Each level's offset and length in bytes, and its node.
    fn parts(&self) -> impl Iterator<Item = (u64, u64, &[u8; 32])> {
        let mut start = 0;
        self.levels.iter().enumerate().map(move |(height, node)| {
            let length = (self.leaves() >> height) * NODE;
            let part = (start, length, node);
            start += length;
            part
        })
    }

    /// Writes the tree to a new file and syncs it.
    ///
    /// # Errors
    /// [`StageError`] of the file system.
    pub fn write(&self, path: &Path) -> Result<(), StageError> {
        let write = || -> io::Result<()> {
            let mut file = File::options().write(true).create_new(true).open(path)?;
            file.set_len(self.bytes())?;
            // The leaves are zeros, as the hole already is.
            for (start, length, node) in self.parts().skip(1) {
                file.seek(SeekFrom::Start(start))?;
                let buffer = repeated(node, length);
                let mut rest = length;
                while rest > 0 {
                    let now = rest.min(buffer.len() as u64);
                    file.write_all(&buffer[..now as usize])?;
                    rest -= now;
                }
            }
            file.sync_all()
        };
        write().map_err(|error| StageError::io("write", path, &error))
    }

    /// Whether a file has the right size and the right node at both ends of each level. A partial or foreign file does
    /// not.
    fn begins_and_ends_each_level(&self, path: &Path) -> io::Result<bool> {
        let found = match fs::symlink_metadata(path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if !found.is_file() || found.len() != self.bytes() {
            return Ok(false);
        }
        let file = File::open(path)?;
        for (start, length, expected) in self.parts() {
            for at in [start, start + length - NODE] {
                let mut node = [0; 32];
                file.read_exact_at(&mut node, at)?;
                if node != *expected {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Reads a whole file from disk and compares it.
    fn is_all_of(&self, path: &Path) -> io::Result<bool> {
        let mut file = File::open(path)?;
        // Only advice: if the kernel keeps pages in memory, nothing better can be had.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        if file.metadata()?.len() != self.bytes() {
            return Ok(false);
        }
        let mut found = vec![0; BUFFER];
        for (_, length, node) in self.parts() {
            let expected = repeated(node, length);
            let mut rest = length;
            while rest > 0 {
                let now = rest.min(expected.len() as u64) as usize;
                file.read_exact(&mut found[..now])?;
                if found[..now] != expected[..now] {
                    return Ok(false);
                }
                rest -= now as u64;
            }
        }
        Ok(true)
    }
}

/// Makes `to` the tree of a sector whose `unsealed` data is all zeros, and returns how. `None` if the data is not
/// zeros.
///
/// The file is kept in the first of `dirs` that is on the file system of `to`. That directory is created if its parent
/// exists.
///
/// # Errors
/// [`StageCode::IoTimedOut`] if another processor takes too long to create the file; [`StageCode::IoFailed`] if the
/// disk does not keep what was written; errors of the file system.
pub fn provide(
    proof: SealProof,
    comm_d: Commitment,
    unsealed: &Path,
    dirs: &[PathBuf],
    to: &Path,
) -> Result<Option<Origin>, StageError> {
    let tree = ZeroTree::of(proof)?;
    if tree.root() != comm_d || !is_zeros(unsealed).map_err(|error| StageError::io("read", unsealed, &error))? {
        return Ok(None);
    }
    if let Some(dir) = home(dirs, to) {
        let kept = keep(&tree, &dir, proof)?;
        if let Some(origin) = share(&kept, to)? {
            return Ok(Some(origin));
        }
    }
    tree.write(to)?;
    Ok(Some(Origin::Written))
}

/// The path of the tree's file in `dir`. It is created if it is missing or damaged.
///
/// # Errors
/// The errors of [`provide`].
pub fn keep(tree: &ZeroTree, dir: &Path, proof: SealProof) -> Result<PathBuf, StageError> {
    let path = dir.join(format!("tree-d-{}.dat", proof.sector_size()));
    let is_good = || tree.begins_and_ends_each_level(&path).map_err(|error| StageError::io("read", &path, &error));
    if is_good()? {
        return Ok(path);
    }
    let _held = lock::hold(&dir.join(".lock"), MAKING_MAX)?;
    // Another processor may have created the file while this one waited for the lock.
    if is_good()? {
        return Ok(path);
    }
    if fs::symlink_metadata(&path).is_ok() {
        tracing::warn!(path = %path.display(), "the tree D of zeros is damaged, creating it again");
        files::remove_tree(&path)?;
    }
    let temporary = dir.join(format!(".tree-d-{}.tmp", proof.sector_size()));
    files::remove_tree(&temporary)?;
    let made = make(tree, &temporary, &path);
    if made.is_err() {
        // On a full disk this frees the space again.
        files::remove_tree(&temporary)?;
    }
    made.map(|()| path)
}

fn make(tree: &ZeroTree, temporary: &Path, path: &Path) -> Result<(), StageError> {
    tree.write(temporary)?;
    let failed = |operation: &str, error: io::Error| StageError::io(operation, temporary, &error);
    // Read back from disk once, because all sectors of this size will depend on the file.
    if !tree.is_all_of(temporary).map_err(|error| failed("read back", error))? {
        let message = format!("{} reads back differently from what was written", temporary.display());
        return Err(StageError::new(StageCode::IoFailed, message));
    }
    fs::set_permissions(temporary, Permissions::from_mode(0o444)).map_err(|error| failed("protect", error))?;
    files::sync_file(temporary)?;
    files::rename(temporary, path)?;
    files::sync_parent(path)
}

/// The first writable directory on the file system of `to`.
fn home(dirs: &[PathBuf], to: &Path) -> Option<PathBuf> {
    let device = fs::metadata(to.parent()?).ok()?.dev();
    let on_it = |path: &Path| {
        fs::metadata(path).is_ok_and(|found| found.is_dir() && found.dev() == device)
            && rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok()
    };
    dirs.iter()
        .find(|dir| match on_it(dir) {
            true => true,
            false => dir.parent().is_some_and(on_it) && fs::create_dir(dir).is_ok() && files::sync_parent(dir).is_ok(),
        })
        .cloned()
}

/// Clones the kept file if the file system can, otherwise links it. `None` if neither works.
fn share(kept: &Path, to: &Path) -> Result<Option<Origin>, StageError> {
    if clone(kept, to).map_err(|error| StageError::io("clone to", to, &error))? {
        return Ok(Some(Origin::Cloned(kept.to_owned())));
    }
    match fs::hard_link(kept, to) {
        Ok(()) => Ok(Some(Origin::Linked(kept.to_owned()))),
        Err(error) => {
            tracing::warn!(path = %kept.display(), %error, "tree D cannot be shared, writing one for this sector");
            Ok(None)
        }
    }
}

fn clone(from: &Path, to: &Path) -> io::Result<bool> {
    let source = File::open(from)?;
    let target = File::options().write(true).create_new(true).open(to)?;
    match rustix::fs::ioctl_ficlone(&target, &source) {
        Ok(()) => target.sync_all().map(|()| true),
        Err(Errno::NOSPC) => Err(Errno::NOSPC.into()),
        // Whatever the reason, a hard link may still work.
        Err(_) => fs::remove_file(to).map(|()| false),
    }
}

/// Whether a file holds nothing but zeros. Holes are not read.
fn is_zeros(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)) == Err(Errno::NXIO) {
        return Ok(true);
    }
    file.rewind()?;
    let zeros = vec![0; BUFFER];
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(true);
        }
        if buffer[..length] != zeros[..length] {
            return Ok(false);
        }
    }
}

fn repeated(node: &[u8; 32], length: u64) -> Vec<u8> {
    node.repeat(usize::try_from(length / NODE).unwrap_or(usize::MAX).min(BUFFER / node.len()))
}
