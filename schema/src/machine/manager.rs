//! The manager's state machine for jobs of any workflow.

use std::fmt;

use crate::{
    Transition,
    error::{ErrorClass, ErrorCode, ErrorReport},
    message::CommonEvent,
    parts::{PreCommitInfo, Ticket},
    phase::Phase,
    workflow::IntentKind,
};

/// The manager's half of a workflow.
///
/// Each method is pure and total. The generic part, [`apply`], decides when each is called.
pub trait Machine: Sized + 'static {
    /// A job's state.
    type State: Clone + fmt::Debug + PartialEq;
    /// A worker's report of progress.
    type Event: Clone + fmt::Debug + PartialEq;
    /// An answer from the chain, the stores or the proofs library.
    type Answer: Clone + fmt::Debug + PartialEq;
    /// What the manager tells the worker.
    type Fact: Clone + fmt::Debug + PartialEq;

    /// The names of all states, in the order of a job's life.
    const NAMES: &'static [&'static str];

    /// The state of a job that is offered for the first time.
    fn start() -> Self::State;

    /// A state's general properties.
    fn traits(state: &Self::State) -> StateTraits;

    /// The next state after a granted claim. `None` if jobs in this state are not offered.
    fn claimed(state: &Self::State) -> Option<Self::State>;

    /// The consequence of the lease's end.
    fn released(state: &Self::State, released: Released, policy: AttemptPolicy) -> OnRelease<Self::State>;

    /// The next state after a report of progress.
    fn reported(state: &Self::State, event: Self::Event) -> Step<Self>;

    /// The next state after the worker's last report: it has finished and cleaned its slot. `None` if the state does
    /// not allow that.
    fn finished(state: &Self::State) -> Option<Self::State>;

    /// The next state after the worker has dropped the attempt and cleaned its slot. The lease is then closed.
    fn aborted(state: &Self::State, cause: ErrorReport) -> Self::State;

    /// The next state after an answer.
    fn answered(state: &Self::State, answer: Self::Answer) -> Step<Self>;

    /// The state in which a job continues after a person's resubmit, and the effects to repeat there. `None` if the job
    /// has not reached the phase, or nobody works on it.
    fn resubmitted(state: &Self::State, from: Option<Phase>) -> Option<(Self::State, Vec<Effect<Self>>)>;

    /// Everything that the owner was told so far, to repeat it when a job continues in its slot after the log was lost.
    /// `None` if only the end of the lease was still to come.
    fn told_so_far(state: &Self::State) -> Option<Vec<Effect<Self>>>;

    /// The state after the manager told the owner this, found in the log by a manager whose database does not know it.
    /// `None` if it says nothing new about this state. `seed_delay` is the number of epochs from a PreCommit to its seed.
    fn recalled(state: &Self::State, fact: &Self::Fact, seed_delay: i64) -> Option<Self::State>;

    /// The same for an order to drop the attempt.
    fn dropped(state: &Self::State, cause: ErrorReport) -> Option<Self::State>;

    /// The phase whose end the manager waits for, if it waits for the worker.
    fn awaited_phase(state: &Self::State) -> Option<Phase>;

    /// The first phase to run if a job that no longer needs a worker is given to another one.
    fn needed_again(state: &Self::State) -> Option<Phase>;

    /// Why the attempt is over, if it is.
    fn cause(state: &Self::State) -> Option<&ErrorReport>;

    /// The cost of waiting.
    fn at_stake(state: &Self::State) -> AtStake;

    /// What is known about the job, as the fields of a JSON object for people and scripts.
    fn describe(state: &Self::State) -> serde_json::Map<String, serde_json::Value>;

    /// The state in which a job waits for its worker to drop everything, because a person gave it up. Refused, with the
    /// reason, if that is impossible or costs more than the person has agreed to.
    fn abandoned(state: &Self::State, order: Abandon) -> Result<Self::State, Refused>;
}

/// A transition of a job that is not blocked.
pub type Step<M> = Transition<Next<M>, Effect<M>>;

/// The outcome of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Next<M: Machine> {
    /// The job continues in this state.
    To(M::State),
    /// The job is blocked in this state until a person decides.
    Blocked(M::State, ErrorReport),
}

/// A job's state, and why it is blocked, if it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing<S> {
    /// The state.
    pub at: S,
    /// Why the job is blocked until a person decides.
    pub blocked: Option<ErrorReport>,
}

/// General properties of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateTraits {
    /// The name, as in the database and in tables for people.
    pub name: &'static str,
    /// What the job waits for if everything goes well, for people.
    pub waits_for: &'static str,
    /// How far the job's life has come.
    pub life: Life,
    /// The kind of intent in the queue, if the job is offered.
    pub offered: Option<IntentKind>,
    /// Whether the job cannot continue without a worker.
    pub needs_owner: bool,
    /// Whether hours of work would be lost with the worker. If so, it may be away for longer.
    pub precious: bool,
}

