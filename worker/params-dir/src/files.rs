//! Files in a parameter directory: a file under its final name is complete.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The lock file that a process holds while it writes to the directory.
const LOCK: &str = ".sealbus-params.lock";

/// The suffix of incomplete files. The library looks for exact names, so it never reads one.
const PARTIAL: &str = ".partial";

const READ_BYTES: usize = 1 << 20;

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub struct FileError {
    /// The operation, as a verb.
    pub operation: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The system's error.
    pub source: io::Error,
}

/// The exclusive right to write to a directory, until it is dropped or the process ends.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

/// A file under a temporary name.
#[derive(Debug)]
pub struct PartialFile {
    /// The file, open for reading and writing.
    pub file: File,
    path: PathBuf,
    target: PathBuf,
}

/// The metadata by which an unchanged file is recognised without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Its length in bytes.
    pub size: u64,
    inode: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl FileError {
    /// For `map_err`: creates the error of an operation on a file.
    pub fn of(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { operation, path: path.to_owned(), source }
    }
}

impl DirLock {
    /// Creates the directory if needed, and waits until no other process writes to it.
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
    /// Creates a new file. A partial file from an earlier attempt is lost.
    pub fn create(target: PathBuf) -> Result<Self, FileError> {
        Self::open(target, true)
    }

    /// Continues the partial file of an earlier attempt, if there is one.
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

    /// The temporary path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The final path.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The number of bytes written so far.
    pub fn size(&self) -> Result<u64, FileError> {
        Ok(self.file.metadata().map_err(FileError::of("look at", &self.path))?.len())
    }

    /// Truncates the file to zero bytes.
    pub fn clear(&self) -> Result<(), FileError> {
        self.file.set_len(0).map_err(FileError::of("truncate", &self.path))
    }

    /// Removes the file if it is empty, because there is nothing to resume.
    pub fn remove_if_empty(&self) -> Result<(), FileError> {
        if self.size()? == 0 {
            std::fs::remove_file(&self.path).map_err(FileError::of("remove", &self.path))?;
        }
        Ok(())
    }

    /// Syncs the file and renames it to its final name.
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
    /// The file's fingerprint; `None` if it does not exist.
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

/// Whether a name is that of a partial file.
pub fn is_partial(name: &str) -> bool {
    name.ends_with(PARTIAL)
}

/// Writes a small file atomically.
pub fn write_whole(target: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let partial = PartialFile::create(target.to_owned())?;
    io::Write::write_all(&mut &partial.file, bytes).map_err(FileError::of("write", partial.path()))?;
    partial.persist().map(drop)
}

/// A file's blake2b-512 digest in hexadecimal, read from its start. `read` is called with the number of bytes of each
/// read.
pub fn digest(path: &Path, mut read: impl FnMut(u64)) -> io::Result<String> {
    let mut file = File::open(path)?;
    // Only a hint: the kernel then reads ahead further.
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
