//! A sector's life in a slot, driven: one task a slot, which takes an intent when the slot is free and carries out what
//! the machine asks for.
//!
//! [`claim`] takes an intent, [`resume`] goes on after a restart, [`life`] drives the machine of
//! [`sealbus_schema::seal::worker`], [`work`] is what its states need, [`facts`] how the manager's answers arrive.
//! [`board`] is what the slots know of each other and what people see.
//!
//! One order holds everywhere: a transition is in the journal before its events are published, an event is published
//! before its acknowledgement is in the journal. So a kill repeats an event under the same number, and never skips one.
//! Publishing waits through outages of any length beside the work, not before it: hours of labelling need no bus.

pub mod board;
mod claim;
mod expiry;
mod facts;
mod life;
mod resume;
pub mod wakeups;
mod work;

use std::{sync::Arc, time::Duration};

use sealbus_nats::{Bus, publish::Backoff};
use sealbus_schema::{ErrorClass, ErrorCode, ErrorReport, message::Intent, seal::worker::State};
use tracing::Instrument;

use crate::{
    config::Config,
    journal::Journal,
    processor::ProcessorPool,
    slot::{Slot, space::Ledger},
    stage::StageError,
};
use board::Board;
use life::{End, Life};
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
    /// What the slots count on of their disks.
    pub ledger: Ledger,
    /// Who waits for facts.
    pub wakeups: Wakeups,
}

/// What was found in a slot at the start.
#[derive(Debug)]
pub enum Found {
    /// Nothing: the slot is free.
    Free,
    /// A sector.
    Sector(Box<Journal>),
    /// Something that a person must look at.
    Blocked(Box<ErrorReport>),
}

/// Serves a slot for ever. Dropping the future kills what runs in it; the next start goes on from there.
pub async fn serve(context: Arc<Context>, slot: Slot, found: Found) {
    let mut found = match found {
        Found::Free => None,
        Found::Sector(journal) => Some(*journal),
        Found::Blocked(report) => {
            tracing::error!(slot = slot.name(), code = %report.code, "slot blocked: {}", report.message());
            context.board.block(slot.index(), *report);
            // A person restarts the worker after looking.
            std::future::pending().await
        }
    };
    loop {
        let journal = match found.take() {
            Some(journal) => {
                let span = sector_span(&context, &slot, &journal);
                let resumed = resume::right_to(&context, &slot, &journal).instrument(span).await;
                match resumed {
                    Right::Ours => Some(journal),
                    Right::Gone => {
                        leave(&context, &slot, journal).await;
                        None
                    }
                    Right::OtherStream => refuse_other_stream(&context, &slot).await,
                }
            }
            None => Some(claim::next(&context, &slot).await),
        };
        let Some(journal) = journal else { continue };
        let span = sector_span(&context, &slot, &journal);
        let (end, journal) = Life::new(Arc::clone(&context), &slot, journal).run().instrument(span).await;
        match end {
            End::Over => free(&context, &slot, &journal).await,
            End::Fenced => match resume::right_after_fence(&context, &journal).await {
                Right::OtherStream => refuse_other_stream(&context, &slot).await,
                Right::Ours | Right::Gone => leave(&context, &slot, journal).await,
            },
        }
    }
}

/// Frees a slot whose sector's end is in the log.
async fn free(context: &Context, slot: &Slot, journal: &Journal) {
    let path = slot.journal();
    insist(context, slot, "remove the journal", move || Journal::clear(&path)).await;
    context.board.finish(slot.index(), journal.intent.sector, journal.token);
    context.ledger.release(slot);
    tracing::info!(slot = slot.name(), sector = %journal.intent.sector, token = %journal.token, "slot free");
}

/// Gives up a sector that is not ours any more: its files move out of the way, and a person decides about them.
async fn leave(context: &Context, slot: &Slot, journal: Journal) {
    let (sector, token) = (journal.intent.sector, journal.token);
    if matches!(journal.state, State::Over { .. }) {
        // Its last event was stored and the lease closed before the acknowledgement came, or nobody wants it any more.
        return free(context, slot, &journal).await;
    }
    let quarantine = {
        let (path, slot_path, index) = (slot.journal(), slot.path().to_owned(), slot.index());
        let moved = insist(context, slot, "quarantine the files", {
            let work_dir = slot.work_dir(sector, token);
            move || crate::slot::quarantine(&slot_path, &work_dir)
        })
        .await;
        insist(context, slot, "remove the journal", move || Journal::clear(&path)).await;
        context.board.finish(index, sector, token);
        moved
    };
    context.ledger.release(slot);
    let place = quarantine.map_or("nowhere: there were none".to_owned(), |path| path.display().to_string());
    tracing::error!(
        worker = %context.config.name, slot = slot.name(), %sector, %token, files = place,
        "fenced: the sector was taken from this worker; its files are quarantined, remove them when nobody needs them"
    );
}

/// Goes no further with a slot whose token is of another stream.
async fn refuse_other_stream(context: &Context, slot: &Slot) -> ! {
    let message = format!(
        "the stream {} was made anew since slot {} took its sector: its token means nothing there. Restore the \
         stream, or, to give the sector up, move {} away and restart the worker",
        sealbus_nats::topology::SECTORS,
        slot.name(),
        slot.journal().display(),
    );
    tracing::error!(slot = slot.name(), "{message}");
    let mut report = ErrorReport::new(ErrorClass::Crit, ErrorCode::QUEUE_REPLACED, message);
    report.slot = slot.name();
    report.host = context.config.host.clone();
    context.board.block(slot.index(), report);
    std::future::pending().await
}

/// Repeats a file operation on a slot until it succeeds; while it does not, the slot is shown as blocked.
async fn insist<T: Send + 'static>(
    context: &Context,
    slot: &Slot,
    operation: &'static str,
    run: impl Fn() -> Result<T, StageError> + Clone + Send + 'static,
) -> T {
    let mut blocked = false;
    loop {
        let (anchor, run) = (slot.anchor(), run.clone());
        let outcome = tokio::task::spawn_blocking(move || anchor.check().and_then(|()| run())).await;
        let error = match outcome {
            Ok(Ok(done)) => {
                if blocked {
                    context.board.unblock(slot.index());
                }
                return done;
            }
            Ok(Err(error)) => error,
            // The task was cancelled with the runtime, or panicked.
            Err(error) => StageError::new(crate::stage::StageCode::IoFailed, error.to_string()),
        };
        tracing::error!(slot = slot.name(), %error, "cannot {operation}; trying again");
        let mut report = ErrorReport::from_error(ErrorClass::Crit, error.code.error_code(), &error);
        report.slot = slot.name();
        context.board.block(slot.index(), report);
        blocked = true;
        tokio::time::sleep(context.config.recover_interval).await;
    }
}

/// The pause before the next try, which is the `attempt`th: it grows from one to the next, up to sixteen times the
/// first.
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
