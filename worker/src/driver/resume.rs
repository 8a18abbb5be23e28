//! Finds out whether a sector is still ours, after a restart and after the server refused an event. Also determines the
//! age of the manager's answers that arrived before the restart.

use std::time::Duration;

use sealbus_nats::{Patience, lease::ReadError, publish::Backoff, topology};
use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport,
    lease::Standing,
    message::{FactKind, Intent},
};

use super::{
    Context,
    core::{Reinstated, leave},
    expiry::{self, Arrivals},
    identify,
};
use crate::{causes::in_words, journal::Journal, slot::Slot, workflows};

/// The longest pause between two questions while it is unknown who owns a sector.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Whether a slot's sector is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Right {
    /// Ours, under the journal's token. If it now continues in a new stream, and the journal does not know yet, this says
    /// so.
    Ours(Option<Reinstated>),
    /// No longer ours.
    Gone,
}

/// The stream with the sectors' logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Its identity.
    pub identity: String,
    /// The first sequence that it can contain.
    pub first_sequence: u64,
}

/// Compares a journal with the sector's log. Waits through outages, and until the log says who owns the sector. Meanwhile
/// no work is started, and the sector is not given up.
pub async fn right_to(context: &Context, slot: &Slot, journal: &Journal) -> Right {
    context.ledger.hold(slot, slot.work_dir(journal.intent.sector, journal.token));
    context.board.hold(slot.index(), journal.intent.sector, journal.token, &journal.state);
    if !leave::must_ask(journal) {
        return Right::Gone;
    }
    let mut backoff = Backoff::new(Duration::from_millis(500), MAX_PAUSE);
    let mut patience = Patience::new(Duration::from_millis(500), MAX_PAUSE);
    loop {
        // A token is a sequence of one stream. It means nothing without the stream's identity.
        let Some(present) = present_stream(context).await else {
            tokio::time::sleep(backoff.next_pause()).await;
            continue;
        };
        let right = leave::right(journal, &context.config.name, Some(&present.identity));
        let sector = journal.intent.sector;
        let asked = async {
            let standing = context.bus.standing(sector, &right).await?;
            let reported = context.bus.last_event(sector, &context.config.name).await?;
            Ok::<_, ReadError>((standing, reported))
        };
        match asked.await {
            Ok((standing, reported)) => {
                patience.mended("the sector's lease is read");
                let later = match &standing {
                    Standing::Ours { known, .. } => leave::told_later(journal, *known, reported.as_ref()),
                    _ => None,
                };
                if let Some(number) = later {
                    show_behind(context, slot, journal, number);
                    tokio::time::sleep(backoff.next_pause()).await;
                    continue;
                }
                show_doubt(context, slot.index(), journal, &standing, right.foreign.is_some());
                match standing {
                    Standing::Ours { .. } => {
                        tracing::info!(step = journal.state.step().map(|step| step.name()), "going on");
                        return Right::Ours(reinstated(journal, present, &standing));
                    }
                    Standing::Gone => return Right::Gone,
                    // Only the manager can settle this, so ask again later.
                    Standing::Open { .. } | Standing::Anothers { .. } => {}
                }
            }
            Err(error) => {
                tokio::time::sleep(patience.failed("cannot read the sector's lease", &in_words(&error))).await;
                continue;
            }
        }
        tokio::time::sleep(backoff.next_pause()).await;
    }
}

/// The arrival, by the server's clock alone, of the answer that the state still uses and that an earlier process
/// received.
pub async fn arrivals(context: &Context, journal: &Journal) -> Arrivals {
    let Some(expiry) = journal.state.step().and_then(workflows::expiry) else { return Arrivals::default() };
    match age(context, journal, expiry.told_by).await {
        Some(age) => Arrivals::of_age(expiry.told_by, age, expiry::now_millis()),
        None => Arrivals::default(),
    }
}

async fn age(context: &Context, journal: &Journal, kind: FactKind) -> Option<Duration> {
    match context.bus.fact_age(journal.intent.sector, &context.config.name, kind).await {
        Ok(age) => age,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(%error, cause, kind = kind.name(), "cannot tell how old the answer is; taking it for new");
            None
        }
    }
}

