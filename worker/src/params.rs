//! Groth16 parameters: checked, and fetched.
//!
//! [`Manifest`] says which files there should be. [`check()`] holds a directory against it, with `structure` for what a file
//! says of its own length, and [`fetch()`] gets what is missing, with `download` for one file. [`c2_files_problem`] is a quick
//! look from outside. What a directory is on the disk is [`sealbus_params_dir`]'s. A devnet's own parameters are made by
//! `sealbus-devnet-params`.

mod check;
mod download;
mod fetch;
mod manifest;
mod presence;
mod structure;

pub use check::{CheckError, CheckReport, CheckRequest, CheckedFile, Finding, check};
pub use download::{AttemptError, DownloadError, FetchPolicy};
pub use fetch::{FailedDownload, FetchError, FetchReport, FetchRequest, fetch};
pub use manifest::{Manifest, ManifestEntry, ManifestError};
pub use presence::c2_files_problem;
pub use sealbus_params_dir::{DEFAULT_DIR, DIR_VARIABLE};
pub use sealbus_schema::SectorSize;

/// The gateway of the official files.
pub const DEFAULT_GATEWAY: &str = "https://proofs.filecoin.io/ipfs";
