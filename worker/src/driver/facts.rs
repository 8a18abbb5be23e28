//! What others wrote into the sector's log, read back: the manager's answers, and whether the lease is still ours.
//!
//! A slot that works for hours, waits or is blocked publishes nothing, so no refusal would tell it that its lease has
//! moved. It looks by itself.

use std::sync::Arc;

use sealbus_nats::{
    lease::{Lease, ReadError},
    publish::Backoff,
};
use sealbus_schema::{
    SectorId, Token,
    message::{Fact, FactKind},
    seal::worker::{State, Step},
};
use tokio::sync::Notify;

use super::{Context, core::Watch};

/// What was read.
#[derive(Debug, Default)]
pub struct News {
    /// The last fact of each kind that was asked for, if it is meant for our lease.
    pub facts: Vec<Fact>,
    /// Whether the lease is somebody else's now.
    pub lease_moved: bool,
}

/// The kinds that may change a state, the most urgent first.
pub fn kinds(state: &State) -> &'static [FactKind] {
    use FactKind::{Abandon, PersistChecked, PrecommitLanded, ProveLanded, Resubmit, Seed, Ticket};
    let step = match state {
        State::Over { .. } => return &[],
        State::Blocked { step: Step::Cleaning { .. }, .. } => return &[Resubmit],
        State::Blocked { .. } => return &[Abandon, Resubmit],
        State::Going { step, .. } | State::BackingOff { step, .. } => step,
    };
    match step {
        Step::Cleaning { .. } => &[],
        Step::AwaitingTicket { .. } => &[Abandon, Resubmit, Ticket],
        Step::AwaitingPreCommit { .. } => &[Abandon, Resubmit, PrecommitLanded],
        Step::AwaitingPersistCheck { .. } => &[Abandon, Resubmit, PersistChecked],
        Step::AwaitingSeed { .. } | Step::C1 { .. } | Step::C2 { .. } => &[Abandon, Resubmit, Seed],
        Step::AwaitingProveCommit { .. } => &[Abandon, Resubmit, Seed, ProveLanded],
        Step::AddingPieces { .. }
        | Step::BuildingTreeD { .. }
        | Step::AwaitingPc1Room { .. }
        | Step::Pc1 { .. }
        | Step::Pc2 { .. } => &[Abandon, Resubmit],
        // Of the landing only the stores in it count any more: what they are may be told anew.
        Step::Transferring { .. } => &[Abandon, Resubmit, PrecommitLanded],
    }
}

/// Waits for a wake-up (unless `at_once`), or for up to two heartbeats, and reads the facts of these kinds and the
/// lease.
pub async fn next(context: Arc<Context>, sector: SectorId, token: Token, watch: Watch, bell: Arc<Notify>) -> News {
    let Watch { kinds, resubmitted, at_once } = watch;
    if !at_once {
        // With jitter, so that a fleet does not ask in step. A lost wake-up costs this long.
        let interval = context.config.heartbeat * 2;
        let pause = Backoff::new(interval, interval).next_pause();
        let _ = tokio::time::timeout(pause, bell.notified()).await;
    }
    let mut news = News::default();
    for kind in kinds {
        match context.bus.last_fact(sector, &context.config.name, *kind).await {
            Ok(Some(fact)) if fact.counts_for(token, resubmitted) => news.facts.push(fact),
            Ok(other) => tracing::trace!(kind = kind.name(), ?other, "no fact for this lease"),
            Err(error) => log_unread(&error),
        }
    }
    match context.bus.last_lease(sector).await {
        Ok(lease) => news.lease_moved = has_moved(lease.as_ref(), token),
        Err(error) => log_unread(&error),
    }
    news
}

/// Whether a sector's log has a lease record after the one with our token: it was taken from us. A log that does not even
/// have ours says nothing about that.
pub fn has_moved(lease: Option<&Lease>, token: Token) -> bool {
    lease.is_some_and(|lease| lease.sequence > token.0)
}

fn log_unread(error: &ReadError) {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::warn!(%error, cause, "cannot read the sector's log; trying again");
}
