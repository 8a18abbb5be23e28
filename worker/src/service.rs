//! What systemd is told about this process. Elsewhere nothing is told.

use sd_notify::NotifyState;
use sealbus_schema::WorkerName;

/// Reports the start as complete. The status names the process as its heartbeats do, so that a deployment can tell that
/// the manager has heard of this very process.
pub fn ready(worker: &WorkerName, incarnation: u64) {
    let status = format!("serving as {worker}, incarnation {incarnation}");
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// Reports that the process lives, for ever and as often as the unit's `WatchdogSec` demands. To be polled by the task
/// whose life it vouches for.
pub async fn keep_watchdog() -> std::convert::Infallible {
    let Some(limit) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    loop {
        tell(&[NotifyState::Watchdog]);
        tokio::time::sleep(limit / 3).await;
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}
