//! Tends a slot as long as the worker runs: opens it, serves it, releases it by order, and opens it again after it was
//! lost.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sealbus_schema::{ErrorClass, ErrorCode, ErrorReport, WorkerName};

use tokio::task::JoinHandle;

use super::{Context, Found, SlotLost, identify, insist_unless_lost, serve};
use crate::{
    causes::in_words,
    config::Config,
    journal::Journal,
    slot::{Slot, SlotError, release},
    stage::StageError,
};

/// A slot and what was found in it.
#[derive(Debug)]
pub struct Opened {
    /// The slot.
    pub slot: Slot,
    /// What was found in it.
    pub found: Found,
    /// The number of the last order to release it that was carried out.
    pub released: u64,
}

/// Why a slot cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be locked or used.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// An order to release it was begun and cannot be completed.
    #[error("slot {slot} cannot be freed as was ordered")]
    Release {
        /// The slot.
        slot: String,
        /// The cause.
        #[source]
        source: StageError,
    },
}

impl OpenError {
    /// The report to show.
    pub fn report(&self, host: &str, path: &Path) -> ErrorReport {
        let mut report = ErrorReport::from_error(ErrorClass::Crit, ErrorCode::SLOT_UNUSABLE, self);
        report.causes.push("mend or mount it; the worker looks again by itself".to_owned());
        ErrorReport { host: host.to_owned(), slot: path.display().to_string(), ..report }
    }
}

/// Locks a slot for this process and reads what it holds.
pub fn open(index: usize, path: &Path, worker: &WorkerName, host: &str) -> Result<Opened, OpenError> {
    let slot = Slot::open(index, path)?;
    let named = |report| ErrorReport { host: host.to_owned(), slot: slot.name(), ..report };
    if let Err(error) = identify::require_ours(&slot, worker) {
        let report = ErrorReport::from_error(error.class(), error.code.error_code(), &error);
        let found = Found::Blocked(Box::new(named(report)));
        return Ok(Opened { slot, found, released: 0 });
    }
    let failed = |source| OpenError::Release { slot: slot.name(), source };
    let released = release::settle(slot.path()).map_err(failed)?;
    let found = match Journal::load(&slot.journal()) {
        Ok(Some(journal)) => Found::Sector(Box::new(journal)),
        Ok(None) => Found::Free,
        Err(error) => Found::Blocked(Box::new(named(error.report()))),
    };
    Ok(Opened { slot, found, released })
}

/// A slot that is being opened at the start.
#[derive(Debug)]
pub enum Opening {
    /// It was opened, or cannot be opened now.
    Done(Box<Result<Opened, OpenError>>),
    /// Its disk has not answered yet.
    Silent(JoinHandle<Result<Opened, OpenError>>),
}

impl Opening {
    /// Begins to open a slot.
    pub fn begin(index: usize, path: &Path, config: &Config) -> Opening {
        let (path, worker, host) = (path.to_owned(), config.name.clone(), config.host.clone());
        Opening::Silent(tokio::task::spawn_blocking(move || open(index, &path, &worker, &host)))
    }

    /// Waits for the disk, at most for `limit`.
    pub async fn within(self, limit: Duration) -> Opening {
        match self {
            Opening::Silent(mut opening) => match tokio::time::timeout(limit, &mut opening).await {
                Ok(Ok(outcome)) => Opening::Done(Box::new(outcome)),
                // Happens only at the end of the process, or after a panic, which is already logged.
                Ok(Err(_)) | Err(_) => Opening::Silent(opening),
            },
            done => done,
        }
    }

    /// The error that names the other process that has the slot, if one has.
    pub fn in_use(&self) -> Option<String> {
        match self {
            Opening::Done(outcome) => match &**outcome {
                Err(OpenError::Slot(error @ SlotError::InUse { .. })) => Some(in_words(error)),
                _ => None,
            },
            Opening::Silent(_) => None,
        }
    }

    /// Shows what is known about the slot.
    pub fn show(&self, context: &Context, index: usize) {
        let (host, path) = (&context.config.host, &context.config.slots[index]);
        let report = match self {
            Opening::Done(outcome) => match &**outcome {
                Ok(opened) => return show(context, index, opened),
                Err(error) => error.report(host, path),
            },
            Opening::Silent(_) => {
                let message = format!("slot {}: its disk does not answer; the worker waits for it", path.display());
                tracing::error!(slot = %path.display(), "slot blocked: {message}");
                let report = ErrorReport::new(ErrorClass::Crit, ErrorCode::SLOT_UNUSABLE, message);
                ErrorReport { host: host.clone(), slot: path.display().to_string(), ..report }
            }
        };
        context.board.unreadable(index, report);
    }

