//! Remembers the digests of files, so that unchanged files need not be read again.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::Fingerprint;

const MEMORY: &str = ".sealbus-checked.json";

/// The digests of a directory's files, from the last time each was read.
#[derive(Debug)]
pub struct Memory {
    dir: PathBuf,
    files: BTreeMap<String, Remembered>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Remembered {
    fingerprint: Fingerprint,
    digest: String,
}

impl Memory {
    /// Loads the memory of a directory. If it cannot be read it is empty, because the files can be read again.
    pub fn load(dir: &Path) -> Self {
        let files = std::fs::read(dir.join(MEMORY))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        Self { dir: dir.to_owned(), files }
    }

    /// The digest of a file that has not changed since it was read.
    pub fn recall(&self, name: &str, now: &Fingerprint) -> Option<&str> {
        self.files.get(name).filter(|known| known.fingerprint == *now).map(|known| known.digest.as_str())
    }

    /// Stores the digest of a file. The fingerprint must have been taken before the file was read.
    pub fn remember(&mut self, name: &str, fingerprint: Fingerprint, digest: String) {
        self.files.insert(name.to_owned(), Remembered { fingerprint, digest });
    }

    /// Saves the memory for later processes. If the directory is read-only, that fails and files are read again.
    pub fn save(&self) {
        if let Err(error) = self.try_save() {
            let dir = self.dir.display();
            tracing::warn!(%dir, %error, "what was checked cannot be kept; it will be read again");
        }
    }

    /// Uses a unique temporary name, because checks may run in parallel without a lock.
    fn try_save(&self) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        serde_json::to_writer(&mut file, &self.files)?;
        file.persist(self.dir.join(MEMORY)).map_err(|failed| failed.error)?;
        Ok(())
    }
}
