//! Files of a parameter directory: whole or not there.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The file that is locked while a directory is written to.
const LOCK: &str = ".sealbus-params.lock";

/// What a file is called until it is whole. The library looks for exact names, so it never takes
/// one for its own.
const PARTIAL: &str = ".partial";

const READ_BYTES: usize = 1 << 20;

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub struct FileError {
    /// What was tried.
    pub operation: &'static str,
    /// With which file.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

/// The right to write into a directory, until it is dropped or the process ends.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

/// A file under a temporary name.
#[derive(Debug)]
pub struct PartialFile {
    /// Open for reading and writing.
    pub file: File,
    path: PathBuf,
    target: PathBuf,
}

/// By what a file is known again without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Its length in bytes.
    pub size: u64,
    inode: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl FileError {
    /// For `map_err`: what was tried, with which file.
    pub fn of(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { operation, path: path.to_owned(), source }
    }
}

impl DirLock {
    /// Makes the directory if need be, and waits until no other process writes into it.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn acquire(dir: &Path) -> Result<Self, FileError> {
        std::fs::create_dir_all(dir).map_err(FileError::of("create the directory", dir))?;
        let path = dir.join(LOCK);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(FileError::of("open the lock", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                tracing::info!(dir = %dir.display(), "another process writes into this directory; waiting for it");
                file.lock().map_err(FileError::of("lock", &path))?;
            }
            Err(TryLockError::Error(source)) => return Err(FileError::of("lock", &path)(source)),
        }
        Ok(Self { _file: file })
    }
}

impl PartialFile {
    /// Begins a file anew; what an earlier attempt left under the temporary name is lost.
    pub fn create(target: PathBuf) -> Result<Self, FileError> {
        Self::open(target, true)
    }

    /// Goes on with a file that an earlier attempt has begun, if there is one.
    pub fn resume(target: PathBuf) -> Result<Self, FileError> {
        Self::open(target, false)
    }

    fn open(target: PathBuf, truncate: bool) -> Result<Self, FileError> {
        let mut path = target.clone().into_os_string();
        path.push(PARTIAL);
        let path = PathBuf::from(path);
        let file = OpenOptions::new()
            .create(true)
            .truncate(truncate)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(FileError::of("open", &path))?;
        Ok(Self { file, path, target })
    }

    /// Where it lies for now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it belongs.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Bytes written so far.
    pub fn size(&self) -> Result<u64, FileError> {
        Ok(self.file.metadata().map_err(FileError::of("look at", &self.path))?.len())
    }

    /// Drops what was written.
    pub fn clear(&self) -> Result<(), FileError> {
        self.file.set_len(0).map_err(FileError::of("truncate", &self.path))
    }

    /// Removes it if nothing was written: there is nothing to go on with.
    pub fn remove_if_empty(&self) -> Result<(), FileError> {
        if self.size()? == 0 {
            std::fs::remove_file(&self.path).map_err(FileError::of("remove", &self.path))?;
        }
        Ok(())
    }

    /// Brings its content to disk and gives it its name.
    pub fn persist(self) -> Result<PathBuf, FileError> {
        self.file.sync_all().map_err(FileError::of("sync", &self.path))?;
        std::fs::rename(&self.path, &self.target).map_err(FileError::of("rename", &self.path))?;
        if let Some(dir) = self.target.parent() {
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(FileError::of("sync the directory", dir))?;
        }
        Ok(self.target)
    }
}

impl Fingerprint {
    /// The file's fingerprint; `None` where there is no file.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self {
                size: metadata.len(),
                inode: metadata.ino(),
                modified_ns: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
                changed_ns: i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec()),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Whether a name is a temporary one.
pub fn is_partial(name: &str) -> bool {
    name.ends_with(PARTIAL)
}

/// Writes a small file whole.
pub fn write_whole(target: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let partial = PartialFile::create(target.to_owned())?;
    io::Write::write_all(&mut &partial.file, bytes).map_err(FileError::of("write", partial.path()))?;
    partial.persist().map(drop)
}

/// A file's blake2b-512 digest in hexadecimal, read from its start. `read` hears how many bytes
/// were read, each time.
pub fn digest(path: &Path, mut read: impl FnMut(u64)) -> io::Result<String> {
    let mut file = File::open(path)?;
    // Only a hint: the kernel reads further ahead.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
    let mut hash = blake2b_simd::State::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().to_hex().to_string()),
            length => {
                hash.update(&buffer[..length]);
                read(length as u64);
            }
        }
    }
}
