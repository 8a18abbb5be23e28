//! The manager's side of the toy workflow.

use serde_json::{Map, Value, json};

use super::{Event, Fact, worker::MEASURE};
use crate::{
    Transition,
    error::ErrorReport,
    machine::manager::{
        self as machine, Abandon, AtStake, AttemptPolicy, Effect, Life, Machine, OnRelease, Refused, Released,
        StateTraits, Step,
    },
    parts::Ticket,
    phase::Phase,
    workflow::IntentKind,
};

/// The manager's half of the toy workflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Toy;

/// A job's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// An intent is in the queue, or about to be.
    Queued,
    /// A worker stages the data.
    Staging,
    /// A ticket must be drawn.
    Drawing,
    /// The worker measures the data.
    Measuring(Ticket),
    /// The worker cleans its slot.
    Cleaning(Measured),
    /// It has reached its goal.
    Done(Measured),
    /// The worker drops the attempt. Another attempt follows, unless a person gave the job up.
    Leaving {
        /// The cause.
        cause: ErrorReport,
        /// Whether a person gave it up.
        for_good: bool,
    },
    /// Given up.
    GivenUp {
        /// The cause.
        cause: ErrorReport,
    },
}

/// A job's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The ticket that was drawn.
    pub ticket: Ticket,
    /// The data's length in bytes.
    pub bytes: u64,
}

/// An answer of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The ticket is drawn.
    Drawn(Ticket),
}

impl State {
    const fn measured(&self) -> Option<&Measured> {
        match self {
            State::Cleaning(measured) | State::Done(measured) => Some(measured),
            _ => None,
        }
    }

    /// The ticket, from its draw on.
    pub fn ticket(&self) -> Option<Ticket> {
        match self {
            State::Measuring(ticket) => Some(*ticket),
            _ => self.measured().map(|measured| measured.ticket),
        }
    }

    /// The data's length in bytes, once it is measured.
    pub fn bytes(&self) -> Option<u64> {
        self.measured().map(|measured| measured.bytes)
    }
}

impl Machine for Toy {
    type State = State;
    type Event = Event;
    type Answer = Answer;
    type Fact = Fact;

