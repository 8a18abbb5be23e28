//! Drives a sector's life in a slot. Each slot has one task. It takes an intent when the slot is free, and carries out
//! what the machine asks for.
//!
//! [`core`] decides the order of actions without carrying them out. [`claim`] takes an intent, [`resume`] continues after
//! a restart, and [`life`] carries out the core's actions. [`work`] does what a state needs, and [`facts`] reads the
//! manager's answers. [`tend`] surrounds all of this: it opens a slot, serves it, releases it by order, and opens it
//! again. [`identify`] checks that a directory is the right slot, and [`readiness`] whether a free slot may take a
//! sector. [`shares`] says whose queue it asks first. [`board`] shows what the slots hold, to each other and to people. [`orders`] follows a person's orders to the
//! machine.
//!
//! One rule holds everywhere: a transition is in the journal before its events are published, and an event is published
//! before its acknowledgement is in the journal. So after a kill an event is repeated under the same number, and none is
//! skipped. Publishing waits through outages of any length, but the work does not wait for it: hours of labelling need no
//! bus.

pub mod board;
mod claim;
pub mod core;
pub mod expiry;
pub mod facts;
mod identify;
mod life;
pub mod orders;
mod readiness;
pub mod resume;
mod shares;
pub mod tend;
pub mod wakeups;
mod work;

pub use claim::Pulls;

use std::{sync::Arc, time::Duration};

use sealbus_nats::{Bus, publish::Backoff};
use sealbus_schema::{ErrorClass, ErrorReport, message::Intent};
use tracing::Instrument;

use crate::{
    config::Config,
    journal::Journal,
    params_watch::ParamsWatch,
    processor::ProcessorPool,
    slot::{Slot, quarantine, space::Ledger},
    stage::{StageCode, StageError, files},
    store_watch::StoreWatch,
};
use board::Board;
use core::{
    End, Reinstated,
    leave::{self, LeaveStep},
};
use life::Life;
use orders::StandingOrders;
use resume::Right;
use wakeups::Wakeups;

/// What all slots share.
#[derive(Debug)]
pub struct Context {
    /// The configuration.
    pub config: Config,
    /// The bus.
    pub bus: Bus,
    /// The processors.
    pub pool: ProcessorPool,
    /// What the slots hold.
    pub board: Board,
    /// The disk space that the slots count on.
    pub ledger: Ledger,
    /// The slots that wait for facts.
    pub wakeups: Wakeups,
    /// A person's standing orders to this machine.
    pub orders: StandingOrders,
    /// Whether the parameters are there.
    pub params: ParamsWatch,
    /// Whether the permanent store accepts files.
    pub store: StoreWatch,
    /// What the free slots share while they wait for intents.
    pub pulls: Pulls,
}

/// The slot's directory is no longer the one that was opened. It must be opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotLost;

/// What was found in a slot at the start.
#[derive(Debug)]
pub enum Found {
    /// Nothing: the slot is free.
    Free,
    /// A sector.
    Sector(Box<Journal>),
    /// Something about which a person must decide.
    Blocked(Box<ErrorReport>),
}

/// Serves a slot until it is lost. Dropping the future kills what runs in it. The next start continues from there.
async fn serve(context: &Arc<Context>, slot: &Slot, found: Found) -> SlotLost {
    let mut found = match found {
        Found::Free => None,
        Found::Sector(journal) => Some(*journal),
        Found::Blocked(report) => {
            tracing::error!(slot = slot.name(), code = %report.code, "slot blocked: {}", report.message());
            context.board.unreadable(slot.index(), *report);
            // Wait for a person, who has the slot released, repairs it and restarts the worker, or mounts another disk
            // there.
            loop {
                tokio::time::sleep(context.config.recover_interval).await;
                if slot.operate(|| Ok(())).await.is_err() {
                    return SlotLost;
                }
            }
        }
    };
    loop {
        let journal = match found.take() {
            Some(journal) => {
                let span = sector_span(context, slot, &journal);
                let resumed = resume::right_to(context, slot, &journal).instrument(span).await;
                match resumed {
                    Right::Ours(reinstated) => match identify::settle_with_sector(context, slot).await {
                        Ok(()) => {
                            let journal = go_on(context, slot, journal, reinstated).await;
                            // What blocked the slot meanwhile is over. What blocks its sector, or what the sector waits
                            // for, is not.
                            let Journal { intent, token, state, .. } = &journal;
                            context.board.hold(slot.index(), intent.sector, *token, state);
                            Some(journal)
                        }
                        Err(lost) => return lost,
                    },
                    Right::Gone => {
                        leave(context, slot, journal, End::Fenced).await;
                        None
                    }
                }
            }
            None => match identify::settle(context, slot).await {
                Ok(()) => match claim::next(context, slot).await {
                    Ok(journal) => Some(journal),
                    Err(lost) => return lost,
                },
                Err(lost) => return lost,
            },
        };
        let Some(journal) = journal else { continue };
        let span = sector_span(context, slot, &journal);
        let arrivals = resume::arrivals(context, &journal).await;
        let (end, journal) = Life::new(Arc::clone(context), slot, journal, arrivals).run().instrument(span).await;
        leave(context, slot, journal, end).await;
    }
}

