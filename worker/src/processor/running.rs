//! One child process: its pipes, its stderr, its end.

use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use sealbus_schema::error::Exit;
use serde_json::Value;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::child::PARENT_PID;
use super::error::{ProcessFailure, exit_of};
use super::lines::{Line, read_line};
use super::protocol::{Answer, AnswerResult, Hello, Request, VERSION};
use super::spawner::Spawner;
use crate::stage::Stage;

const HELLO_BYTES_MAX: usize = 4096;
const STDERR_LINE_BYTES_MAX: usize = 4096;
const STDERR_LINES_KEPT: usize = 50;
/// How long a process that closed its pipe, or was killed, is waited for.
const END_WAIT: Duration = Duration::from_secs(2);

/// The last lines of a child's stderr.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == STDERR_LINES_KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The lines, oldest first.
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// A child that has greeted. Dropping it kills its whole process group.
#[derive(Debug)]
pub(super) struct Running {
    group: Group,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    stderr: Option<tokio::task::JoinHandle<()>>,
    pub(super) tail: Tail,
    last_id: u64,
    answer_bytes_max: usize,
}

/// A failure together with how the process ended and what it wrote.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) failure: ProcessFailure,
    pub(super) exit: Option<Exit>,
    pub(super) stderr_tail: Vec<String>,
}

/// What to start.
pub(super) struct Launch<'a> {
    pub(super) spawner: &'a Spawner,
    pub(super) command: Command,
    pub(super) bin: String,
    pub(super) processor: String,
    pub(super) stage: Stage,
    pub(super) start_timeout: Duration,
    pub(super) answer_bytes_max: usize,
}

