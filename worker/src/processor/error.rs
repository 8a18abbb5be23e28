//! How a request to a processor fails.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use super::protocol::Failure;
use crate::stage::{ErrorClass, Stage};

/// The pool cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// No group serves the stage.
    #[error("no processor serves {0}")]
    NoProcessor(Stage),
    /// A group of no processors.
    #[error("a group for {0} has count 0")]
    EmptyGroup(Stage),
    /// The path of this executable is needed for built-in processors, and not to be had.
    #[error("cannot find the own executable: {0}")]
    OwnExecutable(#[source] io::Error),
    /// The thread that starts processors could not be started.
    #[error("cannot start the spawner thread: {0}")]
    Spawner(#[source] io::Error),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, signal) => Self::Signal(signal.unwrap_or(0)),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// A failed request. Costs one attempt; the processor is good for the next request.
#[derive(Clone, Debug, thiserror::Error)]
#[error("processor {processor}: {failure}{}", exit.map(|exit| format!(" ({exit})")).unwrap_or_default())]
pub struct ProcessError {
    /// Which processor, for example `pc1-0`.
    pub processor: String,
    /// What happened.
    pub failure: ProcessFailure,
    /// How the process ended, if it did so by itself.
    pub exit: Option<Exit>,
    /// The last lines that it wrote to stderr, oldest first.
    pub stderr_tail: Vec<String>,
}

/// What happened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProcessFailure {
    /// The stage answered an error; the process lives on.
    #[error("{}: {}", .0.code, .0.message)]
    Stage(Failure),
    /// The executable could not be started.
    #[error("cannot start {bin}: {reason}")]
    Start {
        /// The executable.
        bin: String,
        /// The operating system's reason.
        reason: String,
    },
    /// The first line was not the greeting of version 2 for the stage, or did not come.
    #[error("bad handshake: {0}")]
    Handshake(String),
    /// The process ended, or closed its stdout, before it answered.
    #[error("ended before it answered")]
    Exited,
    /// A line that is no answer.
    #[error("not an answer: {0}")]
    Garbage(String),
    /// An answer to another request.
    #[error("answered request {answered} instead of {asked}")]
    WrongId {
        /// The id of the request.
        asked: u64,
        /// The id in the answer.
        answered: u64,
    },
    /// An output of another shape than the stage's.
    #[error("answered an output of another shape: {0}")]
    WrongOutput(String),
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// An answer beyond the limit.
    #[error("an answer of more than {0} bytes")]
    TooLarge(usize),
}

impl ProcessError {
    /// What happens next. A processor that fails is tried again; a stage says itself.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match &self.failure {
            ProcessFailure::Stage(failure) => failure.class,
            ProcessFailure::Start { .. } => ErrorClass::Crit,
            ProcessFailure::WrongOutput(_) | ProcessFailure::TooLarge(_) => ErrorClass::Perm,
            ProcessFailure::Handshake(_)
            | ProcessFailure::Exited
            | ProcessFailure::Garbage(_)
            | ProcessFailure::WrongId { .. }
            | ProcessFailure::Timeout(_) => ErrorClass::Temp,
        }
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &str {
        match &self.failure {
            ProcessFailure::Stage(failure) => &failure.code,
            ProcessFailure::Start { .. } => "PROCESSOR_START_FAILED",
            ProcessFailure::Handshake(_) => "PROCESSOR_HANDSHAKE",
            ProcessFailure::Exited => match self.exit {
                Some(Exit::Signal(_)) => "PROCESSOR_KILLED",
                _ => "PROCESSOR_EXITED",
            },
            ProcessFailure::Garbage(_) | ProcessFailure::WrongId { .. } | ProcessFailure::WrongOutput(_) => "PROCESSOR_PROTOCOL",
            ProcessFailure::Timeout(_) => "PROCESSOR_TIMEOUT",
            ProcessFailure::TooLarge(_) => "PROCESSOR_ANSWER_TOO_LARGE",
        }
    }
}