    /// The slot, once its disk has answered; `None` if it cannot be opened now.
    async fn opened(self, context: &Context, index: usize) -> Option<Opened> {
        match self {
            Opening::Done(outcome) => outcome.ok(),
            Opening::Silent(opening) => {
                let opened = opening.await.ok()?.ok()?;
                show(context, index, &opened);
                tracing::info!(slot = opened.slot.name(), "slot opened");
                Some(opened)
            }
        }
    }
}

/// Tends a slot forever. `opening` is its state at the start.
pub async fn tend(context: Arc<Context>, index: usize, path: PathBuf, opening: Opening) {
    let mut opened = opening.opened(&context, index).await;
    loop {
        let Opened { slot, found, released } = match opened.take() {
            Some(opened) => opened,
            None => open_patiently(&context, index, &path).await,
        };
        let name = slot.name();
        let ordered = tokio::select! {
            biased;
            id = context.orders.release_of(&name, released) => Some(id),
            SlotLost = serve(&context, &slot, found) => None,
        };
        if let Some(id) = ordered {
            opened = free_by_order(&context, slot, id).await;
        }
    }
}

/// Shows what was found in a slot.
pub fn show(context: &Context, index: usize, opened: &Opened) {
    let Opened { slot, found, released } = opened;
    context.board.released(index, *released);
    match found {
        // It is not known yet whether this is the right slot. It may be a mount point without its disk.
        Found::Free => context.board.unsettled(index),
        Found::Sector(journal) => {
            context.ledger.hold(slot, slot.work_dir(journal.intent.sector, journal.token));
            context.board.found(index, journal.intent.sector, journal.token, &journal.state);
            context.board.resubmitted(index, journal.resubmitted);
        }
        Found::Blocked(report) => context.board.unreadable(index, (**report).clone()),
    }
}

/// Opens a slot, however long that takes.
async fn open_patiently(context: &Context, index: usize, path: &Path) -> Opened {
    let mut said = None;
    loop {
        let (slot_path, config) = (path.to_owned(), &context.config);
        let (worker, host) = (config.name.clone(), config.host.clone());
        let outcome = tokio::task::spawn_blocking(move || open(index, &slot_path, &worker, &host)).await;
        let report = match outcome {
            Ok(Ok(opened)) => {
                show(context, index, &opened);
                tracing::info!(slot = opened.slot.name(), "slot opened");
                return opened;
            }
            Ok(Err(error)) => error.report(&context.config.host, path),
            // Happens only at the end of the process, or after a panic, which is already logged.
            Err(error) => ErrorReport::new(ErrorClass::Crit, ErrorCode::SLOT_UNUSABLE, error.to_string()),
        };
        let message = report.message();
        if said.as_ref() != Some(&message) {
            tracing::error!(slot = %path.display(), code = %report.code, "slot blocked: {message}");
            said = Some(message);
        }
        context.board.unreadable(index, report);
        tokio::time::sleep(context.config.recover_interval).await;
    }
}

/// Quarantines whatever the slot holds. `None` if the slot was lost meanwhile; the order is then carried out when it is
/// back.
async fn free_by_order(context: &Context, slot: Slot, id: u64) -> Option<Opened> {
    tracing::warn!(worker = %context.config.name, slot = slot.name(), id, "freeing the slot as ordered");
    // The running phase was killed when its future was dropped. Let its file operations end first.
    slot.quiet().await;
    let path = slot.path().to_owned();
    let kept = match insist_unless_lost(context, &slot, "free the slot", move || release::carry_out(&path, id)).await {
        Ok(kept) => kept,
        Err(SlotLost) => return None,
    };
    let given_up = match context.board.identity(slot.index()) {
        Some(remembered) => Some(remembered),
        None => context.orders.known_slot(&slot.name()).await,
    };
    // This may replace another worker's slot, because a person has decided so.
    let Ok(identity) = identify::make(context, &slot, given_up).await else { return None };
    if let Err(other) = context.board.identify(slot.index(), &identity) {
        tracing::error!(slot = slot.name(), other, "two slots have one id");
    }
    context.board.give_up(slot.index());
    context.board.released(slot.index(), id);
    context.ledger.release(&slot);
    let kept: Vec<_> = kept.iter().map(|path| path.display().to_string()).collect();
    tracing::warn!(
        slot = slot.name(),
        id,
        files = kept.join(", "),
        "slot freed as ordered; what it held is in quarantine, remove it when nobody needs it"
    );
    Some(Opened { slot, found: Found::Free, released: id })
}
