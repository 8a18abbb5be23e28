//! `sealbus-worker run`: opens the slots, connects, serves until a signal or a failure that waiting cannot mend.

use std::{path::PathBuf, sync::Arc};

use sealbus_nats::{ConnectError, heartbeats::BeatError};
use sealbus_schema::{ErrorClass, ErrorCode, ErrorReport, Phase, SectorSize};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

use crate::{
    config::Config,
    driver::{self, Context, Found, board::Board, wakeups::Wakeups},
    heartbeat,
    journal::Journal,
    params::{self, CheckRequest},
    processor::{self, PoolConfig, PoolError, ProcessorPool},
    slot::{
        Slot, SlotError,
        space::{Ledger, NoRoom},
    },
};

/// Why the worker stopped, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A slot cannot be taken.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// No slot could ever take a sector.
    #[error("no slot is usable:\n{}", reasons.join("\n"))]
    NoUsableSlot {
        /// One a slot.
        reasons: Vec<String>,
    },
    /// The processors cannot be set up.
    #[error("cannot set up the processors")]
    Pool(#[from] PoolError),
    /// NATS does not let us in.
    #[error("cannot connect to NATS")]
    Connect(#[from] ConnectError),
    /// Another process runs under our name.
    #[error("stopped")]
    Heartbeat(#[source] Box<BeatError>),
    /// Signals cannot be received.
    #[error("cannot listen to signals")]
    Signals(#[source] std::io::Error),
    /// A task of ours ended, which none does.
    #[error("the task of a slot ended")]
    SlotTask(#[source] tokio::task::JoinError),
}

/// Runs until SIGTERM or SIGINT. What is being worked on is killed then, and goes on at the next start.
pub async fn run(config: Config) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let stopped = async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    tokio::select! {
        signal = stopped => {
            tracing::info!(signal, "stopping; what runs is killed and goes on at the next start");
            Ok(())
        }
        outcome = serve(config) => outcome,
    }
}

/// Runs until something fails that waiting cannot mend. Dropping the future kills whatever runs.
async fn serve(config: Config) -> Result<(), RunError> {
    let (slots, ledger) = open_slots(&config)?;
    let slots = block_without_params(&config, slots).await;
    let pool = ProcessorPool::new(PoolConfig { groups: config.processors.clone(), tmp_roots: tmp_roots(&slots) })?;
    tracing::info!(worker = %config.name, host = config.host, url = config.nats.url, slots = slots.len(), "connecting");
    let bus = config.nats.connect_patiently(config.name.as_str()).await?;
    let board = Board::new(slots.iter().map(|(slot, _)| slot.name()));
    let context = Arc::new(Context { config, bus, pool, board, ledger, wakeups: Wakeups::default() });
    tracing::info!(worker = %context.config.name, size = %context.config.sector_size, "serving");

    let mut tasks = JoinSet::new();
    for (slot, found) in slots {
        tasks.spawn(driver::serve(Arc::clone(&context), slot, found));
    }
    let listening = context.wakeups.listen(&context.bus, &context.config.name);
    tokio::select! {
        error = heartbeat::beat(Arc::clone(&context)) => Err(RunError::Heartbeat(Box::new(error))),
        () = listening => Ok(()),
        Some(ended) = tasks.join_next() => ended.map_err(RunError::SlotTask),
    }
}

/// Takes every slot, and reads what it holds. Fails if none can be worked with.
fn open_slots(config: &Config) -> Result<(Vec<(Slot, Found)>, Ledger), RunError> {
    let ledger = Ledger::default();
    let mut slots = Vec::new();
    let mut reasons = Vec::new();
    for (index, path) in config.slots.iter().enumerate() {
        let slot = Slot::open(index, path)?;
        let found = match Journal::load(&slot.journal()) {
            Ok(Some(journal)) => {
                ledger.hold(&slot, slot.work_dir(journal.intent.sector, journal.token));
                Found::Sector(Box::new(journal))
            }
            Ok(None) => Found::Free,
            Err(error) => {
                let mut report = error.report();
                report.slot = slot.name();
                report.host = config.host.clone();
                reasons.push(format!("  slot {}: {}", slot.name(), report.message()));
                Found::Blocked(Box::new(report))
            }
        };
        slots.push((slot, found));
    }
    let mut usable = false;
    for (slot, found) in &slots {
        usable |= match found {
            Found::Sector(_) => true,
            Found::Blocked(_) => false,
            Found::Free => room_at_start(&ledger, slot, config).map_err(|why| reasons.push(format!("  {why}"))).is_ok(),
        };
    }
    if usable { Ok((slots, ledger)) } else { Err(RunError::NoUsableSlot { reasons }) }
}

/// Checks the parameters that the built-in C2 needs. Without them no free slot takes a sector: it would fail hours later.
/// A slot that holds a sector goes on, as far as it gets.
async fn block_without_params(config: &Config, mut slots: Vec<(Slot, Found)>) -> Vec<(Slot, Found)> {
    let built_in = config.processors.iter().find(|group| group.stage == Phase::C2 && group.bin.is_none());
    let Some(group) = built_in else { return slots };
    let environment = group.environment(processor::own_environment());
    let dir = environment.get(params::DIR_VARIABLE).map_or_else(|| PathBuf::from(params::DEFAULT_DIR), PathBuf::from);
    let size = config.sector_size;
    tracing::info!(dir = %dir.display(), %size, "checking the parameters");
    let checked = tokio::task::spawn_blocking(move || bad_params(dir, size)).await;
    let problem = checked.unwrap_or_else(|error| Some(format!("the check ended badly: {error}")));
    let Some(problem) = problem else { return slots };
    for (slot, found) in slots.iter_mut().filter(|(_, found)| matches!(found, Found::Free)) {
        let mut report = ErrorReport::new(ErrorClass::Crit, ErrorCode::PARAMS_MISSING, problem.clone());
        report.slot = slot.name();
        report.host = config.host.clone();
        *found = Found::Blocked(Box::new(report));
    }
    slots
}

/// What is wrong with the parameters, file by file.
fn bad_params(dir: PathBuf, size: SectorSize) -> Option<String> {
    let checked = CheckRequest::for_worker(dir, vec![size]).and_then(|request| params::check(&request));
    match checked {
        Ok(report) => {
            let bad: Vec<_> = report.bad().map(|file| format!("{} {}", file.name, file.finding)).collect();
            (!bad.is_empty()).then(|| format!("{}: {}", report.dir.display(), bad.join("; ")))
        }
        Err(error) => Some(error.to_string()),
    }
}

fn room_at_start(ledger: &Ledger, slot: &Slot, config: &Config) -> Result<(), NoRoom> {
    let outcome = ledger.reserve(slot, config.sector_size.seal_proof());
    ledger.release(slot);
    outcome
}

/// The processors' temporary files lie in the first slot that can be written to.
fn tmp_roots(slots: &[(Slot, Found)]) -> Vec<PathBuf> {
    slots.iter().map(|(slot, _)| slot.path().join("tmp")).collect()
}
