//! The questions that workflows ask, and the answers that are known so far. No workflow is named here.

use sealbus_schema::{Commitment, ErrorReport, parts::StoredSector};

use crate::{
    chain::{expiry::Rules, randomness::Domain},
    proofs::Porep,
};

/// A question about one job's sector.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// Whether the sector's number is used on chain. [`Answer::Yes`].
    NumberAllocated {
        /// As of when.
        at: At,
    },
    /// Whether the miner is ready for hours of work, and the permanent stores contain nothing that is in the way.
    /// [`Answer::Yes`], or no answer for now: the cause is reported, and the job is tried again.
    MayBegin,
    /// Randomness from the chain's tickets. [`Answer::Randomness`].
    TicketRandomness {
        /// What it is drawn for.
        domain: Domain,
        /// From which epoch.
        epoch: i64,
    },
    /// Randomness from the beacon. [`Answer::Randomness`].
    BeaconRandomness {
        /// What it is drawn for.
        domain: Domain,
        /// From which epoch.
        epoch: i64,
    },
    /// The PreCommit that the chain has for the sector's number. [`Answer::Found`].
    PreCommit {
        /// As of when.
        at: At,
        /// The replica that we know.
        comm_r: Commitment,
    },
    /// The active sector at the confident tipset. [`Answer::Found`].
    ActiveSector {
        /// The replica that we know.
        comm_r: Commitment,
    },
    /// Whether the sector's files may be read. [`Answer::Yes`], or no answer for now: they are already being read, or too
    /// many other sectors of this store are.
    MayRead {
        /// The store's name.
        store: String,
    },
    /// Whether the files prove a challenge of their replica. [`Answer::Verdict`]. Reading may take minutes, so the driver
    /// applies the answer when it comes, outside a tick. A workflow must not ask anything after this question.
    FilesProve {
        /// The replica.
        comm_r: Commitment,
        /// Its files.
        files: StoredSector,
    },
    /// Whether a proof verifies. [`Answer::Verdict`].
    Verifies(Box<Porep>),
}

/// The tipset that a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The heaviest one.
    Head,
    /// The last one that has enough epochs on top: [`Now::confidence`].
    Confident,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Yes or no.
    Yes(bool),
    /// 32 random bytes.
    Randomness([u8; 32]),
    /// What the chain has; `None` if it has nothing.
    Found(Option<Found>),
    /// Whether a check passed, and why not if it failed.
    Verdict(Result<(), ErrorReport>),
}

/// What the chain has for a sector's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whether it has the CommR that we know.
    pub is_ours: bool,
    /// The epoch of its PreCommit or of its activation.
    pub epoch: i64,
}

/// What is known about a job at one tick.
#[derive(Clone, Debug, Default)]
pub struct Known(Vec<(Question, Answer)>);

/// The chain's time and rules at one tick.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The height of the heaviest tipset.
    pub head: i64,
    /// The height of the last confident tipset.
    pub lagged: i64,
    /// How many epochs on top of it make a tipset confident.
    pub confidence: i64,
    /// The network's rules.
    pub rules: Rules,
    /// The length of an epoch in milliseconds.
    pub epoch_millis: u64,
}

impl Known {
    /// Remembers an answer.
    pub fn learn(&mut self, question: Question, answer: Answer) {
        self.0.push((question, answer));
    }

    /// The answer, if it is [`Answer::Yes`]. While there is no answer, the question itself is the error. The other three
    /// methods do the same.
    pub fn yes(&self, question: Question) -> Result<bool, Question> {
        self.get(question, |answer| match answer {
            Answer::Yes(yes) => Some(*yes),
            _ => None,
        })
    }

    /// The answer, if it is [`Answer::Randomness`].
    pub fn randomness(&self, question: Question) -> Result<[u8; 32], Question> {
        self.get(question, |answer| match answer {
            Answer::Randomness(bytes) => Some(*bytes),
            _ => None,
        })
    }

    /// The answer, if it is [`Answer::Found`].
    pub fn found(&self, question: Question) -> Result<Option<Found>, Question> {
        self.get(question, |answer| match answer {
            Answer::Found(found) => Some(*found),
            _ => None,
        })
    }

    /// The answer, if it is [`Answer::Verdict`].
    pub fn verdict(&self, question: Question) -> Result<Result<(), ErrorReport>, Question> {
        self.get(question, |answer| match answer {
            Answer::Verdict(verdict) => Some(verdict.clone()),
            _ => None,
        })
    }

    fn get<A>(&self, question: Question, read: fn(&Answer) -> Option<A>) -> Result<A, Question> {
        let answer = self.0.iter().find(|(asked, _)| *asked == question);
        answer.and_then(|(_, answer)| read(answer)).ok_or(question)
    }
}
