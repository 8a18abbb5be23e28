//! One run of the executable.
//!
//! Two threads serve it. The keeper starts the process, watches for its end and kills it on request. It must live as
//! long as the process, because the kernel treats the thread that started a process as its parent and kills the process
//! when that thread ends. The reader routes responses. If the process ends, everyone who waits for a response gets that
//! error instead.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Program;
use crate::processor::child::PARENT_PID;
use crate::processor::error::exit_of;
use crate::processor::exec_child;
use crate::processor::orphans;
use crate::processor::protocol::damocles::{self, Heard, Response};
use crate::stage::{Json, Stage, StageCode, StageError};

/// How often the keeper checks whether the process still runs.
const LOOK_PERIOD: Duration = Duration::from_millis(50);
/// How long to read on for responses that an ended process has left in its pipe.
const DRAIN_WAIT: Duration = Duration::from_millis(300);
const READY_BYTES_MAX: u64 = 4096;
const LINE_BYTES_MAX: u64 = 1 << 30;

type Verdict = Result<Response, StageError>;

/// A process that has reported ready. It may have ended since.
#[derive(Debug)]
pub(super) struct Process {
    stdin: Mutex<ChildStdin>,
    open: Arc<Open>,
    kill: Sender<End>,
}

/// Why a process ends.
#[derive(Debug)]
enum End {
    /// It closed its stdout, so it has probably ended by itself.
    Closed,
    /// It must be killed, for this reason.
    Because(StageError),
}

/// The requests that wait for a response.
#[derive(Debug, Default)]
struct Open(Mutex<Requests>);

#[derive(Debug, Default)]
struct Requests {
    last_id: u64,
    waiting: BTreeMap<u64, Sender<Verdict>>,
    over: Option<StageError>,
}

impl Process {
    /// Starts the executable and waits until it reports that it is ready.
    pub(super) fn start(program: &Program) -> Result<Self, StageError> {
        let open = Arc::new(Open::default());
        let (kill, killed) = channel();
        let (pipes, started) = channel();
        let keeper = Keeper { command: command(program)?, open: Arc::clone(&open), killed };
        let bin = program.bin.display().to_string();
        let not_started =
            |reason: String| StageError::new(StageCode::ProcessorStartFailed, format!("cannot start {bin}: {reason}"));
        std::thread::Builder::new()
            .name("executable-keeper".to_owned())
            .spawn(move || keeper.keep(&pipes))
            .map_err(|error| not_started(error.to_string()))?;
        let (stdin, stdout) = match started.recv() {
            Ok(Ok(pipes)) => pipes,
            Ok(Err(reason)) => return Err(not_started(reason)),
            Err(_) => return Err(not_started("its keeper is gone".to_owned())),
        };
        let (ready, is_ready) = channel();
        let reader = Reader { bin: bin.clone(), stage: program.stage, open: Arc::clone(&open), kill: kill.clone() };
        std::thread::Builder::new()
            .name("executable-reader".to_owned())
            .spawn(move || reader.read(stdout, &ready))
            .map_err(|error| not_started(error.to_string()))?;
        let process = Self { stdin: Mutex::new(stdin), open, kill };
        process.await_ready(program, &is_ready)?;
        Ok(process)
    }

