//! A directory of Groth16 parameters: what the worker, which checks and fetches them, and `sealbus-devnet-params`, which
//! makes a devnet's own, must agree on.
//!
//! [`files`]: a file is whole, or it is not there. [`memory`]: what was read once need not be read again. [`marker`]: a
//! devnet's directory says what it is.

pub mod files;
pub mod marker;
pub mod memory;

/// Where the proofs library looks for parameters, unless told otherwise.
pub const DEFAULT_DIR: &str = "/var/tmp/filecoin-proof-parameters";

/// The variable that tells it.
pub const DIR_VARIABLE: &str = "FIL_PROOFS_PARAMETER_CACHE";

/// Bytes of an uncompressed point of G1 of BLS12-381. One of G2 takes twice as many.
pub const G1_BYTES: u64 = 96;

/// Bytes of a verifying key before its input points: three points in G1, three in G2 and a length
/// (`bellperson::groth16::VerifyingKey::write`).
pub const VERIFYING_KEY_BYTES: u64 = 3 * G1_BYTES + 3 * 2 * G1_BYTES + 4;
