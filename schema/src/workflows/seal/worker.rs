//! The worker's side of sealing.
//!
//! [`Step`] has the steps, and [`table`] the transitions between them. What all jobs share is in
//! [`crate::machine::worker`].

mod step;
mod table;

#[cfg(test)]
mod tests;

pub use step::{Data, Replica, Step};

use super::{Event, Fact};
use crate::{
    Transition,
    bytes::{Commitment, ProofBytes},
    machine::worker::{Machine, Need, Next, Retold},
    message::FactKind,
    parts::{PieceInfo, StoredSector},
    phase::Phase,
};

/// The worker's half of sealing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal;

/// The result of work on a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// `add_pieces` succeeded.
    PiecesAdded {
        /// The staged pieces.
        pieces: Vec<PieceInfo>,
    },
    /// `tree_d` succeeded.
    TreeDBuilt {
        /// The data's commitment.
        comm_d: Commitment,
    },
    /// A PC1 processor is free.
    Pc1RoomSeen,
    /// The step's ticket is too old to start with.
    TicketExpired,
    /// `pc1` succeeded.
    Pc1Done,
    /// `pc2` succeeded.
    Pc2Done {
        /// The replica's commitment.
        comm_r: Commitment,
        /// The data's commitment.
        comm_d: Commitment,
    },
    /// `transfer` succeeded.
    Persisted {
        /// The files that were written.
        stored: StoredSector,
    },
    /// `c1` succeeded.
    C1Done,
    /// `c2` succeeded.
    C2Done {
        /// The Groth16 proof.
        proof: ProofBytes,
    },
}

impl Machine for Seal {
    type Step = Step;
    type Progress = Progress;
    type Event = Event;
    type Fact = Fact;

    const PHASES: &'static [Phase] = &Phase::SEALING;

    fn start() -> Step {
        Step::AddingPieces { draws: 0 }
    }

    fn name(step: &Step) -> &'static str {
        step.name()
    }

    fn need(step: &Step) -> Need {
        step.need()
    }

    fn facts(step: &Step) -> &'static [FactKind] {
        step.facts()
    }

    fn progressed(step: Step, progress: Progress) -> Transition<Next<Step>, Event> {
        table::progressed(step, progress)
    }

    fn told(step: Step, fact: Fact) -> Transition<Next<Step>, Event> {
        table::told(step, fact)
    }

    fn back_to(step: Step, phase: Phase) -> Step {
        step.back_to(phase)
    }

    fn told_again(step: &Step) -> Retold<Step, Event> {
        match step {
            Step::AwaitingTicket { draw, .. } => Retold::Event(Event::TicketWanted { draw: *draw }),
            Step::AwaitingPreCommit { replica } => {
                Retold::Event(Event::Pc2Done { comm_r: replica.comm_r, comm_d: replica.data.comm_d })
            }
            Step::AwaitingPersistCheck { .. } => Retold::From(step.clone().back_to(Phase::Transfer)),
            Step::AwaitingProveCommit { .. } => Retold::From(step.clone().back_to(Phase::C2)),
            _ => Retold::Nothing,
        }
    }
}
