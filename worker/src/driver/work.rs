//! Does what a state needs, as a future: run a phase on a processor, wait, or clean the slot.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, Phase, Token,
    identity::{self, KnownStore},
    machine::worker::{Input, LastStep, Need, Outcome, State},
    message::Intent,
    workflows::{Progress, Step},
};
use tokio::sync::Semaphore;

use super::{Context, retry_pause};
use crate::{
    config,
    identity::check_store,
    processor::{ProcessError, ProcessorGuard, Turn, WorkOf},
    slot::{STATIC_DIR, Slot},
    stage::{StageCode, StageError, files, writes_to_store},
    workflows::{self, Workplace},
};

/// If reading a store's identity file takes longer than this, the store counts as away.
const STORE_LIMIT: Duration = Duration::from_secs(30);
/// How many slots may check the store at the same time.
static STORE_LOOKS: Semaphore = Semaphore::const_new(4);

/// The outcome.
pub enum Done {
    /// A processor was acquired for the state's phase.
    Acquired(Box<ProcessorGuard>),
    /// An input for the machine.
    Input(Input),
}

/// A job in its slot.
pub struct Job {
    /// What all slots share.
    pub context: Arc<Context>,
    /// The slot.
    pub slot: Slot,
    /// The job's directory in it.
    pub work_dir: PathBuf,
    /// The job's intent.
    pub intent: Intent,
    /// The lease's token.
    pub token: Token,
    /// The permanent stores that the manager knows.
    pub stores: Vec<KnownStore>,
}

