//! What the manager wants, and who took it.

use serde::{Deserialize, Serialize};

use crate::{
    id::{SectorId, Token, WorkerName},
    proof::SealProof,
    workflow::IntentKind,
};

/// The manager offers a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The sector.
    pub sector: SectorId,
    /// What is to be done with it.
    #[serde(rename = "plan")]
    pub kind: IntentKind,
    /// The seal proof, and with it the sector's size.
    pub proof: SealProof,
    /// The stream sequence of the sector's last lease record, 0 if none. A claim must expect exactly this, so that an
    /// old intent can neither claim nor block a new one.
    pub lease_sequence: u64,
    /// Which attempt at the sector this is, from 1.
    pub attempt: u32,
}

/// A change of ownership. Who owns the sector from here on stands in the subject's last token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LeaseRecord {
    /// A worker takes the sector.
    Claim {
        /// The intent that it took.
        intent: Intent,
        /// The claiming machine's host name, for people.
        host: String,
    },
    /// The manager takes the sector back or closes it.
    Release {
        /// Why, for people.
        reason: String,
    },
    /// The manager says that the sector is still its owner's, whatever claims came in between: the owner goes on under its
    /// old token, and what it writes must expect this record from now on. Older readers take it for the end of the lease.
    Reinstate {
        /// The owner.
        worker: WorkerName,
        /// The number of its right, as it was granted.
        token: Token,
        /// The identity of the stream in which the token was granted, if that was lost and this is another one.
        #[serde(default)]
        stream: Option<String>,
        /// The number of the last event under the token that the manager knows of.
        #[serde(default)]
        last_event: u64,
        /// Why, for people.
        #[serde(default)]
        reason: String,
    },
    /// A record of a newer version, or one that nobody can read.
    #[serde(other)]
    Unknown,
}
