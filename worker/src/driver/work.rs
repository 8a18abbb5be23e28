//! What a state needs, as a future: a processor and a phase on it, a pause, an empty slot.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, Phase, Token,
    identity::{self, KnownStore},
    machine::worker::{Input, LastStep, Need, Outcome, State},
    message::Intent,
    parts::StoredSector,
    workflows::{
        Step as AnyStep,
        seal::worker::{Progress, Step},
    },
};

use tokio::sync::Semaphore;

use super::{Context, retry_pause};
use crate::{
    config,
    identity::check_store,
    processor::{ProcessError, ProcessorGuard, Turn, WorkOf},
    slot::Slot,
    stage::{StageCode, StageError, Workspace, add_pieces, c1, c2, files, pc1, pc2, transfer, tree_d},
};

/// How long a store may take over its identity file before it counts as away.
const STORE_LIMIT: Duration = Duration::from_secs(30);
/// How many look at the store at the same time.
static STORE_LOOKS: Semaphore = Semaphore::const_new(4);
/// Where a slot keeps what all sectors of its disk share.
const STATIC_DIR: &str = "static";

/// What came of it.
pub enum Done {
    /// A processor is ours for the state's phase.
    Acquired(Box<ProcessorGuard>),
    /// Something for the machine.
    Input(Input),
}

/// Where work is done.
pub struct Job {
    /// What all slots share.
    pub context: Arc<Context>,
    /// The slot.
    pub slot: Slot,
    /// The sector's directory in it.
    pub work_dir: PathBuf,
    /// The permanent stores that the manager knows.
    pub stores: Vec<KnownStore>,
}

