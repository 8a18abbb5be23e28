//! Follows the standing orders that a person gave to this machine.
//!
//! They are read from their stream at the start, at each wake-up and every two heartbeats. Until they are known, no slot
//! takes an intent, but sectors in slots continue. While the bus is away, the last known orders apply.

use std::{collections::BTreeSet, time::Duration};

use futures::StreamExt;
use sealbus_nats::{Bus, Patience, publish::Backoff};
use sealbus_schema::{
    WorkerName,
    message::{Orders, SlotRelease, Weights},
};
use tokio::sync::watch;

use crate::causes::in_words;

/// A replica of the stream may lag behind the wake-up by this much.
const AFTER_WAKE_UP: Duration = Duration::from_secs(1);

/// The orders in force; `None` until they are known.
#[derive(Debug)]
pub struct StandingOrders {
    known: watch::Sender<Option<Orders>>,
}

impl Default for StandingOrders {
    fn default() -> StandingOrders {
        StandingOrders { known: watch::Sender::new(None) }
    }
}

impl StandingOrders {
    /// What a heartbeat shows of them: whether the worker drains, and the revision.
    pub fn shown(&self) -> (bool, u64) {
        self.known.borrow().as_ref().map_or((false, 0), |orders| (orders.drain, orders.revision))
    }

    /// Waits until the orders are known, and returns the id of a slot, if the manager knows one.
    pub async fn known_slot(&self, slot: &str) -> Option<String> {
        self.until(|known| {
            let slots = &known.as_ref()?.slots;
            Some(slots.iter().find(|known| known.path == slot).map(|known| known.id.clone()))
        })
        .await
    }

    /// A receiver of the orders in force, to show them.
    pub fn subscribe(&self) -> watch::Receiver<Option<Orders>> {
        self.known.subscribe()
    }

    /// How the miners share this worker.
    pub fn weights(&self) -> Weights {
        self.known.borrow().as_ref().map(|orders| orders.weights.clone()).unwrap_or_default()
    }

    /// Waits until new sectors may be taken.
    pub async fn open(&self) {
        self.until(|known| known.as_ref().is_some_and(|orders| !orders.drain).then_some(())).await;
    }

    /// Waits until no new sectors may be taken.
    pub async fn draining(&self) {
        self.until(|known| known.as_ref().is_some_and(|orders| orders.drain).then_some(())).await;
    }

    /// Waits for an order to release a slot whose number comes after `last`, and returns that number.
    pub async fn release_of(&self, slot: &str, last: u64) -> u64 {
        self.until(|known| {
            let orders = known.as_ref()?.release.iter().filter(|order| order.slot == slot);
            let later = orders.map(|order| order.id).filter(|id| SlotRelease::comes_after(*id, last));
            later.reduce(|first, id| if SlotRelease::comes_after(id, first) { id } else { first })
        })
        .await
    }

    /// Follows the orders forever. `slots` are the slots' names that an order may use.
    pub async fn follow(&self, bus: &Bus, worker: &WorkerName, heartbeat: Duration, slots: &[String]) {
        let mut strangers = BTreeSet::new();
        let mut patience = Patience::new(Duration::from_millis(250), Duration::from_secs(10));
        loop {
            let mut wakeups = match bus.orders_wakeups(worker).await {
                Ok(wakeups) => wakeups,
                Err(error) => {
                    tracing::warn!(%error, "cannot subscribe to orders; they are read every two heartbeats");
                    futures::stream::pending().boxed()
                }
            };
            let mut woken = false;
            loop {
                let pause = match bus.orders(worker).await {
                    Ok(orders) => {
                        patience.mended("the standing orders are read again");
                        self.take(orders.unwrap_or_default(), slots, &mut strangers);
                        // After a wake-up, read once more: the first read may have met a replica that lags behind.
                        if woken { AFTER_WAKE_UP } else { Backoff::new(heartbeat * 2, heartbeat * 2).next_pause() }
                    }
                    Err(error) => {
                        patience.failed("cannot read the standing orders; the last ones hold", &in_words(&error))
                    }
                };
                woken = match tokio::time::timeout(pause, wakeups.next()).await {
                    Err(_) => false,
                    Ok(Some(())) => true,
                    Ok(None) => break,
                };
            }
            tokio::time::sleep(AFTER_WAKE_UP).await;
        }
    }

    fn take(&self, orders: Orders, slots: &[String], strangers: &mut BTreeSet<u64>) {
        for order in orders.release.iter().filter(|order| !slots.contains(&order.slot)) {
            if strangers.insert(order.id) {
                tracing::error!(
                    id = order.id,
                    slot = order.slot,
                    "an order to free a slot that this worker has not; it has {}",
                    slots.join(", ")
                );
            }
        }
        self.known.send_if_modified(|known| {
            let is_new = known.as_ref() != Some(&orders);
            if is_new {
                tracing::info!(revision = orders.revision, drain = orders.drain, "following the standing orders");
                *known = Some(orders);
            }
            is_new
        });
    }

    async fn until<T>(&self, is_it: impl Fn(&Option<Orders>) -> Option<T>) -> T {
        let mut changes = self.known.subscribe();
        loop {
            let found = is_it(&changes.borrow_and_update());
            match found {
                Some(answer) => return answer,
                // The sender lives as long as this struct, so an error is impossible.
                None => drop(changes.changed().await),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn orders(revision: u64, drain: bool, release: &[(u64, &str)]) -> Orders {
        let release = release.iter().map(|(id, slot)| SlotRelease { id: *id, slot: (*slot).to_owned() }).collect();
        Orders { revision, drain, release, ..Orders::default() }
    }

    #[test]
    fn nothing_is_taken_before_the_orders_are_known_nor_while_they_say_drain() {
        let (standing, mut strangers) = (StandingOrders::default(), BTreeSet::new());
        assert!(standing.open().now_or_never().is_none() && standing.draining().now_or_never().is_none());
        standing.take(orders(1, true, &[]), &[], &mut strangers);
        assert!(standing.open().now_or_never().is_none() && standing.draining().now_or_never().is_some());
        assert_eq!(standing.shown(), (true, 1));
        standing.take(orders(2, false, &[]), &[], &mut strangers);
        assert!(standing.open().now_or_never().is_some() && standing.draining().now_or_never().is_none());
        assert_eq!(standing.shown(), (false, 2));
    }

    #[test]
    fn an_order_to_free_a_slot_counts_for_that_slot_and_once() {
        let (standing, mut strangers) = (StandingOrders::default(), BTreeSet::new());
        let slots = ["/a".to_owned(), "/b".to_owned()];
        standing.take(orders(1, false, &[(3, "/a"), (5, "/a"), (4, "/c")]), &slots, &mut strangers);
        assert_eq!(standing.release_of("/a", 0).now_or_never(), Some(5));
        assert_eq!(standing.release_of("/a", 5).now_or_never(), None);
        assert_eq!(standing.release_of("/b", 0).now_or_never(), None);
        assert_eq!(
            standing.release_of("/a", u64::MAX).now_or_never(),
            Some(5),
            "a forged order had the largest there is"
        );
        assert_eq!(strangers, BTreeSet::from([4]));
    }
}
