//! Wakes slots that wait for facts. A wake-up is only a hint; the facts themselves are read from the log.
//!
//! Most wake-ups come with the fact itself, by a subscription. From time to time, one request for the last sequences of
//! all waiting sectors finds what the subscription has missed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::StreamExt;
use sealbus_nats::{Bus, Patience, facts::Heard, publish::Backoff};
use sealbus_schema::{SectorId, WorkerName, message::Fact};
use tokio::sync::Notify;

use crate::causes::in_words;

/// The longest pause after a failed request for the last sequences.
const COMPARE_PAUSE_MAX: Duration = Duration::from_secs(300);

/// The waiting slots and their sectors.
#[derive(Debug, Default)]
pub struct Wakeups {
    waiting: Mutex<BTreeMap<usize, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    sector: SectorId,
    bell: Arc<Bell>,
    /// The last sequence that it was woken for.
    known: u64,
}

/// Wakes one slot.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Notify,
    heard: Mutex<Option<Fact>>,
}

impl Bell {
    /// Waits until it rings. An earlier ring counts too.
    pub async fn rung(&self) {
        self.rung.notified().await;
    }

    /// Takes the last fact that was heard, if it was not taken yet.
    pub fn take_heard(&self) -> Option<Fact> {
        lock(&self.heard).take()
    }

    fn ring(&self, heard: Option<Fact>) {
        if heard.is_some() {
            *lock(&self.heard) = heard;
        }
        self.rung.notify_one();
    }
}

impl Wakeups {
    /// A bell that rings for facts about this sector from now on.
    pub fn bell(&self, slot: usize, sector: SectorId) -> Arc<Bell> {
        let bell = Arc::new(Bell::default());
        lock(&self.waiting).insert(slot, Waiting { sector, bell: Arc::clone(&bell), known: 0 });
        bell
    }

    fn ring_all(&self) {
        lock(&self.waiting).values().for_each(|waiting| waiting.bell.ring(None));
    }

    fn ring(&self, heard: &Heard) {
        for waiting in lock(&self.waiting).values().filter(|waiting| waiting.sector == heard.sector) {
            waiting.bell.ring(heard.fact.clone());
        }
    }

    /// Rings for each sector whose log ends with another record than the one that its slot was woken for. That may be a
    /// later record, or an earlier one in a stream that has replaced a lost one.
    fn compare(&self, last: impl Fn(SectorId) -> Option<u64>) {
        for waiting in lock(&self.waiting).values_mut() {
            if let Some(sequence) = last(waiting.sector).filter(|sequence| *sequence != waiting.known) {
                waiting.known = sequence;
                waiting.bell.ring(None);
            }
        }
    }

    /// Listens on the bus forever, also after failures of the subscription.
    pub async fn listen(&self, bus: &Bus, worker: &WorkerName) {
        let mut patience = Patience::new(Duration::from_millis(250), Duration::from_secs(10));
        loop {
            let cause = match bus.fact_wakeups(worker).await {
                Ok(mut facts) => {
                    patience.mended("facts wake slots up again");
                    // Facts may have come before the subscription was active.
                    self.ring_all();
                    while let Some(heard) = facts.next().await {
                        self.ring(&heard);
                    }
                    "the subscription ended".to_owned()
                }
                Err(error) => in_words(&error),
            };
            tokio::time::sleep(patience.failed("no subscription to facts", &cause)).await;
        }
    }

    /// Looks for facts that the subscription has missed, and for moved leases. Runs forever, about once per `interval`.
    pub async fn look(&self, bus: &Bus, worker: &WorkerName, interval: Duration) {
        let mut patience = Patience::new(interval, COMPARE_PAUSE_MAX.max(interval));
        loop {
            // Jitter keeps the workers of a fleet from asking at the same time.
            tokio::time::sleep(Backoff::new(interval, interval).next_pause()).await;
            let sectors: Vec<SectorId> = lock(&self.waiting).values().map(|waiting| waiting.sector).collect();
            match bus.last_sequences(&sectors, worker).await {
                Ok(last) => {
                    patience.mended("the last records of our sectors are read again");
                    self.compare(|sector| last.get(&sector).copied());
                }
                Err(error) => {
                    let pause = patience.failed("cannot read the last records of our sectors", &in_words(&error));
                    let again = Instant::now() + pause;
                    // Until the request succeeds, each slot reads its log itself.
                    self.ring_all();
                    while Instant::now() + interval < again {
                        tokio::time::sleep(Backoff::new(interval, interval).next_pause()).await;
                        self.ring_all();
                    }
                }
            }
        }
    }
}

fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use sealbus_schema::{Token, message::CommonFact};

    use super::*;

    fn sector(number: u64) -> SectorId {
        format!("f01000/{number}").parse().expect("a sector")
    }

    #[test]
    fn a_fact_wakes_the_slot_of_its_sector_and_tells_it_what_was_heard() {
        let wakeups = Wakeups::default();
        let (one, other) = (wakeups.bell(0, sector(1)), wakeups.bell(1, sector(2)));
        let fact = Fact::new(Token(7), 0, CommonFact::Resubmit { from: None });
        wakeups.ring(&Heard { sector: sector(1), fact: Some(fact.clone()) });
        assert!(one.rung().now_or_never().is_some() && other.rung().now_or_never().is_none());
        assert_eq!((one.take_heard(), one.take_heard(), other.take_heard()), (Some(fact), None, None));
    }

    #[test]
    fn a_slot_is_woken_once_for_a_record_that_it_has_not_heard_of() {
        let wakeups = Wakeups::default();
        let bell = wakeups.bell(0, sector(1));
        let woken_by = |last: Option<u64>| {
            wakeups.compare(|of| last.filter(|_| of == sector(1)));
            bell.rung().now_or_never().is_some()
        };
        assert!(!woken_by(None), "its log has nothing");
        assert!(woken_by(Some(5)));
        assert!(!woken_by(Some(5)));
        assert!(woken_by(Some(9)));
        assert!(woken_by(Some(2)), "another stream");
    }
}
