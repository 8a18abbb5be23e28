//! The worker's heartbeats: one each interval, and one early when something that they show has changed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sealbus_nats::{
    heartbeats::{BeatError, Heart},
    publish::Backoff,
};
use sealbus_schema::message::{Heartbeat, ProcessorStatus, WorkStatus};

use crate::{
    driver::Context,
    processor::{self, Placement, Work, WorkOf},
    service,
};

/// The shortest time between two heartbeats, however much changes.
const LEAST_PAUSE: Duration = Duration::from_secs(2);
/// The first pause after a refused heartbeat. It is short, because the stream may be about to be created.
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// Sends heartbeats for ever. Returns only when another process runs under the same name.
pub async fn beat(context: Arc<Context>) -> BeatError {
    let mut heart = Heart::new(&context.config.name);
    let incarnation = rand::random();
    let interval = context.config.heartbeat;
    let first_retry = || Backoff::new(FIRST_RETRY.min(interval), interval);
    let (mut retries, mut failing, mut ready) = (first_retry(), false, false);
    let mut orders = context.orders.subscribe();
    loop {
        orders.mark_unchanged();
        match heart.beat(&context.bus, &heartbeat(&context, incarnation)).await {
            Ok(()) => {
                context.board.note_beat();
                if std::mem::take(&mut failing) {
                    tracing::info!("heartbeats are stored again");
                }
                if !std::mem::replace(&mut ready, true) {
                    service::ready(&context.config.name, incarnation);
                }
                retries = first_retry();
                let least = LEAST_PAUSE.min(interval);
                tokio::time::sleep(least).await;
                tokio::select! {
                    () = tokio::time::sleep(interval - least) => {}
                    () = context.board.changed() => {}
                    // An error would mean that the sender is gone, but it lives as long as the context.
                    _ = orders.changed() => {}
                }
            }
            Err(error @ BeatError::Clone { .. }) => return error,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                if std::mem::replace(&mut failing, true) {
                    tracing::debug!(%error, cause, "heartbeat not stored");
                } else {
                    tracing::warn!(%error, cause, "heartbeat not stored; further failures are logged at debug level");
                }
                tokio::time::sleep(retries.next_pause()).await;
            }
        }
    }
}

fn heartbeat(context: &Context, incarnation: u64) -> Heartbeat {
    let (draining, orders) = context.orders.shown();
    let now = Instant::now();
    let heartbeat = Heartbeat {
        worker: context.config.name.clone(),
        host: context.config.host.clone(),
        version: sealbus_schema::VERSION.to_owned(),
        incarnation,
        draining,
        orders,
        slots: context.board.statuses(),
        processors: context.pool.snapshot().into_iter().map(|status| processor(status, now)).collect(),
        broken: context.board.broken(),
    };
    heartbeat.bounded()
}

fn processor(status: processor::ProcessorStatus, now: Instant) -> ProcessorStatus {
    let Placement { cpus, memory, gpus } = status.placement;
    ProcessorStatus {
        id: status.id,
        pid: status.pid,
        busy: status.busy_since.is_some(),
        stage: status.stage.name().to_owned(),
        cpus: cpus.map(|cpus| cpus.to_string()).unwrap_or_default(),
        node: memory.map(|(node, _)| node),
        gpus: gpus.join(","),
        bound: status.bound,
        work: status.work.into_iter().filter_map(|work| work_status(work, now)).collect(),
    }
}

/// What a processor is working on. `None` until its user has said for which sector.
fn work_status(work: Work, now: Instant) -> Option<WorkStatus> {
    let WorkOf { sector, slot } = work.of?;
    let left_secs = work.expected_left(now).map(|left| left.as_secs());
    let age_secs = now.saturating_duration_since(work.since).as_secs();
    // Whole percents, rounded down, so that only finished work shows 100. The cast turns NaN into 0.
    let percent = work.progress.as_ref().map(|progress| (progress.done.clamp(0.0, 1.0) * 100.0) as u8);
    let note = work.progress.map(|progress| progress.note).unwrap_or_default();
    // No worker has a slot of this index, so the manager shows none.
    let slot = slot.unwrap_or(usize::MAX);
    Some(WorkStatus { sector, slot, age_secs, percent, note, left_secs })
}
