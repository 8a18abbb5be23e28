//! What was read and hashed before, so that an unchanged file need not be read again.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::Fingerprint;

const MEMORY: &str = ".sealbus-checked.json";

/// The digests of a directory's files as of when they were last read.
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
    /// What is known of the directory; nothing if that cannot be read, as the files themselves can
    /// be read again.
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

    /// Keeps the digest of a file that had this fingerprint before it was read.
    pub fn remember(&mut self, name: &str, fingerprint: Fingerprint, digest: String) {
        self.files.insert(name.to_owned(), Remembered { fingerprint, digest });
    }

    /// Keeps the memory for the next process. The directory may well be read-only; then files are
    /// read again.
    pub fn save(&self) {
        if let Err(error) = self.try_save() {
            let dir = self.dir.display();
            tracing::warn!(%dir, %error, "what was checked cannot be kept; it will be read again");
        }
    }

    /// Under a name of its own until it is whole: checks may run side by side, without a lock.
    fn try_save(&self) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        serde_json::to_writer(&mut file, &self.files)?;
        file.persist(self.dir.join(MEMORY)).map_err(|failed| failed.error)?;
        Ok(())
    }
}