    fn await_ready(&self, program: &Program, is_ready: &Receiver<()>) -> Result<(), StageError> {
        let deadline = Instant::now() + program.ready_wait;
        loop {
            match is_ready.recv_timeout(LOOK_PERIOD) {
                Ok(()) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => {
                    // The thread that ends the process reports why the reader gave up.
                    return Err(self.open.wait_for_end(DRAIN_WAIT * 10));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Some(error) = self.open.over() {
                return Err(error);
            }
            if Instant::now() >= deadline {
                let (bin, waited, line) =
                    (program.bin.display(), program.ready_wait.as_secs_f32(), damocles::ready_line(program.stage));
                let message = format!(
                    "{bin} did not say {line:?} within {waited} s: start it by hand to see why, or raise stable_wait_secs"
                );
                return Err(StageError::new(StageCode::ProcessorTimedOut, message));
            }
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.open.over().is_some()
    }

    /// Sends a task and waits for the response. There is no time limit here, because the worker has one for the
    /// request.
    pub(super) fn ask(&self, task: Json) -> Verdict {
        let (answer, verdict) = channel();
        let id = self.open.begin(answer)?;
        // If the process does not read, it has died, or the worker will kill it together with us.
        let _ = lock(&self.stdin).write_all(&damocles::request_line(id, task));
        verdict.recv().unwrap_or_else(|_| Err(died("its keeper is gone")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill.send(End::Because(died("it is not needed any more")));
    }
}

impl Open {
    fn begin(&self, answer: Sender<Verdict>) -> Result<u64, StageError> {
        let mut requests = lock(&self.0);
        if let Some(error) = &requests.over {
            return Err(error.clone());
        }
        requests.last_id += 1;
        let id = requests.last_id;
        requests.waiting.insert(id, answer);
        Ok(id)
    }

    /// Delivers a response. Returns whether somebody waited for it.
    fn answer(&self, response: Response) -> bool {
        let waiting = lock(&self.0).waiting.remove(&response.id);
        waiting.is_some_and(|answer| answer.send(Ok(response)).is_ok())
    }

    /// Ends all requests with this error, unless an earlier one was given.
    fn end(&self, error: StageError) {
        let mut requests = lock(&self.0);
        let error = requests.over.get_or_insert(error).clone();
        for (_, answer) in std::mem::take(&mut requests.waiting) {
            let _ = answer.send(Err(error.clone()));
        }
    }

    fn over(&self) -> Option<StageError> {
        lock(&self.0).over.clone()
    }

    fn wait_for_end(&self, limit: Duration) -> StageError {
        let deadline = Instant::now() + limit;
        loop {
            match self.over() {
                Some(error) => return error,
                None if Instant::now() >= deadline => return died("it closed its stdout"),
                None => std::thread::sleep(LOOK_PERIOD),
            }
        }
    }
}

/// The thread that starts the process and watches it until it has ended.
struct Keeper {
    command: Command,
    open: Arc<Open>,
    killed: Receiver<End>,
}

impl Keeper {
    fn keep(mut self, pipes: &Sender<Result<(ChildStdin, ChildStdout), String>>) {
        let (mut child, _own) = match orphans::start(|| self.command.spawn(), |child| Some(child.id())) {
            Ok(started) => started,
            Err(error) => {
                let _ = pipes.send(Err(error.to_string()));
                return;
            }
        };
        let taken = child.stdin.take().zip(child.stdout.take()).ok_or_else(|| "no pipes".to_owned());
        let _ = pipes.send(taken);
        let mut reason = None;
        loop {
            match self.killed.recv_timeout(LOOK_PERIOD) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(End::Because(error)) => {
                    reason = Some(error);
                    break;
                }
                Ok(End::Closed) | Err(RecvTimeoutError::Disconnected) => break,
            }
            if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
                // The reader may still find responses in the pipe.
                std::thread::sleep(DRAIN_WAIT);
                break;
            }
        }
        let ended = end(&mut child, reason.is_none());
        // After the kill, so that whatever the executable left behind does not touch the files of the next attempt.
        orphans::kill_orphans();
        self.open.end(match (reason, ended) {
            (Some(reason), _) => reason,
            (None, Some(status)) => {
                let exit = exit_of(status);
                StageError { exit: Some(exit), ..died(&exit.to_string()) }
            }
            (None, None) => died("it closed its stdout, and was killed"),
        });
    }
}

/// Waits a moment for the process to end by itself, if `by_itself`, then kills it. Returns its exit status if it ended
/// by itself.
fn end(child: &mut Child, by_itself: bool) -> Option<ExitStatus> {
    let deadline = Instant::now() + if by_itself { DRAIN_WAIT } else { Duration::ZERO };
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(LOOK_PERIOD / 5),
            Ok(None) | Err(_) => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

fn died(how: &str) -> StageError {
    StageError::new(StageCode::ProcessorDied, format!("the executable ended before it answered ({how})"))
}

/// The thread that reads what the process prints.
struct Reader {
    bin: String,
    stage: Stage,
    open: Arc<Open>,
    kill: Sender<End>,
}

impl Reader {
    fn read(self, stdout: ChildStdout, ready: &Sender<()>) {
        let mut from = BufReader::with_capacity(1 << 16, stdout);
        let broken = match self.await_ready_line(&mut from) {
            Ok(true) => {
                let _ = ready.send(());
                self.route(&mut from)
            }
            Ok(false) => None,
            Err(error) => Some(error),
        };
        let end = match broken {
            Some(error) => {
                self.open.end(error.clone());
                End::Because(error)
            }
            None => End::Closed,
        };
        let _ = self.kill.send(end);
    }

    /// Waits for the ready line; `false` at the end of the pipe.
    fn await_ready_line(&self, from: &mut impl BufRead) -> Result<bool, StageError> {
        let mut line = Vec::new();
        let read = from.by_ref().take(READY_BYTES_MAX).read_until(b'\n', &mut line);
        if !matches!(read, Ok(1..)) || !line.ends_with(b"\n") && line.len() < READY_BYTES_MAX as usize {
            return Ok(false);
        }
        if let Some(reason) = exec_child::reason_in(&line) {
            let message = format!("cannot start {}: {reason}", self.bin);
            return Err(StageError::new(StageCode::ProcessorStartFailed, message));
        }
        let (said, wanted) = (String::from_utf8_lossy(&line), damocles::ready_line(self.stage));
        match said.trim() == wanted {
            true => Ok(true),
            false => {
                let message = format!("bad handshake: {:?} instead of {wanted:?}", said.trim());
                Err(StageError::new(StageCode::ProcessorProtocol, message))
            }
        }
    }

    /// Routes responses until the pipe ends (`None`) or a line violates the protocol.
    fn route(&self, from: &mut impl BufRead) -> Option<StageError> {
        let mut line = Vec::new();
        loop {
            line.clear();
            match from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                Ok(1..) if line.ends_with(b"\n") => {}
                _ => return None,
            }
            match damocles::read(&line) {
                Ok(Heard::Response(response)) => {
                    let id = response.id;
                    if !self.open.answer(response) {
                        let message = format!("answered request {id}, which is not open");
                        return Some(StageError::new(StageCode::ProcessorProtocol, message));
                    }
                }
                Ok(Heard::Noise) => {
                    let text = String::from_utf8_lossy(&line);
                    tracing::warn!(line = %text.trim().chars().take(200).collect::<String>(), "not an answer, ignored");
                }
                Err(message) => return Some(StageError::new(StageCode::ProcessorProtocol, message)),
            }
        }
    }
}

/// The command that starts the executable through [`exec_child`], so that it dies with this process.
fn command(program: &Program) -> Result<Command, StageError> {
    let own = std::env::current_exe().map_err(|error| {
        StageError::new(StageCode::ProcessorStartFailed, format!("cannot find the own executable: {error}"))
    })?;
    let mut command = Command::new(own);
    command.args(["exec-child", "--"]).arg(&program.bin).args(&program.args);
    command.env(PARENT_PID, std::process::id().to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    Ok(command)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
