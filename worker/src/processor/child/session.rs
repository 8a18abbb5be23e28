//! The conversation of a child process with its worker.
//!
//! Each request runs on its own thread. A library's computation cannot be interrupted. So if the cancelled request is
//! the only one, the process exits; otherwise the cancel waits until the other requests have ended. A request is never
//! answered while something still writes to its files.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::progress::Watch;
use super::{ChildError, Engine};
use crate::processor::protocol::order::{Order, Task};
use crate::processor::protocol::{Answer, AnswerResult, Failure, Features, Hello, Progress, large};
use crate::stage::{Json, Stage, StageError};

/// The period of heartbeats and progress reports.
const HEARTBEAT_PERIOD: Duration = Duration::from_secs(5);
/// The proofs code expects the stack size of a main thread.
const STACK_BYTES: usize = 64 << 20;
/// The exit status after the only request was cancelled.
const CANCELLED_STATUS: i32 = 75;

/// The state of the conversation.
pub(super) struct Session<W> {
    stage: Stage,
    engine: Engine,
    answers: Mutex<W>,
    tmp_dir: Option<PathBuf>,
    running: Mutex<BTreeMap<u64, Running>>,
    exit: fn(i32),
}

/// A request in progress.
#[derive(Default)]
struct Running {
    watch: Option<Watch>,
    cancelled: bool,
    told: Option<Progress>,
}

#[derive(Serialize)]
struct Heartbeat {
    heartbeat: bool,
}

#[derive(Serialize)]
struct ProgressLine {
    id: u64,
    progress: Progress,
}

#[derive(Serialize)]
struct OutputFile {
    id: u64,
    output_file: PathBuf,
}

impl<W: Write + Send> Session<W> {
    pub(super) fn new(stage: Stage, engine: Engine, answers: W, tmp_dir: Option<PathBuf>) -> Self {
        fn exit(status: i32) {
            std::process::exit(status)
        }
        Self { stage, engine, answers: Mutex::new(answers), tmp_dir, running: Mutex::default(), exit }
    }

    pub(super) fn greet(&self) -> Result<(), ChildError> {
        self.send(&Hello { features: Features::ALL.map(str::to_owned).into(), ..Hello::of(self.stage) })
    }

    /// Runs `work` while another thread sends heartbeats.
    pub(super) fn with_heartbeat(&self, work: impl FnOnce() -> Result<(), ChildError>) -> Result<(), ChildError> {
        std::thread::scope(|scope| {
            let (over, is_over) = channel::<()>();
            scope.spawn(move || {
                while let Err(RecvTimeoutError::Timeout) = is_over.recv_timeout(HEARTBEAT_PERIOD) {
                    self.give_sign_of_life();
                }
            });
            let worked = work();
            drop(over);
            worked
        })
    }

    /// Reads and carries out requests until there are no more. Returns when all of them are answered.
    pub(super) fn serve(&self, requests: &mut impl BufRead) -> Result<(), ChildError> {
        std::thread::scope(|scope| {
            let mut line = Vec::new();
            loop {
                line.clear();
                if requests.read_until(b'\n', &mut line).map_err(ChildError::Pipe)? == 0 {
                    return Ok(());
                }
                match Order::read(&line).map_err(ChildError::Request)? {
                    Order::Cancel { id } => self.cancel(id),
                    Order::Run { id, task } => {
                        self.begin(id);
                        let work = move || self.carry_out(id, task);
                        std::thread::Builder::new()
                            .name(format!("request-{id}"))
                            .stack_size(STACK_BYTES)
                            .spawn_scoped(scope, work)
                            .map_err(ChildError::SetUp)?;
                    }
                }
            }
        })
    }

    fn begin(&self, id: u64) {
        lock(&self.running).insert(id, Running::default());
    }

    fn carry_out(&self, id: u64, task: Task) {
        let result = json_of(task).and_then(|task| {
            if let Some(running) = lock(&self.running).get_mut(&id) {
                running.watch = Watch::of(self.stage, &task);
            }
            self.engine.run(self.stage, &task)
        });
        if let Err(error) = self.answer(id, result) {
            tracing::error!(id, %error, "the answer cannot be given");
        }
        let mut running = lock(&self.running);
        running.remove(&id);
        self.exit_if_useless(&running);
    }

    fn answer(&self, id: u64, result: Result<Json, StageError>) -> Result<(), ChildError> {
        let output = match result {
            Ok(output) => output,
            Err(error) => return self.send(&Answer { id, result: AnswerResult::Error(Failure::from(error)) }),
        };
        // If the file cannot be written, a long line may still get through.
        let file = self.tmp_dir.as_ref().filter(|_| output.as_bytes().len() > large::LINE_BYTES);
        match file.and_then(|dir| large::write(dir, &format!("output-{id}.json"), &output).ok()) {
            Some(output_file) => self.send(&OutputFile { id, output_file }),
            None => self.send_line(&Answer::output_line(id, output)),
        }
    }

