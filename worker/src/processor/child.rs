//! The process `sealbus-worker processor <stage>`: reads requests on stdin, runs the stage, answers.

use std::fs::File;
use std::io::{self, BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use serde::Serialize;

use super::protocol::{Answer, AnswerResult, Hello, Request, VERSION};
use crate::stage::{self, Stage, StageCode, StageError};

/// The environment variable that tells a child which process it must not outlive.
pub const PARENT_PID: &str = "SEALBUS_PARENT_PID";

/// Why the child stopped serving.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The descriptors could not be arranged.
    #[error("cannot set up the processor: {0}")]
    SetUp(#[source] io::Error),
    /// The parent was gone before the child had bound its life to it.
    #[error("the parent process is gone")]
    Orphaned,
    /// A line that is no request.
    #[error("request cannot be read: {0}")]
    Request(#[source] serde_json::Error),
    /// A pipe broke.
    #[error("pipe to the parent: {0}")]
    Pipe(#[source] io::Error),
}

/// Serves `stage` until stdin ends. A request that is being worked on is answered first.
///
/// Answers go to a private duplicate of stdout; stdout itself then leads to stderr, so that a library that prints
/// cannot disturb them.
///
/// # Errors
/// [`ChildError`]; errors of the stage are answers.
pub fn serve(stage: Stage) -> Result<(), ChildError> {
    die_with_parent()?;
    let answers = take_stdout().map_err(ChildError::SetUp)?;
    serve_on(stage, &mut io::stdin().lock(), &mut File::from(answers))
}

fn serve_on(stage: Stage, requests: &mut impl BufRead, answers: &mut impl Write) -> Result<(), ChildError> {
    send(answers, &Hello { sealbus_processor: VERSION, stage: stage.name().to_owned(), pid: std::process::id() })?;
    let mut line = String::new();
    loop {
        line.clear();
        if requests.read_line(&mut line).map_err(ChildError::Pipe)? == 0 {
            return Ok(());
        }
        let Request { id, task } = serde_json::from_str(&line).map_err(ChildError::Request)?;
        let result = match run_caught(stage, task) {
            Ok(output) => AnswerResult::Output(output),
            Err(error) => AnswerResult::Error(error.into()),
        };
        send(answers, &Answer { id, result })?;
    }
}

fn run_caught(stage: Stage, task: serde_json::Value) -> Result<serde_json::Value, StageError> {
    catch_unwind(AssertUnwindSafe(|| stage::run_json(stage, task)))
        .unwrap_or_else(|panic| Err(library_panic(stage, panic.as_ref())))
}

fn library_panic(stage: Stage, panic: &(dyn std::any::Any + Send)) -> StageError {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    StageError::new(StageCode::LibraryPanic, format!("{stage} panicked: {}", text.unwrap_or("without a message")))
}

fn send(to: &mut impl Write, message: &impl Serialize) -> Result<(), ChildError> {
    let mut line = serde_json::to_vec(message).map_err(|error| ChildError::Pipe(error.into()))?;
    line.push(b'\n');
    to.write_all(&line).and_then(|()| to.flush()).map_err(ChildError::Pipe)
}

fn take_stdout() -> io::Result<rustix::fd::OwnedFd> {
    let answers = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok(answers)
}

fn die_with_parent() -> Result<(), ChildError> {
    let Some(parent) = std::env::var(PARENT_PID).ok().and_then(|pid| pid.parse::<i32>().ok()) else {
        return Ok(());
    };
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| ChildError::SetUp(error.into()))?;
    // The parent may have died before the signal was asked for; then somebody else is the parent now.
    if getppid().map(rustix::process::Pid::as_raw_pid) != Some(parent) {
        return Err(ChildError::Orphaned);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_another_shape_is_answered_with_a_typed_error() {
        let mut answers = Vec::new();
        serve_on(Stage::C2, &mut &b"{\"id\":4,\"task\":{\"nonsense\":1}}\n"[..], &mut answers).expect("served");
        let lines: Vec<&str> = std::str::from_utf8(&answers).expect("text").lines().collect();
        let hello: Hello = serde_json::from_str(lines[0]).expect("hello");
        assert_eq!((hello.sealbus_processor, hello.stage.as_str()), (2, "c2"));
        let answer: Answer = serde_json::from_str(lines[1]).expect("answer");
        let AnswerResult::Error(failure) = answer.result else { panic!("not an error") };
        assert_eq!((answer.id, failure.code.as_str()), (4, "REQUEST_INVALID"));
    }

    #[test]
    fn a_panic_is_told_with_its_message() {
        let panic = catch_unwind(|| panic!("layer {} is odd", 3)).expect_err("panic");
        let error = library_panic(Stage::Pc1, panic.as_ref());
        assert_eq!((error.code, error.message.as_str()), (StageCode::LibraryPanic, "pc1 panicked: layer 3 is odd"));
    }
}
