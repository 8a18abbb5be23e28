//! The workflows, one folder each, and the enums that cover all of them.

pub mod seal;
#[cfg(feature = "toy-workflow")]
pub mod toy;

use serde::{Deserialize, Serialize};

use crate::{
    Transition,
    error::ErrorReport,
    machine::{
        manager::{self, AtStake, AttemptPolicy, Machine as _, Purpose, Released, Standing, StateTraits},
        worker::{LastStep, Machine as _, Need, Next, Retold, UNASKED},
    },
    message::{CommonEvent, CommonFact, EventBody, FactBody, FactKind},
    phase::Phase,
    workflow::Workflow,
};

/// What happened to a job of any workflow.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A lease record gave it to a worker.
    Claimed,
    /// A lease record took it from its owner.
    Released(Released),
    /// The owner reported.
    Event(EventBody),
    /// The chain, a store or the proofs library answered.
    Answer(Answer),
    /// Something on the manager's side needs a person: the chain refused, files fail a challenge, a proof is invalid.
    Refused(ErrorReport),
    /// A person resubmits a blocked job: it continues from a phase, or from where it is.
    Resubmitted {
        /// The phase, which must not be still ahead.
        from: Option<Phase>,
    },
    /// A person gives the job up.
    Abandoned {
        /// Who and why.
        cause: ErrorReport,
        /// Whether the person accepts the loss of a deposit on chain.
        lose_deposit: bool,
    },
}

/// What must happen after a job's state is stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Put the state's intent into the queue.
    Offer {
        /// Whether another attempt begins with it.
        another_attempt: bool,
    },
    /// Tell the owner.
    Tell(FactBody),
    /// Tell the owner to continue, under the next serial.
    TellResubmit {
        /// The phase to continue from; `None`: where the job is.
        from: Option<Phase>,
    },
    /// Make sure that there is a message for this purpose. A new one is made only if the last has failed for good.
    Want(Purpose),
    /// Append a release to the log.
    CloseLease,
}

