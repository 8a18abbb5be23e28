//! The manager's side of any job.

use std::fmt;

use crate::{
    Transition,
    error::{ErrorClass, ErrorCode, ErrorReport},
    message::CommonEvent,
    parts::{PreCommitInfo, Ticket},
    phase::Phase,
    workflow::IntentKind,
};

/// The manager's half of a workflow: what is its own of a job's life.
///
/// Each method is pure and total. The generic part, [`apply`], decides when which is asked.
pub trait Machine: Sized + 'static {
    /// Where a job stands.
    type State: Clone + fmt::Debug + PartialEq;
    /// What its worker reports.
    type Event: Clone + fmt::Debug + PartialEq;
    /// What the chain, the stores and the proofs library answer.
    type Answer: Clone + fmt::Debug + PartialEq;
    /// What its worker is told.
    type Fact: Clone + fmt::Debug + PartialEq;

    /// The names of all states, in the order of a job's life.
    const NAMES: &'static [&'static str];

    /// The state of a job that is offered for the first time.
    fn start() -> Self::State;

    /// What everybody may ask about a state.
    fn traits(state: &Self::State) -> StateTraits;

    /// What a granted claim of an offered job leads to. `None` where the state is not one that is offered.
    fn claimed(state: &Self::State) -> Option<Self::State>;

    /// What the end of the lease leads to.
    fn released(state: &Self::State, released: Released, policy: AttemptPolicy) -> OnRelease<Self::State>;

    /// What the worker's progress leads to.
    fn reported(state: &Self::State, event: Self::Event) -> Step<Self>;

    /// What the worker's last report leads to: it has done everything and cleaned its slot. `None` where that cannot be.
    fn finished(state: &Self::State) -> Option<Self::State>;

    /// Where a job stands whose worker has dropped the attempt and has nothing of it any more. The lease is closed.
    fn aborted(state: &Self::State, cause: ErrorReport) -> Self::State;

    /// What an answer leads to.
    fn answered(state: &Self::State, answer: Self::Answer) -> Step<Self>;

    /// From where a job goes on after a person has looked, and what is done again or told again in that state. `None` where
    /// it has not come to the phase, or nobody works on it.
    fn resubmitted(state: &Self::State, from: Option<Phase>) -> Option<(Self::State, Vec<Effect<Self>>)>;

    /// What the owner was told so far, for one that goes on in its slot after the log is lost. `None` where nothing but the
    /// end of the lease was to come.
    fn told_so_far(state: &Self::State) -> Option<Vec<Effect<Self>>>;

    /// The phase whose end the manager waits for, if it waits for the worker.
    fn awaited_phase(state: &Self::State) -> Option<Phase>;

    /// The phase that another worker begins with if a job that needs no worker any more is given to one.
    fn needed_again(state: &Self::State) -> Option<Phase>;

    /// Why the attempt is over, where it is.
    fn cause(state: &Self::State) -> Option<&ErrorReport>;

    /// What waiting costs.
    fn at_stake(state: &Self::State) -> AtStake;

    /// What is known of the job, as the fields of a JSON object for people and scripts.
    fn describe(state: &Self::State) -> serde_json::Map<String, serde_json::Value>;

    /// The state in which a job waits for its worker to drop everything, because a person gave it up. Refused with the
    /// reason where that cannot be, or costs more than the person has agreed to.
    fn abandoned(state: &Self::State, order: Abandon) -> Result<Self::State, Refused>;
}

/// A transition of a job that is not blocked.
pub type Step<M> = Transition<Next<M>, Effect<M>>;

/// Where a step leads.
#[derive(Clone, Debug, PartialEq)]
pub enum Next<M: Machine> {
    /// On.
    To(M::State),
    /// To a person, who must look at the job as it stands in this state.
    Blocked(M::State, ErrorReport),
}

/// A job's state, and why a person must look at it, if one must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing<S> {
    /// Where it stands.
    pub at: S,
    /// Why a person must look.
    pub blocked: Option<ErrorReport>,
}

/// What everybody may ask about a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateTraits {
    /// The name, as in the database and in tables for people.
    pub name: &'static str,
    /// What the job waits for there when everything goes well, for people.
    pub waits_for: &'static str,
    /// What follows for the job.
    pub life: Life,
    /// Which intent is in the queue, if the job is offered.
    pub offered: Option<IntentKind>,
    /// Whether the job cannot go on without a worker.
    pub needs_owner: bool,
    /// Whether hours of work would be lost with the worker, so that it may be away for long.
    pub precious: bool,
}

/// What a job loses by waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtStake {
    /// Nothing: it waits in the queue, or has ended.
    Nothing,
    /// The slot is kept from other jobs, nothing more.
    Slot,
    /// The ticket gets too old for a PreCommit; then the work that is bound to it is lost.
    Ticket(Ticket),
    /// The PreCommit must be proven; otherwise its deposit is burnt and the number is lost.
    Deposit(PreCommitInfo),
}

/// How far a job's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It goes on.
    Going,
    /// The attempt is over: what its worker still reports of it counts for nothing.
    Leaving,
    /// Nothing can happen to it any more: it has done what it was for.
    Done,
    /// Nothing can happen to it any more: it was given up.
    GivenUp,
}

