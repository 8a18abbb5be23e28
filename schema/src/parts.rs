//! The parts of sealed sectors that workflows share: tickets and seeds, pieces, files, landings.

use serde::{Deserialize, Serialize};

use crate::bytes::{Commitment, Randomness};

/// The randomness that binds a replica to a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The number of the request for a ticket within the lease, from 1.
    pub draw: u32,
    /// The randomness.
    pub randomness: Randomness,
    /// The epoch it was drawn from (`SealRandEpoch`).
    pub epoch: i64,
    /// The last epoch at which the chain accepts a PreCommit with it.
    pub expires_epoch: i64,
    /// The epoch of the chain's head when it was drawn.
    pub head_epoch: i64,
    /// The length of an epoch in milliseconds, so that a worker can estimate epochs with its own clock.
    pub epoch_millis: u64,
}

/// A PreCommit on chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreCommitInfo {
    /// The epoch in which it was included.
    pub epoch: i64,
    /// The last epoch at which the chain accepts the ProveCommit.
    pub prove_by_epoch: i64,
    /// The epoch of the chain's head when this was written.
    pub head_epoch: i64,
    /// The length of an epoch in milliseconds.
    pub epoch_millis: u64,
}

/// The interactive randomness of a PoRep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// The number of the seed within the lease, from 1. A later seed replaces an earlier one.
    pub draw: u32,
    /// The randomness.
    pub randomness: Randomness,
    /// The epoch it was drawn from: the PreCommit's epoch plus the challenge delay.
    pub epoch: i64,
}

/// A piece of a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceInfo {
    /// The piece's commitment.
    pub commitment: Commitment,
    /// Its size in bytes, padded (a power of two).
    pub padded_bytes: u64,
}

/// A sector's files in a permanent store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSector {
    /// The permanent store's name, as in the manager's and the worker's configuration.
    pub store: String,
    /// Every file that was written.
    pub files: Vec<StoredFile>,
    /// The store's id from its identity file, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
}

/// A file in a permanent store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredFile {
    /// The path within the store, with `/`, such as `sealed/s-t01000-1`.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The BLAKE2b-256 digest of its content.
    pub blake2b: Commitment,
}
