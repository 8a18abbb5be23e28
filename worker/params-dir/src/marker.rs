//! The marker file of a devnet's parameter directory: which files were generated, and how to verify them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};

/// The file name of the marker.
pub const MARKER: &str = "SEALBUS-DEVNET-PARAMETERS.json";

const WARNING: &str = "Made by `sealbus-devnet-params` from a known trapdoor. Whoever has the seed can forge proofs: \
                       worthless for any network on which something is at stake.";

/// The files that were generated in a directory, and their seed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Marker {
    warning: String,
    /// The seed of all files in the directory.
    pub seed: u64,
    /// The files by name. A file is recorded before it gets its name. So a file in the directory that is missing here
    /// belongs to somebody else.
    pub files: BTreeMap<String, MarkedFile>,
    #[serde(skip)]
    path: PathBuf,
}

/// A file that was generated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkedFile {
    /// Its blake2b-512 digest in hexadecimal.
    pub digest: String,
    /// Its length in bytes.
    pub size: u64,
    /// The size in bytes of the sectors that it serves; 0 if it serves all.
    pub sector_size: u64,
}

/// Why a marker cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The content was not written by `sealbus-devnet-params`.
    #[error("cannot understand the marker {}; remove its directory and make the parameters anew", path.display())]
    Json {
        /// The marker's path.
        path: PathBuf,
        /// The JSON error.
        source: serde_json::Error,
    },
}

impl Marker {
    /// The marker for a directory in which nothing has been generated yet.
    pub fn new(dir: &Path, seed: u64) -> Self {
        Self { warning: WARNING.to_owned(), seed, files: BTreeMap::new(), path: dir.join(MARKER) }
    }

    /// Reads the directory's marker; `None` if there is none.
    ///
    /// # Errors
    /// [`MarkerError`].
    pub fn load(dir: &Path) -> Result<Option<Self>, MarkerError> {
        let path = dir.join(MARKER);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(FileError::of("read", &path)(source).into()),
        };
        let marker: Self =
            serde_json::from_slice(&text).map_err(|source| MarkerError::Json { path: path.clone(), source })?;
        Ok(Some(Self { path, ..marker }))
    }

    /// Writes the marker atomically and syncs it.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn save(&self) -> Result<(), FileError> {
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        files::write_whole(&self.path, &text.map_err(FileError::of("describe", &self.path))?)
    }
}
