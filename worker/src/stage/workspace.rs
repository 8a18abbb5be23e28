//! The paths of a sector's files in its slot.
//!
//! | path | made by | contents |
//! |---|---|---|
//! | `unsealed` | add_pieces | the data, padded to the sector's size |
//! | `cache/sc-02-data-tree-d.dat` | tree_d | Merkle tree over the data |
//! | `labels.json` | pc1 | for which key the layers are being made, and since which boot |
//! | `cache/sc-02-data-layer-<n>.dat` | pc1 | labels |
//! | `pc1.json` | pc1 | the library's PC1 output, with its key |
//! | `pc2.tmp/` | pc2 | scratch of a run |
//! | `sealed` | pc2 | the replica |
//! | `cache/{p_aux,t_aux,sc-02-data-tree-c*,sc-02-data-tree-r-last*}` | pc2 | trees and roots |
//! | `pc2.json` | pc2 | the commitments, with the key |
//! | `c1.json` | c1 | the library's C1 output, with key and seed |

use std::path::{Component, Path, PathBuf};

use super::files;
use super::{StageCode, StageError};

/// A sector's working directory.
#[derive(Clone, Debug)]
pub struct Workspace {
    dir: PathBuf,
}

impl Workspace {
    /// Opens an existing working directory.
    ///
    /// # Errors
    /// [`StageCode::RequestInvalid`] if the path is relative or contains `..`; [`StageCode::InputMissing`] if it is not
    /// a directory.
    pub fn open(dir: &Path) -> Result<Self, StageError> {
        check_absolute("work_dir", dir)?;
        if !dir.is_dir() {
            return Err(StageError::new(
                StageCode::InputMissing,
                format!("working directory {} is not there", dir.display()),
            ));
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// The directory itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The unsealed file.
    #[must_use]
    pub fn unsealed(&self) -> PathBuf {
        self.dir.join(UNSEALED_FILE)
    }

    /// The sealed file (replica).
    #[must_use]
    pub fn sealed(&self) -> PathBuf {
        self.dir.join("sealed")
    }

    /// The directory for layers and trees.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.dir.join("cache")
    }

    /// The file with tree D.
    #[must_use]
    pub fn tree_d(&self) -> PathBuf {
        self.cache().join(TREE_D_FILE)
    }

    /// The file with the labels of `layer`, counted from 1.
    #[must_use]
    pub fn layer(&self, layer: usize) -> PathBuf {
        self.cache().join(layer_file(layer))
    }

    pub(crate) fn labels_marker(&self) -> PathBuf {
        self.dir.join("labels.json")
    }

    /// The record of PC1.
    #[must_use]
    pub fn pc1_record(&self) -> PathBuf {
        self.dir.join("pc1.json")
    }

    /// The record of PC2.
    #[must_use]
    pub fn pc2_record(&self) -> PathBuf {
        self.dir.join("pc2.json")
    }

    /// The record of C1.
    #[must_use]
    pub fn c1_record(&self) -> PathBuf {
        self.dir.join("c1.json")
    }

    /// An empty scratch directory for `name`.
    pub(crate) fn fresh_scratch(&self, name: &str) -> Result<PathBuf, StageError> {
        let dir = self.scratch(name);
        files::remove_tree(&dir)?;
        files::create_dir(&dir)?;
        Ok(dir)
    }

    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.tmp"))
    }
}

/// The name of the unsealed file.
pub(crate) const UNSEALED_FILE: &str = "unsealed";
/// The name of tree D's file in the cache directory.
pub(crate) const TREE_D_FILE: &str = "sc-02-data-tree-d.dat";
/// The prefix of layer file names.
pub(crate) const LAYER_PREFIX: &str = "sc-02-data-layer-";
/// The prefix of tree R-last file names.
pub(crate) const TREE_R_LAST_PREFIX: &str = "sc-02-data-tree-r-last";

/// The name of a layer's file in the cache directory.
pub(crate) fn layer_file(layer: usize) -> String {
    format!("{LAYER_PREFIX}{layer}.dat")
}

/// Refuses a path that is relative or contains `..`.
pub(crate) fn check_absolute(field: &str, path: &Path) -> Result<(), StageError> {
    let climbs = path.components().any(|part| matches!(part, Component::ParentDir));
    if !path.is_absolute() || climbs {
        let message = format!("{field} {} must be absolute and without `..`", path.display());
        return Err(StageError::new(StageCode::RequestInvalid, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_and_climbing_paths_are_refused() {
        for path in ["", "slot", "./slot", "/slots/../etc"] {
            assert_eq!(Workspace::open(Path::new(path)).expect_err("refused").code, StageCode::RequestInvalid);
        }
        assert_eq!(Workspace::open(Path::new("/no/such/slot")).expect_err("refused").code, StageCode::InputMissing);
    }
}