impl Running {
    /// Starts the process and waits for its greeting.
    pub(super) async fn start(launch: Launch<'_>) -> Result<Self, Ended> {
        let Launch { spawner, mut command, bin, processor, stage, start_timeout, answer_bytes_max } = launch;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env(PARENT_PID, std::process::id().to_string()).process_group(0).kill_on_drop(true);
        let start_failed = |reason: String| Ended {
            failure: ProcessFailure::Start { bin: bin.clone(), reason },
            exit: None,
            stderr_tail: Vec::new(),
        };
        let mut child = spawner.spawn(command).await.map_err(|error| start_failed(error.to_string()))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let group = Group::of(child);
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(start_failed("no pipes".to_owned()));
        };
        let tail = Tail::default();
        let reader = tokio::spawn(forward_stderr(stderr, tail.clone(), processor));
        let mut running = Self {
            group,
            stdin,
            stdout: BufReader::new(stdout),
            stderr: Some(reader),
            tail,
            last_id: 0,
            answer_bytes_max,
        };
        let greeted = match timeout(start_timeout, running.read_hello(stage)).await {
            Ok(greeted) => greeted,
            Err(_) => Err(ProcessFailure::Timeout(start_timeout)),
        };
        match greeted {
            Ok(()) => Ok(running),
            Err(failure) => Err(running.end(failure).await),
        }
    }

    /// The process id, unless it has been waited for.
    pub(super) fn pid(&self) -> Option<u32> {
        self.group.child.id()
    }

    /// Whether the process has ended while nobody asked anything of it.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.group.child.try_wait(), Ok(None))
    }

    /// Sends a task and waits for its answer. After a failure the process must be [ended](Self::end).
    pub(super) async fn ask(&mut self, task: Value, limit: Duration) -> Result<AnswerResult, ProcessFailure> {
        self.last_id += 1;
        let id = self.last_id;
        let mut line =
            serde_json::to_vec(&Request { id, task }).map_err(|error| ProcessFailure::Garbage(error.to_string()))?;
        line.push(b'\n');
        let Self { group, stdin, stdout, answer_bytes_max, .. } = self;
        let exchange = async {
            // A child that dies breaks the pipe; that it died is then found by the reading half.
            let _ = stdin.write_all(&line).await;
            let mut line = Vec::new();
            match read_line(stdout, &mut line, *answer_bytes_max).await {
                Ok(Line::Whole) => parse_answer(&line, id),
                Ok(Line::TooLong) => Err(ProcessFailure::TooLarge(*answer_bytes_max)),
                Ok(Line::End) | Err(_) => Err(ProcessFailure::Exited),
            }
        };
        // Children of the child may hold its stdout open after it has died, so its end is waited for as well; an answer
        // that it left goes first.
        let ended = async {
            let _ = group.child.wait().await;
            tokio::time::sleep(END_WAIT / 4).await;
        };
        tokio::select! {
            biased;
            answer = exchange => answer,
            () = ended => Err(ProcessFailure::Exited),
            () = tokio::time::sleep(limit) => Err(ProcessFailure::Timeout(limit)),
        }
    }

    /// Kills the process if it still lives, and collects how it ended. Only an end of its own accord is told as such.
    pub(super) async fn end(mut self, failure: ProcessFailure) -> Ended {
        let by_itself = matches!(failure, ProcessFailure::Exited | ProcessFailure::ExitedAtStart);
        let own_end = match by_itself {
            true => timeout(END_WAIT / 4, self.group.child.wait()).await.ok().and_then(Result::ok),
            false => self.group.child.try_wait().ok().flatten(),
        };
        self.group.kill();
        if own_end.is_none() {
            let _ = timeout(END_WAIT, self.group.child.wait()).await;
        }
        if let Some(reader) = self.stderr.take() {
            // All writers are dead, unless one left the process group.
            let _ = timeout(END_WAIT / 4, reader).await;
        }
        Ended { failure, exit: own_end.map(exit_of), stderr_tail: self.tail.lines() }
    }

    async fn read_hello(&mut self, stage: Stage) -> Result<(), ProcessFailure> {
        let mut line = Vec::new();
        match read_line(&mut self.stdout, &mut line, HELLO_BYTES_MAX).await {
            Ok(Line::Whole) => {}
            Ok(Line::TooLong) => return Err(ProcessFailure::Handshake(format!("more than {HELLO_BYTES_MAX} bytes"))),
            Ok(Line::End) | Err(_) => return Err(ProcessFailure::ExitedAtStart),
        }
        let hello: Hello = serde_json::from_slice(&line)
            .map_err(|error| ProcessFailure::Handshake(format!("{error} in {:?}", String::from_utf8_lossy(&line))))?;
        if hello.sealbus_processor != VERSION || hello.stage != stage.name() {
            let greeted =
                format!("version {} for {:?}, wanted {VERSION} for {stage}", hello.sealbus_processor, hello.stage);
            return Err(ProcessFailure::Handshake(greeted));
        }
        Ok(())
    }
}

fn parse_answer(line: &[u8], asked: u64) -> Result<AnswerResult, ProcessFailure> {
    let excerpt = || String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
    let answer: Answer =
        serde_json::from_slice(line).map_err(|error| ProcessFailure::Garbage(format!("{error} in {:?}", excerpt())))?;
    if answer.id != asked {
        return Err(ProcessFailure::WrongId { asked, answered: answer.id });
    }
    Ok(answer.result)
}

async fn forward_stderr(stderr: ChildStderr, tail: Tail, processor: String) {
    let mut from = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        let end = match read_line(&mut from, &mut line, STDERR_LINE_BYTES_MAX).await {
            Ok(end) => end,
            Err(_) => return,
        };
        if end != Line::End || !line.is_empty() {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            tracing::info!(target: "sealbus_worker::processor::stderr", processor, "{text}");
            tail.push(text);
        }
        if end == Line::End {
            return;
        }
    }
}

/// A child that leads a process group. Dropping it kills the group.
#[derive(Debug)]
struct Group {
    child: Child,
    /// The group's number, until it has been killed. While the leader has not been waited for, or the group has
    /// members, nobody else can get the number; after a wait the kill follows at once.
    number: Option<Pid>,
}

impl Group {
    fn of(child: Child) -> Self {
        let number = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { child, number }
    }

    fn kill(&mut self) {
        if let Some(number) = self.number.take() {
            // No such group: all have ended.
            let _ = kill_process_group(number, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
