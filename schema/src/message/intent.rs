//! What the manager wants, and who took it.

use serde::{Deserialize, Serialize};

use crate::{id::SectorId, phase::Plan, proof::SealProof};

/// The manager wants a sector taken through a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The sector.
    pub sector: SectorId,
    /// What is to be done with it.
    pub plan: Plan,
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
    /// A record of a newer version.
    #[serde(other)]
    Unknown,
}
