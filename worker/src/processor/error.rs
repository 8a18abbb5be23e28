//! How requests to processors fail.

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

/// Why a pool cannot be created or cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// No group serves the stage.
    #[error("no processor serves {0}")]
    NoProcessor(Stage),
    /// A group has no processors.
    #[error("a group for {0} has count 0")]
    EmptyGroup(Stage),
    /// A group could never work under the rules.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The path of this executable, needed for built-in processors, is unknown.
    #[error("cannot find the own executable: {0}")]
    OwnExecutable(#[source] io::Error),
    /// The thread that starts processors could not be started.
    #[error("cannot start the spawner thread: {0}")]
    Spawner(#[source] io::Error),
}

/// How a process ended, from the operating system's status.
#[must_use]
pub fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Status(code),
        (None, signal) => Exit::Signal(signal.unwrap_or(0)),
    }
}

/// A failed request. It costs one attempt; the processor can take the next request.
#[derive(Clone, Debug, thiserror::Error)]
#[error("processor {processor}: {}", with_exit(failure, *exit))]
pub struct ProcessError {
    /// The processor's name, for example `pc1-0`.
    pub processor: String,
    /// The kind of failure.
    pub failure: ProcessFailure,
    /// How the process ended, if it ended by itself.
    pub exit: Option<Exit>,
    /// The last lines that it wrote to stderr, oldest first.
    pub stderr_tail: Vec<String>,
}

/// The kinds of failure.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProcessFailure {
    /// The stage answered with an error. The process lives on.
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
    /// The first line was not the version 2 greeting for the stage.
    #[error("bad handshake: {0}")]
    Handshake(String),
    /// The process ended, or closed its stdout, before its greeting.
    #[error("ended before it greeted")]
    ExitedAtStart,
    /// The process ended, or closed its stdout, before it answered.
    #[error("ended before it answered")]
    Exited,
    /// The kernel killed the process because memory ran out.
    #[error("{0}")]
    OutOfMemory(OutOfMemory),
    /// A line that is not a valid answer.
    #[error("not an answer: {0}")]
    Garbage(String),
    /// An answer to a request that does not exist or has already been answered.
    #[error("answered request {answered}, which is not open")]
    WrongId {
        /// The id of the oldest open request; 0 if there is none.
        asked: u64,
        /// The id in the answer.
        answered: u64,
    },
    /// The output does not have the form that the stage requires.
    #[error("answered an output of another shape: {0}")]
    WrongOutput(String),
    /// There was no answer within the time limit.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The answer exceeds the size limit, in bytes.
    #[error("an answer of more than {0} bytes")]
    TooLarge(usize),
    /// The file with the output was refused, for this reason.
    #[error("its output file cannot be taken: {0}")]
    BadFile(String),
    /// A process that sends heartbeats sent none within this time.
    #[error("no sign of life within {} s", .0.as_secs())]
    Silent(Duration),
    /// The process was killed because another request on it did not stop when it was told to.
    #[error("killed, because another request on it did not stop when it was told to")]
    Stopped,
    /// The process is not needed any more.
    #[error("not needed any more")]
    Unneeded,
    /// The task could not be handed to the process.
    #[error("the task cannot be handed over: {0}")]
    Task(String),
}

impl ProcessError {
    /// The error class, which decides what happens next.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match &self.failure {
            // A class from a newer version. A person must decide.
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

    /// The stable error code.
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

    /// Whether the process failed without saying why. Then the last lines of its stderr are the only clue.
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

    /// The report of the error. Phase, attempt, host and slot are added by the caller.
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

/// The failure, with how the process ended. An error of the stage speaks for itself.
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
