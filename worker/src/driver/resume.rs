//! Whether a sector is still ours: after a restart, and after the server refused an event.

use std::time::Duration;

use sealbus_nats::publish::Backoff;

use super::{Context, core::leave};
use crate::{journal::Journal, slot::Slot};

/// Whose a slot's sector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Ours, under the journal's token.
    Ours,
    /// Not ours any more.
    Gone,
    /// It cannot be told: the stream is not the one that the token is of.
    OtherStream,
}

/// Compares a journal with the sector's last lease record. Waits through outages.
pub async fn right_to(context: &Context, slot: &Slot, journal: &Journal) -> Right {
    context.ledger.hold(slot, slot.work_dir(journal.intent.sector, journal.token));
    context.board.hold(slot.index(), journal.intent.sector, journal.token, &journal.state);
    if !leave::must_ask(journal) {
        return Right::Gone;
    }
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    let lease = loop {
        match context.bus.last_lease(journal.intent.sector).await {
            Ok(lease) => break lease,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(%error, cause, "cannot read the sector's lease; trying again");
            }
        }
        tokio::time::sleep(backoff.next_pause()).await;
    };
    let stream = stream_identity(context).await;
    let right = leave::right(journal, &context.config.name, lease.as_ref(), stream.as_deref());
    if right == Right::Ours {
        tracing::info!(step = journal.state.step().map(|step| step.name()), "going on");
    }
    right
}

/// Why the server refused an event: because the lease moved, or because the whole stream is another one.
pub async fn right_after_fence(context: &Context, journal: &Journal) -> Right {
    let stream = stream_identity(context).await;
    if leave::is_other_stream(journal, stream.as_deref()) { Right::OtherStream } else { Right::Gone }
}

/// The identity of the stream of sectors' logs; unknown where a worker has no right to ask.
pub async fn stream_identity(context: &Context) -> Option<String> {
    match context.bus.sectors_identity().await {
        Ok(identity) => Some(identity.as_str().to_owned()),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(%error, cause, "cannot tell which stream this is; going on without that check");
            None
        }
    }
}
