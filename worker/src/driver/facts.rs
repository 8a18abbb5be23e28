//! What others wrote into the sector's log, read back: the manager's answers, and whether the lease is still ours.
//!
//! A slot that works for hours, waits or is blocked publishes nothing, so no refusal would tell it that its lease has
//! moved. It looks by itself.

use std::sync::{Arc, Mutex, PoisonError};

use sealbus_nats::{Patience, lease::ReadError, publish::Backoff};
use sealbus_schema::{lease::Standing, message::Fact};
use tokio::sync::Notify;

use super::{
    Context,
    core::{Watch, leave},
    resume::{self, Reinstated},
};
use crate::{causes::in_words, journal::Journal};

/// What was read.
#[derive(Debug, Default)]
pub struct News {
    /// The last fact of each kind that was asked for, if it is meant for our lease.
    pub facts: Vec<Fact>,
    /// Whether the lease is over.
    pub lease_moved: bool,
    /// That the sector goes on in another stream, if that is new.
    pub reinstated: Option<Reinstated>,
}

/// Waits for a wake-up (unless `at_once`), or for up to two heartbeats, and reads the facts of these kinds and the
/// lease. A log that cannot be read is told once for as long as that lasts.
pub async fn next(
    context: Arc<Context>,
    slot: usize,
    journal: Journal,
    watch: Watch,
    bell: Arc<Notify>,
    reading: Arc<Mutex<Patience>>,
) -> News {
    let Watch { kinds, resubmitted, at_once } = watch;
    if !at_once {
        // With jitter, so that a fleet does not ask in step. A lost wake-up costs this long.
        let interval = context.config.heartbeat * 2;
        let pause = Backoff::new(interval, interval).next_pause();
        let _ = tokio::time::timeout(pause, bell.notified()).await;
    }
    let mut news = News::default();
    let mut unread = None;
    let sector = journal.intent.sector;
    for kind in kinds {
        match context.bus.last_fact(sector, &context.config.name, *kind).await {
            Ok(Some(fact)) if fact.counts_for(journal.token, resubmitted) => news.facts.push(fact),
            Ok(other) => tracing::trace!(kind = kind.name(), ?other, "no fact for this lease"),
            Err(error) => unread = Some(error),
        }
    }
    if let Err(error) = look_at_lease(&context, slot, &journal, &mut news).await {
        unread = Some(error);
    }
    let mut reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
    match unread {
        // It is looked at again in any case, so the pause is not ours.
        Some(error) => drop(reading.failed("cannot read the sector's log", &cause_of(&error))),
        None => reading.mended("the sector's log is read again"),
    }
    news
}

async fn look_at_lease(context: &Context, slot: usize, journal: &Journal, news: &mut News) -> Result<(), ReadError> {
    let (sector, name) = (journal.intent.sector, &context.config.name);
    // Which stream it is matters only where the log does not simply have our claim.
    let mut standing = context.bus.standing(sector, &leave::right(journal, name, None)).await?;
    let mut stream = None;
    if !matches!(standing, Standing::Ours { known: None, .. }) {
        stream = resume::stream_identity(context).await;
        standing = context.bus.standing(sector, &leave::right(journal, name, stream.as_deref())).await?;
    }
    let foreign = leave::right(journal, name, stream.as_deref()).foreign.is_some();
    resume::show_doubt(context, slot, journal, &standing, foreign);
    news.lease_moved = standing == Standing::Gone;
    news.reinstated = resume::reinstated(journal, stream, &standing);
    Ok(())
}

/// Why a record could not be read, without which one it was: when the server does not answer, none can be.
fn cause_of(error: &ReadError) -> String {
    match error {
        ReadError::Server { source, .. } => in_words(source.as_ref()),
        ReadError::Unreadable { .. } => in_words(error),
    }
}
