//! Intents and lease records: the manager's offers, and who owns a sector.

use serde::{Deserialize, Serialize};

use crate::{
    id::{SectorId, Token, WorkerName},
    proof::SealProof,
    workflow::IntentKind,
};

/// The manager's offer of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The sector.
    pub sector: SectorId,
    /// The kind of work.
    #[serde(rename = "plan")]
    pub kind: IntentKind,
    /// The seal proof, and with it the sector's size.
    pub proof: SealProof,
    /// The stream sequence of the sector's last lease record; 0 if there is none. A claim must expect exactly this, so
    /// that an old intent can neither claim nor block a new one.
    pub lease_sequence: u64,
    /// The number of the attempt at the sector, from 1.
    pub attempt: u32,
}

/// A lease record. The last token of its subject names the claiming worker, or is `-` for the manager's records.
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
    /// The sector still belongs to its owner, whatever claims came in between. The owner continues under its old token,
    /// and its writes must expect this record from now on. Older workers take it for the end of the lease.
    Reinstate {
        /// The owner.
        worker: WorkerName,
        /// The owner's token, as granted.
        token: Token,
        /// The identity of the token's stream, if that stream was lost and this is a new one.
        #[serde(default)]
        stream: Option<String>,
        /// The number of the last event under the token that the manager knows.
        #[serde(default)]
        last_event: u64,
        /// Why, for people.
        #[serde(default)]
        reason: String,
    },
    /// A record of a newer version, or an unreadable one.
    #[serde(other)]
    Unknown,
}
