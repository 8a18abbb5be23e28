//! Reads the sector's log: the manager's answers, and whether the lease is still ours.
//!
//! A slot that works for hours, waits or is blocked publishes nothing, so no refusal would show it that its lease has
//! moved. It is woken for that as well ([`super::wakeups`]).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future;
use sealbus_nats::{Patience, lease::ReadError, publish::Backoff};
use sealbus_schema::lease::Standing;

use super::{
    Context,
    core::{News, Watch, leave},
    resume,
    wakeups::Bell,
};
use crate::{causes::in_words, journal::Journal};

/// A slot that was not woken for this many heartbeats reads the log anyway, in case wake-ups were lost.
const OWN_LOOK_HEARTBEATS: u32 = 30;
/// How often the log is read again for a fact that was heard but is not there yet, then the first and the longest pause
/// between. All pauses together take some hundred milliseconds.
const REREADS: u32 = 6;
const FIRST_REREAD: Duration = Duration::from_millis(4);
const MAX_REREAD: Duration = Duration::from_millis(250);

/// Waits for a wake-up (unless `at_once`) or a long timeout, and reads the facts of these kinds and the lease. If the log
/// cannot be read, that is logged once for as long as it lasts.
pub async fn next(
    context: Arc<Context>,
    slot: usize,
    journal: Journal,
    watch: Watch,
    bell: Arc<Bell>,
    reading: Arc<Mutex<Patience>>,
) -> News {
    if !watch.at_once {
        let interval = context.config.heartbeat * OWN_LOOK_HEARTBEATS;
        let _ = tokio::time::timeout(Backoff::new(interval, interval).next_pause(), bell.rung()).await;
    }
    let heard = bell.take_heard().filter(|fact| fact.counts_for(journal.token, watch.resubmitted));
    let heard = heard.filter(|fact| fact.kind().is_some_and(|kind| watch.kinds.contains(&kind)));
    let mut backoff = Backoff::new(FIRST_REREAD, MAX_REREAD);
    let mut rereads = 0;
    loop {
        let Some(news) = read(&context, slot, &journal, &watch, &reading).await else {
            tokio::time::sleep(Backoff::new(context.config.heartbeat, context.config.heartbeat).next_pause()).await;
            continue;
        };
        // The fact was heard on its way into the log. It arrives there a moment later, or never if its lease has moved.
        let is_missing = heard.as_ref().is_some_and(|fact| !news.facts.contains(fact));
        if !is_missing || news.lease_moved || rereads == REREADS {
            return news;
        }
        rereads += 1;
        tokio::time::sleep(backoff.next_pause()).await;
    }
}

/// What the log says now. `None` if a part of it could not be read.
async fn read(
    context: &Context,
    slot: usize,
    journal: &Journal,
    watch: &Watch,
    reading: &Mutex<Patience>,
) -> Option<News> {
    let mut news = News::default();
    let (sector, worker) = (journal.intent.sector, &context.config.name);
    let asked = watch.kinds.iter().map(|kind| context.bus.last_fact(sector, worker, *kind));
    let (facts, lease) = future::join(future::join_all(asked), look_at_lease(context, slot, journal, &mut news)).await;
    let (mut is_complete, mut unread) = (true, None);
    for read in facts.into_iter().chain([lease.map(|()| None)]) {
        match read {
            Ok(Some(fact)) if fact.counts_for(journal.token, watch.resubmitted) => news.facts.push(fact),
            Ok(other) => tracing::trace!(?other, "no fact for this lease"),
            Err(error) => {
                // Reading again does not help with a record that cannot be decoded.
                is_complete &= matches!(error, ReadError::Unreadable { .. });
                unread = Some(error);
            }
        }
    }
    let mut reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
    match unread {
        // The caller reads the log again in any case, so the returned pause is not used.
        Some(error) => drop(reading.failed("cannot read the sector's log", &cause_of(&error))),
        None => reading.mended("the sector's log is read again"),
    }
    is_complete.then_some(news)
}

async fn look_at_lease(context: &Context, slot: usize, journal: &Journal, news: &mut News) -> Result<(), ReadError> {
    let (sector, name) = (journal.intent.sector, &context.config.name);
    // The stream's identity matters only if the log does not have our claim, so ask without it first.
    let mut standing = context.bus.standing(sector, &leave::right(journal, name, None)).await?;
    let mut is_foreign = false;
    if !matches!(standing, Standing::Ours { known: None, .. }) {
        // If there is no answer, the next read asks again.
        let Some(present) = resume::present_stream(context).await else { return Ok(()) };
        let right = leave::right(journal, name, Some(&present.identity));
        standing = context.bus.standing(sector, &right).await?;
        is_foreign = right.foreign.is_some();
        news.reinstated = resume::reinstated(journal, present, &standing);
    }
    resume::show_doubt(context, slot, journal, &standing, is_foreign);
    news.lease_moved = standing == Standing::Gone;
    Ok(())
}

/// Why a record could not be read, without its name: if the server does not answer, no record can be read.
fn cause_of(error: &ReadError) -> String {
    match error {
        ReadError::Server { source, .. } => in_words(source.as_ref()),
        ReadError::Unreadable { .. } => in_words(error),
    }
}
