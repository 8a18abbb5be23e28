//! The worker's steps of sealing, each with the results of earlier steps.

use serde::{Deserialize, Serialize};

use crate::{
    bytes::Commitment,
    machine::worker::Need,
    message::FactKind,
    parts::{PieceInfo, PreCommitInfo, Seed, Ticket},
    phase::Phase,
    workflows::seal::Fact,
};

/// A step of sealing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields are the yields of earlier steps, described at their types")]
pub enum Step {
    /// Writes the staged file. `draws` tickets were already requested under this lease.
    AddingPieces {
        #[serde(default)]
        draws: u32,
    },
    /// Builds tree D.
    BuildingTreeD {
        pieces: Vec<PieceInfo>,
        #[serde(default)]
        draws: u32,
    },
    /// Waits until a PC1 processor is free, without taking it.
    AwaitingPc1Room { data: Data, next_draw: u32 },
    /// Waits for the ticket.
    AwaitingTicket { data: Data, draw: u32 },
    /// Labels the layers.
    Pc1 { data: Data, ticket: Ticket },
    /// Encodes the replica and builds its trees.
    Pc2 { data: Data, ticket: Ticket },
    /// Waits for the PreCommit to land.
    AwaitingPreCommit { replica: Replica },
    /// Copies the sealed file and the cache to the permanent store.
    Transferring { replica: Replica, precommit: PreCommitInfo },
    /// Waits for the manager to check the files.
    AwaitingPersistCheck { replica: Replica, precommit: PreCommitInfo },
    /// Waits for the seed.
    AwaitingSeed { replica: Replica, precommit: PreCommitInfo },
    /// Makes the vanilla proofs.
    C1 { replica: Replica, precommit: PreCommitInfo, seed: Seed },
    /// Makes the Groth16 proof.
    C2 { replica: Replica, precommit: PreCommitInfo, seed: Seed },
    /// Waits for the ProveCommit to land. The layers stay until then, because C1 needs them again if the seed changes.
    AwaitingProveCommit { replica: Replica, precommit: PreCommitInfo, seed: Seed },
}

/// The sector's data before it is sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// The pieces, in order.
    pub pieces: Vec<PieceInfo>,
    /// CommD, the commitment to all of them.
    pub comm_d: Commitment,
}

/// The sealed sector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// The data that was sealed.
    pub data: Data,
    /// The ticket that it is bound to.
    pub ticket: Ticket,
    /// The replica's commitment.
    pub comm_r: Commitment,
}

impl Step {
    /// What the step waits for while it is under way.
    pub const fn need(&self) -> Need {
        match self {
            Step::AddingPieces { .. } => Need::Run(Phase::AddPieces),
            Step::BuildingTreeD { .. } => Need::Run(Phase::TreeD),
            Step::AwaitingPc1Room { .. } => Need::Room(Phase::Pc1),
            Step::Pc1 { .. } => Need::Run(Phase::Pc1),
            Step::Pc2 { .. } => Need::Run(Phase::Pc2),
            Step::Transferring { .. } => Need::Run(Phase::Transfer),
            Step::C1 { .. } => Need::Run(Phase::C1),
            Step::C2 { .. } => Need::Run(Phase::C2),
            Step::AwaitingTicket { .. }
            | Step::AwaitingPreCommit { .. }
            | Step::AwaitingPersistCheck { .. }
            | Step::AwaitingSeed { .. }
            | Step::AwaitingProveCommit { .. } => Need::Fact,
        }
    }

