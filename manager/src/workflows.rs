//! What each workflow wants from outside its workers: from the chain, the permanent stores and the proofs library. A folder
//! each.
//!
//! All of it is pure. A workflow looks at a job and at what is [`Known`], and says what is [`Next`]. Where it must know more,
//! it returns the [`Question`] instead. Whoever asks finds the answer and asks again: the driver answers from the node, the
//! simulation from a chain of its own. So questions read like calls:
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
    Commitment, ErrorReport, ProofBytes,
    machine::manager::Machine,
    workflows::{Answer as Answered, Input, State},
};
use serde_json::{Value, json};

pub use question::{Answer, At, Found, Known, Now, Question};

use crate::{
    chain::WaitReason,
    store::{Job, Message, MessageKind},
};

/// What a workflow waits for outside its workers, besides its table ([`Machine`]). Only asked about jobs that are not blocked.
pub trait Driven: Machine {
    /// What a job in this state waits for outside its worker. `None` where [`Self::next`] has nothing to ask.
    fn needs(state: &Self::State) -> Option<Need<'_>>;

    /// What happens to a job now.
    fn next(job: &Job, state: &Self::State, now: &Now, known: &Known) -> Result<Next, Question>;

    /// How the history names an answer, and its particulars.
    fn told(answer: &Self::Answer) -> (&'static str, Value);
}

/// What a workflow's messages to the chain are. Its methods need not be written by one that sends none.
pub trait Sends: Machine {
    /// What to do about a message that is not signed yet. Only asked about jobs that are not blocked.
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
    /// An answer of the chain or the proofs library.
    Answer,
    /// The same, and that its miner is ready for hours of work.
    Begin,
    /// That its files in a permanent store are read.
    Files {
        /// The store's name.
        store: &'a str,
    },
}

/// What happens to a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Nothing, as long as the job stays as it is, until the head comes to this epoch. `None`: nothing at all.
    Wait {
        /// The epoch.
        until: Option<i64>,
    },
    /// An answer is found.
    Apply(Input),
    /// The effect of a message is on chain, with confidence.
    Landed {
        /// What the message was for.
        kind: MessageKind,
        /// The epoch of the effect.
        epoch: i64,
        /// What it means for the job.
        input: Input,
    },
    /// A PreCommit had landed and is not on chain any more: it is pushed again, or signed anew if its nonce is used.
    PushPreCommitAgain,
    /// The number cannot be used, and nothing is lost yet. A sector that was pledged gets another number.
    GiveUp(ErrorReport),
}

/// What to do about a message that is not signed yet.
#[derive(Debug, PartialEq)]
pub enum Wanted {
    /// Build and sign it.
    Sign(Call),
    /// Nothing now: the job is blocked, or goes another way.
    Wait,
    /// Nothing now, for a reason that people should know.
    WaitFor(WaitReason),
    /// It is not needed.
    Over(&'static str),
    /// It cannot succeed any more.
    GiveUp {
        /// Why.
        error: ErrorReport,
        /// What that means for the job.
        input: Input,
    },
    /// The job hears of something first.
    Apply(Input),
}

/// What a message asks of the miner actor about one sector. Its method, parameters and value follow from that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// To take a replica of committed capacity.
    PreCommit {
        /// The replica.
        comm_r: Commitment,
        /// The epoch of its ticket.
        ticket_epoch: i64,
    },
    /// To take its proof, and to activate it.
    ProveCommit {
        /// The proof.
        proof: ProofBytes,
    },
}

impl Now {
    /// Nothing happens to a job before the head comes to this epoch, and to the next one at least.
    pub fn wait_until(&self, epoch: i64) -> Next {
        Next::Wait { until: Some(epoch.max(self.head + 1)) }
    }

    /// Nothing happens to a job before the next epoch.
    pub fn wait(&self) -> Next {
        self.wait_until(0)
    }
}

macro_rules! define {
    ($($(#[$cfg:meta])* $folder:ident: $name:ident $kinds:tt;)*) => {
        $($(#[$cfg])* use sealbus_schema::workflows::$folder::manager::$name;)*

        /// What a job waits for outside its worker. `None` where it waits for its worker, or for a person.
        pub fn needs(job: &Job) -> Option<Need<'_>> {
            if job.blocked.is_some() {
                return None;
            }
            match &job.state {
                $($(#[$cfg])* State::$name(state) => $name::needs(state),)*
            }
        }

        /// What happens to a job now, or what must be known first.
        pub fn next(job: &Job, now: &Now, known: &Known) -> Result<Next, Question> {
            if job.blocked.is_some() {
                return Ok(Next::Wait { until: None });
            }
            match &job.state {
                $($(#[$cfg])* State::$name(state) => $name::next(job, state, now, known),)*
            }
        }

        /// How the history names an answer, and its particulars.
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

/// What the history keeps of an error.
pub(crate) fn error_detail(error: &ErrorReport) -> Value {
    json!({ "class": error.class, "code": error.code, "causes": error.causes })
}
