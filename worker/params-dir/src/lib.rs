//! The layout of a directory of Groth16 parameters. The worker checks and fetches parameters, and
//! `sealbus-devnet-params` generates a devnet's own; both use this crate.
//!
//! [`files`]: a file is complete, or it does not exist. [`memory`]: files that were hashed once need not be read again.
//! [`marker`]: identifies a devnet's directory.

pub mod files;
pub mod marker;
pub mod memory;

/// The default directory in which the proofs library looks for parameters.
pub const DEFAULT_DIR: &str = "/var/tmp/filecoin-proof-parameters";

/// The environment variable that overrides it.
pub const DIR_VARIABLE: &str = "FIL_PROOFS_PARAMETER_CACHE";

/// The size of an uncompressed point of G1 of BLS12-381, in bytes. A point of G2 is twice as large.
pub const G1_BYTES: u64 = 96;

/// The size in bytes of a verifying key before its input points: three points in G1, three in G2, and a length
/// (`bellperson::groth16::VerifyingKey::write`).
pub const VERIFYING_KEY_BYTES: u64 = 3 * G1_BYTES + 3 * 2 * G1_BYTES + 4;
