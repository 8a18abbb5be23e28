//! The worker's side of the toy workflow.

use serde::{Deserialize, Serialize};

use super::{Event, Fact};
use crate::{
    Transition,
    machine::worker::{Machine, Need, Next, Retold},
    message::FactKind,
    parts::{PieceInfo, Ticket},
    phase::Phase,
};

/// The phase that no other workflow has.
pub const MEASURE: Phase = Phase::Own("toy_measure");

/// The worker's half of the toy workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Toy;

/// A job's step in its slot. The names are unique among all workflows, because nothing else in a journal says which
/// workflow a step belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields are what earlier steps yielded")]
pub enum Step {
    /// Stages the data.
    ToyStaging {},
    /// Waits for the ticket.
    ToyAwaitingTicket { pieces: Vec<PieceInfo> },
    /// Measures the data.
    ToyMeasuring { pieces: Vec<PieceInfo>, ticket: Ticket },
}

/// The result of work on a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// `add_pieces` succeeded.
    Staged {
        /// The staged pieces.
        pieces: Vec<PieceInfo>,
    },
    /// `toy_measure` succeeded.
    Measured {
        /// The data's length in bytes.
        bytes: u64,
    },
}

impl Machine for Toy {
    type Step = Step;
    type Progress = Progress;
    type Event = Event;
    type Fact = Fact;

    const PHASES: &'static [Phase] = &[Phase::AddPieces, MEASURE];
    // It is only for tests, so a machine serves it only if its configuration names it.
    const BY_DEFAULT: bool = false;

    fn start() -> Step {
        Step::ToyStaging {}
    }

    fn name(step: &Step) -> &'static str {
        match step {
            Step::ToyStaging {} => "toy_staging",
            Step::ToyAwaitingTicket { .. } => "toy_awaiting_ticket",
            Step::ToyMeasuring { .. } => "toy_measuring",
        }
    }

    fn need(step: &Step) -> Need {
        match step {
            Step::ToyStaging {} => Need::Run(Phase::AddPieces),
            Step::ToyAwaitingTicket { .. } => Need::Fact,
            Step::ToyMeasuring { .. } => Need::Run(MEASURE),
        }
    }

    fn facts(step: &Step) -> &'static [FactKind] {
        match step {
            Step::ToyAwaitingTicket { .. } => &[FactKind::ABANDON, FactKind::RESUBMIT, Fact::TOY_TICKET],
            Step::ToyStaging {} | Step::ToyMeasuring { .. } => &[FactKind::ABANDON, FactKind::RESUBMIT],
        }
    }

    fn progressed(step: Step, progress: Progress) -> Transition<Next<Step>, Event> {
        match (step, progress) {
            (Step::ToyStaging {}, Progress::Staged { pieces }) => {
                Transition::with(Next::To(Step::ToyAwaitingTicket { pieces }), [Event::ToyStaged {}])
            }
            (Step::ToyMeasuring { .. }, Progress::Measured { bytes }) => {
                Transition::with(Next::Finished, [Event::ToyMeasured { bytes }])
            }
            _ => Transition::Illegal("an answer that this step did not ask for"),
        }
    }

    fn told(step: Step, fact: Fact) -> Transition<Next<Step>, Event> {
        match (step, fact) {
            (Step::ToyAwaitingTicket { pieces }, Fact::ToyTicket { ticket }) => {
                Transition::to(Next::To(Step::ToyMeasuring { pieces, ticket }))
            }
            _ => Transition::Ignore("a fact for another step"),
        }
    }

    fn back_to(step: Step, phase: Phase) -> Step {
        match phase {
            Phase::AddPieces => Step::ToyStaging {},
            _ => step,
        }
    }

    fn told_again(step: &Step) -> Retold<Step, Event> {
        match step {
            Step::ToyAwaitingTicket { .. } => Retold::Event(Event::ToyStaged {}),
            Step::ToyStaging {} | Step::ToyMeasuring { .. } => Retold::Nothing,
        }
    }
}
