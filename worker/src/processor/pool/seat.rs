//! One configured processor: how its process is started, asked and replaced.
//!
//! Everything that knows of [`Running`] is here. The process is started at the first request and kept for the next; after a
//! failure the next request starts another, after a pause that grows.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::sync::Mutex;

use crate::processor::config::{GroupConfig, own_environment};
use crate::processor::error::{ProcessError, ProcessFailure};
use crate::processor::protocol::AnswerResult;
use crate::processor::running::{Ended, Launch, Running};
use crate::processor::spawner::Spawner;

/// A processor, whether its process runs or not.
#[derive(Debug)]
pub(super) struct Processor {
    pub(super) id: String,
    config: Arc<GroupConfig>,
    bin: PathBuf,
    /// Where its temporary files may lie; the first that works is taken at each start.
    tmp_dirs: Vec<PathBuf>,
    process: Mutex<Process>,
}

#[derive(Debug, Default)]
struct Process {
    running: Option<Running>,
    tmp_dir: PathBuf,
    failures: u32,
}

impl Processor {
    pub(super) fn new(id: String, config: Arc<GroupConfig>, bin: PathBuf, tmp_roots: &[PathBuf]) -> Self {
        let tmp_dirs = tmp_roots.iter().map(|root| root.join(&id)).collect();
        Self { id, config, bin, tmp_dirs, process: Mutex::default() }
    }

    /// The process id, if a process runs and is not in use at this moment.
    pub(super) fn idle_pid(&self) -> Option<Option<u32>> {
        self.process.try_lock().ok().map(|process| process.running.as_ref().and_then(Running::pid))
    }

    /// The last lines of its stderr, if it is not in use at this moment.
    pub(super) fn tail(&self) -> Vec<String> {
        let process = self.process.try_lock().ok();
        process.and_then(|process| process.running.as_ref().map(|running| running.tail.lines())).unwrap_or_default()
    }

    /// Has a task carried out, by a process that is told of by its id. If the future is dropped before it is done, the
    /// process is killed.
    pub(super) async fn ask(
        &self,
        spawner: &Spawner,
        task: Value,
        runs: impl Fn(Option<u32>),
    ) -> Result<Value, ProcessError> {
        let mut process = self.process.lock().await;
        // The process is owned by this future while it works: a dropped future kills it.
        let mut running = match process.running.take().map(|mut running| (running.has_ended(), running)) {
            // One whose temporary directory went away with a disk is replaced.
            Some((false, running)) if process.tmp_dir.is_dir() => running,
            _ => {
                runs(None);
                self.start(spawner, &mut process).await?
            }
        };
        runs(running.pid());
        match running.ask(task, self.config.timeout).await {
            Ok(AnswerResult::Output(output)) => {
                process.failures = 0;
                process.running = Some(running);
                Ok(output)
            }
            Ok(AnswerResult::Error(failure)) => {
                process.failures = 0;
                let stderr_tail = running.tail.lines();
                process.running = Some(running);
                Err(ProcessError {
                    processor: self.id.clone(),
                    failure: ProcessFailure::Stage(failure),
                    exit: None,
                    stderr_tail,
                })
            }
            Err(failure) => {
                let ended = running.end(failure).await;
                runs(None);
                Err(self.ended(&mut process, ended))
            }
        }
    }

    async fn start(&self, spawner: &Spawner, process: &mut Process) -> Result<Running, ProcessError> {
        let pause = self.config.backoff_after(process.failures);
        if pause > Duration::ZERO {
            tracing::debug!(processor = %self.id, failures = process.failures, ?pause, "waiting before a restart");
            tokio::time::sleep(pause).await;
        }
        match self.usable_tmp_dir() {
            Ok(dir) => process.tmp_dir = dir,
            Err(reason) => {
                let failure = ProcessFailure::Start { bin: self.bin.display().to_string(), reason };
                return Err(self.ended(process, Ended { failure, exit: None, stderr_tail: Vec::new() }));
            }
        }
        let launch = Launch {
            spawner,
            command: self.command(&process.tmp_dir),
            bin: self.bin.display().to_string(),
            processor: self.id.clone(),
            stage: self.config.stage,
            start_timeout: self.config.start_timeout,
            answer_bytes_max: self.config.answer_bytes_max,
        };
        match Running::start(launch).await {
            Ok(running) => {
                tracing::info!(processor = %self.id, pid = running.pid(), "processor started");
                Ok(running)
            }
            Err(ended) => Err(self.ended(process, ended)),
        }
    }

    fn command(&self, tmp_dir: &Path) -> Command {
        let mut command = Command::new(&self.bin);
        if self.config.bin.is_none() {
            command.args(["processor", self.config.stage.name()]);
        }
        let own = own_environment();
        command.args(&self.config.args).env_clear().env("TMPDIR", tmp_dir).envs(self.config.environment(own));
        command
    }

    /// Empties the first directory for temporary files that works. The reason says what is wrong with each.
    fn usable_tmp_dir(&self) -> Result<PathBuf, String> {
        let mut reasons = Vec::new();
        for dir in &self.tmp_dirs {
            match empty_dir(dir) {
                Ok(()) => return Ok(dir.clone()),
                Err(error) => reasons.push(format!("{}: {error}", dir.display())),
            }
        }
        Err(format!("no directory for temporary files: {}", reasons.join("; ")))
    }

    fn ended(&self, process: &mut Process, ended: Ended) -> ProcessError {
        process.failures = process.failures.saturating_add(1);
        let Ended { failure, exit, stderr_tail } = ended;
        let error = ProcessError { processor: self.id.clone(), failure, exit, stderr_tail };
        tracing::warn!(processor = %self.id, code = %error.code(), %error, "processor lost");
        error
    }
}

/// Makes an empty directory, and the one that it is in, but not what that is in: it may be a disk that is not mounted.
fn empty_dir(dir: &Path) -> std::io::Result<()> {
    if let Some(root) = dir.parent() {
        make_dir(root)?;
    }
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    make_dir(dir)
}

fn make_dir(dir: &Path) -> std::io::Result<()> {
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        made => made,
    }
}
