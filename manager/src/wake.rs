//! Wake-ups that nobody misses.
//!
//! A reconciler reads the world and then waits until something changed. What changed while it was reading must end the wait
//! at once: a [`Listener`] remembers how many rings it has answered, so a ring between two waits counts like any other.
//! Rings carry nothing and may fall together; what changed is read from the database.

use std::{convert::Infallible, time::Duration};

use tokio::sync::watch;

use crate::store::{Store, StoreError};

/// How often the database is asked whether a person's command was stored: commands are other processes, and SQLite tells
/// nobody. One row of an index is read.
const COMMANDS_PERIOD: Duration = Duration::from_millis(25);

/// Rings for all its listeners. Clones are the same bell.
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
    /// Wakes everybody who listens, now or when they next wait.
    pub fn ring(&self) {
        self.rings.send_modify(|rings| *rings = rings.wrapping_add(1));
    }

    /// A listener for whatever rings from now on.
    pub fn listen(&self) -> Listener {
        Listener { rings: self.rings.subscribe() }
    }
}

impl Listener {
    /// Waits for a ring since the last one that this returned for. May be dropped at any time.
    pub async fn woken(&mut self) {
        if self.rings.changed().await.is_err() {
            // The bell is gone, and nobody can ring it.
            std::future::pending().await
        }
    }

    /// Counts whatever has rung so far as answered: what is read from now on shows it.
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
