//! How a request to a processor fails.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use sealbus_planner::schedule::SetupError;
use sealbus_schema::error::Exit;
use sealbus_schema::{ErrorClass, ErrorCode, ErrorReport};

use super::protocol::Failure;
use crate::cgroup::OutOfMemory;
use crate::stage::Stage;

/// The pool cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// No group serves the stage.
    #[error("no processor serves {0}")]
    NoProcessor(Stage),
    /// A group of no processors.
    #[error("a group for {0} has count 0")]
    EmptyGroup(Stage),
    /// Something could never work.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The path of this executable is needed for built-in processors, and not to be had.
    #[error("cannot find the own executable: {0}")]
    OwnExecutable(#[source] io::Error),
    /// The thread that starts processors could not be started.
    #[error("cannot start the spawner thread: {0}")]
    Spawner(#[source] io::Error),
}

/// How a process ended, out of what the operating system says.
#[must_use]
pub fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Status(code),
        (None, signal) => Exit::Signal(signal.unwrap_or(0)),
    }
}

/// A failed request. Costs one attempt; the processor is good for the next request.
#[derive(Clone, Debug, thiserror::Error)]
#[error("processor {processor}: {}", with_exit(failure, *exit))]
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
    /// The first line was not the greeting of version 2 for the stage.
    #[error("bad handshake: {0}")]
    Handshake(String),
    /// The process ended, or closed its stdout, before it had greeted.
    #[error("ended before it greeted")]
    ExitedAtStart,
    /// The process ended, or closed its stdout, before it answered.
    #[error("ended before it answered")]
    Exited,
    /// The process ended because the kernel killed it for want of memory.
    #[error("{0}")]
    OutOfMemory(OutOfMemory),
    /// A line that is no answer.
    #[error("not an answer: {0}")]
    Garbage(String),
    /// An answer to a request that is not open: one that was never made, or is answered already.
    #[error("answered request {answered}, which is not open")]
    WrongId {
        /// The id of the oldest request that is open; 0 if none is.
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
    /// An output in a file that cannot be taken.
    #[error("its output file cannot be taken: {0}")]
    BadFile(String),
    /// A process that gives signs of life gave none in time.
    #[error("no sign of life within {} s", .0.as_secs())]
    Silent(Duration),
    /// The process was killed because another request on it had to be stopped and did not stop.
    #[error("killed, because another request on it did not stop when it was told to")]
    Stopped,
    /// Nobody needs the process any more.
    #[error("not needed any more")]
    Unneeded,
    /// A task that cannot be handed over.
    #[error("the task cannot be handed over: {0}")]
    Task(String),
}