    const NAMES: &'static [&'static str] = &[
        "toy_queued",
        "toy_staging",
        "toy_drawing",
        "toy_measuring",
        "toy_cleaning",
        "toy_done",
        "toy_leaving",
        "toy_given_up",
    ];

    fn start() -> State {
        State::Queued
    }

    fn traits(state: &State) -> StateTraits {
        let (name, waits_for, life, needs_owner) = match state {
            State::Queued => ("toy_queued", "a free slot of a worker", Life::Going, false),
            State::Staging => ("toy_staging", "its worker, which stages the data", Life::Going, true),
            State::Drawing => ("toy_drawing", "its ticket", Life::Going, true),
            State::Measuring(_) => ("toy_measuring", "its worker, which measures it", Life::Going, true),
            State::Cleaning(_) => ("toy_cleaning", "its worker, which cleans the slot", Life::Going, true),
            State::Done(_) => ("toy_done", "nothing", Life::Done, false),
            State::Leaving { .. } => ("toy_leaving", "its worker, which drops what it has", Life::Leaving, true),
            State::GivenUp { .. } => ("toy_given_up", "nothing", Life::GivenUp, false),
        };
        let offered = matches!(state, State::Queued).then_some(IntentKind::Toy);
        StateTraits { name, waits_for, life, offered, needs_owner, precious: false }
    }

    fn claimed(state: &State) -> Option<State> {
        matches!(state, State::Queued).then_some(State::Staging)
    }

    fn released(state: &State, released: Released, policy: AttemptPolicy) -> OnRelease<State> {
        match state {
            State::Done(_) | State::GivenUp { .. } => OnRelease::Ended,
            State::Cleaning(measured) => OnRelease::To(State::Done(*measured)),
            State::Leaving { cause, for_good } if *for_good || released.attempt >= policy.max_attempts => {
                OnRelease::To(State::GivenUp { cause: cause.clone() })
            }
            State::Queued | State::Staging | State::Drawing | State::Measuring(_) | State::Leaving { .. } => {
                OnRelease::Restart(State::Queued)
            }
        }
    }

    fn reported(state: &State, event: Event) -> Step<Toy> {
        match (state, event) {
            (State::Staging, Event::ToyStaged {}) => machine::to(State::Drawing),
            (State::Measuring(ticket), Event::ToyMeasured { bytes }) => {
                machine::to(State::Cleaning(Measured { ticket: *ticket, bytes }))
            }
            _ => Transition::Illegal("a report that the job's state does not allow"),
        }
    }

    fn finished(state: &State) -> Option<State> {
        match state {
            State::Cleaning(measured) => Some(State::Done(*measured)),
            _ => None,
        }
    }

    fn aborted(_state: &State, cause: ErrorReport) -> State {
        State::Leaving { cause, for_good: false }
    }

    fn answered(state: &State, answer: Answer) -> Step<Toy> {
        match (state, answer) {
            (State::Drawing, Answer::Drawn(ticket)) => {
                machine::with(State::Measuring(ticket), [Effect::Tell(Fact::ToyTicket { ticket })])
            }
            _ => Transition::Ignore("an answer that came too late"),
        }
    }

    fn resubmitted(state: &State, from: Option<Phase>) -> Option<(State, Vec<Effect<Toy>>)> {
        match (state, from) {
            (State::Done(_) | State::GivenUp { .. }, _) => None,
            (State::Queued, None) => Some((State::Queued, vec![Effect::Offer { another_attempt: true }])),
            (State::Measuring(ticket), None | Some(MEASURE)) => {
                Some((state.clone(), vec![Effect::Tell(Fact::ToyTicket { ticket: *ticket })]))
            }
            (_, None) => Some((state.clone(), Vec::new())),
            (State::Staging | State::Drawing | State::Measuring(_), Some(Phase::AddPieces)) => {
                Some((State::Staging, Vec::new()))
            }
            (_, Some(_)) => None,
        }
    }

    fn told_so_far(state: &State) -> Option<Vec<Effect<Toy>>> {
        match state {
            State::Measuring(ticket) => Some(vec![Effect::Tell(Fact::ToyTicket { ticket: *ticket })]),
            State::Leaving { cause, for_good: true } => Some(vec![Effect::TellAbandon(cause.clone())]),
            State::Leaving { for_good: false, .. } | State::Done(_) | State::GivenUp { .. } => None,
            State::Queued | State::Staging | State::Drawing | State::Cleaning(_) => Some(Vec::new()),
        }
    }

    fn recalled(state: &State, fact: &Fact, _seed_delay: i64) -> Option<State> {
        let Fact::ToyTicket { ticket } = fact;
        matches!(state, State::Drawing).then_some(State::Measuring(*ticket))
    }

    fn dropped(state: &State, cause: ErrorReport) -> Option<State> {
        let goes_on = matches!(state, State::Staging | State::Drawing | State::Measuring(_));
        goes_on.then_some(State::Leaving { cause, for_good: true })
    }

    fn awaited_phase(state: &State) -> Option<Phase> {
        match state {
            State::Staging => Some(Phase::AddPieces),
            State::Measuring(_) => Some(MEASURE),
            _ => None,
        }
    }

    fn needed_again(_state: &State) -> Option<Phase> {
        None
    }

    fn cause(state: &State) -> Option<&ErrorReport> {
        match state {
            State::Leaving { cause, .. } | State::GivenUp { cause } => Some(cause),
            _ => None,
        }
    }

    fn at_stake(state: &State) -> AtStake {
        match state {
            State::Queued | State::Done(_) | State::GivenUp { .. } => AtStake::Nothing,
            _ => AtStake::Slot,
        }
    }

    fn describe(state: &State) -> Map<String, Value> {
        let fields = [("ticket", json!(state.ticket())), ("bytes", json!(state.bytes()))];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn abandoned(state: &State, order: Abandon) -> Result<State, Refused> {
        match state {
            State::Done(_) | State::GivenUp { .. } => Err(Refused::Never("it has come to its end already")),
            State::Leaving { for_good: true, .. } => Err(Refused::Already("it is being abandoned already")),
            _ => Ok(State::Leaving { cause: order.cause, for_good: true }),
        }
    }
}
