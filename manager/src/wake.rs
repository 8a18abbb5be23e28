//! Wake-ups that cannot be lost.
//!
//! A reconciler reads the state and then waits for a change. A change that happens while it is reading must end the
//! next wait at once. So a [`Listener`] remembers how many rings it has answered, and a ring between two waits counts
//! like any other. Rings carry no data and may coalesce; the listener reads from the database what changed.

use std::{convert::Infallible, time::Duration};

use tokio::sync::watch;

use crate::store::{Store, StoreError};

/// How often the database is polled for a person's command. Commands run in other processes, and SQLite has no
/// notifications. Each poll reads one row of an index.
const COMMANDS_PERIOD: Duration = Duration::from_millis(10);

/// A bell that wakes all its listeners. Clones are the same bell.
#[derive(Clone, Debug, Default)]
pub struct Wake {
    rings: watch::Sender<u64>,
}

/// Waits for rings.
#[derive(Clone, Debug)]
pub struct Listener {
    rings: watch::Receiver<u64>,
}

impl Wake {
    /// Wakes all listeners, now or when they next wait.
    pub fn ring(&self) {
        self.rings.send_modify(|rings| *rings = rings.wrapping_add(1));
    }

    /// A listener for rings from now on.
    pub fn listen(&self) -> Listener {
        Listener { rings: self.rings.subscribe() }
    }
}

impl Listener {
    /// Waits for a ring after the last one that was answered. May be dropped at any time.
    pub async fn woken(&mut self) {
        if self.rings.changed().await.is_err() {
            // The bell is dropped, so nobody can ring it.
            std::future::pending().await
        }
    }

    /// Counts all rings so far as answered. Call it before reading the state.
    pub fn answer(&mut self) {
        self.rings.mark_unchanged();
    }
}

/// Rings when a person's command has changed the database. Only the loss of the database ends it.
pub async fn follow_commands(store: &Store, changed: &Wake) -> Result<Infallible, StoreError> {
    let mut known = None;
    loop {
        let last = store.last_command().await?;
        if known.replace(last).is_some_and(|known| known != last) {
            changed.ring();
        }
        tokio::time::sleep(COMMANDS_PERIOD).await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn what_rings_between_two_waits_ends_the_second_one_at_once() {
        let wake = Wake::default();
        let mut listener = wake.listen();
        assert!(listener.woken().now_or_never().is_none(), "nothing has rung");
        wake.ring();
        wake.ring();
        assert!(listener.woken().now_or_never().is_some(), "it rang while nobody waited");
        assert!(listener.woken().now_or_never().is_none(), "rings fall together");
        wake.clone().ring();
        listener.answer();
        assert!(listener.woken().now_or_never().is_none(), "answered");
    }
}