macro_rules! define {
    ($($(#[$cfg:meta])* $folder:ident: $name:ident $kinds:tt;)*) => {
        /// The manager's state of a job of any workflow.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each is described in its folder")]
        pub enum State {
            $($(#[$cfg])* $name($folder::manager::State),)*
        }

        /// An answer of the chain, a store or the proofs library.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each is described in its folder")]
        pub enum Answer {
            $($(#[$cfg])* $name($folder::manager::Answer),)*
        }

        /// A step of a job in a slot.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(untagged)]
        #[allow(missing_docs, reason = "each is described in its folder")]
        pub enum Step {
            /// The last step of every job.
            Last(LastStep),
            $($(#[$cfg])* $name($folder::worker::Step),)*
        }

        /// The result of work on a step.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs, reason = "each is described in its folder")]
        pub enum Progress {
            $($(#[$cfg])* $name($folder::worker::Progress),)*
        }

        impl State {
            /// The state of a job that is offered for the first time.
            pub fn start(workflow: Workflow) -> State {
                match workflow {
                    $($(#[$cfg])* Workflow::$name => State::$name($folder::manager::$name::start()),)*
                }
            }

            /// The state's workflow.
            pub const fn workflow(&self) -> Workflow {
                match self {
                    $($(#[$cfg])* State::$name(_) => Workflow::$name,)*
                }
            }

            $(
                $(#[$cfg])*
                #[doc = concat!("The state, if it is one of workflow `", stringify!($folder), "`.")]
                pub const fn $folder(&self) -> Option<&$folder::manager::State> {
                    match self {
                        State::$name(state) => Some(state),
                        #[allow(unreachable_patterns, reason = "there may be one workflow alone")]
                        _ => None,
                    }
                }
            )*

            /// The names of all states of all workflows, each workflow's in the order of its life.
            pub fn names() -> Vec<&'static str> {
                let mut names: Vec<&'static str> = Vec::new();
                $($(#[$cfg])* for name in $folder::manager::$name::NAMES {
                    if !names.contains(name) {
                        names.push(name);
                    }
                })*
                names
            }

            /// The first phase to run if a job that no longer needs a worker is given to another one.
            pub fn needed_again(&self) -> Option<Phase> {
                match self {
                    $($(#[$cfg])* State::$name(state) => $folder::manager::$name::needed_again(state),)*
                }
            }

            /// The phase whose end the manager waits for, if it waits for the worker.
            pub fn awaited_phase(&self) -> Option<Phase> {
                match self {
                    $($(#[$cfg])* State::$name(state) => $folder::manager::$name::awaited_phase(state),)*
                }
            }

            /// Why the attempt is over, where it is.
            pub fn cause(&self) -> Option<&ErrorReport> {
                match self {
                    $($(#[$cfg])* State::$name(state) => $folder::manager::$name::cause(state),)*
                }
            }

            /// The cost of waiting.
            pub fn at_stake(&self) -> AtStake {
                match self {
                    $($(#[$cfg])* State::$name(state) => $folder::manager::$name::at_stake(state),)*
                }
            }

            /// What is known about the job, as the fields of a JSON object.
            pub fn describe(&self) -> serde_json::Map<String, serde_json::Value> {
                match self {
                    $($(#[$cfg])* State::$name(state) => $folder::manager::$name::describe(state),)*
                }
            }

            /// The state's general properties.
            pub fn traits(&self) -> StateTraits {
                match self {
                    $($(#[$cfg])* State::$name(state) => $folder::manager::$name::traits(state),)*
                }
            }
        }

        impl State {
            /// Everything that the owner was told so far; see
            /// [`Machine::told_so_far`](crate::machine::manager::Machine::told_so_far).
            pub fn told_so_far(&self) -> Option<Vec<Effect>> {
                match self {
                    $($(#[$cfg])* State::$name(state) => {
                        let told = $folder::manager::$name::told_so_far(state)?;
                        Some(told.into_iter().map(Effect::from).collect())
                    })*
                }
            }

            /// The state after the manager told the owner this; see
            /// [`Machine::recalled`](crate::machine::manager::Machine::recalled). `None` if it says nothing new.
            pub fn recalled(&self, fact: &FactBody, seed_delay: i64) -> Option<State> {
                match (self, fact) {
                    $($(#[$cfg])* (State::$name(state), FactBody::Common(CommonFact::Abandon { error })) => {
                        $folder::manager::$name::dropped(state, error.clone()).map(State::$name)
                    })*
                    $($(#[$cfg])* (State::$name(state), FactBody::$name(fact)) => {
                        $folder::manager::$name::recalled(state, fact, seed_delay).map(State::$name)
                    })*
                    _ => None,
                }
            }

            /// The state in which a job continues after a person's resubmit, and the effects to repeat there; see
            /// [`Machine::resubmitted`](crate::machine::manager::Machine::resubmitted).
            pub fn resubmitted(&self, from: Option<Phase>) -> Option<(State, Vec<Effect>)> {
                match self {
                    $($(#[$cfg])* State::$name(state) => {
                        let (next, effects) = $folder::manager::$name::resubmitted(state, from)?;
                        Some((State::$name(next), effects.into_iter().map(Effect::from).collect()))
                    })*
                }
            }
        }

        impl Standing<State> {
            /// The machine: what an input does to a job.
            pub fn apply(&self, input: Input, policy: AttemptPolicy) -> Transition<Standing<State>, Effect> {
                match &self.at {
                    $($(#[$cfg])* State::$name(at) => {
                        let standing = Standing { at: at.clone(), blocked: self.blocked.clone() };
                        let input = match input {
                            Input::Claimed => manager::Input::Claimed,
                            Input::Released(released) => manager::Input::Released(released),
                            Input::Event(EventBody::Common(event)) => manager::Input::Common(event),
                            Input::Event(EventBody::$name(event)) => manager::Input::Event(event),
                            Input::Event(EventBody::Newer(_)) => manager::Input::Newer,
                            Input::Answer(Answer::$name(answer)) => manager::Input::Answer(answer),
                            Input::Refused(cause) => manager::Input::Refused(cause),
                            Input::Resubmitted { from } => manager::Input::Resubmitted { from },
                            Input::Abandoned { cause, lose_deposit } => {
                                manager::Input::Abandoned { cause, lose_deposit }
                            }
                            #[allow(unreachable_patterns, reason = "there may be one workflow alone")]
                            _ => return Transition::Illegal("it is about another workflow"),
                        };
                        match manager::apply::<$folder::manager::$name>(&standing, input, policy) {
                            Transition::Advance { next: Standing { at, blocked }, effects } => Transition::Advance {
                                next: Standing { at: State::$name(at), blocked },
                                effects: effects.into_iter().map(Effect::from).collect(),
                            },
                            Transition::Ignore(why) => Transition::Ignore(why),
                            Transition::Illegal(why) => Transition::Illegal(why),
                        }
                    })*
                }
            }
        }

        impl Workflow {
            /// The phases of its jobs, in order.
            pub const fn phases(self) -> &'static [Phase] {
                match self {
                    $($(#[$cfg])* Workflow::$name => $folder::worker::$name::PHASES,)*
                }
            }

            /// Whether a machine whose configuration names no workflows serves this one.
            pub const fn is_served_by_default(self) -> bool {
                match self {
                    $($(#[$cfg])* Workflow::$name => $folder::worker::$name::BY_DEFAULT,)*
                }
            }
        }

        impl Step {
            /// The first step of a job.
            pub fn first(workflow: Workflow) -> Step {
                match workflow {
                    $($(#[$cfg])* Workflow::$name => Step::$name($folder::worker::$name::start()),)*
                }
            }

            $(
                $(#[$cfg])*
                #[doc = concat!("The step, if it is one of workflow `", stringify!($folder), "`.")]
                pub const fn $folder(&self) -> Option<&$folder::worker::Step> {
                    match self {
                        Step::$name(step) => Some(step),
                        _ => None,
                    }
                }
            )*

            /// The step's name, for people.
            pub fn name(&self) -> &'static str {
                match self {
                    Step::Last(LastStep::Cleaning { .. }) => "cleaning",
                    $($(#[$cfg])* Step::$name(step) => $folder::worker::$name::name(step),)*
                }
            }

            /// What the step waits for while it is under way.
            pub fn need(&self) -> Need {
                match self {
                    Step::Last(LastStep::Cleaning { .. }) => Need::Clean,
                    $($(#[$cfg])* Step::$name(step) => $folder::worker::$name::need(step),)*
                }
            }

            /// The kinds of facts that matter at this step, the most urgent first.
            pub fn facts(&self) -> &'static [FactKind] {
                match self {
                    Step::Last(LastStep::Cleaning { .. }) => &[],
                    $($(#[$cfg])* Step::$name(step) => $folder::worker::$name::facts(step),)*
                }
            }

            /// The next step after a result.
            pub fn progressed(self, progress: Progress) -> Transition<Next<Step>, EventBody> {
                match (self, progress) {
                    $($(#[$cfg])* (Step::$name(step), Progress::$name(progress)) => {
                        widen($folder::worker::$name::progressed(step, progress), Step::$name)
                    })*
                    _ => Transition::Illegal(UNASKED),
                }
            }

            /// The next step after a fact of the workflow's own.
            pub fn told(self, fact: FactBody) -> Transition<Next<Step>, EventBody> {
                match (self, fact) {
                    $($(#[$cfg])* (Step::$name(step), FactBody::$name(fact)) => {
                        widen($folder::worker::$name::told(step, fact), Step::$name)
                    })*
                    _ => Transition::Ignore("a fact of another workflow"),
                }
            }

            /// The step in which to continue after a person's resubmit; see
            /// [`Machine::back_to`](crate::machine::worker::Machine::back_to).
            #[must_use]
            pub fn back_to(self, phase: Phase) -> Step {
                match self {
                    last @ Step::Last(_) => last,
                    $($(#[$cfg])* Step::$name(step) => Step::$name($folder::worker::$name::back_to(step, phase)),)*
                }
            }

            /// What to report again if the last reports were lost with the log.
            pub fn told_again(&self) -> Retold<Step, EventBody> {
                match self {
                    Step::Last(_) => Retold::Nothing,
                    $($(#[$cfg])* Step::$name(step) => match $folder::worker::$name::told_again(step) {
                        Retold::Nothing => Retold::Nothing,
                        Retold::Event(event) => Retold::Event(event.into()),
                        Retold::From(step) => Retold::From(Step::$name(step)),
                    },)*
                }
            }
        }

        $(
            $(#[$cfg])*
            impl From<$folder::manager::State> for State {
                fn from(state: $folder::manager::State) -> State {
                    State::$name(state)
                }
            }

            $(#[$cfg])*
            impl From<$folder::manager::Answer> for Input {
                fn from(answer: $folder::manager::Answer) -> Input {
                    Input::Answer(Answer::$name(answer))
                }
            }

            $(#[$cfg])*
            impl From<$folder::worker::Step> for Step {
                fn from(step: $folder::worker::Step) -> Step {
                    Step::$name(step)
                }
            }

            $(#[$cfg])*
            impl From<$folder::worker::Progress> for crate::machine::worker::Input {
                fn from(progress: $folder::worker::Progress) -> Self {
                    crate::machine::worker::Input::Progress(Progress::$name(progress))
                }
            }

            $(#[$cfg])*
            impl From<manager::Effect<$folder::manager::$name>> for Effect {
                fn from(effect: manager::Effect<$folder::manager::$name>) -> Effect {
                    match effect {
                        manager::Effect::Offer { another_attempt } => Effect::Offer { another_attempt },
                        manager::Effect::Tell(fact) => Effect::Tell(fact.into()),
                        manager::Effect::TellAbandon(error) => {
                            Effect::Tell(crate::message::CommonFact::Abandon { error }.into())
                        }
                        manager::Effect::TellResubmit { from } => Effect::TellResubmit { from },
                        manager::Effect::Want(purpose) => Effect::Want(purpose),
                        manager::Effect::CloseLease => Effect::CloseLease,
                    }
                }
            }
        )*
    };
}
crate::for_each_workflow!(define);

impl From<CommonEvent> for Input {
    fn from(event: CommonEvent) -> Input {
        Input::Event(event.into())
    }
}

impl Step {
    /// The phase that runs in this step, if one does.
    pub fn phase(&self) -> Option<Phase> {
        match self.need() {
            Need::Run(phase) => Some(phase),
            _ => None,
        }
    }
}

impl State {
    /// Its name, as in the database and in tables for people.
    pub fn name(&self) -> &'static str {
        self.traits().name
    }

    /// Whether the state is final.
    pub fn is_terminal(&self) -> bool {
        self.traits().is_terminal()
    }
}

fn widen<S, E: Into<EventBody>>(
    narrow: Transition<Next<S>, E>,
    wrap: impl FnOnce(S) -> Step,
) -> Transition<Next<Step>, EventBody> {
    match narrow {
        Transition::Advance { next, effects } => Transition::Advance {
            next: match next {
                Next::To(step) => Next::To(wrap(step)),
                Next::Finished => Next::Finished,
            },
            effects: effects.into_iter().map(Into::into).collect(),
        },
        Transition::Ignore(why) => Transition::Ignore(why),
        Transition::Illegal(why) => Transition::Illegal(why),
    }
}
