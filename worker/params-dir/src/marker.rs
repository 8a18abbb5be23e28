//! The marker in a directory of devnet parameters: what they are, and how to tell that they are
//! whole.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};

/// The marker's name in the directory.
pub const MARKER: &str = "SEALBUS-DEVNET-PARAMETERS.json";

const WARNING: &str = "Made by `sealbus-devnet-params` from a known trapdoor. Whoever has the seed can forge proofs: \
                       worthless for any network on which something is at stake.";

/// What was made in a directory, from which seed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Marker {
    warning: String,
    /// The seed of all files in the directory.
    pub seed: u64,
    /// The files by name. One is put down before it gets its name, so a file that stands there and
    /// not here is somebody else's.
    pub files: BTreeMap<String, MarkedFile>,
    #[serde(skip)]
    path: PathBuf,
}

/// A file that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkedFile {
    /// Its blake2b-512 digest in hexadecimal.
    pub digest: String,
    /// Its length in bytes.
    pub size: u64,
    /// The sectors it serves, by their size in bytes; zero if all.
    pub sector_size: u64,
}

/// Why a marker cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not what `sealbus-devnet-params` writes.
    #[error("cannot understand the marker {}; remove its directory and make the parameters anew", path.display())]
    Json {
        /// The marker.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

impl Marker {
    /// The marker of a directory in which nothing has been made yet.
    pub fn new(dir: &Path, seed: u64) -> Self {
        Self { warning: WARNING.to_owned(), seed, files: BTreeMap::new(), path: dir.join(MARKER) }
    }

    /// The directory's marker, if it has one.
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

    /// Brings the marker to disk, whole.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn save(&self) -> Result<(), FileError> {
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::from);
        files::write_whole(&self.path, &text.map_err(FileError::of("describe", &self.path))?)
    }
}