/// What a job loses by waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtStake {
    /// Nothing: it is in the queue, or has ended.
    Nothing,
    /// Only the slot is unavailable to other jobs.
    Slot,
    /// The ticket expires; then the work that is bound to it is lost.
    Ticket(Ticket),
    /// The PreCommit expires unless it is proven; then its deposit is burnt and the number is lost.
    Deposit(PreCommitInfo),
}

/// How far a job's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It is under way.
    Going,
    /// The attempt is over: further reports of its worker have no effect.
    Leaving,
    /// Final: it was successful.
    Done,
    /// Final: it was given up.
    GivenUp,
}

/// The consequence of a lease's end.
#[derive(Clone, Debug, PartialEq)]
pub enum OnRelease<S> {
    /// Nothing: the job has ended.
    Ended,
    /// Nothing: the job no longer needs a worker. A blocked job stays blocked.
    Kept,
    /// Another state.
    To(S),
    /// A state in which the job is offered again, within the same attempt.
    Offer(S),
    /// A state in which the job is offered again, as a new attempt.
    Restart(S),
}

/// What happened to a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Input<M: Machine> {
    /// A lease record gave it to a worker.
    Claimed,
    /// A lease record took it from its owner.
    Released(Released),
    /// The owner reported an event that all jobs have.
    Common(CommonEvent),
    /// The owner reported progress.
    Event(M::Event),
    /// The owner reported an event of a newer version.
    Newer,
    /// The chain, a store or the proofs library answered.
    Answer(M::Answer),
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

/// A person's order to give a job up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abandon {
    /// Who and why.
    pub cause: ErrorReport,
    /// Whether the person accepts the loss of a deposit on chain.
    pub lose_deposit: bool,
    /// Whether the job is blocked.
    pub blocked: bool,
}

/// Why an order is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It was already carried out.
    Already(&'static str),
    /// It cannot be carried out, or not without further consent.
    Never(&'static str),
}

/// What the machine must know about a job whose lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// The attempt that ends with it, from 1.
    pub attempt: u32,
    /// How often the job was offered since a person last resubmitted it.
    pub issues: u32,
    /// Whether a message of the attempt is signed, so that it may land at any time.
    pub signed: bool,
}

/// Limits for attempts and offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptPolicy {
    /// How many attempts a job gets before it is given up.
    pub max_attempts: u32,
    /// How often a job is offered, for whatever reason, before it is blocked.
    pub max_issues: u32,
}

/// What a message to the chain is for. There is one want for each purpose of a job's attempt, and one call that takes
/// effect for a want, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Commit to a replica.
    PreCommit,
    /// Prove it.
    ProveCommit,
}

/// What must happen after the state is stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect<M: Machine> {
    /// Put the state's intent into the queue.
    Offer {
        /// Whether another attempt begins with it.
        another_attempt: bool,
    },
    /// Tell the owner.
    Tell(M::Fact),
    /// Tell the owner to drop the attempt.
    TellAbandon(ErrorReport),
    /// Tell the owner to continue.
    TellResubmit {
        /// The phase to continue from; `None`: where the job is.
        from: Option<Phase>,
    },
    /// Make sure that there is a message for this purpose. A new one is made only if the last has failed for good.
    Want(Purpose),
    /// Append a release to the log.
    CloseLease,
}

type Answer<M> = Transition<Standing<<M as Machine>::State>, Effect<M>>;

impl<S> Standing<S> {
    /// A job that is not blocked.
    pub const fn at(at: S) -> Standing<S> {
        Standing { at, blocked: None }
    }
}

impl StateTraits {
    /// Whether the state is final.
    pub const fn is_terminal(&self) -> bool {
        matches!(self.life, Life::Done | Life::GivenUp)
    }
}

impl<M: Machine> Next<M> {
    fn standing(self) -> Standing<M::State> {
        match self {
            Next::To(at) => Standing::at(at),
            Next::Blocked(at, cause) => Standing { at, blocked: Some(cause) },
        }
    }
}

/// A step to a state.
pub const fn to<M: Machine>(next: M::State) -> Step<M> {
    Transition::Advance { next: Next::To(next), effects: Vec::new() }
}

/// A step to a state, with effects.
pub fn with<M: Machine>(next: M::State, effects: impl Into<Vec<Effect<M>>>) -> Step<M> {
    Transition::with(Next::To(next), effects)
}

/// A step that blocks the job in this state.
pub const fn blocked<M: Machine>(at: M::State, cause: ErrorReport) -> Step<M> {
    Transition::Advance { next: Next::Blocked(at, cause), effects: Vec::new() }
}

