//! The worker's state machine for jobs of any workflow.
//!
//! A [`State`] has everything that a restarted worker needs to continue: the step, the results of earlier steps, and
//! whether the step is being worked on, waits for its next try, or is blocked. [`State::need`] tells the driver what
//! the state waits for; [`State::apply`] is the machine.

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Transition,
    error::{ErrorClass, ErrorReport},
    message::{CommonEvent, CommonFact, EventBody, Fact, FactBody, FactKind},
    phase::Phase,
    workflow::IntentKind,
    workflows::{Progress, Step},
};

/// How many earlier tries an error includes, how many bytes of each, and how many causes of its own. Together they stay
/// within the size limits of a report.
const MAX_TRIES: usize = 8;
const MAX_TRY_CHARS: usize = 200;
const MAX_OWN_CAUSES: usize = 8;

/// The worker's half of a workflow.
///
/// Each method is pure and total.
pub trait Machine: Sized + 'static {
    /// A step, with the results of earlier steps.
    type Step: Clone + fmt::Debug + PartialEq + Serialize + DeserializeOwned;
    /// The result of work on a step.
    type Progress: Clone + fmt::Debug + PartialEq;
    /// A report to the manager.
    type Event: Clone + fmt::Debug + PartialEq;
    /// An answer of the manager.
    type Fact: Clone + fmt::Debug + PartialEq;

    /// The phases of its steps, in order. A machine that serves the workflow has a processor for each.
    const PHASES: &'static [Phase];

    /// Whether a machine whose configuration names no workflows serves this one.
    const BY_DEFAULT: bool = true;

    /// The first step of a job whose lease was just won.
    fn start() -> Self::Step;

    /// The step's name, for people.
    fn name(step: &Self::Step) -> &'static str;

    /// What the step waits for while it is under way.
    fn need(step: &Self::Step) -> Need;

    /// The kinds of facts that matter at this step, the most urgent first, including those of all jobs:
    /// [`FactKind::ABANDON`] and [`FactKind::RESUBMIT`].
    fn facts(step: &Self::Step) -> &'static [FactKind];

    /// The next step after a result.
    fn progressed(step: Self::Step, progress: Self::Progress) -> Transition<Next<Self::Step>, Self::Event>;

    /// The next step after a fact.
    fn told(step: Self::Step, fact: Self::Fact) -> Transition<Next<Self::Step>, Self::Event>;

    /// The step in which to continue after a person's resubmit: the given phase's, or this one if that phase is still
    /// ahead. The result keeps everything that the earlier step needs.
    fn back_to(step: Self::Step, phase: Phase) -> Self::Step;

    /// What to report again if the last reports were lost with the log.
    fn told_again(step: &Self::Step) -> Retold<Self::Step, Self::Event>;
}

/// The outcome of progress or of a fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next<S> {
    /// The first try of a step.
    To(S),
    /// The end: the job was successful, and its slot is to be cleaned.
    Finished,
}

/// What to report again if the last reports were lost with the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retold<S, E> {
    /// Nothing.
    Nothing,
    /// This report.
    Event(E),
    /// The report's content was not kept. It is made again from this step, which never repeats PC1 or PC2.
    From(S),
}

/// The state of a slot's job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "condition", rename_all = "snake_case")]
pub enum State {
    /// The step is under way.
    Going {
        /// The step.
        step: Step,
        /// The current try of the step, from 1.
        attempt: u32,
        /// How the earlier tries failed, one line each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tries: Vec<String>,
    },
    /// The step failed and will be retried.
    BackingOff {
        /// The step.
        step: Step,
        /// The next try.
        attempt: u32,
        /// Why the last one failed.
        error: ErrorReport,
        /// How all tries failed so far, one line each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tries: Vec<String>,
    },
    /// The job is blocked until a person decides.
    Blocked {
        /// The step.
        step: Step,
        /// The try that failed.
        attempt: u32,
        /// The cause.
        error: ErrorReport,
    },
    /// The slot is empty and the end is reported.
    Over {
        /// How it ended.
        outcome: Outcome,
    },
}

/// The last step of every job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum LastStep {
    /// Removes the job's files from the slot.
    Cleaning {
        /// How the job ends.
        outcome: Outcome,
    },
}

/// How a job's life in a slot ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It was successful.
    Finished,
    /// The attempt was dropped.
    Aborted {
        /// The cause.
        error: ErrorReport,
    },
}

