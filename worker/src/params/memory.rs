//! What was read and hashed before, so that an unchanged file need not be read again.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::{self, Fingerprint};

const MEMORY: &str = ".sealbus-checked.json";

/// The digests of a directory's files as of when they were last read.
pub(super) struct Memory {
    dir: PathBuf,
    files: BTreeMap<String, Remembered>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Remembered {
    fingerprint: Fingerprint,
    digest: String,
}

impl Memory {
    /// What is known of the directory; nothing if that cannot be read, as the files themselves can be read again.
    pub(super) fn load(dir: &Path) -> Self {
        let files = std::fs::read(dir.join(MEMORY))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        Self {
            dir: dir.to_owned(),
            files,
        }
    }

    /// The digest of a file that has not changed since it was read.
    pub(super) fn recall(&self, name: &str, now: &Fingerprint) -> Option<&str> {
        self.files
            .get(name)
            .filter(|known| known.fingerprint == *now)
            .map(|known| known.digest.as_str())
    }

    /// Keeps the digest of a file that had this fingerprint before it was read.
    pub(super) fn remember(&mut self, name: &str, fingerprint: Fingerprint, digest: String) {
        self.files.insert(
            name.to_owned(),
            Remembered {
                fingerprint,
                digest,
            },
        );
    }

    /// Keeps the memory for the next process. The directory may well be read-only; then files are read again.
    pub(super) fn save(&self) {
        let saved = serde_json::to_vec(&self.files)
            .map_err(io::Error::from)
            .map(|text| files::write_whole(&self.dir.join(MEMORY), &text));
        if !matches!(saved, Ok(Ok(()))) {
            tracing::debug!(dir = %self.dir.display(), "what was checked cannot be kept here; it will be checked again");
        }
    }
}