    /// The step's name, for people.
    pub const fn name(&self) -> &'static str {
        match self {
            Step::AddingPieces { .. } => "add_pieces",
            Step::BuildingTreeD { .. } => "tree_d",
            Step::AwaitingPc1Room { .. } => "awaiting_pc1_room",
            Step::AwaitingTicket { .. } => "awaiting_ticket",
            Step::Pc1 { .. } => "pc1",
            Step::Pc2 { .. } => "pc2",
            Step::AwaitingPreCommit { .. } => "awaiting_precommit",
            Step::Transferring { .. } => "transfer",
            Step::AwaitingPersistCheck { .. } => "awaiting_persist_check",
            Step::AwaitingSeed { .. } => "awaiting_seed",
            Step::C1 { .. } => "c1",
            Step::C2 { .. } => "c2",
            Step::AwaitingProveCommit { .. } => "awaiting_prove_commit",
        }
    }

    /// The kinds of facts that matter at this step, the most urgent first.
    pub const fn facts(&self) -> &'static [FactKind] {
        const ABANDON: FactKind = FactKind::ABANDON;
        const RESUBMIT: FactKind = FactKind::RESUBMIT;
        match self {
            Step::AwaitingTicket { .. } => &[ABANDON, RESUBMIT, Fact::TICKET],
            Step::AwaitingPreCommit { .. } => &[ABANDON, RESUBMIT, Fact::PRECOMMIT_LANDED],
            Step::AwaitingPersistCheck { .. } => &[ABANDON, RESUBMIT, Fact::PERSIST_CHECKED],
            Step::AwaitingSeed { .. } | Step::C1 { .. } | Step::C2 { .. } => &[ABANDON, RESUBMIT, Fact::SEED],
            Step::AwaitingProveCommit { .. } => &[ABANDON, RESUBMIT, Fact::SEED, Fact::PROVE_LANDED],
            Step::AddingPieces { .. }
            | Step::BuildingTreeD { .. }
            | Step::AwaitingPc1Room { .. }
            | Step::Pc1 { .. }
            | Step::Pc2 { .. } => &[ABANDON, RESUBMIT],
            // Only the stores in the landing still matter: they may be updated.
            Step::Transferring { .. } => &[ABANDON, RESUBMIT, Fact::PRECOMMIT_LANDED],
        }
    }

    /// The step in which to continue after a person's resubmit: the given phase's, or this one if that phase is still
    /// ahead. The result keeps everything that the earlier step needs.
    pub(super) fn back_to(self, phase: Phase) -> Step {
        // C1 has removed the staged data, which everything up to PC2 reads.
        let staged = !matches!(self, Step::C2 { .. } | Step::AwaitingProveCommit { .. });
        match phase {
            Phase::AddPieces | Phase::TreeD | Phase::Pc1 | Phase::Pc2 if !staged => {
                Step::AddingPieces { draws: self.draws() }
            }
            Phase::AddPieces => Step::AddingPieces { draws: self.draws() },
            Phase::TreeD => match self.data() {
                Some(data) => Step::BuildingTreeD { pieces: data.pieces.clone(), draws: self.draws() },
                None => self,
            },
            Phase::Pc1 => match (self.data(), self.ticket()) {
                (Some(data), Some(ticket)) => Step::Pc1 { data: data.clone(), ticket },
                _ => self,
            },
            Phase::Pc2 => match self.replica() {
                Some(Replica { data, ticket, .. }) => Step::Pc2 { data: data.clone(), ticket: *ticket },
                None => self,
            },
            Phase::Transfer => match self {
                Step::AwaitingPersistCheck { replica, precommit }
                | Step::AwaitingSeed { replica, precommit }
                | Step::C1 { replica, precommit, .. }
                | Step::C2 { replica, precommit, .. }
                | Step::AwaitingProveCommit { replica, precommit, .. } => Step::Transferring { replica, precommit },
                step => step,
            },
            Phase::C1 => match self {
                Step::C2 { replica, precommit, seed } | Step::AwaitingProveCommit { replica, precommit, seed } => {
                    Step::C1 { replica, precommit, seed }
                }
                step => step,
            },
            Phase::C2 => match self {
                Step::AwaitingProveCommit { replica, precommit, seed } => Step::C2 { replica, precommit, seed },
                step => step,
            },
            Phase::Own(_) => self,
        }
    }

    /// How many tickets were requested under this lease.
    fn draws(&self) -> u32 {
        match self {
            Step::AddingPieces { draws } | Step::BuildingTreeD { draws, .. } => *draws,
            Step::AwaitingPc1Room { next_draw, .. } => next_draw.saturating_sub(1),
            Step::AwaitingTicket { draw, .. } => *draw,
            other => other.ticket().map_or(0, |ticket| ticket.draw),
        }
    }

    fn data(&self) -> Option<&Data> {
        match self {
            Step::AwaitingPc1Room { data, .. }
            | Step::AwaitingTicket { data, .. }
            | Step::Pc1 { data, .. }
            | Step::Pc2 { data, .. } => Some(data),
            other => other.replica().map(|replica| &replica.data),
        }
    }

    fn ticket(&self) -> Option<Ticket> {
        match self {
            Step::Pc1 { ticket, .. } | Step::Pc2 { ticket, .. } => Some(*ticket),
            other => other.replica().map(|replica| replica.ticket),
        }
    }

    fn replica(&self) -> Option<&Replica> {
        match self {
            Step::AwaitingPreCommit { replica }
            | Step::Transferring { replica, .. }
            | Step::AwaitingPersistCheck { replica, .. }
            | Step::AwaitingSeed { replica, .. }
            | Step::C1 { replica, .. }
            | Step::C2 { replica, .. }
            | Step::AwaitingProveCommit { replica, .. } => Some(replica),
            _ => None,
        }
    }
}