/// What happened to the slot's job.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A processor was given to the current phase.
    PhaseStarted {
        /// Its name.
        processor: String,
    },
    /// The current step succeeded, or what it waited for has arrived.
    Progress(Progress),
    /// The current phase failed.
    Failed {
        /// The cause.
        error: ErrorReport,
    },
    /// It is time for the next try.
    RetryDue,
    /// The manager answered.
    Fact(Fact),
    /// The slot's files of this job are gone.
    Cleaned,
}

/// What the driver must do in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Run a phase on a processor.
    Run(Phase),
    /// Wait until a processor for this phase is free, without taking it.
    Room(Phase),
    /// Wait for the manager's answer.
    Fact,
    /// Wait, then try again.
    Retry,
    /// Wait for a person.
    Person,
    /// Remove the job's files from the slot.
    Clean,
    /// Nothing: take the next intent.
    Nothing,
}

/// How often a step is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many retries a `temp` error allows before it becomes `perm`.
    pub max_retries: u32,
}

type Answer = Transition<State, EventBody>;

impl State {
    /// The state of a job whose lease was just won. `None` for an intent of a newer version.
    pub fn claimed(kind: IntentKind) -> Option<State> {
        Some(go(Step::first(kind.workflow()?)))
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

    /// The step, unless the job's life in this slot is over.
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

    /// The kinds of facts that matter now, the most urgent first.
    pub fn facts(&self) -> &'static [FactKind] {
        match self {
            State::Over { .. } => &[],
            State::Blocked { step: Step::Last(_), .. } => &[FactKind::RESUBMIT],
            State::Blocked { .. } => &[FactKind::ABANDON, FactKind::RESUBMIT],
            State::Going { step, .. } | State::BackingOff { step, .. } => step.facts(),
        }
    }

    /// The state to continue in, and the events to report again, if the last reports were lost with the log.
    pub fn told_again(&self) -> (State, Vec<EventBody>) {
        match self {
            State::Going { step, .. } => match step.told_again() {
                Retold::Nothing => (self.clone(), Vec::new()),
                Retold::Event(event) => (self.clone(), vec![event]),
                Retold::From(step) => (go(step), Vec::new()),
            },
            State::Blocked { error, .. } => (self.clone(), vec![CommonEvent::Failed { error: error.clone() }.into()]),
            State::BackingOff { .. } | State::Over { .. } => (self.clone(), Vec::new()),
        }
    }

    /// The machine: the next state for an input, and the events to report, in order.
    pub fn apply(&self, input: Input, policy: RetryPolicy) -> Answer {
        match (self, input) {
            (State::Over { .. }, _) => Transition::Ignore("the job's life in this slot is over"),
            (state, Input::Fact(Fact { body: FactBody::Common(CommonFact::Resubmit { from }), .. })) => {
                on_resubmit(state, from)
            }
            // Facts reach a blocked or waiting slot as well as a working one.
            (
                State::Going { step, .. } | State::BackingOff { step, .. } | State::Blocked { step, .. },
                Input::Fact(fact),
            ) => on_fact(step.clone(), fact.body),
            (State::BackingOff { step, attempt, tries, .. }, Input::RetryDue) => {
                Transition::to(State::Going { step: step.clone(), attempt: *attempt, tries: tries.clone() })
            }
            (State::Going { .. }, Input::RetryDue) => Transition::Ignore("a retry that is under way already"),
            // For example a result that arrives after the phase's time limit.
            (State::BackingOff { .. }, _) => Transition::Ignore("an answer from a try that has failed"),
            (State::Blocked { .. }, _) => Transition::Ignore("the slot waits for a person"),
            (State::Going { step, attempt, tries }, Input::Failed { error }) => {
                on_failure(step.clone(), *attempt, tries.clone(), error, policy)
            }
            (State::Going { step, attempt, .. }, Input::PhaseStarted { processor }) => match step.phase() {
                Some(phase) => {
                    let event = CommonEvent::PhaseStarted { phase, attempt: *attempt, processor };
                    Transition::with(self.clone(), [event.into()])
                }
                None => Transition::Illegal("a processor was given to a step without a phase"),
            },
            (State::Going { step: Step::Last(LastStep::Cleaning { outcome }), .. }, Input::Cleaned) => {
                let event = match outcome {
                    Outcome::Finished => CommonEvent::Finished {},
                    Outcome::Aborted { error } => CommonEvent::Aborted { error: error.clone() },
                };
                Transition::with(State::Over { outcome: outcome.clone() }, [event.into()])
            }
            (State::Going { .. }, Input::Cleaned) => Transition::Illegal(UNASKED),
            (State::Going { step, .. }, Input::Progress(progress)) => moved(step.clone().progressed(progress)),
        }
    }
}

