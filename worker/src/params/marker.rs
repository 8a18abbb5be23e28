//! The marker in a directory of devnet parameters: what they are, and how to tell that they are
//! whole.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::files;

/// The marker's name in the directory.
pub const MARKER: &str = "SEALBUS-DEVNET-PARAMETERS.json";

const WARNING: &str = "Made by `sealbus-worker params devnet` from a known trapdoor. Whoever has the seed can forge proofs: \
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

impl Marker {
    /// The marker of a directory in which nothing has been made yet.
    pub(super) fn new(dir: &Path, seed: u64) -> Self {
        Self { warning: WARNING.to_owned(), seed, files: BTreeMap::new(), path: dir.join(MARKER) }
    }

    /// The directory's marker, if it has one.
    pub(super) fn load(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(MARKER);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::file("read", &path)(source)),
        };
        let marker: Self =
            serde_json::from_slice(&text).map_err(|source| Error::Marker { path: path.clone(), source })?;
        Ok(Some(Self { path, ..marker }))
    }

    /// Brings the marker to disk, whole.
    pub(super) fn save(&self) -> Result<(), Error> {
        let text =
            serde_json::to_vec_pretty(self).map_err(|source| Error::Marker { path: self.path.clone(), source })?;
        files::write_whole(&self.path, &text)
    }
}