impl Job {
    /// The first half of what a state needs: up to the processor, if it needs one.
    pub fn begin(self, state: &State, turn: Turn) -> BoxFuture<'static, Done> {
        match state.need() {
            Need::Run(Phase::Transfer) => async move {
                // Nothing holds a processor while it waits for a store.
                match self.look_at_store().await {
                    Ok(_) => self.acquire(Phase::Transfer, turn).await,
                    Err(error) => Done::Input(Input::Failed { error: self.report(&error) }),
                }
            }
            .boxed(),
            Need::Run(phase) => async move { self.acquire(phase, turn).await }.boxed(),
            Need::Room(phase) => async move { self.room(phase, turn).await }.boxed(),
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
                    matches!(state.step(), Some(AnyStep::Last(LastStep::Cleaning { outcome: Outcome::Finished })));
                async move { self.clean(finished).await }.boxed()
            }
            Need::Fact | Need::Person | Need::Nothing => std::future::pending().boxed(),
        }
    }

    /// The second half of a phase. The processor is free again before the result is told.
    pub fn run(
        self,
        mut guard: ProcessorGuard,
        state: State,
        intent: Intent,
        token: Token,
    ) -> BoxFuture<'static, Done> {
        async move {
            guard.works_on(WorkOf { sector: intent.sector, slot: self.slot.index() });
            let outcome = match state.step().and_then(|step| step.seal()) {
                Some(step) => self.run_step(&mut guard, step, &intent, token).await,
                None => {
                    Err(self.named(ErrorReport::new(ErrorClass::Perm, ErrorCode::PROTOCOL_VIOLATED, "nothing to run")))
                }
            };
            drop(guard);
            let outcome = match outcome {
                Err(error) => Err(self.blame_the_slot(error).await),
                done => done,
            };
            if let Ok(Progress::C1Done) = outcome {
                self.drop_staged_data().await;
            }
            Done::Input(outcome.map_or_else(|error| Input::Failed { error }, Input::from))
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

    async fn room(&self, phase: Phase, turn: Turn) -> Done {
        match self.context.pool.wait_for_room_as(phase, turn).await {
            Ok(()) => Done::Input(Input::from(Progress::Pc1RoomSeen)),
            Err(error) => {
                let report = ErrorReport::from_error(ErrorClass::Crit, ErrorCode::PROCESSOR_START_FAILED, &error);
                Done::Input(Input::Failed { error: self.named(report) })
            }
        }
    }

    async fn run_step(
        &self,
        guard: &mut ProcessorGuard,
        step: &Step,
        intent: &Intent,
        token: Token,
    ) -> Result<Progress, ErrorReport> {
        self.slot.operate(|| Ok(())).await.map_err(|error| self.report(&error))?;
        let (work_dir, proof, sector) = (self.work_dir.clone(), intent.proof, intent.sector);
        let failed = |error: ProcessError| self.named(error.report());
        Ok(match step {
            Step::AddingPieces { .. } => {
                self.make_work_dir().await?;
                let request = add_pieces::Request::committed_capacity(work_dir, proof);
                Progress::PiecesAdded { pieces: guard.run(&request).await.map_err(failed)?.pieces }
            }
            Step::BuildingTreeD { pieces, .. } => {
                let static_dirs = self.context.config.slots.iter().map(|slot| slot.join(STATIC_DIR)).collect();
                let request = tree_d::Request { work_dir, proof, pieces: pieces.clone(), static_dirs };
                Progress::TreeDBuilt { comm_d: guard.run(&request).await.map_err(failed)?.comm_d }
            }
            Step::Pc1 { data, ticket } => {
                let ticket = ticket.randomness;
                let request = pc1::Request { work_dir, proof, sector, ticket, pieces: data.pieces.clone() };
                guard.run(&request).await.map_err(failed)?;
                Progress::Pc1Done
            }
            Step::Pc2 { data, ticket } => {
                let ticket = ticket.randomness;
                let request = pc2::Request { work_dir, proof, sector, ticket, pieces: data.pieces.clone() };
                let pc2::Response { comm_r, comm_d } = guard.run(&request).await.map_err(failed)?;
                Progress::Pc2Done { comm_r, comm_d }
            }
            Step::Transferring { replica, .. } => {
                let store = &self.context.config.store;
                let store_dir = store.path.clone();
                let (store_name, comm_r) = (store.name.clone(), replica.comm_r);
                let store_id = identity::known_id(&self.stores, &store_name).map(str::to_owned);
                let request = transfer::Request { work_dir, store_dir, store_name, store_id, sector, token, comm_r };
                let files = guard.run(&request).await.map_err(failed)?.files;
                // An executable of somebody else's may not have looked.
                let identity = self.look_at_store().await.map_err(|error| self.report(&error))?;
                Progress::Persisted { stored: StoredSector { store: store.name.clone(), files, identity } }
            }
            Step::C1 { replica, seed, .. } => {
                let (ticket, seed, comm_r) = (replica.ticket.randomness, seed.randomness, replica.comm_r);
                let pieces = replica.data.pieces.clone();
                let request = c1::Request { work_dir, proof, sector, ticket, seed, comm_r, pieces };
                guard.run(&request).await.map_err(failed)?;
                Progress::C1Done
            }
            Step::C2 { replica, seed, .. } => {
                let (ticket, seed) = (replica.ticket.randomness, seed.randomness);
                let request = c2::Request { work_dir, proof, sector, ticket, seed };
                Progress::C2Done { proof: guard.run(&request).await.map_err(failed)?.proof }
            }
            Step::AwaitingPc1Room { .. }
            | Step::AwaitingTicket { .. }
            | Step::AwaitingPreCommit { .. }
            | Step::AwaitingPersistCheck { .. }
            | Step::AwaitingSeed { .. }
            | Step::AwaitingProveCommit { .. } => {
                let message = format!("step {} has no phase", step.name());
                return Err(self.named(ErrorReport::new(ErrorClass::Perm, ErrorCode::PROTOCOL_VIOLATED, message)));
            }
        })
    }

    async fn make_work_dir(&self) -> Result<(), ErrorReport> {
        let dir = self.work_dir.clone();
        self.slot
            .operate(move || files::create_dir(&dir).and_then(|()| files::sync_parent(&dir)))
            .await
            .map_err(|error| self.report(&error))
    }

    /// The staged data went into the replica. Layers and trees stay: a seed that moves needs them again.
    async fn drop_staged_data(&self) {
        let dir = self.work_dir.clone();
        let removed = self
            .slot
            .operate(move || {
                let unsealed = Workspace::open(&dir)?.unsealed();
                files::remove_tree(&unsealed)
            })
            .await;
        if let Err(error) = removed {
            tracing::warn!(%error, "the staged data stays until the slot is cleaned");
        }
    }

    /// The slot's files are removed only while the store, which has the others, is the one that they went to.
    async fn clean(&self, finished: bool) -> Done {
        if finished && let Err(error) = self.look_at_store().await {
            return Done::Input(Input::Failed { error: self.report(&error) });
        }
        let dir = self.work_dir.clone();
        // What a phase that was stopped had begun ends first.
        self.slot.quiet().await;
        let cleaned = self.slot.operate(move || files::remove_tree(&dir).and_then(|()| files::sync_parent(&dir))).await;
        Done::Input(match cleaned {
            Ok(()) => Input::Cleaned,
            // Worth another try whatever it is: nothing is lost by repeating.
            Err(error) => {
                let report = ErrorReport::from_error(ErrorClass::Temp, error.code.error_code(), &error);
                Input::Failed { error: self.named(report) }
            }
        })
    }

    /// Whether the permanent store is there and the one that is meant. Gives its id, if it has one.
    async fn look_at_store(&self) -> Result<Option<String>, StageError> {
        let config::Store { name, path } = self.context.config.store.clone();
        let known = identity::known_id(&self.stores, &name).map(str::to_owned);
        let silent = format!("store `{name}` at {} does not answer within {} s", path.display(), STORE_LIMIT.as_secs());
        let looking = async {
            // One that hangs keeps its permit, so that threads do not pile up behind a server that is away.
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

    /// Waits for the store, for as long as it takes.
    async fn await_store(&self) -> Done {
        tracing::warn!(slot = self.slot.name(), "waiting for the permanent store; the sector goes on when it is back");
        loop {
            tokio::time::sleep(self.context.config.recover_interval).await;
            match self.look_at_store().await {
                Ok(_) => break,
                Err(error) => tracing::debug!(slot = self.slot.name(), %error, "the store is still away"),
            }
        }
        tracing::info!(slot = self.slot.name(), "the permanent store is back");
        Done::Input(Input::RetryDue)
    }

    /// Whatever a phase says of its files, if the slot itself is gone, that is the cause.
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

    fn report(&self, error: &StageError) -> ErrorReport {
        self.named(ErrorReport::from_error(error.class(), error.code.error_code(), error))
    }

    /// Adds where it happened.
    fn named(&self, report: ErrorReport) -> ErrorReport {
        self.context.named(&self.slot, report)
    }
}

/// Whether what failed last is the store, which is waited for instead of a fixed time.
fn waits_for_store(state: &State) -> bool {
    matches!(state, State::BackingOff { error, .. } if error.code.is_waited_for())
}
