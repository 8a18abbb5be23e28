//! The pool of processors: which are busy, and who gets the next free one.
//!
//! [`sealbus_planner::schedule`] decides the order of work; it is pure, and `turns` lets requests wait for its
//! decisions. `seat` is one processor with its process. `bound` and `confined` bind it and put it into a control group.
//! `live` is what people see of all processors. A guard holds a seat with everything that was reserved for it. Dropping
//! the guard returns all of that, and whoever is next gets it at once.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use sealbus_planner::schedule::{Rules, Seat, Setup};
use serde_json::Value;
use tokio::sync::watch;

use super::config::{GroupConfig, PoolConfig};
use super::error::{PoolError, ProcessError, ProcessFailure};
use super::spawner::Spawner;
use crate::cgroup::CgroupRoot;
use crate::stage::{Json, Stage, StageRequest};

mod bound;
mod confined;
mod live;
mod seat;
mod turns;

use live::Live;
pub use live::{ProcessorStatus, Work, WorkOf};
use seat::Processor;
pub use turns::Turn;
use turns::{Held, Turns};

/// All processors of this worker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ProcessorPool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    spawner: Spawner,
    turns: Arc<Turns>,
    /// The processors, indexed as in the scheduler.
    processors: Vec<Processor>,
    live: Live,
}

impl ProcessorPool {
    /// Creates a pool without limits on stages and without locks.
    ///
    /// # Errors
    /// The errors of [`with_rules`](Self::with_rules).
    pub fn new(config: PoolConfig) -> Result<Self, PoolError> {
        Self::with_rules(config, Rules::default())
    }

    /// Creates a pool. No process is started yet. Call it within a tokio runtime, which must outlive the pool.
    ///
    /// # Errors
    /// [`PoolError`] if a group is empty or could never work under the rules, or if built-in processors are configured
    /// and the path of this executable is unknown.
    pub fn with_rules(config: PoolConfig, rules: Rules) -> Result<Self, PoolError> {
        Self::with_groups(config, rules, None)
    }

    /// Like [`with_rules`](Self::with_rules), with a control group below `root` for each processor, if `root` is given.
    /// `root` is kept as long as the pool exists.
    ///
    /// # Errors
    /// The errors of [`with_rules`](Self::with_rules).
    pub fn with_groups(config: PoolConfig, rules: Rules, root: Option<CgroupRoot>) -> Result<Self, PoolError> {
        let root = root.map(Arc::new);
        if let Some(group) = config.groups.iter().find(|group| group.count == 0) {
            return Err(PoolError::EmptyGroup(group.stage));
        }
        let setup = Setup::new(config.groups.iter().map(GroupConfig::schedule).collect(), rules);
        let turns = Arc::new(Turns::new(&setup)?);
        let mut processors: Vec<Processor> = Vec::new();
        let mut shown = Vec::new();
        for group in config.groups {
            let own = match &group.wrapper {
                Some(wrapper) => wrapper.clone(),
                None => std::env::current_exe().map_err(PoolError::OwnExecutable)?,
            };
            let group = Arc::new(group);
            for nth in 0..group.count {
                let stage = group.stage;
                let id = format!("{stage}-{}", shown.iter().filter(|(_, other, _)| *other == stage).count());
                shown.push((id.clone(), stage, group.placement(nth)));
                let processor = Processor::new(id, Arc::clone(&group), nth, &own, &config.tmp_roots);
                processors.push(processor.confined(root.as_ref()));
            }
        }
        let spawner = Spawner::start().map_err(PoolError::Spawner)?;
        Ok(Self { shared: Arc::new(Shared { spawner, turns, processors, live: Live::new(shown) }) })
    }

    /// Waits for a processor with the lowest priority, and holds it until the guard is dropped.
    ///
    /// # Errors
    /// [`PoolError::NoProcessor`].
    pub async fn acquire(&self, stage: Stage) -> Result<ProcessorGuard, PoolError> {
        self.acquire_as(stage, Turn::default()).await
    }

    /// Waits for a processor with the priority that `turn` gives, and holds it until the guard is dropped.
    ///
    /// # Errors
    /// [`PoolError::NoProcessor`].
    pub async fn acquire_as(&self, stage: Stage, turn: Turn) -> Result<ProcessorGuard, PoolError> {
        Ok(self.guard(stage, self.shared.turns.seat(stage, turn).await?))
    }

    fn guard(&self, stage: Stage, held: Held) -> ProcessorGuard {
        self.shared.live.begin(held.seat.processor, held.seat.grant);
        ProcessorGuard { shared: Arc::clone(&self.shared), stage, held, dir: None, asking: false }
    }

    /// Waits for a processor before all others. What it needs is kept for it meanwhile, so nothing else that needs the
    /// same begins.
    ///
    /// # Errors
    /// [`PoolError::NoProcessor`].
    pub async fn reserve(&self, stage: Stage) -> Result<ProcessorGuard, PoolError> {
        Ok(self.guard(stage, self.shared.turns.reserved(stage).await?))
    }

    /// Waits until [`acquire`](Self::acquire) would succeed at once, and holds nothing.
    ///
    /// # Errors
    /// [`PoolError::NoProcessor`].
    pub async fn wait_for_room(&self, stage: Stage) -> Result<(), PoolError> {
        self.wait_for_room_as(stage, Turn::default()).await
    }

    /// Waits until [`acquire_as`](Self::acquire_as) would succeed at once, and holds nothing.
    ///
    /// # Errors
    /// [`PoolError::NoProcessor`].
    pub async fn wait_for_room_as(&self, stage: Stage, turn: Turn) -> Result<(), PoolError> {
        self.shared.turns.room(stage, turn).await
    }

