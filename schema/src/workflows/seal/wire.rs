//! The messages between the two sides of sealing.

use serde::{Deserialize, Serialize};

use crate::{
    bytes::{Commitment, ProofBytes},
    identity::KnownStore,
    message::{FactKind, WorkflowEvent, WorkflowFact},
    parts::{PieceInfo, PreCommitInfo, Seed, StoredSector, Ticket},
};

/// A worker's reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The staged file is written.
    PiecesAdded {
        /// The pieces, in order.
        pieces: Vec<PieceInfo>,
    },
    /// Tree D is built.
    TreeDBuilt {
        /// The data's commitment.
        comm_d: Commitment,
    },
    /// A PC1 processor is free: draw a ticket now.
    TicketWanted {
        /// The number of the request within this lease, from 1. The answer has the same number.
        draw: u32,
    },
    /// The labels are done.
    Pc1Done {},
    /// The replica is done.
    Pc2Done {
        /// The replica's commitment.
        comm_r: Commitment,
        /// The data's commitment.
        comm_d: Commitment,
    },
    /// The sector's files are in the permanent store.
    Persisted {
        /// The store, and each file with its size and checksum.
        stored: StoredSector,
    },
    /// The vanilla proofs are done.
    C1Done {
        /// The number of the seed that this is for.
        seed_draw: u32,
    },
    /// The Groth16 proof is done.
    C2Done {
        /// The number of the seed that this is for.
        seed_draw: u32,
        /// The proof: 192 bytes per partition.
        proof: ProofBytes,
    },
}

/// The manager's answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fact {
    /// The ticket that was asked for.
    Ticket {
        /// The ticket.
        ticket: Ticket,
    },
    /// The PreCommit is on chain.
    PrecommitLanded {
        /// The PreCommit on chain.
        precommit: PreCommitInfo,
        /// The permanent stores that the manager knows, so that no file is written into a wrong directory.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        stores: Vec<KnownStore>,
    },
    /// The files in the permanent store have answered a challenge.
    PersistChecked {},
    /// The seed for C1. A later one replaces it, after the PreCommit has moved.
    Seed {
        /// The seed.
        seed: Seed,
    },
    /// The ProveCommit is on chain and the sector active.
    ProveLanded {
        /// The sector's activation epoch.
        activation_epoch: i64,
    },
}

impl WorkflowEvent for Event {
    const KINDS: &'static [&'static str] =
        &["pieces_added", "tree_d_built", "ticket_wanted", "pc1_done", "pc2_done", "persisted", "c1_done", "c2_done"];

    fn kind(&self) -> &'static str {
        match self {
            Event::PiecesAdded { .. } => "pieces_added",
            Event::TreeDBuilt { .. } => "tree_d_built",
            Event::TicketWanted { .. } => "ticket_wanted",
            Event::Pc1Done {} => "pc1_done",
            Event::Pc2Done { .. } => "pc2_done",
            Event::Persisted { .. } => "persisted",
            Event::C1Done { .. } => "c1_done",
            Event::C2Done { .. } => "c2_done",
        }
    }

    /// A proof is stored in its job's row. The history has only its length.
    fn brief(&self) -> Option<serde_json::Value> {
        match self {
            Event::C2Done { seed_draw, proof } => {
                Some(serde_json::json!({ "seed_draw": seed_draw, "proof_bytes": proof.0.len() }))
            }
            _ => None,
        }
    }
}

impl Fact {
    /// The ticket.
    pub const TICKET: FactKind = FactKind("ticket");
    /// The PreCommit's landing.
    pub const PRECOMMIT_LANDED: FactKind = FactKind("precommit_landed");
    /// The check of the stored files.
    pub const PERSIST_CHECKED: FactKind = FactKind("persist_checked");
    /// The seed.
    pub const SEED: FactKind = FactKind("seed");
    /// The ProveCommit's landing.
    pub const PROVE_LANDED: FactKind = FactKind("prove_landed");
}

impl WorkflowFact for Fact {
    const KINDS: &'static [FactKind] =
        &[Fact::TICKET, Fact::PRECOMMIT_LANDED, Fact::PERSIST_CHECKED, Fact::SEED, Fact::PROVE_LANDED];

    fn kind(&self) -> FactKind {
        match self {
            Fact::Ticket { .. } => Fact::TICKET,
            Fact::PrecommitLanded { .. } => Fact::PRECOMMIT_LANDED,
            Fact::PersistChecked {} => Fact::PERSIST_CHECKED,
            Fact::Seed { .. } => Fact::SEED,
            Fact::ProveLanded { .. } => Fact::PROVE_LANDED,
        }
    }

    fn note_stores(&mut self, known: &[KnownStore]) {
        if let Fact::PrecommitLanded { stores, .. } = self {
            *stores = known.to_vec();
        }
    }

    fn known_stores(&self) -> &[KnownStore] {
        match self {
            Fact::PrecommitLanded { stores, .. } => stores,
            _ => &[],
        }
    }

    /// A ticket carries the number of the request that it answers, and that number rises.
    fn outlives_resubmit(&self) -> bool {
        matches!(self, Fact::Ticket { .. })
    }
}
