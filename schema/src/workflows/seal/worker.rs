//! The worker's side of sealing.
//!
//! [`Step`] says where a sector stands in its slot, [`table`] what leads from one step to the next. What is alike in all
//! jobs is [`crate::machine::worker`].

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

/// What work on a step yielded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// `add_pieces` ended well.
    PiecesAdded {
        /// What was staged.
        pieces: Vec<PieceInfo>,
    },
    /// `tree_d` ended well.
    TreeDBuilt {
        /// The data's commitment.
        comm_d: Commitment,
    },
    /// A PC1 processor is free.
    Pc1RoomSeen,
    /// The ticket that the step holds is too old to begin with.
    TicketExpired,
    /// `pc1` ended well.
    Pc1Done,
    /// `pc2` ended well.
    Pc2Done {
        /// The replica's commitment.
        comm_r: Commitment,
        /// The data's commitment.
        comm_d: Commitment,
    },
    /// `transfer` ended well.
    Persisted {
        /// What was written.
        stored: StoredSector,
    },
    /// `c1` ended well.
    C1Done,
    /// `c2` ended well.
    C2Done {
        /// The SNARK.
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