/// Says that a journal's sector continues in a new stream, if the journal does not know that yet, or if its reports there
/// were deleted when the stream was recovered.
pub fn reinstated(journal: &Journal, present: Present, standing: &Standing) -> Option<Reinstated> {
    let Standing::Ours { known: Some(known), .. } = standing else { return None };
    let Present { identity, first_sequence } = present;
    let stream = journal.stream.as_ref().is_some_and(|own| *own != identity).then_some(identity)?;
    let reinstated = Reinstated { stream, first_sequence, known: *known };
    let is_news = journal.goes_on_in.as_ref() != Some(&reinstated.stream) || journal.must_tell_again(&reinstated);
    is_news.then_some(reinstated)
}

/// Shows whether the sector's log says who owns it. Logs a line when that changes.
pub fn show_doubt(context: &Context, slot: usize, journal: &Journal, standing: &Standing, foreign: bool) {
    let (sector, worker, stream) = (journal.intent.sector, &context.config.name, topology::SECTORS);
    let slot_name = context.config.slots.get(slot).map(|path| path.display().to_string()).unwrap_or_default();
    let report = match standing {
        // The token comes from another stream, so nothing in this one is about it.
        Standing::Open { .. } if foreign => {
            let message = format!(
                "the stream {stream} was made anew since slot {slot_name} took {sector}: its token means nothing there until \
                 the manager says so. Restore the stream, or run `sealbus-manager bus recover`, and the sector goes on; or \
                 give it up: `sealbus-manager slots release {worker} {slot_name}`"
            );
            Some(ErrorReport::new(ErrorClass::Crit, ErrorCode::QUEUE_REPLACED, message))
        }
        Standing::Open { by } => {
            let by = by.as_ref().map_or("its lease is not in the log".to_owned(), |by| format!("{by} has claimed it"));
            let message = format!(
                "the log does not say whose {sector} is: {by}, and the manager has not said anything. It goes on when the \
                 manager does; is that running?"
            );
            Some(ErrorReport::new(ErrorClass::Temp, ErrorCode::LEASE_DISPUTED, message))
        }
        Standing::Anothers { owner } => {
            let error = identify::of_another(&slot_name, owner, worker);
            Some(ErrorReport::from_error(ErrorClass::Crit, error.code.error_code(), &error))
        }
        Standing::Ours { .. } | Standing::Gone => None,
    };
    let report = report.map(|report| ErrorReport { host: context.config.host.clone(), slot: slot_name, ..report });
    let said = report.as_ref().map(|report| (report.code.clone(), report.message()));
    if context.board.doubt(slot, report) {
        match said {
            Some((code, message)) => tracing::error!(%sector, %code, "{message}"),
            None => tracing::info!(%sector, "the log says again whose the sector is"),
        }
    }
}

/// Shows that a slot holds an older state of its sector. No work is started, because its reports would be taken for
/// duplicates, and the sector would wait forever.
fn show_behind(context: &Context, slot: &Slot, journal: &Journal, number: u64) {
    let Journal { intent: Intent { sector, .. }, next_event, .. } = journal;
    let message = format!(
        "slot {} holds an older state of {sector}: its journal has made {} event(s), and the log has {number} of this lease. \
         Was it restored from a backup or a snapshot? Put the right disk back and restart the worker. Or have the sector \
         sealed again, after which the slot is free: `sealbus-manager sectors resubmit {sector} --elsewhere`",
        slot.name(),
        next_event - 1
    );
    let report = ErrorReport::new(ErrorClass::Crit, ErrorCode::JOURNAL_BEHIND, message.clone());
    if context.board.doubt(slot.index(), Some(context.named(slot, report))) {
        tracing::error!(%sector, code = %ErrorCode::JOURNAL_BEHIND, "{message}");
    }
}

/// The identity of the stream with the sectors' logs. `None` if the server does not answer.
pub async fn stream_identity(context: &Context) -> Option<String> {
    Some(present_stream(context).await?.identity)
}

/// The present stream with the sectors' logs. `None` if the server does not answer.
pub async fn present_stream(context: &Context) -> Option<Present> {
    match context.bus.sectors_origin().await {
        Ok((identity, first_sequence)) => Some(Present { identity: identity.as_str().to_owned(), first_sequence }),
        // The lost connection is already reported.
        Err(error) if !context.bus.is_connected() => {
            tracing::debug!(%error, "cannot tell which stream this is");
            None
        }
        Err(error) => {
            let cause = in_words(&error);
            tracing::warn!(cause, "cannot tell which stream this is");
            None
        }
    }
}