/// Why a result is illegal that the step did not ask for.
pub(crate) const UNASKED: &str = "an answer that this step did not ask for";

fn moved(transition: Transition<Next<Step>, EventBody>) -> Answer {
    transition.map(|next| match next {
        Next::To(step) => go(step),
        Next::Finished => go(cleaning(Outcome::Finished)),
    })
}

/// The manager's answers.
fn on_fact(step: Step, fact: FactBody) -> Answer {
    match (step, fact) {
        (Step::Last(_), _) => Transition::Ignore("the slot is being cleaned already"),
        (_, FactBody::Common(CommonFact::Abandon { error })) => {
            Transition::to(go(cleaning(Outcome::Aborted { error })))
        }
        (_, FactBody::Common(CommonFact::Resubmit { .. }) | FactBody::Newer(_)) => {
            Transition::Ignore("a fact of a newer version")
        }
        (step, fact) => moved(step.told(fact)),
    }
}

/// A person's resubmit.
fn on_resubmit(state: &State, from: Option<Phase>) -> Answer {
    match (state, from) {
        (State::Over { .. }, _) => Transition::Ignore("the job's life in this slot is over"),
        (State::Going { step: Step::Last(_), .. }, _) => Transition::Ignore("the slot is being cleaned already"),
        (State::Going { .. }, None) => Transition::Ignore("it goes on already"),
        (State::BackingOff { step, .. } | State::Blocked { step, .. }, None) => Transition::to(go(step.clone())),
        (State::Going { step, .. } | State::BackingOff { step, .. } | State::Blocked { step, .. }, Some(phase)) => {
            Transition::to(go(step.clone().back_to(phase)))
        }
    }
}

fn on_failure(step: Step, attempt: u32, mut tries: Vec<String>, error: ErrorReport, policy: RetryPolicy) -> Answer {
    let mut error = ErrorReport { phase: step.phase(), attempt, ..error }.bounded();
    if error.class == ErrorClass::Temp && error.code.is_waited_for() {
        // It is reported once, and waiting costs no try: the phase is not at fault.
        let event = CommonEvent::Failed { error: error.clone() };
        return Transition::with(State::BackingOff { step, attempt, error, tries }, [event.into()]);
    }
    let this_try = one_line(attempt, &error);
    let exhausted = error.class == ErrorClass::Temp && attempt > policy.max_retries;
    if exhausted {
        error.class = ErrorClass::Perm;
        error.causes.insert(0, format!("still failing after {attempt} tries"));
    }
    if error.class != ErrorClass::Temp && !tries.is_empty() {
        // A person sees whether the tries failed for the same reason.
        error.causes.truncate(MAX_OWN_CAUSES);
        error.causes.append(&mut tries);
    }
    remember(&mut tries, this_try);
    let event = CommonEvent::Failed { error: error.clone() };
    let next = match error.class {
        ErrorClass::Temp => State::BackingOff { step, attempt: attempt + 1, error, tries },
        // Cleaning itself cannot be dropped.
        ErrorClass::Abort if !matches!(step, Step::Last(_)) => go(cleaning(Outcome::Aborted { error })),
        ErrorClass::Abort | ErrorClass::Perm | ErrorClass::Crit | ErrorClass::Unknown => {
            State::Blocked { step, attempt, error }
        }
    };
    Transition::with(next, [event.into()])
}

/// A failed try in one line: its code and first cause.
fn one_line(attempt: u32, error: &ErrorReport) -> String {
    let cause: String = error.causes.first().into_iter().flat_map(|cause| cause.chars()).take(MAX_TRY_CHARS).collect();
    format!("try {attempt} failed with {}: {cause}", error.code)
}

/// Adds a try. Beyond the limit, keeps the first and the last ones.
fn remember(tries: &mut Vec<String>, this_try: String) {
    if tries.len() == MAX_TRIES {
        tries.remove(1);
    }
    tries.push(this_try);
}

const fn cleaning(outcome: Outcome) -> Step {
    Step::Last(LastStep::Cleaning { outcome })
}

const fn go(step: Step) -> State {
    State::Going { step, attempt: 1, tries: Vec::new() }
}
