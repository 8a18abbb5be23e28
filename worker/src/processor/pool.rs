//! The worker's processors: who is busy, who is next.
//!
//! Room for a stage is a fair semaphore with one permit for each of its processors; whoever holds a permit takes an
//! idle processor off a list, and the guard puts both back when it is dropped, in that order. No counter is kept by
//! hand. Processes are started at the first request, kept for the next, and replaced after a failure, with a growing
//! pause.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::process::Command;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::command::Program;
use super::config::{GroupConfig, PoolConfig, own_environment};
use super::error::{PoolError, ProcessError, ProcessFailure};
use super::protocol::AnswerResult;
use super::running::{Answered, AskOptions, Ended, Gone, Launch, Running};
use super::spawner::Spawner;
use crate::stage::{Stage, StageRequest};

/// All processors of this worker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ProcessorPool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    spawner: Spawner,
    stages: BTreeMap<Stage, StagePool>,
}

#[derive(Debug)]
struct StagePool {
    room: Arc<Semaphore>,
    idle: Mutex<Vec<Processor>>,
    status: Mutex<BTreeMap<String, ProcessorStatus>>,
}

/// One configured processor, whether its process runs or not.
#[derive(Debug)]
struct Processor {
    id: String,
    config: Arc<GroupConfig>,
    program: Program,
    /// Where its temporary files may lie; the first that works is taken at each start.
    tmp_dirs: Vec<PathBuf>,
    tmp_dir: PathBuf,
    running: Option<Running>,
    /// Of the last process, which must be gone before the next one starts.
    gone: Option<Gone>,
    failures: u32,
}

/// What a processor is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessorStatus {
    /// Stage and number, for example `pc1-0`.
    pub id: String,
    /// The stage.
    pub stage: Stage,
    /// The process, if one runs.
    pub pid: Option<u32>,
    /// Since when somebody holds it.
    pub busy_since: Option<Instant>,
}

impl ProcessorPool {
    /// Makes a pool; starts no process yet. Within a tokio runtime, which must outlive the pool.
    ///
    /// # Errors
    /// [`PoolError`] if a group is empty, or built-in processors are wanted and this executable's path is unknown.
    pub fn new(config: PoolConfig) -> Result<Self, PoolError> {
        let mut processors: BTreeMap<Stage, Vec<Processor>> = BTreeMap::new();
        for group in config.groups {
            if group.count == 0 {
                return Err(PoolError::EmptyGroup(group.stage));
            }
            let own = std::env::current_exe().map_err(PoolError::OwnExecutable)?;
            let program = Program::of(&group, &own);
            let group = Arc::new(group);
            let of_stage = processors.entry(group.stage).or_default();
            for _ in 0..group.count {
                let id = format!("{}-{}", group.stage, of_stage.len());
                let tmp_dirs: Vec<PathBuf> = config.tmp_roots.iter().map(|root| root.join(&id)).collect();
                of_stage.push(Processor {
                    id,
                    config: Arc::clone(&group),
                    program: program.clone(),
                    tmp_dirs,
                    tmp_dir: PathBuf::new(),
                    running: None,
                    gone: None,
                    failures: 0,
                });
            }
        }
        let stages = processors.into_iter().map(|(stage, idle)| (stage, StagePool::new(stage, idle))).collect();
        let spawner = Spawner::start().map_err(PoolError::Spawner)?;
        Ok(Self { shared: Arc::new(Shared { spawner, stages }) })
    }

    /// Waits for a processor, in the order of asking, and holds it until the guard is dropped.
    ///
    /// # Errors
    /// [`PoolError::NoProcessor`].
    pub async fn acquire(&self, stage: Stage) -> Result<ProcessorGuard, PoolError> {
        let permit = self.permit(stage).await?;
        let of_stage = self.shared.stage(stage)?;
        // As many permits as processors, and a processor goes back before its permit: with a permit there is one.
        let processor = lock(&of_stage.idle).pop().ok_or(PoolError::NoProcessor(stage))?;
        of_stage.report(&processor, Some(Instant::now()));
        Ok(ProcessorGuard { shared: Arc::clone(&self.shared), stage, processor: Some(processor), _permit: permit })
    }

