//! The manager's answers, read back from the log.

use std::{sync::Arc, time::Duration};

use sealbus_nats::publish::Backoff;
use sealbus_schema::{
    SectorId, Token,
    message::{Fact, FactKind},
    seal::worker::{State, Step},
};
use tokio::sync::Notify;

use super::Context;

/// How long a lost wake-up may delay a fact at most.
const READ_INTERVAL: Duration = Duration::from_secs(20);

/// The kinds that may change a state, the most urgent first.
pub fn kinds(state: &State) -> &'static [FactKind] {
    use FactKind::{Abandon, PersistChecked, PrecommitLanded, ProveLanded, Seed, Ticket};
    let step = match state {
        State::Over { .. } => return &[],
        State::Blocked { step: Step::Cleaning { .. }, .. } => return &[],
        State::Blocked { .. } => return &[Abandon],
        State::Going { step, .. } | State::BackingOff { step, .. } => step,
    };
    match step {
        Step::Cleaning { .. } => &[],
        Step::AwaitingTicket { .. } => &[Abandon, Ticket],
        Step::AwaitingPreCommit { .. } => &[Abandon, PrecommitLanded],
        Step::AwaitingPersistCheck { .. } => &[Abandon, PersistChecked],
        Step::AwaitingSeed { .. } | Step::C1 { .. } | Step::C2 { .. } => &[Abandon, Seed],
        Step::AwaitingProveCommit { .. } => &[Abandon, Seed, ProveLanded],
        Step::AddingPieces
        | Step::BuildingTreeD { .. }
        | Step::AwaitingPc1Room { .. }
        | Step::Pc1 { .. }
        | Step::Pc2 { .. }
        | Step::Transferring { .. } => &[Abandon],
    }
}

/// Waits for a wake-up (unless `at_once`), or for a while, and reads the last facts of these kinds that are meant for our lease.
pub async fn next(
    context: Arc<Context>,
    sector: SectorId,
    token: Token,
    kinds: &'static [FactKind],
    bell: Arc<Notify>,
    at_once: bool,
) -> Vec<Fact> {
    if kinds.is_empty() {
        return std::future::pending().await;
    }
    if !at_once {
        // With jitter, so that a fleet does not ask in step.
        let pause = Backoff::new(READ_INTERVAL, READ_INTERVAL).next_pause();
        let _ = tokio::time::timeout(pause, bell.notified()).await;
    }
    let mut found = Vec::new();
    for kind in kinds {
        match context.bus.last_fact(sector, &context.config.name, *kind).await {
            Ok(Some(fact)) if fact.token() == Some(token) => found.push(fact),
            Ok(other) => tracing::trace!(kind = kind.name(), ?other, "no fact for this lease"),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(%error, cause, "cannot read back a fact; trying again");
            }
        }
    }
    found
}
