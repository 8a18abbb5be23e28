//! Which files there should be, with which digests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sealbus_params_dir::files::FileError;
use sealbus_schema::SectorSize;
use serde::Deserialize;
use storage_proofs_core::parameter_cache::{PARAMETERS_DATA, SRS_PARAMETERS_DATA};

/// The files of all sector sizes, by name.
#[derive(Clone, Debug)]
pub struct Manifest {
    files: BTreeMap<String, ManifestEntry>,
}

/// What is published about one file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ManifestEntry {
    /// Its content identifier, under which a gateway serves it.
    pub cid: String,
    /// The first 128 bits of its blake2b-512 digest, in hexadecimal.
    pub digest: String,
    /// The sectors it serves, by their size in bytes; zero if all.
    pub sector_size: u64,
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is none.
    #[error("cannot understand the manifest {}; it must have the form of the proofs library's parameters.json", path.display())]
    Json {
        /// The manifest.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// It names a file outside of the directory.
    #[error("cannot use the manifest {}: {name:?} is no file name", path.display())]
    FileName {
        /// The manifest.
        path: PathBuf,
        /// The name.
        name: String,
    },
}

impl Manifest {
    /// The official manifest, which the proofs library carries with it.
    pub fn official() -> Result<Self, ManifestError> {
        let parse = |text| {
            serde_json::from_str(text).map_err(|source| ManifestError::Json { path: "the official one".into(), source })
        };
        let mut files: BTreeMap<_, _> = parse(PARAMETERS_DATA)?;
        files.append(&mut parse(SRS_PARAMETERS_DATA)?);
        Ok(Self { files })
    }

    /// A manifest of the same form from a file: a private network's, or a test's.
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let text = std::fs::read(path).map_err(FileError::of("read the manifest", path))?;
        let files: BTreeMap<String, ManifestEntry> =
            serde_json::from_slice(&text).map_err(|source| ManifestError::Json { path: path.to_owned(), source })?;
        match files.keys().find(|name| !is_file_name(name)) {
            Some(name) => Err(ManifestError::FileName { path: path.to_owned(), name: name.clone() }),
            None => Ok(Self { files }),
        }
    }

    /// What sectors of these sizes need, with what all need.
    pub fn files_for(&self, sizes: &[SectorSize]) -> Vec<(&str, &ManifestEntry)> {
        let needed = |size| size == 0 || sizes.iter().any(|wanted| wanted.bytes() == size);
        self.files
            .iter()
            .filter(|(_, entry)| needed(entry.sector_size))
            .map(|(name, entry)| (name.as_str(), entry))
            .collect()
    }
}

/// Whether a name stays in the directory it is joined to.
fn is_file_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!(components.next(), Some(std::path::Component::Normal(_))) && components.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_official_manifest_names_all_files_of_each_size() {
        let manifest = Manifest::official().expect("the library's manifest");
        for size in SectorSize::ALL {
            let names: Vec<_> = manifest.files_for(&[size]).into_iter().map(|(name, _)| name).collect();
            // Parameters and verifying keys of four circuits and more, and the SRS.
            assert!(names.len() >= 9, "{size}: {names:?}");
            assert!(names.iter().any(|name| name.ends_with(".srs")), "{size}");
            for prefix in ["v28-stacked", "v28-proof-of-spacetime", "v28-empty-sector-update"] {
                assert!(names.iter().any(|name| name.starts_with(prefix)), "{size}: {prefix}");
            }
        }
    }

    #[test]
    fn a_manifest_cannot_name_files_elsewhere() {
        for name in ["../x.vk", "/x.vk", "a/x.vk", "..", ""] {
            assert!(!is_file_name(name), "{name}");
        }
        assert!(is_file_name("v28-x.vk"));
    }
}