    fn cancel(&self, id: u64) {
        let mut running = lock(&self.running);
        if let Some(request) = running.get_mut(&id) {
            request.cancelled = true;
        }
        self.exit_if_useless(&running);
    }

    /// Exits if all requests in progress have been cancelled.
    fn exit_if_useless(&self, running: &BTreeMap<u64, Running>) {
        if !running.is_empty() && running.values().all(|request| request.cancelled) {
            (self.exit)(CANCELLED_STATUS);
        }
    }

    /// Write errors are ignored: the worker is gone, and the kernel is about to kill this process.
    fn give_sign_of_life(&self) {
        let _ = self.send(&Heartbeat { heartbeat: true });
        if !matches!(self.engine, Engine::BuiltIn) {
            return;
        }
        let mut news = Vec::new();
        for (id, request) in lock(&self.running).iter_mut() {
            let progress = request.watch.as_ref().and_then(Watch::look);
            if progress != request.told {
                request.told.clone_from(&progress);
                news.extend(progress.map(|progress| ProgressLine { id: *id, progress }));
            }
        }
        for line in news {
            let _ = self.send(&line);
        }
    }

    fn send(&self, message: &impl Serialize) -> Result<(), ChildError> {
        self.send_line(&line_of(message)?)
    }

    fn send_line(&self, line: &[u8]) -> Result<(), ChildError> {
        let mut answers = lock(&self.answers);
        answers.write_all(line).and_then(|()| answers.flush()).map_err(ChildError::Pipe)
    }
}

fn json_of(task: Task) -> Result<Vec<u8>, StageError> {
    match task {
        Task::Here(task) => Ok(task.into_string().into_bytes()),
        Task::File(path) => std::fs::read(&path).map_err(|error| StageError::io("read task", &path, &error)),
    }
}

fn line_of(message: &impl Serialize) -> Result<Vec<u8>, ChildError> {
    let mut line = serde_json::to_vec(message).map_err(|error| ChildError::Pipe(error.into()))?;
    line.push(b'\n');
    Ok(line)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn session(stage: Stage) -> Session<Vec<u8>> {
        Session { exit: |_| {}, ..Session::new(stage, Engine::BuiltIn, Vec::new(), None) }
    }

    #[test]
    fn a_request_of_another_shape_is_answered_with_a_typed_error() {
        let session = session(Stage::C2);
        session.greet().expect("greeted");
        session.serve(&mut &b"{\"id\":4,\"task\":{\"nonsense\":1}}\n"[..]).expect("served");
        let answers = session.answers.into_inner().expect("answers");
        let lines: Vec<&str> = std::str::from_utf8(&answers).expect("text").lines().collect();
        let hello: Hello = serde_json::from_str(lines[0]).expect("hello");
        assert_eq!((hello.sealbus_processor, hello.stage.as_str()), (2, "c2"));
        assert!(Features::named(&hello.features).cancel);
        let answer: Answer = serde_json::from_str(lines[1]).expect("answer");
        let AnswerResult::Error(failure) = answer.result else { panic!("not an error") };
        assert_eq!((answer.id, failure.code.as_str()), (4, "REQUEST_INVALID"));
    }

    #[test]
    fn all_requests_are_answered_before_the_end() {
        let session = session(Stage::C2);
        let requests: String = (1..=20).map(|id| format!("{{\"id\":{id},\"task\":{id}}}\n")).collect();
        session.serve(&mut requests.as_bytes()).expect("served");
        let answers = String::from_utf8(session.answers.into_inner().expect("answers")).expect("text");
        let mut ids: Vec<u64> =
            answers.lines().map(|line| serde_json::from_str::<Answer>(line).expect("answer").id).collect();
        ids.sort_unstable();
        assert_eq!(ids, (1..=20).collect::<Vec<_>>());
    }

    #[test]
    fn a_large_output_goes_into_a_file_of_the_private_directory() {
        let dir = tempfile::tempdir().expect("directory");
        let session = Session { tmp_dir: Some(dir.path().to_owned()), ..session(Stage::C2) };
        let output = Value::from("x".repeat(2 << 20));
        session.answer(7, Json::of(&output).map_err(|error| panic!("{error}"))).expect("answered");
        let line = String::from_utf8(session.answers.into_inner().expect("answers")).expect("text");
        let told: Value = serde_json::from_str(&line).expect("json");
        let path = PathBuf::from(told["output_file"].as_str().expect("a file"));
        assert_eq!(large::take(dir.path(), &path, 4 << 20).expect("taken"), output);
    }
}
