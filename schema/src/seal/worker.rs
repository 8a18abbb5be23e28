//! The worker's side of a sector's life.
//!
//! A [`State`] says everything that a restarted worker needs to go on: the step, what earlier steps yielded, and
//! whether the step is being worked on, waits for its next try, or is blocked. [`State::need`] tells the driver what
//! the state waits for; [`State::apply`] is the machine.

mod step;
mod table;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use step::{Data, Outcome, Step};

use crate::{
    bytes::{Commitment, ProofBytes},
    error::ErrorReport,
    message::{EventBody, Fact, PieceInfo, StoredSector},
    phase::Phase,
};

/// Where a slot's sector stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "condition", rename_all = "snake_case")]
pub enum State {
    /// The step goes on.
    Going {
        /// Which.
        step: Step,
        /// The current try of the step, from 1.
        attempt: u32,
        /// How the earlier tries failed, a line each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tries: Vec<String>,
    },
    /// The step failed in a way that is worth another try, later.
    BackingOff {
        /// Which.
        step: Step,
        /// The next try.
        attempt: u32,
        /// Why the last one failed.
        error: ErrorReport,
        /// How all of them failed so far, a line each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tries: Vec<String>,
    },
    /// A person must look.
    Blocked {
        /// At which step.
        step: Step,
        /// The try that failed.
        attempt: u32,
        /// Why.
        error: ErrorReport,
    },
    /// The slot is empty and the log knows the end.
    Over {
        /// How it ended.
        outcome: Outcome,
    },
}

/// What happened to the slot's sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A processor was given to the current phase.
    PhaseStarted {
        /// Its name.
        processor: String,
    },
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
    /// The current phase failed.
    Failed {
        /// Why.
        error: ErrorReport,
    },
    /// The time until the next try has passed.
    RetryDue,
    /// The manager answered.
    Fact(Fact),
    /// The slot's files of this sector are gone.
    Cleaned,
}

/// What the driver must do for a state to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Run a phase on a processor.
    Run(Phase),
    /// Wait until a PC1 processor is free, without taking it.
    Pc1Room,
    /// Wait for the manager's answer.
    Fact,
    /// Wait, then try again.
    Retry,
    /// Wait for a person.
    Person,
    /// Remove the sector's files from the slot.
    Clean,
    /// Nothing: take the next intent.
    Nothing,
}

/// How often a step is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many further tries a `temp` error allows before it becomes `perm`.
    pub max_retries: u32,
}

impl State {
    /// The state of a sector whose lease was just won.
    pub fn claimed() -> State {
        State::Going { step: Step::AddingPieces { draws: 0 }, attempt: 1, tries: Vec::new() }
    }

    /// What the state waits for.
    pub fn need(&self) -> Need {
        match self {
            State::Going { step, .. } => step.need(),
            State::BackingOff { .. } => Need::Retry,
            State::Blocked { .. } => Need::Person,
            State::Over { .. } => Need::Nothing,
        }
    }

    /// The step, unless the sector's life in this slot is over.
    pub fn step(&self) -> Option<&Step> {
        match self {
            State::Going { step, .. } | State::BackingOff { step, .. } | State::Blocked { step, .. } => Some(step),
            State::Over { .. } => None,
        }
    }

    /// The current try of the current step.
    pub fn attempt(&self) -> u32 {
        match self {
            State::Going { attempt, .. } | State::BackingOff { attempt, .. } | State::Blocked { attempt, .. } => {
                *attempt
            }
            State::Over { .. } => 0,
        }
    }

    /// What must be told again where the last reports were lost with the log, and from where to go on then: a report whose
    /// content is not kept is made once more, which never is a seal.
    pub fn told_again(&self) -> (State, Vec<EventBody>) {
        let go = |step| State::Going { step, attempt: 1, tries: Vec::new() };
        let events = match self {
            State::Going { step, .. } => match step {
                Step::AwaitingTicket { draw, .. } => vec![EventBody::TicketWanted { draw: *draw }],
                Step::AwaitingPreCommit { replica } => {
                    vec![EventBody::Pc2Done { comm_r: replica.comm_r, comm_d: replica.data.comm_d }]
                }
                Step::AwaitingPersistCheck { .. } => return (go(step.clone().back_to(Phase::Transfer)), Vec::new()),
                Step::AwaitingProveCommit { .. } => return (go(step.clone().back_to(Phase::C2)), Vec::new()),
                _ => Vec::new(),
            },
            State::Blocked { error, .. } => vec![EventBody::Failed { error: error.clone() }],
            State::BackingOff { .. } | State::Over { .. } => Vec::new(),
        };
        (self.clone(), events)
    }

    /// The machine: what an input does to this state, and which events must be reported for it, in order.
    pub fn apply(&self, input: Input, policy: RetryPolicy) -> crate::Transition<State, EventBody> {
        table::apply(self, input, policy)
    }
}
