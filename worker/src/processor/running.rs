//! One child process that can serve several requests at the same time.
//!
//! [`Running`] is a handle. Behind it a supervisor task owns the process. It routes answers by id, and watches for the
//! child's end, for its silence, and for requests that should have stopped. It ends the process group with everything
//! that came out of it. When the process ends, every open request gets the reason. Every wait is limited: a request has
//! its time limit, a stop its grace period, and the end of a process takes a few seconds at most.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use sealbus_schema::error::Exit;
use tokio::io::BufReader;
use tokio::process::{ChildStdout, Command};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::child::PARENT_PID;
use super::error::ProcessFailure;
use super::lines::{Line, read_line};
use super::protocol::order::Order;
use super::protocol::{AnswerResult, Features, Hello, Progress, VERSION, large};
use super::spawner::Spawner;
use crate::stage::{Json, Stage};

mod allowance;
pub mod descendants;
mod group;
mod shared;
mod supervise;
mod table;
mod tail;
pub(in crate::processor) mod usage;

pub use tail::Tail;
pub use usage::Usage;

use group::{END_WAIT, Group};
use shared::Shared;

const HELLO_BYTES_MAX: usize = 4096;

/// A child that has sent its greeting. Dropping this kills its whole process group.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    pid: Option<u32>,
    features: Features,
}

/// Resolves when the process is gone, even after its handle was dropped.
#[derive(Clone, Debug)]
pub struct Gone(watch::Receiver<bool>);

/// Options of a request.
#[derive(Clone, Debug, Default)]
pub struct AskOptions {
    /// The time limit.
    pub limit: Duration,
    /// Where to send progress.
    pub progress: Option<watch::Sender<Option<Progress>>>,
}

/// A request that the child answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// The result.
    pub result: AnswerResult,
    /// The cost of the request.
    pub usage: Usage,
}

/// A failure, with how the process ended and what it wrote to stderr.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The kind of failure.
    pub failure: ProcessFailure,
    /// How the process ended, if it ended by itself.
    pub exit: Option<Exit>,
    /// The last lines of stderr, oldest first.
    pub stderr_tail: Vec<String>,
}

/// The outcome of a request.
pub type Outcome = Result<Answered, Ended>;

/// A process to start.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The thread that starts it.
    pub spawner: &'a Spawner,
    /// The program, with arguments and environment.
    pub command: Command,
    /// The program's name in messages.
    pub bin: String,
    /// The processor's name.
    pub processor: String,
    /// The stage that its greeting must name.
    pub stage: Stage,
    /// Its private directory for temporary files, which also holds large values.
    pub tmp_dir: PathBuf,
    /// The limits that it must keep.
    pub limits: Limits,
}

/// The limits of a child.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The time from its start to its greeting.
    pub start: Duration,
    /// The time between two heartbeats, if it has announced them.
    pub silence: Duration,
    /// The time from the cancel of a request to its answer.
    pub stop: Duration,
    /// The length of one line, in bytes.
    pub line_bytes: usize,
    /// The size of an output in a file, in bytes.
    pub file_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(30),
            silence: Duration::from_secs(60),
            stop: Duration::from_secs(10),
            line_bytes: 16 << 20,
            file_bytes: 1 << 30,
        }
    }
}

impl Running {
    /// Starts the process and waits for its greeting.
    ///
    /// # Errors
    /// How the process ended instead.
    pub async fn start(launch: Launch<'_>) -> Result<Self, Ended> {
        let Launch { spawner, mut command, bin, processor, stage, tmp_dir, limits } = launch;
        let mark = descendants::Mark::fresh();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env(PARENT_PID, std::process::id().to_string()).env(descendants::VARIABLE, mark.as_str());
        // Its own process group, so that one signal reaches everything that it starts.
        command.process_group(0).kill_on_drop(true);
        let start_failed = |reason: String| Ended {
            failure: ProcessFailure::Start { bin: bin.clone(), reason },
            exit: None,
            stderr_tail: Vec::new(),
        };
        let (mut child, own) = spawner.spawn(command).await.map_err(|error| start_failed(error.to_string()))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let group = Group::of(child, own, mark);
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(start_failed("no pipes".to_owned()));
        };
        let tail = Tail::default();
        let stderr = tokio::spawn(tail.clone().follow(stderr, processor));
        let mut stdout = BufReader::with_capacity(1 << 16, stdout);
        let greeted = match timeout(limits.start, read_hello(&mut stdout, stage, &bin)).await {
            Ok(greeted) => greeted,
            Err(_) => Err(ProcessFailure::Timeout(limits.start)),
        };
        let features = match greeted {
            Ok(hello) => Features::named(&hello.features),
            Err(failure) => return Err(group.end(failure, &tail, stderr).await),
        };
        let pid = group.pid();
        let (shared, orders) = Shared::new(pid, features, tmp_dir, limits, tail);
        supervise::begin(Arc::clone(&shared), orders, group, (stdin, stdout, stderr));
        Ok(Self { shared, pid, features })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// The features that the child announced.
    #[must_use]
    pub fn features(&self) -> Features {
        self.features
    }

    /// The last lines of its stderr so far.
    #[must_use]
    pub fn tail(&self) -> Vec<String> {
        self.shared.tail.lines()
    }

    /// The last lines of its stderr, including what it wrote just before its answer.
    pub async fn last_words(&self) -> Vec<String> {
        self.shared.tail.settled().await
    }

