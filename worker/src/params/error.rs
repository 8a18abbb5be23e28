//! What can go wrong with parameters, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use super::circuits::Kind;
use super::generator::GenerateError;
use super::sector_size::SectorSize;

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
        move |source| Self::File {
            operation,
            path: path.to_owned(),
            source,
        }
    }
}