    /// Waits until [`acquire`](Self::acquire) would have been served, and holds nothing.
    ///
    /// # Errors
    /// [`PoolError::NoProcessor`].
    pub async fn wait_for_room(&self, stage: Stage) -> Result<(), PoolError> {
        self.permit(stage).await.map(drop)
    }

    /// Waits for a processor and has it carry out one request.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn run<R: StageRequest>(&self, request: &R) -> Result<R::Response, RunError> {
        Ok(self.acquire(R::STAGE).await?.run(request).await?)
    }

    /// Every processor, by id.
    #[must_use]
    pub fn snapshot(&self) -> Vec<ProcessorStatus> {
        self.shared
            .stages
            .values()
            .flat_map(|stage| lock(&stage.status).values().cloned().collect::<Vec<_>>())
            .collect()
    }

    /// How many processors of a stage are free.
    #[must_use]
    pub fn free(&self, stage: Stage) -> usize {
        self.shared.stages.get(&stage).map_or(0, |of_stage| of_stage.room.available_permits())
    }

    async fn permit(&self, stage: Stage) -> Result<OwnedSemaphorePermit, PoolError> {
        let room = Arc::clone(&self.shared.stage(stage)?.room);
        room.acquire_owned().await.map_err(|_| PoolError::NoProcessor(stage))
    }
}

/// Either the pool does not serve the stage, or the request failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The pool.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The request.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl Shared {
    fn stage(&self, stage: Stage) -> Result<&StagePool, PoolError> {
        self.stages.get(&stage).ok_or(PoolError::NoProcessor(stage))
    }
}

impl StagePool {
    fn new(stage: Stage, mut idle: Vec<Processor>) -> Self {
        let status =
            |processor: &Processor| ProcessorStatus { id: processor.id.clone(), stage, pid: None, busy_since: None };
        let status = idle.iter().map(|processor| (processor.id.clone(), status(processor))).collect();
        // Taken from the end: the first one first.
        idle.reverse();
        Self { room: Arc::new(Semaphore::new(idle.len())), idle: Mutex::new(idle), status: Mutex::new(status) }
    }

    fn report(&self, processor: &Processor, busy_since: Option<Instant>) {
        if let Some(status) = lock(&self.status).get_mut(&processor.id) {
            status.pid = processor.running.as_ref().and_then(Running::pid);
            status.busy_since = busy_since;
        }
    }
}

/// A processor that somebody holds. Dropping it gives it back.
#[derive(Debug)]
pub struct ProcessorGuard {
    shared: Arc<Shared>,
    stage: Stage,
    processor: Option<Processor>,
    _permit: OwnedSemaphorePermit,
}

impl ProcessorGuard {
    /// Which processor it is, for example `pc1-0`.
    #[must_use]
    pub fn id(&self) -> &str {
        self.processor.as_ref().map_or("", |processor| &processor.id)
    }

    /// Has the request carried out. The process is started if there is none.
    ///
    /// If the future is dropped before it is done, the process is killed with it.
    ///
    /// # Errors
    /// [`ProcessError`]; unless the stage itself answered, the process has been killed and the next call starts
    /// another.
    pub async fn run<R: StageRequest>(&mut self, request: &R) -> Result<R::Response, ProcessError> {
        let task =
            serde_json::to_value(request).map_err(|error| self.failed(ProcessFailure::Garbage(error.to_string())))?;
        let output = self.run_value(task).await?;
        serde_json::from_value(output).map_err(|error| self.failed(ProcessFailure::WrongOutput(error.to_string())))
    }

    /// [`run`](Self::run) for requests that are JSON already.
    ///
    /// # Errors
    /// [`ProcessError`].
    pub async fn run_value(&mut self, task: Value) -> Result<Value, ProcessError> {
        let stage = self.stage;
        let shared = Arc::clone(&self.shared);
        match self.processor.as_mut() {
            Some(processor) => processor.run(&shared, stage, task).await,
            None => Err(self.failed(ProcessFailure::Exited)),
        }
    }