    /// Whether the process has ended or is being ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.shared.is_over()
    }

    /// Waits until no request is being stopped, and returns whether the process can take another one. Takes no longer
    /// than a stop and the end of a process.
    pub async fn ready(&self) -> bool {
        self.shared.settled().await;
        !self.has_ended()
    }

    /// A handle that resolves when the process is gone.
    #[must_use]
    pub fn gone(&self) -> Gone {
        Gone(self.shared.gone())
    }

    /// Sends a task and waits for its answer. Calls may overlap if the child is [concurrent](Features::concurrent).
    ///
    /// If the future is dropped or the limit passes, the request is stopped:
    /// - A child that supports cancelling is told to stop, and given time.
    /// - A process that works on nothing else is killed. If the future was dropped, this happens at once.
    /// - A process that does not stop in time is killed, with all its requests.
    ///
    /// After its limit has passed, a request returns only when it has stopped.
    ///
    /// # Errors
    /// Why the request failed. The process has ended too, except if the limit passed and the child stopped the request.
    pub async fn ask(&self, task: Json, options: AskOptions) -> Outcome {
        let AskOptions { limit, progress } = options;
        let (answer, mut outcome) = oneshot::channel();
        let (id, files_in) = self.shared.open(answer, progress).await?;
        let mut asked = Asked { shared: &self.shared, id, file: None, known: false, waiting: true };
        let line = match hand_over(task, id, files_in).await {
            Ok((line, file)) => {
                asked.file = file;
                line
            }
            Err(reason) => return Err(self.shared.failed(ProcessFailure::Task(reason))),
        };
        self.shared.send(line);
        asked.known = true;
        let answered = tokio::select! {
            biased;
            answered = &mut outcome => Some(answered),
            () = tokio::time::sleep(limit) => None,
        };
        asked.waiting = false;
        match answered {
            Some(answered) => answered.unwrap_or_else(|_| Err(self.shared.failed(ProcessFailure::Exited))),
            None => {
                self.shared.stop(id, self.features.cancel, ProcessFailure::Timeout(limit));
                let stopped = timeout(self.shared.limits.stop + 4 * END_WAIT, outcome).await;
                let failed = self.shared.failed(ProcessFailure::Timeout(limit));
                // The end of the process is reported with the time limit as its cause, whatever the child answered
                // late.
                Err(match stopped {
                    Ok(Ok(Err(ended))) => Ended { failure: failed.failure, ..ended },
                    _ => failed,
                })
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.doom(ProcessFailure::Unneeded);
    }
}

impl Gone {
    /// Waits until the process and everything that came out of it have been killed, or a few seconds at most.
    pub async fn wait(self) {
        let _ = timeout(4 * END_WAIT, self.happened()).await;
    }

    /// Waits until the process is gone, however long it lives.
    pub async fn happened(mut self) {
        let _ = self.0.wait_for(|gone| *gone).await;
    }
}

/// A request that is being waited for, with the file of its task.
struct Asked<'a> {
    shared: &'a Shared,
    id: u64,
    file: Option<PathBuf>,
    /// Whether it has been sent to the child.
    known: bool,
    waiting: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.known {
            self.shared.forget(self.id);
        } else if self.waiting {
            self.shared.stop(self.id, false, ProcessFailure::Unneeded);
        }
        if let Some(file) = &self.file {
            large::remove(file);
        }
    }
}

/// The line for a task. A large task is put into a file if the child supports that; the file's path is returned too.
async fn hand_over(task: Json, id: u64, files_in: Option<PathBuf>) -> Result<(Vec<u8>, Option<PathBuf>), String> {
    match files_in {
        Some(dir) if task.as_bytes().len() > large::LINE_BYTES => {
            let write = move || {
                let path = large::write(&dir, &format!("task-{id}.json"), &task)
                    .map_err(|error| format!("write {}: {error}", dir.display()))?;
                Ok((Order::file_line(id, &path), Some(path)))
            };
            tokio::task::spawn_blocking(write).await.map_err(|error| error.to_string())?
        }
        _ => Ok((Order::run_line(id, task), None)),
    }
}

async fn read_hello(stdout: &mut BufReader<ChildStdout>, stage: Stage, bin: &str) -> Result<Hello, ProcessFailure> {
    let mut line = Vec::new();
    match read_line(stdout, &mut line, HELLO_BYTES_MAX).await {
        Ok(Line::Whole) => {}
        Ok(Line::TooLong) => return Err(ProcessFailure::Handshake(format!("more than {HELLO_BYTES_MAX} bytes"))),
        Ok(Line::End) | Err(_) => return Err(ProcessFailure::ExitedAtStart),
    }
    if let Some(reason) = super::exec_child::reason_in(&line) {
        return Err(ProcessFailure::Start { bin: bin.to_owned(), reason });
    }
    let hello: Hello = serde_json::from_slice(&line)
        .map_err(|error| ProcessFailure::Handshake(format!("{error} in {:?}", String::from_utf8_lossy(&line))))?;
    if hello.sealbus_processor != VERSION || hello.stage != stage.name() {
        let greeted =
            format!("version {} for {:?}, wanted {VERSION} for {stage}", hello.sealbus_processor, hello.stage);
        return Err(ProcessFailure::Handshake(greeted));
    }
    Ok(hello)
}