/// What the end of a lease leads to.
#[derive(Clone, Debug, PartialEq)]
pub enum OnRelease<S> {
    /// Nothing: the job has ended.
    Ended,
    /// Nothing: no worker is needed any more. A blocked job stays blocked.
    Kept,
    /// Another state.
    To(S),
    /// A state in which the job is offered again.
    Offer(S),
    /// A state in which it is offered again, as another attempt.
    Restart(S),
}

/// What happened to a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Input<M: Machine> {
    /// A lease record gave it to a worker.
    Claimed,
    /// A lease record took it from whoever had it.
    Released(Released),
    /// The owner reported what is common to all jobs.
    Common(CommonEvent),
    /// The owner reported progress.
    Event(M::Event),
    /// The owner reported what a newer version understands.
    Newer,
    /// The chain, a store or the proofs library answered.
    Answer(M::Answer),
    /// Something on the manager's side needs a person: the chain refused, files don't prove, a proof is invalid.
    Refused(ErrorReport),
    /// A person has looked at a blocked job: it goes on, from a phase or from where it stands.
    Resubmitted {
        /// The phase; never one that is still ahead.
        from: Option<Phase>,
    },
    /// A person gives the job up.
    Abandoned {
        /// Who and why.
        cause: ErrorReport,
        /// Also when that costs a deposit on chain.
        lose_deposit: bool,
    },
}

/// A person's order to give a job up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abandon {
    /// Who and why.
    pub cause: ErrorReport,
    /// Also when that costs a deposit on chain.
    pub lose_deposit: bool,
    /// Whether the job is blocked.
    pub blocked: bool,
}

/// Why an order is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is carried out already.
    Already(&'static str),
    /// It cannot be, or not with this consent.
    Never(&'static str),
}

/// What the machine must know of a job whose lease ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// The attempt that ends with it, from 1.
    pub attempt: u32,
    /// How often the job was offered since a person last looked at it.
    pub issues: u32,
    /// Whether a message of the attempt is signed, so that it may be anywhere.
    pub signed: bool,
}

/// What the machine must know about policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptPolicy {
    /// How many attempts a job gets before it is given up.
    pub max_attempts: u32,
    /// How often a job is offered, for whatever reason, before a person must look.
    pub max_issues: u32,
}

/// What a message to the chain is for. One call for one purpose and attempt, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Commits to a replica.
    PreCommit,
    /// Proves it.
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
    /// Tell the owner to go on.
    TellResubmit {
        /// From which phase.
        from: Option<Phase>,
    },
    /// Have a message for this purpose; another one only where the last has failed for good.
    Want(Purpose),
    /// Append a lease record that names nobody.
    CloseLease,
}

type Answer<M> = Transition<Standing<<M as Machine>::State>, Effect<M>>;

impl<S> Standing<S> {
    /// A job that goes on.
    pub const fn at(at: S) -> Standing<S> {
        Standing { at, blocked: None }
    }
}

impl StateTraits {
    /// Whether nothing can happen to the job any more.
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

/// A step to a person, who must look at the job as it stands in this state.
pub const fn blocked<M: Machine>(at: M::State, cause: ErrorReport) -> Step<M> {
    Transition::Advance { next: Next::Blocked(at, cause), effects: Vec::new() }
}

/// What an input does to a job: one row a kind of input, the workflow's own answers in it.
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

/// What the owner reports of its progress.
fn on_event<M: Machine>(standing: &Standing<M::State>, reported: impl FnOnce(&M::State) -> Step<M>) -> Answer<M> {
    let Standing { at, blocked } = standing;
    // Its worker has not read yet that it is to stop.
    if matches!(M::traits(at).life, Life::Leaving | Life::GivenUp) {
        return match blocked {
            Some(_) => Transition::to(Standing::at(at.clone())),
            None => Transition::Ignore("the attempt is over"),
        };
    }
    match reported(at).map(Next::standing) {
        // A report of progress means that the worker goes on: what blocked it is resolved.
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
            // A poisonous job must not eat the fleet.
            let message = format!("offered {} times without coming to an end", released.issues);
            block(&next, ErrorReport::new(ErrorClass::Perm, ErrorCode::REISSUED_TOO_OFTEN, message))
        }
        OnRelease::Offer(next) => Transition::with(Standing::at(next), [Effect::Offer { another_attempt: false }]),
        OnRelease::Restart(next) => Transition::with(Standing::at(next), [Effect::Offer { another_attempt: true }]),
    }
}

/// Goes on. The worker is told as well, wherever the cause lay: it ignores what does not concern it.
fn on_resubmit<M: Machine>(standing: &Standing<M::State>, from: Option<Phase>) -> Answer<M> {
    if standing.blocked.is_none() {
        return Transition::Illegal("it is not blocked, so there is nothing to resubmit");
    }
    let Some((next, again)) = M::resubmitted(&standing.at, from) else {
        return Transition::Illegal("it has not come to that phase, or nobody works on it");
    };
    let mut effects = match M::traits(&next).offered {
        // Nobody has it: it is offered, or offered again.
        Some(_) => Vec::new(),
        None => vec![Effect::TellResubmit { from }],
    };
    effects.extend(again);
    Transition::with(Standing::at(next), effects)
}

fn block<M: Machine>(at: &M::State, cause: ErrorReport) -> Answer<M> {
    Transition::to(Standing { at: at.clone(), blocked: Some(cause) })
}