/// The table of the machine, with one row per kind of input. It asks the workflow where the generic part cannot answer.
pub fn apply<M: Machine>(standing: &Standing<M::State>, input: Input<M>, policy: AttemptPolicy) -> Answer<M> {
    let Standing { at, blocked } = standing;
    let is_blocked = blocked.is_some();
    match input {
        Input::Claimed => match M::claimed(at).filter(|_| !is_blocked) {
            Some(next) => Transition::to(Standing::at(next)),
            None => Transition::Illegal("a claim of a job that was not offered"),
        },
        Input::Released(released) => on_release(standing, released, policy),
        Input::Resubmitted { from } => on_resubmit(standing, from),
        Input::Abandoned { cause, lose_deposit } => {
            let order = Abandon { cause: cause.clone(), lose_deposit, blocked: is_blocked };
            match M::abandoned(at, order) {
                Ok(next) => Transition::with(Standing::at(next), [Effect::TellAbandon(cause)]),
                Err(Refused::Already(why)) => Transition::Ignore(why),
                Err(Refused::Never(why)) => Transition::Illegal(why),
            }
        }
        Input::Common(event) => on_common(standing, event),
        Input::Event(event) => on_event::<M>(standing, |at| M::reported(at, event)),
        Input::Newer => on_event::<M>(standing, |_| Transition::Ignore("an event of a newer version")),
        Input::Refused(cause) if !M::traits(at).is_terminal() => block(at, cause),
        _ if is_blocked => Transition::Ignore("a person looks at the job"),
        Input::Answer(answer) => M::answered(at, answer).map(Next::standing),
        Input::Refused(_) => Transition::Ignore("an answer that came too late"),
    }
}

fn on_common<M: Machine>(standing: &Standing<M::State>, event: CommonEvent) -> Answer<M> {
    let at = &standing.at;
    let is_terminal = M::traits(at).is_terminal();
    match event {
        CommonEvent::Failed { error } if matches!(error.class, ErrorClass::Temp | ErrorClass::Abort) => {
            Transition::Ignore("the worker deals with it")
        }
        CommonEvent::Failed { error } if !is_terminal => block(at, error),
        CommonEvent::Aborted { error } if !is_terminal => {
            Transition::with(Standing::at(M::aborted(at, error)), [Effect::CloseLease])
        }
        CommonEvent::Finished {} => on_event::<M>(standing, |at| match M::finished(at) {
            Some(next) => with::<M>(next, [Effect::CloseLease]),
            None => Transition::Illegal("a report that the job's state does not allow"),
        }),
        CommonEvent::PhaseStarted { .. } => {
            on_event::<M>(standing, |_| Transition::Ignore("information for the history"))
        }
        CommonEvent::Failed { .. } | CommonEvent::Aborted { .. } => match M::traits(at).life {
            Life::Going | Life::Done => Transition::Illegal("a report that the job's state does not allow"),
            Life::Leaving | Life::GivenUp => Transition::Ignore("the attempt is over"),
        },
    }
}

/// A report of the owner's progress.
fn on_event<M: Machine>(standing: &Standing<M::State>, reported: impl FnOnce(&M::State) -> Step<M>) -> Answer<M> {
    let Standing { at, blocked } = standing;
    // The worker has not yet read that it must stop.
    if matches!(M::traits(at).life, Life::Leaving | Life::GivenUp) {
        return match blocked {
            Some(_) => Transition::to(Standing::at(at.clone())),
            None => Transition::Ignore("the attempt is over"),
        };
    }
    match reported(at).map(Next::standing) {
        // Progress means that the worker has continued, so whatever blocked it is resolved.
        Transition::Ignore(_) if blocked.is_some() => Transition::to(Standing::at(at.clone())),
        answer => answer,
    }
}

fn on_release<M: Machine>(standing: &Standing<M::State>, released: Released, policy: AttemptPolicy) -> Answer<M> {
    match M::released(&standing.at, released, policy) {
        OnRelease::Ended => Transition::Ignore("the end of the lease of an ended job"),
        OnRelease::Kept => Transition::to(standing.clone()),
        OnRelease::To(next) => Transition::to(Standing::at(next)),
        OnRelease::Offer(next) | OnRelease::Restart(next) if released.issues >= policy.max_issues => {
            // A job whose every attempt fails must not occupy the whole fleet.
            let message = format!("offered {} times without coming to an end", released.issues);
            block(&next, ErrorReport::new(ErrorClass::Perm, ErrorCode::REISSUED_TOO_OFTEN, message))
        }
        OnRelease::Offer(next) => Transition::with(Standing::at(next), [Effect::Offer { another_attempt: false }]),
        OnRelease::Restart(next) => Transition::with(Standing::at(next), [Effect::Offer { another_attempt: true }]),
    }
}

/// A person's resubmit. The worker is told too, even if the cause was on the manager's side: it ignores orders that do
/// not concern it.
fn on_resubmit<M: Machine>(standing: &Standing<M::State>, from: Option<Phase>) -> Answer<M> {
    if standing.blocked.is_none() {
        return Transition::Illegal("it is not blocked, so there is nothing to resubmit");
    }
    let Some((next, again)) = M::resubmitted(&standing.at, from) else {
        return Transition::Illegal("it has not come to that phase, or nobody works on it");
    };
    let mut effects = match M::traits(&next).offered {
        // It has no owner to tell: it is in the queue.
        Some(_) => Vec::new(),
        None => vec![Effect::TellResubmit { from }],
    };
    effects.extend(again);
    Transition::with(Standing::at(next), effects)
}

fn block<M: Machine>(at: &M::State, cause: ErrorReport) -> Answer<M> {
    Transition::to(Standing { at: at.clone(), blocked: Some(cause) })
}
