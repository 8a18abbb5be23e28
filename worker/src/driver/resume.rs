//! Whether a sector is still ours: after a restart, and after the server refused an event. And how old the manager's
//! answers are that came before the restart.

use std::time::Duration;

use sealbus_nats::{lease::Lease, publish::Backoff};
use sealbus_schema::{
    WorkerName,
    message::FactKind,
    seal::worker::{State, Step},
};

use super::{
    Context,
    core::leave,
    expiry::{self, Arrivals},
};
use crate::{journal::Journal, slot::Slot};

/// Whose a slot's sector is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Right {
    /// Ours, under the journal's token.
    Ours,
    /// Not ours any more: the log has a later lease record.
    Gone,
    /// Another worker's, under the journal's token: the worker was renamed, or the slot moved to another one.
    Anothers(WorkerName),
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
    let right = judge(context, journal).await;
    if right == Right::Ours {
        tracing::info!(step = journal.state.step().map(|step| step.name()), "going on");
    }
    right
}

/// Why the server refused an event: because the lease moved, or because the whole stream is another one.
pub async fn right_after_fence(context: &Context, journal: &Journal) -> Right {
    judge(context, journal).await
}

/// How old the answers are that an earlier process took and that the state still works with, by the server's clock alone.
pub async fn arrivals(context: &Context, journal: &Journal) -> Arrivals {
    let (mut ticket, mut precommit) = (None, None);
    match journal.state.step().filter(|_| !matches!(journal.state, State::Over { .. })) {
        Some(Step::Pc1 { .. } | Step::Pc2 { .. }) => ticket = age(context, journal, FactKind::Ticket).await,
        Some(Step::Transferring { .. } | Step::C1 { .. } | Step::C2 { .. }) => {
            precommit = age(context, journal, FactKind::PrecommitLanded).await;
        }
        _ => {}
    }
    Arrivals::of_ages(ticket, precommit, expiry::now_millis())
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

async fn judge(context: &Context, journal: &Journal) -> Right {
    let lease = last_lease(context, journal).await;
    let stream = stream_identity(context).await;
    leave::right(journal, &context.config.name, lease.as_ref(), stream.as_deref())
}

async fn last_lease(context: &Context, journal: &Journal) -> Option<Lease> {
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
    loop {
        match context.bus.last_lease(journal.intent.sector).await {
            Ok(lease) => return lease,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(%error, cause, "cannot read the sector's lease; trying again");
            }
        }
        tokio::time::sleep(backoff.next_pause()).await;
    }
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