impl Job {
    /// Begins what a state needs, up to the acquisition of a processor if it needs one.
    pub fn begin(self, state: &State, turn: Turn) -> BoxFuture<'static, Done> {
        match state.need() {
            Need::Run(phase) if writes_to_store(phase) => async move {
                // Check the store first, so that no processor is held while it is waited for.
                match self.look_at_store().await {
                    Ok(_) => self.acquire(phase, turn).await,
                    Err(error) => Done::Input(Input::Failed { error: self.report(&error) }),
                }
            }
            .boxed(),
            Need::Run(phase) => async move { self.acquire(phase, turn).await }.boxed(),
            Need::Room(phase) => {
                let seen = state.step().and_then(workflows::room_seen);
                async move { self.room(phase, turn, seen).await }.boxed()
            }
            Need::Retry if waits_for_store(state) => async move { self.await_store().await }.boxed(),
            Need::Retry => {
                let pause = retry_pause(self.context.config.recover_interval, state.attempt());
                async move {
                    tracing::info!(pause_ms = pause.as_millis() as u64, "waiting before the next try");
                    tokio::time::sleep(pause).await;
                    Done::Input(Input::RetryDue)
                }
                .boxed()
            }
            Need::Clean => {
                let finished =
                    matches!(state.step(), Some(Step::Last(LastStep::Cleaning { outcome: Outcome::Finished })));
                async move { self.clean(finished).await }.boxed()
            }
            Need::Fact | Need::Person | Need::Nothing => std::future::pending().boxed(),
        }
    }

    /// Runs a phase on its processor. The processor is free again before the result is reported.
    pub fn run(self, mut guard: ProcessorGuard, state: State) -> BoxFuture<'static, Done> {
        async move {
            guard.works_on(WorkOf { sector: self.intent.sector, slot: Some(self.slot.index()) });
            guard.works_in(&self.work_dir);
            let outcome = match state.step() {
                Some(step) => self.run_step(&mut guard, step).await,
                None => Err(self.violated("nothing to run".to_owned())),
            };
            drop(guard);
            Done::Input(match outcome {
                Ok(progress) => {
                    self.drop_spent(workflows::spent(&progress)).await;
                    Input::Progress(progress)
                }
                Err(error) => Input::Failed { error: self.blame_the_slot(error).await },
            })
        }
        .boxed()
    }

    async fn acquire(&self, phase: Phase, turn: Turn) -> Done {
        match self.context.pool.acquire_as(phase, turn).await {
            Ok(guard) => Done::Acquired(Box::new(guard)),
            Err(error) => {
                let report = ErrorReport::from_error(ErrorClass::Crit, ErrorCode::PROCESSOR_START_FAILED, &error);
                Done::Input(Input::Failed { error: self.named(report) })
            }
        }
    }

    /// Waits for a free processor, and then returns `seen`.
    async fn room(&self, phase: Phase, turn: Turn, seen: Option<Input>) -> Done {
        match self.context.pool.wait_for_room_as(phase, turn).await {
            Ok(()) => Done::Input(seen.unwrap_or_else(|| Input::Failed {
                error: self.violated(format!("the step waits for room at {phase} for nothing")),
            })),
            Err(error) => {
                let report = ErrorReport::from_error(ErrorClass::Crit, ErrorCode::PROCESSOR_START_FAILED, &error);
                Done::Input(Input::Failed { error: self.named(report) })
            }
        }
    }

    async fn run_step(&self, guard: &mut ProcessorGuard, step: &Step) -> Result<Progress, ErrorReport> {
        self.slot.operate(|| Ok(())).await.map_err(|error| self.report(&error))?;
        let at = self.workplace();
        let (Some(phase), Some(task)) = (step.phase(), workflows::request(step, &at)) else {
            return Err(self.violated(format!("step {} has no phase", step.name())));
        };
        if workflows::makes_work_dir(step) {
            self.make_work_dir().await?;
        }
        let failed = |error: ProcessError| self.named(error.report());
        let output = guard.run_made(task).await.map_err(failed)?;
        let found = match writes_to_store(phase) {
            // A third-party executable may not have checked the store.
            true => self.look_at_store().await.map_err(|error| self.report(&error))?,
            false => None,
        };
        guard.understood(workflows::output(step, output, &at, found)).map_err(failed)
    }

    fn workplace(&self) -> Workplace {
        let config = &self.context.config;
        Workplace {
            work_dir: self.work_dir.clone(),
            intent: self.intent.clone(),
            token: self.token,
            store: config.store.clone(),
            store_id: identity::known_id(&self.stores, &config.store.name).map(str::to_owned),
            static_dirs: config.slots.iter().map(|slot| slot.join(STATIC_DIR)).collect(),
        }
    }

    async fn make_work_dir(&self) -> Result<(), ErrorReport> {
        let dir = self.work_dir.clone();
        self.slot
            .operate(move || files::create_dir(&dir).and_then(|()| files::sync_parent(&dir)))
            .await
            .map_err(|error| self.report(&error))
    }

    /// Removes files of the job that are no longer needed.
    async fn drop_spent(&self, names: &'static [&'static str]) {
        for name in names {
            let path = self.work_dir.join(name);
            if let Err(error) = self.slot.operate(move || files::remove_tree(&path)).await {
                tracing::warn!(%error, "{name} stays until the slot is cleaned");
            }
        }
    }

    /// Removes the job's files from the slot. After a transfer, this is done only while the store is the right one,
    /// because it has the only other copy.
    async fn clean(&self, finished: bool) -> Done {
        let phases = self.intent.kind.workflow().map_or(&[][..], |workflow| workflow.phases());
        let is_stored = finished && phases.iter().any(|phase| writes_to_store(*phase));
        if is_stored && let Err(error) = self.look_at_store().await {
            return Done::Input(Input::Failed { error: self.report(&error) });
        }
        let dir = self.work_dir.clone();
        // Let file operations of a killed phase end first.
        self.slot.quiet().await;
        let cleaned = self.slot.operate(move || files::remove_tree(&dir).and_then(|()| files::sync_parent(&dir))).await;
        Done::Input(match cleaned {
            Ok(()) => Input::Cleaned,
            // Retry after any error, because nothing is lost by repeating.
            Err(error) => {
                let report = ErrorReport::from_error(ErrorClass::Temp, error.code.error_code(), &error);
                Input::Failed { error: self.named(report) }
            }
        })
    }

    /// Checks that the permanent store is there and is the right one. Returns its id, if it has one.
    async fn look_at_store(&self) -> Result<Option<String>, StageError> {
        let config::Store { name, path } = self.context.config.store.clone();
        let known = identity::known_id(&self.stores, &name).map(str::to_owned);
        let silent = format!("store `{name}` at {} does not answer within {} s", path.display(), STORE_LIMIT.as_secs());
        let looking = async {
            // A check that hangs keeps its permit, so that threads do not pile up behind a server that is away.
            let permit = STORE_LOOKS.acquire().await;
            let look = move || {
                let _permit = permit;
                check_store(&path, &name, known.as_deref())
            };
            let ended = |error: tokio::task::JoinError| Err(StageError::new(StageCode::IoFailed, error.to_string()));
            tokio::task::spawn_blocking(look).await.unwrap_or_else(ended)
        };
        tokio::time::timeout(STORE_LIMIT, looking)
            .await
            .unwrap_or_else(|_| Err(StageError::new(StageCode::StoreUnavailable, silent)))
    }

    /// Waits for as long as it takes until the store is the right one and accepts files.
    async fn await_store(&self) -> Done {
        tracing::warn!(slot = self.slot.name(), "waiting for the permanent store; the sector goes on when it is back");
        self.context.store.doubt().await;
        loop {
            tokio::time::sleep(self.context.config.recover_interval).await;
            let problem = match self.look_at_store().await {
                Ok(_) => self.context.store.problem().await.map(|report| report.message()),
                Err(error) => Some(error.to_string()),
            };
            let Some(problem) = problem else { break };
            tracing::debug!(slot = self.slot.name(), problem, "the store is still away");
        }
        tracing::info!(slot = self.slot.name(), "the permanent store is back");
        Done::Input(Input::RetryDue)
    }

    /// Replaces a phase's error if the slot itself is gone, because that is then the cause.
    async fn blame_the_slot(&self, error: ErrorReport) -> ErrorReport {
        match self.slot.operate(|| Ok(())).await {
            Err(lost) if lost.code == StageCode::SlotUnusable => {
                let mut causes = self.report(&lost).causes;
                causes.extend(error.causes);
                ErrorReport { class: lost.class(), code: lost.code.error_code(), causes, ..error }
            }
            _ => error,
        }
    }

    fn violated(&self, message: String) -> ErrorReport {
        self.named(ErrorReport::new(ErrorClass::Perm, ErrorCode::PROTOCOL_VIOLATED, message))
    }

    fn report(&self, error: &StageError) -> ErrorReport {
        self.named(ErrorReport::from_error(error.class(), error.code.error_code(), error))
    }

    /// Adds the host and the slot to a report.
    fn named(&self, report: ErrorReport) -> ErrorReport {
        self.context.named(&self.slot, report)
    }
}

/// Whether the last failure was the store's. Then the retry waits for the store instead of a fixed time.
fn waits_for_store(state: &State) -> bool {
    matches!(state, State::BackingOff { error, .. } if error.code.is_waited_for())
}