    fn failed(&self, failure: ProcessFailure) -> ProcessError {
        let stderr_tail = self.processor.as_ref().and_then(|processor| processor.running.as_ref()).map(Running::tail);
        ProcessError {
            processor: self.id().to_owned(),
            failure,
            exit: None,
            stderr_tail: stderr_tail.unwrap_or_default(),
        }
    }
}

impl Drop for ProcessorGuard {
    fn drop(&mut self) {
        let Some(processor) = self.processor.take() else { return };
        if let Ok(of_stage) = self.shared.stage(self.stage) {
            of_stage.report(&processor, None);
            lock(&of_stage.idle).push(processor);
        }
        // The permit is a field, so it goes back after this.
    }
}

impl Processor {
    async fn run(&mut self, shared: &Shared, stage: Stage, task: Value) -> Result<Value, ProcessError> {
        // The process is owned by this future while it works: a dropped future kills it.
        let running = match self.running.take() {
            // One whose temporary directory went away with a disk is replaced.
            Some(running) if running.ready().await && self.tmp_dir.is_dir() => running,
            replaced => {
                drop(replaced);
                self.start(shared, stage).await?
            }
        };
        if let Ok(of_stage) = shared.stage(stage)
            && let Some(status) = lock(&of_stage.status).get_mut(&self.id)
        {
            status.pid = running.pid();
        }
        let options = AskOptions { limit: self.config.timeout, progress: None };
        match running.ask(task, options).await {
            Ok(Answered { result: AnswerResult::Output(output), usage }) => {
                tracing::debug!(processor = %self.id, ?usage, "request done");
                self.failures = 0;
                self.running = Some(running);
                Ok(output)
            }
            Ok(Answered { result: AnswerResult::Error(failure), .. }) => {
                self.failures = 0;
                let stderr_tail = running.tail();
                self.running = Some(running);
                Err(ProcessError {
                    processor: self.id.clone(),
                    failure: ProcessFailure::Stage(failure),
                    exit: None,
                    stderr_tail,
                })
            }
            Err(ended) => {
                if !running.has_ended() {
                    self.running = Some(running);
                }
                Err(self.ended(ended))
            }
        }
    }

    async fn start(&mut self, shared: &Shared, stage: Stage) -> Result<Running, ProcessError> {
        let pause = self.config.backoff_after(self.failures);
        if pause > Duration::ZERO {
            tracing::debug!(processor = %self.id, failures = self.failures, ?pause, "waiting before a restart");
            tokio::time::sleep(pause).await;
        }
        if let Some(gone) = self.gone.take() {
            gone.wait().await;
        }
        if let Err(reason) = self.choose_tmp_dir() {
            let failure = ProcessFailure::Start { bin: self.program.bin.display().to_string(), reason };
            return Err(self.ended(Ended { failure, exit: None, stderr_tail: Vec::new() }));
        }
        let launch = Launch {
            spawner: &shared.spawner,
            command: self.command(),
            bin: self.config.bin.as_ref().unwrap_or(&self.program.bin).display().to_string(),
            processor: self.id.clone(),
            stage,
            tmp_dir: self.tmp_dir.clone(),
            limits: self.config.limits(),
        };
        match Running::start(launch).await {
            Ok(running) => {
                self.gone = Some(running.gone());
                tracing::info!(processor = %self.id, pid = running.pid(), "processor started");
                Ok(running)
            }
            Err(ended) => Err(self.ended(ended)),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program.bin);
        let own = own_environment();
        command.args(&self.program.args).env_clear().env("TMPDIR", &self.tmp_dir).envs(self.config.environment(own));
        command
    }

    /// Empties the first directory for temporary files that works. The reason says what is wrong with each.
    fn choose_tmp_dir(&mut self) -> Result<(), String> {
        let mut reasons = Vec::new();
        for dir in &self.tmp_dirs {
            match empty_dir(dir) {
                Ok(()) => {
                    self.tmp_dir = dir.clone();
                    return Ok(());
                }
                Err(error) => reasons.push(format!("{}: {error}", dir.display())),
            }
        }
        Err(format!("no directory for temporary files: {}", reasons.join("; ")))
    }

    fn ended(&mut self, ended: Ended) -> ProcessError {
        self.failures = self.failures.saturating_add(1);
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