/// Frees the slot after a sector's end here. If the sector is no longer ours, its files are quarantined, and a person
/// decides about them.
async fn leave(context: &Context, slot: &Slot, journal: Journal, end: End) {
    let (sector, token) = (journal.intent.sector, journal.token);
    for step in leave::left(&journal, end) {
        match step {
            LeaveStep::Quarantine => {
                let (slot_path, work_dir) = (slot.path().to_owned(), slot.work_dir(sector, token));
                let moved = insist(context, slot, "quarantine the files", move || {
                    quarantine::put_away(&slot_path, &work_dir, &files::name_of(&work_dir))
                })
                .await;
                let place = moved.map_or("nowhere: there were none".to_owned(), |path| path.display().to_string());
                tracing::error!(
                    worker = %context.config.name, slot = slot.name(), %sector, %token, files = place,
                    "fenced: the sector was taken from this worker; its files are quarantined, remove them when nobody \
                     needs them"
                );
            }
            LeaveStep::ClearJournal => {
                let path = slot.journal();
                insist(context, slot, "remove the journal", move || Journal::clear(&path)).await;
            }
            LeaveStep::Finish => {
                context.board.finish(slot.index(), sector, token);
                context.ledger.release(slot);
                tracing::info!(slot = slot.name(), %sector, %token, "slot free");
            }
        }
    }
}

/// The journal with which a slot continues. It changes only if the log was replaced.
async fn go_on(context: &Context, slot: &Slot, mut journal: Journal, reinstated: Option<Reinstated>) -> Journal {
    let Some(reinstated) = reinstated else { return journal };
    let known = reinstated.known;
    journal.go_on_in(reinstated);
    let (written, path) = (journal.clone(), slot.journal());
    insist(context, slot, "write the journal", move || written.store(&path)).await;
    tracing::info!(sector = %journal.intent.sector, known, "the sector goes on in another stream");
    journal
}

/// Repeats a file operation on a slot until it succeeds. Until then the slot is shown as blocked.
async fn insist<T: Send + 'static>(
    context: &Context,
    slot: &Slot,
    operation: &'static str,
    run: impl Fn() -> Result<T, StageError> + Clone + Send + 'static,
) -> T {
    let mut said = None;
    loop {
        match attempt(context, slot, operation, run.clone(), &mut said).await {
            Ok(done) => return done,
            Err(_) => tokio::time::sleep(context.config.recover_interval).await,
        }
    }
}

/// The same, but ends if the slot is lost. For operations that are not needed then.
async fn insist_unless_lost<T: Send + 'static>(
    context: &Context,
    slot: &Slot,
    operation: &'static str,
    run: impl Fn() -> Result<T, StageError> + Clone + Send + 'static,
) -> Result<T, SlotLost> {
    let mut said = None;
    loop {
        match attempt(context, slot, operation, run.clone(), &mut said).await {
            Ok(done) => return Ok(done),
            Err(StageCode::SlotUnusable) => return Err(SlotLost),
            Err(_) => tokio::time::sleep(context.config.recover_interval).await,
        }
    }
}

/// One try. What is wrong is shown with the slot, and logged if it is not what was said last.
async fn attempt<T: Send + 'static>(
    context: &Context,
    slot: &Slot,
    operation: &'static str,
    run: impl FnOnce() -> Result<T, StageError> + Send + 'static,
    said: &mut Option<String>,
) -> Result<T, StageCode> {
    let error = match slot.operate(run).await {
        Ok(done) => {
            context.board.unblock(slot.index());
            return Ok(done);
        }
        Err(error) => error,
    };
    let words = error.to_string();
    if said.as_ref() != Some(&words) {
        tracing::error!(slot = slot.name(), %error, "cannot {operation}; trying again");
        *said = Some(words);
    }
    let mut report = ErrorReport::from_error(ErrorClass::Crit, error.code.error_code(), &error);
    report.causes.insert(0, format!("cannot {operation}"));
    context.board.block(slot.index(), context.named(slot, report));
    Err(error.code)
}

impl Context {
    /// Adds the host and the slot to a report.
    fn named(&self, slot: &Slot, report: ErrorReport) -> ErrorReport {
        ErrorReport { host: self.config.host.clone(), slot: slot.name(), ..report }
    }
}

/// The pause before try number `attempt`. It doubles with each try, up to sixteen times the first pause.
fn retry_pause(recover_interval: Duration, attempt: u32) -> Duration {
    let mut backoff = Backoff::new(recover_interval, recover_interval * 16);
    (2..attempt.min(64)).for_each(|_| {
        backoff.next_pause();
    });
    backoff.next_pause()
}

fn sector_span(context: &Context, slot: &Slot, journal: &Journal) -> tracing::Span {
    let Journal { intent: Intent { sector, .. }, token, .. } = journal;
    tracing::info_span!("seal", worker = %context.config.name, slot = slot.name(), %sector, %token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_between_tries_grow_to_a_limit() {
        let second = Duration::from_secs(1);
        for (attempt, step) in [(2, 1), (3, 2), (4, 4), (6, 16), (60, 16)] {
            let pause = retry_pause(second, attempt);
            assert!(pause >= second * step / 2 && pause <= second * step, "try {attempt}: {pause:?}");
        }
    }
}
