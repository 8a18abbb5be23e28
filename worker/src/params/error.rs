//! What can go wrong with parameters, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use super::circuits::Kind;
use super::fetch::FailedDownload;
use super::generator::GenerateError;
use crate::out::OutError;
use sealbus_schema::SectorSize;

/// Why a `params` command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A devnet's parameters were asked for a size on which money depends.
    #[error(
        "cannot make parameters for {sector_size} sectors: real networks use them; fetch the official ones with `params fetch`"
    )]
    RealSectorSize {
        /// The size.
        sector_size: SectorSize,
    },
    /// The proofs library could not set a circuit up.
    #[error("cannot set up the {kind} circuit for {sector_size} sectors")]
    Circuit {
        /// The circuit.
        kind: Kind,
        /// The sectors' size.
        sector_size: SectorSize,
        /// The library's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Parameters could not be made.
    #[error("cannot make {}", path.display())]
    Generate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: GenerateError,
    },
    /// The directory holds a file with an official name that this command did not make.
    #[error("cannot make devnet parameters in {}: {name} lies there and was not made by this command, so it may be official; give another --out", dir.display())]
    ForeignFile {
        /// The directory.
        dir: PathBuf,
        /// The file's name.
        name: String,
    },
    /// The directory's parameters come from another seed.
    #[error("cannot make parameters from seed {asked} in {}: those there come from seed {made}; remove the directory, or give another --out", dir.display())]
    OtherSeed {
        /// The directory.
        dir: PathBuf,
        /// The seed of what is there.
        made: u64,
        /// The seed that was asked for.
        asked: u64,
    },
    /// The marker is not what this command writes.
    #[error("cannot understand the marker {}; remove its directory and make the parameters anew", path.display())]
    Marker {
        /// The marker.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A manifest is not one.
    #[error("cannot understand the manifest {}; it must have the form of the proofs library's parameters.json", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A manifest names a file outside of the directory.
    #[error("cannot use the manifest {}: {name:?} is no file name", path.display())]
    ManifestName {
        /// The manifest.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// There is nothing to check or fetch.
    #[error(
        "cannot find files for {} sectors in the manifest; give another --sector-size or --manifest",
        list(sector_sizes)
    )]
    NothingNamed {
        /// The sizes that were asked for.
        sector_sizes: Vec<SectorSize>,
    },
    /// Some files are bad; the report says which.
    #[error("{bad} of {checked} files in {} are bad; get them with `params fetch`, or a devnet's with `params devnet`", dir.display())]
    Bad {
        /// The directory.
        dir: PathBuf,
        /// How many are bad.
        bad: usize,
        /// How many were checked.
        checked: usize,
    },
    /// Official files do not go where a devnet's lie.
    #[error("cannot fetch official parameters into {}: a devnet's lie there; give another --out", dir.display())]
    DevnetDirectory {
        /// The directory.
        dir: PathBuf,
    },
    /// Some files could not be fetched.
    #[error("cannot fetch {} files from {gateway}; what came is kept, so run this again, or with another --gateway:{}", failed.len(), reasons(failed))]
    Unfetched {
        /// The gateway.
        gateway: String,
        /// The files, and why.
        failed: Vec<FailedDownload>,
    },
    /// There can be no HTTP client.
    #[error("cannot set up an HTTP client; does the machine have CA certificates?")]
    Client {
        /// Why.
        source: reqwest::Error,
    },
    /// There can be no runtime for downloads.
    #[error("cannot start the threads that download")]
    Runtime {
        /// Why.
        source: io::Error,
    },
    /// The report does not reach whoever asked for it.
    #[error(transparent)]
    Out(#[from] OutError),
    /// A report could not be turned into JSON.
    #[error("cannot turn the report into JSON")]
    Json(#[from] serde_json::Error),
    /// A file operation failed.
    #[error("cannot {operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A thread of this process ended without a result; it has said why on stderr.
    #[error(
        "cannot go on: a thread of this process panicked while it {during}; this is a bug, report it with the lines above"
    )]
    Panicked {
        /// What it was about.
        during: &'static str,
    },
}

impl Error {
    /// For `map_err`: what was tried, with which file.
    pub(super) fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { operation, path: path.to_owned(), source }
    }
}

fn list(sizes: &[SectorSize]) -> String {
    sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn reasons(failed: &[FailedDownload]) -> String {
    failed.iter().map(|file| format!("\n  {}: {}", file.name, file.source)).collect()
}
