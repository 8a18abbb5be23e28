//! What a worker reports into the sector's log.

use serde::{Deserialize, Serialize};

use crate::{
    bytes::{Commitment, ProofBytes},
    error::ErrorReport,
    id::Token,
    phase::Phase,
};

/// One entry of a worker in the sector's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The right under which the worker reports.
    pub token: Token,
    /// The event's number under that token, from 1 without gaps. A re-sent event has the same number.
    pub number: u64,
    /// What happened.
    pub body: EventBody,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventBody {
    /// A processor was given to a phase.
    PhaseStarted {
        /// The phase.
        phase: Phase,
        /// Which try of the phase, from 1.
        attempt: u32,
        /// The processor that serves it, such as `pc1-0`.
        processor: String,
    },
    /// The staged file is written.
    PiecesAdded {
        /// The pieces, in order.
        pieces: Vec<PieceInfo>,
    },
    /// Tree D stands.
    TreeDBuilt {
        /// The data's commitment.
        comm_d: Commitment,
    },
    /// A PC1 processor is free: draw a ticket now.
    TicketWanted {
        /// Which ticket of this lease, from 1. Its answer carries the same number.
        draw: u32,
    },
    /// The labels stand.
    Pc1Done {},
    /// The replica stands.
    Pc2Done {
        /// The replica's commitment.
        comm_r: Commitment,
        /// The data's commitment.
        comm_d: Commitment,
    },
    /// The sector's files are in the permanent store.
    Persisted {
        /// Where, and what they must read like.
        stored: StoredSector,
    },
    /// The vanilla proofs stand.
    C1Done {
        /// For which seed.
        seed_draw: u32,
    },
    /// The proof stands.
    C2Done {
        /// For which seed.
        seed_draw: u32,
        /// The SNARK: 192 bytes a partition.
        proof: ProofBytes,
    },
    /// The slot is clean; the sector is active and in the permanent store.
    Finished {},
    /// Something went wrong.
    Failed {
        /// What, and what happens next by its class.
        error: ErrorReport,
    },
    /// The attempt was dropped and the slot cleaned.
    Aborted {
        /// Why.
        error: ErrorReport,
    },
    /// An event of a newer version: kept, and without effect.
    #[serde(other)]
    Unknown,
}

/// A piece of a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceInfo {
    /// The piece's commitment.
    pub commitment: Commitment,
    /// Its size in bytes, padded (a power of two).
    pub padded_bytes: u64,
}

/// Where a sector's files lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSector {
    /// The permanent store's name, as in the manager's and the worker's configuration.
    pub store: String,
    /// Every file that was written.
    pub files: Vec<StoredFile>,
    /// The id of the directory that they were written into, if it has one.
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

impl EventBody {
    /// The event's name, as in the `Seal-Kind` header and in histories.
    pub const fn kind(&self) -> &'static str {
        match self {
            EventBody::PhaseStarted { .. } => "phase_started",
            EventBody::PiecesAdded { .. } => "pieces_added",
            EventBody::TreeDBuilt { .. } => "tree_d_built",
            EventBody::TicketWanted { .. } => "ticket_wanted",
            EventBody::Pc1Done {} => "pc1_done",
            EventBody::Pc2Done { .. } => "pc2_done",
            EventBody::Persisted { .. } => "persisted",
            EventBody::C1Done { .. } => "c1_done",
            EventBody::C2Done { .. } => "c2_done",
            EventBody::Finished {} => "finished",
            EventBody::Failed { .. } => "failed",
            EventBody::Aborted { .. } => "aborted",
            EventBody::Unknown => "unknown",
        }
    }

    /// The error that the event carries, if it does.
    pub const fn error(&self) -> Option<&ErrorReport> {
        match self {
            EventBody::Failed { error } | EventBody::Aborted { error } => Some(error),
            _ => None,
        }
    }
}
