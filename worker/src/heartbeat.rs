//! The worker's signs of life.

use std::sync::Arc;

use sealbus_nats::heartbeats::{BeatError, Heart};
use sealbus_schema::message::{Heartbeat, ProcessorStatus};

use crate::driver::Context;

/// Sends heartbeats for ever; ends only when another process runs under our name.
pub async fn beat(context: Arc<Context>) -> BeatError {
    let mut heart = Heart::new(&context.config.name);
    let incarnation = rand::random();
    let mut ticks = tokio::time::interval(context.config.heartbeat);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        ticks.tick().await;
        match heart.beat(&context.bus, &heartbeat(&context, incarnation)).await {
            Ok(()) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("heartbeats arrive again");
                }
            }
            Err(error @ BeatError::Clone { .. }) => return error,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                if std::mem::replace(&mut failing, true) {
                    tracing::debug!(%error, cause, "heartbeat not stored");
                } else {
                    tracing::warn!(%error, cause, "heartbeat not stored; the next ones are tried in silence");
                }
            }
        }
    }
}

fn heartbeat(context: &Context, incarnation: u64) -> Heartbeat {
    let processors = context.pool.snapshot().into_iter();
    let (draining, orders) = context.orders.shown();
    Heartbeat {
        worker: context.config.name.clone(),
        host: context.config.host.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        incarnation,
        draining,
        orders,
        slots: context.board.statuses(),
        processors: processors
            .map(|status| ProcessorStatus { id: status.id, pid: status.pid, busy: status.busy_since.is_some() })
            .collect(),
    }
}
