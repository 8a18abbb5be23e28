//! Copies one file into the permanent store: temporary name, sync, read back, write protection, rename.
//!
//! The temporary file is in the store's directory [`INCOMING`], which is the only one where a confined processor may change
//! or remove files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, CWD, RenameFlags};

use sealbus_schema::Commitment;

use super::{StageCode, StageError, files, transfer::Root};
use crate::sandbox::INCOMING;

const BUFFER: usize = 1 << 20;

/// How a file got into the store, with the BLAKE2b-256 of its contents.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// This call copied it.
    Copied(Commitment),
    /// It was already there, with the same contents.
    AlreadyThere(Commitment),
}

/// Copies `from` to `to`, which lies below `root`.
pub(super) fn copy(from: &Path, to: &Path, root: &Root<'_>, token: u64) -> Result<Outcome, StageError> {
    root.check()?;
    let incoming = root.dir.join(INCOMING);
    let temporary = incoming.join(temporary_name(to.strip_prefix(root.dir).unwrap_or(to), token));
    files::remove_tree(&temporary).map_err(StageError::in_store)?;
    if fs::symlink_metadata(to).is_ok() {
        return compare(from, to);
    }
    make_parents(to, root.dir).and_then(|()| files::create_dir(&incoming)).map_err(StageError::in_store)?;
    let written = write_synced(from, &temporary)?;
    let read_back = checksum(&temporary, true).map_err(StageError::in_store)?;
    if read_back != written {
        files::remove_tree(&temporary).map_err(StageError::in_store)?;
        let message = format!("{} reads back as {read_back}, but {written} was written", temporary.display());
        return Err(StageError::new(StageCode::ChecksumMismatch, message));
    }
    // During the write the store may have been unmounted, or another one mounted over it.
    root.check()?;
    if !rename_to_free_name(&temporary, to).map_err(StageError::in_store)? {
        files::remove_tree(&temporary).map_err(StageError::in_store)?;
        return compare(from, to);
    }
    files::sync_parent(to).map_err(StageError::in_store)?;
    Ok(Outcome::Copied(written))
}

fn compare(from: &Path, to: &Path) -> Result<Outcome, StageError> {
    let ours = checksum(from, false)?;
    if files::size_of(to).map_err(StageError::in_store)? == files::size_of(from)? {
        let theirs = checksum(to, true).map_err(StageError::in_store)?;
        if ours == theirs {
            // The run that renamed the file may have been killed before the name was durable.
            protect(to);
            files::sync_file(to).and_then(|()| files::sync_parent(to)).map_err(StageError::in_store)?;
            return Ok(Outcome::AlreadyThere(ours));
        }
    }
    let message = format!("{} is there with other contents than {}", to.display(), from.display());
    Err(StageError::new(StageCode::StoreConflict, message))
}

/// Creates the directories from `root` down to `path`, and syncs each name.
fn make_parents(path: &Path, root: &Path) -> Result<(), StageError> {
    let mut missing: Vec<PathBuf> = Vec::new();
    for dir in path.ancestors().skip(1) {
        if dir == root || dir.is_dir() {
            break;
        }
        missing.push(dir.to_owned());
    }
    for dir in missing.iter().rev() {
        match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StageError::io("create directory", dir, &error));
            }
            _ => files::sync_parent(dir)?,
        }
    }
    Ok(())
}

fn write_synced(from: &Path, to: &Path) -> Result<Commitment, StageError> {
    let mut source = File::open(from).map_err(|error| StageError::io("open", from, &error))?;
    let in_store = |operation: &'static str| move |error: io::Error| StageError::io(operation, to, &error).in_store();
    let mut target = OpenOptions::new().write(true).create_new(true).open(to).map_err(in_store("create"))?;
    let mut hash = hasher();
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = source.read(&mut buffer).map_err(|error| StageError::io("read", from, &error))?;
        if length == 0 {
            break;
        }
        hash.update(&buffer[..length]);
        target.write_all(&buffer[..length]).map_err(in_store("write"))?;
    }
    protect(to);
    target.sync_all().map_err(in_store("sync"))?;
    Ok(finish(&hash))
}

/// Takes away everybody's permission to write. A store that knows no permissions keeps the file as it is.
fn protect(path: &Path) {
    let protected = fs::metadata(path).map(|found| found.permissions()).and_then(|mut permissions| {
        if permissions.readonly() {
            return Ok(());
        }
        permissions.set_readonly(true);
        fs::set_permissions(path, permissions)
    });
    if let Err(error) = protected {
        tracing::warn!(path = %path.display(), %error, "a finished file cannot be made read-only");
    }
}

/// The name of a file while it is written. It contains the whole path, because all files come into one directory.
fn temporary_name(path: &Path, token: u64) -> String {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    format!("{}.{token}.tmp", parts.join("."))
}

/// The BLAKE2b-256 of a file. With `from_disk` the kernel is first asked to drop its cached pages, so that the stored
/// bytes are hashed.
fn checksum(path: &Path, from_disk: bool) -> Result<Commitment, StageError> {
    let read = || -> io::Result<Commitment> {
        let mut file = File::open(path)?;
        if from_disk {
            // Only advice: a file system that ignores it is not an error.
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        }
        let mut hash = hasher();
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                return Ok(finish(&hash));
            }
            hash.update(&buffer[..length]);
        }
    };
    read().map_err(|error| StageError::io("read", path, &error))
}

fn hasher() -> blake2b_simd::State {
    blake2b_simd::Params::new().hash_length(32).to_state()
}

fn finish(hash: &blake2b_simd::State) -> Commitment {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.finalize().as_bytes());
    Commitment(bytes)
}

/// Renames a file unless the new name is taken. Returns whether it was renamed.
fn rename_to_free_name(from: &Path, to: &Path) -> Result<bool, StageError> {
    let renamed = match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(io::Error::from) {
        // NFS and some FUSE file systems lack `RENAME_NOREPLACE`. A hard link fails on a taken name too.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            fs::hard_link(from, to).and_then(|()| fs::remove_file(from))
        }
        result => result,
    };
    match renamed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(StageError::io("rename", from, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_was_taken_meanwhile_is_not_overwritten() {
        let dir = tempfile::tempdir().expect("directory");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "ours").expect("write");
        fs::write(&to, "theirs").expect("write");
        assert!(!rename_to_free_name(&from, &to).expect("refused"));
        assert_eq!(fs::read_to_string(&to).expect("read"), "theirs");
        fs::remove_file(&to).expect("remove");
        assert!(rename_to_free_name(&from, &to).expect("renamed"));
    }
}
