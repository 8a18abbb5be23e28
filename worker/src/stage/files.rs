//! File operations that survive a kill: a file under its final name is complete and durable.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Serialize, de::DeserializeOwned};

use super::{StageCode, StageError};

/// Writes `bytes` atomically: `path` then holds either its old content or all of `bytes`.
///
/// # Errors
/// [`StageError`] of the file system.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), StageError> {
    let temporary = path.with_file_name(format!(".{}.tmp", name_of(path)));
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| StageError::io("write", &temporary, &error))?;
    rename(&temporary, path)?;
    sync_parent(path)
}

/// Writes `value` as JSON by [`write_atomic`].
///
/// # Errors
/// [`StageError`] of the file system.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), StageError> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| StageError::new(StageCode::IoFailed, format!("encode {}: {error}", path.display())))?;
    write_atomic(path, &bytes)
}

/// Reads a record written by [`write_json`]. If the file is missing or cannot be decoded, the result is `None`, and its
/// stage runs again.
///
/// # Errors
/// [`StageError`] of the file system, except for a missing file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StageError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StageError::io("read", path, &error)),
    };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "dropping an unreadable record");
            Ok(None)
        }
    }
}

/// Syncs a file's contents to disk.
///
/// # Errors
/// [`StageError`] of the file system.
pub fn sync_file(path: &Path) -> Result<(), StageError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| StageError::io("sync", path, &error))
}

/// Syncs a directory's entries to disk.
///
/// # Errors
/// [`StageError`] of the file system.
pub fn sync_dir(path: &Path) -> Result<(), StageError> {
    sync_file(path)
}

/// Calls [`sync_dir`] on the directory that contains `path`.
///
/// # Errors
/// [`StageError`] of the file system.
pub fn sync_parent(path: &Path) -> Result<(), StageError> {
    path.parent().map_or(Ok(()), sync_dir)
}

/// Renames a file. An existing file at `to` is replaced.
///
/// # Errors
/// [`StageError`] of the file system.
pub fn rename(from: &Path, to: &Path) -> Result<(), StageError> {
    fs::rename(from, to).map_err(|error| StageError::io("rename", from, &error))
}

/// Creates a directory if it does not exist. Its parent must exist: a missing parent means that the slot was lost, and
/// an empty directory in its place would be mistaken for it.
///
/// # Errors
/// [`StageError`] of the file system.
pub fn create_dir(path: &Path) -> Result<(), StageError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made.map_err(|error| StageError::io("create directory", path, &error)),
    }
}

/// Creates a directory, with its parents, if it does not exist.
///
/// # Errors
/// [`StageError`] of the file system.
pub fn create_dirs(path: &Path) -> Result<(), StageError> {
    fs::create_dir_all(path).map_err(|error| StageError::io("create directory", path, &error))
}

/// Removes a file, or a directory with everything in it, if it exists. Symbolic links are not followed.
///
/// # Errors
/// [`StageError`] of the file system.
pub fn remove_tree(path: &Path) -> Result<(), StageError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StageError::io("remove", path, &error)),
        _ => Ok(()),
    }
}

/// The entries of a directory, sorted by name; empty if it does not exist.
///
/// # Errors
/// [`StageError`] of the file system.
pub fn list(dir: &Path) -> Result<Vec<PathBuf>, StageError> {
    let read = || -> io::Result<Vec<PathBuf>> { fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect() };
    match read() {
        Ok(mut entries) => {
            entries.sort();
            Ok(entries)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(StageError::io("list", dir, &error)),
    }
}

/// The last component of a path, for matching and messages.
#[must_use]
pub fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The size of a file in bytes; `None` if it does not exist.
///
/// # Errors
/// [`StageError`] of the file system.
pub fn size_of(path: &Path) -> Result<Option<u64>, StageError> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(Some(found.len())),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StageError::io("look at", path, &error)),
    }
}

/// Checks that an input file exists and has exactly `size` bytes.
///
/// # Errors
/// [`StageCode::InputMissing`] or [`StageCode::InputMismatch`].
pub fn require_size(path: &Path, size: u64) -> Result<(), StageError> {
    match size_of(path)? {
        Some(found) if found == size => Ok(()),
        Some(found) => {
            let message = format!("{} has {found} bytes instead of {size}", path.display());
            Err(StageError::new(StageCode::InputMismatch, message))
        }
        None => Err(StageError::new(StageCode::InputMissing, format!("{} is not there", path.display()))),
    }
}
