//! The list of parameter files, with their digests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sealbus_params_dir::files::FileError;
use sealbus_schema::SectorSize;
use serde::Deserialize;
use storage_proofs_core::parameter_cache::{PARAMETERS_DATA, SRS_PARAMETERS_DATA};

/// The files for all sector sizes, by name.
#[derive(Clone, Debug)]
pub struct Manifest {
    files: BTreeMap<String, ManifestEntry>,
}

/// What is published about one file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ManifestEntry {
    /// The content identifier (CID) by which a gateway serves the file.
    pub cid: String,
    /// The first 128 bits of its blake2b-512 digest, in hexadecimal.
    pub digest: String,
    /// The size in bytes of the sectors that it serves; 0 if it serves all.
    pub sector_size: u64,
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not a manifest.
    #[error("cannot understand the manifest {}; it must have the form of the proofs library's parameters.json", path.display())]
    Json {
        /// The manifest's path.
        path: PathBuf,
        /// The JSON error.
        source: serde_json::Error,
    },
    /// An entry's name would lead out of the directory.
    #[error("cannot use the manifest {}: {name:?} is not a file name", path.display())]
    FileName {
        /// The manifest's path.
        path: PathBuf,
        /// The name in question.
        name: String,
    },
}

impl Manifest {
    /// The official manifest, as the proofs library embeds it.
    pub fn official() -> Result<Self, ManifestError> {
        let parse = |text| {
            serde_json::from_str(text).map_err(|source| ManifestError::Json { path: "the official one".into(), source })
        };
        let mut files: BTreeMap<_, _> = parse(PARAMETERS_DATA)?;
        files.append(&mut parse(SRS_PARAMETERS_DATA)?);
        Ok(Self { files })
    }

    /// Reads a manifest of the same form from a file, for a private network or a test.
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let text = std::fs::read(path).map_err(FileError::of("read the manifest", path))?;
        let files: BTreeMap<String, ManifestEntry> =
            serde_json::from_slice(&text).map_err(|source| ManifestError::Json { path: path.to_owned(), source })?;
        match files.keys().find(|name| !is_file_name(name)) {
            Some(name) => Err(ManifestError::FileName { path: path.to_owned(), name: name.clone() }),
            None => Ok(Self { files }),
        }
    }

    /// The files for these sector sizes, including those that serve all sizes.
    pub fn files_for(&self, sizes: &[SectorSize]) -> Vec<(&str, &ManifestEntry)> {
        let needed = |size| size == 0 || sizes.iter().any(|wanted| wanted.bytes() == size);
        self.files
            .iter()
            .filter(|(_, entry)| needed(entry.sector_size))
            .map(|(name, entry)| (name.as_str(), entry))
            .collect()
    }
}

/// Whether joining a name to a directory stays inside that directory.
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
            // At least four circuits with parameters and verifying key each, and the SRS.
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
