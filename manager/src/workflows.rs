//! What each workflow needs from outside its workers: from the chain, the permanent stores and the proofs library. Each
//! workflow has a folder.
//!
//! All of it is pure. A workflow gets a job and what is [`Known`], and returns what happens [`Next`]. If it must know
//! more, it returns a [`Question`] instead. The caller finds the answer and calls again: the driver asks the node, and
//! the simulation its own chain. So questions read like calls:
//!
//! ```text
//! if known.yes(Question::NumberAllocated { at: At::Head })? {
//!     return Ok(Next::GiveUp(taken));
//! }
//! ```

mod question;
pub mod seal;
#[cfg(feature = "toy-workflow")]
pub mod toy;

use sealbus_schema::{
    Commitment, ErrorReport,
    machine::manager::Machine,
    workflows::{Answer as Answered, Input, State},
};
use serde_json::{Value, json};

pub use question::{Answer, At, Found, Known, Now, Question};

use crate::{
    chain::WaitReason,
    proofs::Porep,
    store::{Job, Message, MessageKind},
};

/// What a workflow adds to its table ([`Machine`]): what its jobs wait for outside their workers. Only called for jobs
/// that are not blocked.
pub trait Driven: Machine {
    /// What a job in this state waits for outside its worker. `None` if [`Self::next`] has nothing to ask.
    fn needs(state: &Self::State) -> Option<Need<'_>>;

    /// What happens to a job now.
    fn next(job: &Job, state: &Self::State, now: &Now, known: &Known) -> Result<Next, Question>;

    /// An answer's name and details, as the history shows them.
    fn told(answer: &Self::Answer) -> (&'static str, Value);
}

/// A workflow's messages to the chain. A workflow that sends none keeps the default methods.
pub trait Sends: Machine {
    /// What to do about a message that is not signed yet. Only called for jobs that are not blocked.
    fn wanted(
        _message: &Message,
        _job: &Job,
        _state: &Self::State,
        _now: &Now,
        _known: &Known,
    ) -> Result<Wanted, Question> {
        Ok(Wanted::Wait)
    }

    /// Whether a signed message of this kind would still be of use.
    fn has_use_for(_kind: MessageKind, _state: &Self::State) -> bool {
        true
    }

    /// Whether a job in this state waits for the effect of a message of this kind.
    fn awaits(_kind: MessageKind, _state: &Self::State) -> bool {
        false
    }
}

/// What a job waits for outside its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need<'a> {
    /// An answer from the chain or the proofs library.
    Answer,
    /// The same, and also that its miner is ready for hours of work.
    Begin,
    /// A check of its files in a permanent store.
    Files {
        /// The store's name.
        store: &'a str,
    },
}

/// What happens to a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Nothing until the head reaches this epoch, unless the job changes before. `None`: nothing until the job changes.
    Wait {
        /// The epoch.
        until: Option<i64>,
    },
    /// The job gets an input.
    Apply(Input),
    /// The effect of a message is on chain at the confident tipset.
    Landed {
        /// What the message was for.
        kind: MessageKind,
        /// The epoch of the effect.
        epoch: i64,
        /// What it means for the job.
        input: Input,
    },
    /// The effect of a message was on chain, and a reorganisation has taken it away. The message is followed again.
    Reverted {
        /// What the message was for.
        kind: MessageKind,
        /// What it means for the job.
        input: Input,
    },
    /// A PreCommit had landed and is no longer on chain. It is pushed again, or signed anew if its nonce is used.
    PushPreCommitAgain,
    /// The number cannot be used, and no work is lost yet. A pledged sector gets another number.
    GiveUp(ErrorReport),
}

/// What to do about a message that is not signed yet.
#[derive(Debug, PartialEq)]
pub enum Wanted {
    /// Build and sign it.
    Sign(Call),
    /// Do nothing now: the job is blocked, or does not need the message at this point.
    Wait,
    /// Do nothing now, for a reason that is shown to people.
    WaitFor(WaitReason),
    /// The message is not needed.
    Over(&'static str),
    /// The message can no longer succeed.
    GiveUp {
        /// Why it can no longer succeed.
        error: ErrorReport,
        /// What that means for the job.
        input: Input,
    },
    /// The job must get this input first.
    Apply(Input),
}

/// What a message asks of the miner actor about one sector. The method, parameters and value follow from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Accept a replica of committed capacity.
    PreCommit {
        /// The replica.
        comm_r: Commitment,
        /// The epoch of its ticket.
        ticket_epoch: i64,
    },
    /// Accept the sector's proof and activate the sector.
    ProveCommit {
        /// The proof, and what it states.
        porep: Box<Porep>,
    },
}

impl Now {
    /// Wait until the head reaches this epoch, but at least one more epoch.
    pub fn wait_until(&self, epoch: i64) -> Next {
        Next::Wait { until: Some(epoch.max(self.head + 1)) }
    }

    /// Wait for the next epoch.
    pub fn wait(&self) -> Next {
        self.wait_until(0)
    }
}

macro_rules! define {
    ($($(#[$cfg:meta])* $folder:ident: $name:ident $kinds:tt;)*) => {
        $($(#[$cfg])* use sealbus_schema::workflows::$folder::manager::$name;)*

        /// What a job waits for outside its worker. `None` if it waits for its worker or for a person.
        pub fn needs(job: &Job) -> Option<Need<'_>> {
            if job.blocked.is_some() {
                return None;
            }
            match &job.state {
                $($(#[$cfg])* State::$name(state) => $name::needs(state),)*
            }
        }

        /// What happens to a job now, or the question that must be answered first.
        pub fn next(job: &Job, now: &Now, known: &Known) -> Result<Next, Question> {
            if job.blocked.is_some() {
                return Ok(Next::Wait { until: None });
            }
            match &job.state {
                $($(#[$cfg])* State::$name(state) => $name::next(job, state, now, known),)*
            }
        }

        /// An answer's name and details, as the history shows them.
        pub fn told(answer: &Answered) -> (&'static str, Value) {
            match answer {
                $($(#[$cfg])* Answered::$name(answer) => $name::told(answer),)*
            }
        }

        /// What to do about a message of this attempt that is not signed yet.
        pub fn wanted(message: &Message, job: &Job, now: &Now, known: &Known) -> Result<Wanted, Question> {
            if job.blocked.is_some() {
                return Ok(Wanted::Wait);
            }
            match &job.state {
                $($(#[$cfg])* State::$name(state) => $name::wanted(message, job, state, now, known),)*
            }
        }

        /// Whether a signed message of this kind would still be of use to a job.
        pub fn has_use_for(kind: MessageKind, job: &Job) -> bool {
            match &job.state {
                $($(#[$cfg])* State::$name(state) => $name::has_use_for(kind, state),)*
            }
        }

        /// Whether a job waits for the effect of a message of this kind.
        pub fn awaits(kind: MessageKind, job: &Job) -> bool {
            job.blocked.is_none() && match &job.state {
                $($(#[$cfg])* State::$name(state) => $name::awaits(kind, state),)*
            }
        }
    };
}
sealbus_schema::for_each_workflow!(define);

/// The details of an error that the history keeps.
pub(crate) fn error_detail(error: &ErrorReport) -> Value {
    json!({ "class": error.class, "code": error.code, "causes": error.causes })
}
