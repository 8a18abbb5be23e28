//! What systemd is told about this process. Elsewhere nothing is told.

use sd_notify::NotifyState;

/// Reports the start as complete: the manager holds the fold, or stands by for it.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Reports what the manager does or waits for.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
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
