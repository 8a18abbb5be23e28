//! Takes sectors back from workers that are gone, and sectors that their owners do not know about.
//!
//! Liveness is a policy; ownership is not. This module only puts releases into the outbox, fenced by the lease that it
//! saw. The state machine decides what a release means for its sector. [`watch`] decides what to release, without IO.

pub mod watch;

use std::time::{Duration, Instant};

use sealbus_nats::Bus;
use sealbus_schema::{ErrorCode, lease::Ownership};
use serde_json::json;

use crate::{
    config::{Config, Liveness},
    drive::chain_of,
    store::{Happening, Outcome, Outgoing, Store, StoreError, Verdict},
    waits::{Cause, Subject, Waits},
    wake::Wake,
};
use watch::{Limits, Revocation, Round, Watch};

/// The longest pause between two looks.
const MAX_PERIOD: Duration = Duration::from_secs(10);
/// How long reading the heartbeats may take before the look counts as failed.
const READ_LIMIT: Duration = Duration::from_secs(15);

/// Watches forever. Only the loss of the database or of the fold ends it.
pub async fn run(
    bus: &Bus,
    store: &Store,
    config: &Config,
    epoch: i64,
    changed: &Wake,
    waits: &Waits,
) -> Result<std::convert::Infallible, StoreError> {
    let limits = limits(&config.liveness);
    if !config.liveness.revoke {
        // An earlier manager may have left a wait.
        waits.goes_on(&of_heartbeats());
        tracing::info!("liveness.revoke is off: sectors of workers that are gone wait for a person");
        return std::future::pending().await;
    }
    let started = Instant::now();
    let mut watch = Watch::default();
    loop {
        tokio::time::sleep((limits.dead_after / 6).min(MAX_PERIOD)).await;
        let Some(workers) = look(bus, waits).await else {
            watch.lose_sight();
            continue;
        };
        // Most sectors are named by their workers' heartbeats and need no further check.
        let suspects = watch::suspects(&workers, store.leases().await?, &limits);
        let sectors = store.sectors_among(&suspects).await?;
        let round = Round { at: started.elapsed(), connections: bus.connections(), workers: &workers };
        for revocation in watch.round(&round, &sectors, &limits) {
            revoke(store, epoch, &revocation).await?;
            changed.ring();
        }
    }
}

/// The workers' last heartbeats. `None` if they cannot be read; then no worker counts as gone.
async fn look(bus: &Bus, waits: &Waits) -> Option<Vec<watch::Sign>> {
    let subject = of_heartbeats();
    let why = match bus.is_connected() {
        false => "NATS is not connected".to_owned(),
        true => match tokio::time::timeout(READ_LIMIT, bus.workers()).await {
            Ok(Ok(seen)) => {
                waits.goes_on(&subject);
                return Some(seen.iter().map(watch::Sign::from).collect());
            }
            Ok(Err(error)) => chain_of(&error),
            Err(_) => format!("NATS did not answer within {} s", READ_LIMIT.as_secs()),
        },
    };
    let text = format!("the workers' signs of life cannot be read: {why}");
    waits.waits(&subject, Cause::passing(ErrorCode::BUS_UNAVAILABLE, text), MAX_PERIOD);
    None
}

fn of_heartbeats() -> Subject {
    Subject::Bus("heartbeats".to_owned())
}

/// Releases a lease, if it is still the present one.
async fn revoke(store: &Store, epoch: i64, revocation: &Revocation) -> Result<(), StoreError> {
    let Revocation { sector: id, token, reason } = revocation;
    let mut tx = store.begin_as(epoch).await?;
    let Some(sector) = tx.sector(*id).await? else { return Ok(()) };
    let worker = match &sector.ownership {
        Ownership::Held { worker, token: present, .. } if present == token => worker.clone(),
        _ => return Ok(()),
    };
    tracing::warn!(sector = %id, %worker, %token, reason, "taking the sector back");
    let happening = Happening::of_manager("revoking", json!({ "worker": worker, "reason": reason }));
    let release = Outgoing::Release { lease_sequence: token.0, reason: reason.clone() };
    let history = vec![(happening, Verdict::Noted)];
    tx.store_outcomes(vec![Outcome { history, outbox: vec![release], ..Outcome::unchanged(sector) }]).await?;
    tx.commit().await
}

fn limits(config: &Liveness) -> Limits {
    Limits {
        dead_after: Duration::from_secs(config.dead_after_secs),
        grace: Duration::from_secs(config.grace_secs),
        short_grace: Duration::from_secs(config.short_grace_secs),
        orphan_after: Duration::from_secs(config.orphan_after_secs),
        reissue_interval: Duration::from_secs(config.reissue_interval_secs),
    }
}