    /// Waits for a processor and has it carry out one request.
    ///
    /// # Errors
    /// [`RunError`].
    pub async fn run<R: StageRequest>(&self, request: &R) -> Result<R::Response, RunError> {
        Ok(self.acquire(R::STAGE).await?.run(request).await?)
    }

    /// Every processor, in the order of the configuration.
    #[must_use]
    pub fn snapshot(&self) -> Vec<ProcessorStatus> {
        self.shared.live.statuses()
    }

    /// How many more requests the processors of a stage could take, ignoring limits and locks.
    #[must_use]
    pub fn free(&self, stage: Stage) -> usize {
        self.shared.turns.free(stage)
    }
}

/// Why [`ProcessorPool::run`] failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The pool does not serve the stage.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The request failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// A held seat at a processor. Dropping it returns the seat.
#[derive(Debug)]
pub struct ProcessorGuard {
    shared: Arc<Shared>,
    stage: Stage,
    /// Dropped last of these fields, so the seat is returned after its status is updated.
    held: Held,
    /// The directory of the sector that it works for, if that is known.
    dir: Option<PathBuf>,
    /// Whether a request has begun and not ended.
    asking: bool,
}

impl ProcessorGuard {
    /// The processor's name, for example `pc1-0`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.processor().id
    }

    /// Records the sector and slot that it works for, to be shown to people.
    pub fn works_on(&self, of: WorkOf) {
        self.shared.live.tell(self.held.seat.processor, self.held.seat.grant, of);
    }

    /// Names the directory of the sector that it works for. A confined process touches no other sector's.
    pub fn works_in(&mut self, dir: &Path) {
        self.dir = Some(dir.to_owned());
    }

    /// Starts the processor's process if it is not running, so that a request's time is not spent on that.
    ///
    /// # Errors
    /// [`ProcessError`] if it cannot be started.
    pub async fn ready(&self) -> Result<(), ProcessError> {
        let Shared { spawner, live, .. } = &*self.shared;
        let processor = self.held.seat.processor;
        self.processor().ready(spawner, |pid, bound| live.runs(processor, pid, bound)).await
    }

    /// Gives the seat back when the process of a request that was dropped is gone. Until then nobody else gets the seat,
    /// so however many processes hang, there are no more of them than seats.
    pub async fn gone(self) {
        self.processor().ended().await;
    }

    /// Carries out a request. If the processor's process is not running, it is started.
    ///
    /// If the future is dropped early, the request is stopped. A process that works on nothing else is then killed.
    ///
    /// # Errors
    /// [`ProcessError`]. Unless the stage itself answered with the error, the process has been killed, and the next
    /// call starts a new one.
    pub async fn run<R: StageRequest>(&mut self, request: &R) -> Result<R::Response, ProcessError> {
        let output = self.run_made(Json::of(request)).await?;
        self.understood(serde_json::from_value(output))
    }

    /// [`run`](Self::run) for a request that somebody else has made JSON of, or has failed to.
    ///
    /// # Errors
    /// [`ProcessError`].
    pub async fn run_made(&mut self, task: serde_json::Result<Json>) -> Result<Value, ProcessError> {
        let task = task.map_err(|error| self.failed(ProcessFailure::Task(error.to_string())))?;
        self.run_json(task).await
    }

    /// What was read out of this processor's output.
    ///
    /// # Errors
    /// [`ProcessError`] if it could not be read.
    pub fn understood<T>(&self, read: serde_json::Result<T>) -> Result<T, ProcessError> {
        read.map_err(|error| self.failed(ProcessFailure::WrongOutput(error.to_string())))
    }

    /// Like [`run`](Self::run), for requests that are JSON already.
    ///
    /// # Errors
    /// [`ProcessError`].
    pub async fn run_json(&mut self, task: Json) -> Result<Value, ProcessError> {
        self.asking = true;
        let outcome = self.ask(task).await;
        self.asking = false;
        outcome
    }

    /// Like [`run_json`](Self::run_json), for a [`Value`].
    ///
    /// # Errors
    /// [`ProcessError`].
    pub async fn run_value(&mut self, task: Value) -> Result<Value, ProcessError> {
        self.run_made(Json::of(&task)).await
    }

    async fn ask(&self, task: Json) -> Result<Value, ProcessError> {
        let Shared { spawner, live, .. } = &*self.shared;
        let began = Instant::now();
        let Seat { processor, grant } = self.held.seat;
        let runs = |pid, bound| live.runs(processor, pid, bound);
        let (progress, mut told) = watch::channel(None);
        let mut asking = pin!(self.processor().ask(spawner, task, self.dir.as_deref(), progress, runs));
        let output = loop {
            tokio::select! {
                biased;
                answer = &mut asking => break answer?,
                Ok(()) = told.changed() => live.progressed(processor, grant, told.borrow_and_update().clone()),
            }
        };
        live.took(self.stage, began.elapsed());
        Ok(output)
    }

    fn processor(&self) -> &Processor {
        &self.shared.processors[self.held.seat.processor]
    }

    fn failed(&self, failure: ProcessFailure) -> ProcessError {
        let processor = self.processor();
        ProcessError { processor: processor.id.clone(), failure, exit: None, stderr_tail: processor.tail() }
    }
}

impl Drop for ProcessorGuard {
    fn drop(&mut self) {
        let seat = self.held.seat;
        // Dropping the request may have killed the process.
        if self.asking {
            self.shared.live.runs(seat.processor, self.processor().pid(), None);
        }
        self.shared.live.end(seat.processor, seat.grant);
    }
}