impl ProcessError {
    /// What happens next.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match &self.failure {
            // A class of a newer version: a person decides.
            ProcessFailure::Stage(failure) if failure.class == ErrorClass::Unknown => ErrorClass::Perm,
            ProcessFailure::Stage(failure) => failure.class,
            ProcessFailure::Start { .. } | ProcessFailure::Task(_) => ErrorClass::Crit,
            ProcessFailure::Exited
            | ProcessFailure::ExitedAtStart
            | ProcessFailure::OutOfMemory(_)
            | ProcessFailure::Timeout(_)
            | ProcessFailure::Silent(_)
            | ProcessFailure::Stopped
            | ProcessFailure::Unneeded => ErrorClass::Temp,
            ProcessFailure::Handshake(_)
            | ProcessFailure::Garbage(_)
            | ProcessFailure::WrongId { .. }
            | ProcessFailure::WrongOutput(_)
            | ProcessFailure::TooLarge(_)
            | ProcessFailure::BadFile(_) => ErrorClass::Perm,
        }
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match &self.failure {
            ProcessFailure::Stage(failure) => ErrorCode::from_text(&failure.code),
            ProcessFailure::Start { .. } => ErrorCode::PROCESSOR_START_FAILED,
            ProcessFailure::Exited
            | ProcessFailure::ExitedAtStart
            | ProcessFailure::OutOfMemory(_)
            | ProcessFailure::Stopped
            | ProcessFailure::Unneeded => ErrorCode::PROCESSOR_DIED,
            ProcessFailure::Timeout(_) | ProcessFailure::Silent(_) => ErrorCode::PROCESSOR_TIMED_OUT,
            ProcessFailure::Task(_) => ErrorCode::IO_FAILED,
            ProcessFailure::Handshake(_)
            | ProcessFailure::Garbage(_)
            | ProcessFailure::WrongId { .. }
            | ProcessFailure::WrongOutput(_)
            | ProcessFailure::TooLarge(_)
            | ProcessFailure::BadFile(_) => ErrorCode::PROCESSOR_PROTOCOL,
        }
    }

    /// Whether it failed without saying why: then its last words are all that there is to go by.
    fn is_silent(&self) -> bool {
        match self.failure {
            ProcessFailure::Stage(_) => {
                [ErrorCode::PROCESSOR_DIED, ErrorCode::PROCESSOR_TIMED_OUT].contains(&self.code())
            }
            ProcessFailure::Exited
            | ProcessFailure::ExitedAtStart
            | ProcessFailure::Timeout(_)
            | ProcessFailure::Silent(_) => true,
            _ => false,
        }
    }

    /// The error as it is reported; phase, attempt, host and slot are left to whoever knows them.
    #[must_use]
    pub fn report(&self) -> ErrorReport {
        let mut report = ErrorReport::new(self.class(), self.code(), with_exit(&self.failure, self.exit));
        if self.is_silent() {
            report.causes.push(match self.stderr_tail.iter().rfind(|line| !line.trim().is_empty()) {
                Some(line) => format!("its last line on stderr is {:?}", line.trim()),
                None => "it wrote nothing to stderr".to_owned(),
            });
        }
        report.processor = Some(self.processor.clone());
        report.exit = self.exit;
        report.stderr_tail = self.stderr_tail.join("\n");
        report.bounded()
    }
}

/// What happened, and how the process ended; an error of a stage says so itself.
fn with_exit(failure: &ProcessFailure, exit: Option<Exit>) -> String {
    match (failure, exit) {
        (ProcessFailure::Stage(_), _) | (_, None) => failure.to_string(),
        (_, Some(exit)) => format!("{failure} ({exit})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(failure: ProcessFailure, exit: Option<Exit>, tail: &[&str]) -> ProcessError {
        let stderr_tail = tail.iter().map(|line| (*line).to_owned()).collect();
        ProcessError { processor: "pc1-0".to_owned(), failure, exit, stderr_tail }
    }

    #[test]
    fn who_ends_or_hangs_without_a_reason_is_reported_with_its_end_and_its_last_words() {
        let report = error(ProcessFailure::Exited, Some(Exit::Status(3)), &["no licence", ""]).report();
        assert_eq!(
            report.message(),
            "ended before it answered (exit status 3): its last line on stderr is \"no licence\""
        );
        let report = error(ProcessFailure::Timeout(Duration::from_secs(7200)), None, &[]).report();
        assert_eq!(report.message(), "no answer within 7200 s: it wrote nothing to stderr");
        let behind = Failure {
            exit: Some(Exit::Signal(9)),
            ..Failure::new(ErrorClass::Temp, "PROCESSOR_DIED", "the executable ended before it answered (signal 9)")
        };
        let report = error(ProcessFailure::Stage(behind), Some(Exit::Signal(9)), &["out of cards"]).report();
        assert_eq!(report.exit, Some(Exit::Signal(9)));
        assert!(report.message().ends_with("(signal 9): its last line on stderr is \"out of cards\""), "{report:?}");
        let refused = Failure::new(ErrorClass::Perm, "PROCESSOR_REFUSED", "no GPU");
        assert_eq!(error(ProcessFailure::Stage(refused), None, &["x"]).report().message(), "PROCESSOR_REFUSED: no GPU");
    }
}
