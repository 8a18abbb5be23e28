//! Checks and fetches Groth16 parameters.
//!
//! [`Manifest`] lists the files that there should be. [`check()`] compares a directory with it, using `structure` for
//! the length that a file gives itself. [`fetch()`] downloads what is missing, using `download` for each file.
//! [`c2_files_problem`] is a quick check of names and lengths. The layout of a parameter directory is defined in
//! [`sealbus_params_dir`]. `sealbus-devnet-params` makes a devnet's own parameters.

mod check;
mod download;
mod fetch;
mod manifest;
mod presence;
mod structure;

pub use check::{CheckError, CheckReport, CheckRequest, CheckedFile, Finding, check, check_some};
pub use download::{AttemptError, DownloadError, FetchPolicy};
pub use fetch::{FailedDownload, FetchError, FetchReport, FetchRequest, fetch};
pub use manifest::{Manifest, ManifestEntry, ManifestError};
pub use presence::c2_files_problem;
pub use sealbus_params_dir::{DEFAULT_DIR, DIR_VARIABLE};
pub use sealbus_schema::SectorSize;

/// The gateway that serves the official files.
pub const DEFAULT_GATEWAY: &str = "https://proofs.filecoin.io/ipfs";
