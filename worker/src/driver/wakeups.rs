//! Wake-ups for slots that wait for facts. Only a hint: what counts is read back from the log, so a lost one costs
//! seconds.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use sealbus_nats::{Bus, Patience};
use sealbus_schema::{SectorId, WorkerName};
use tokio::sync::Notify;

use crate::causes::in_words;

/// Which slot waits for facts about which sector.
#[derive(Debug, Default)]
pub struct Wakeups {
    waiting: Mutex<BTreeMap<usize, (SectorId, Arc<Notify>)>>,
}

impl Wakeups {
    /// A bell that rings for facts about a sector from now on.
    pub fn bell(&self, slot: usize, sector: SectorId) -> Arc<Notify> {
        let bell = Arc::new(Notify::new());
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(slot, (sector, Arc::clone(&bell)));
        bell
    }

    fn ring(&self, which: impl Fn(SectorId) -> bool) {
        for (sector, bell) in self.waiting.lock().unwrap_or_else(PoisonError::into_inner).values() {
            if which(*sector) {
                bell.notify_one();
            }
        }
    }

    /// Listens on the bus for ever, through failures of the subscription.
    pub async fn listen(&self, bus: &Bus, worker: &WorkerName) {
        let mut patience = Patience::new(Duration::from_millis(250), Duration::from_secs(10));
        loop {
            let cause = match bus.fact_wakeups(worker).await {
                Ok(mut sectors) => {
                    patience.mended("facts wake slots up again");
                    // Whatever came before the subscription stood.
                    self.ring(|_| true);
                    while let Some(sector) = sectors.next().await {
                        self.ring(|waiting| waiting == sector);
                    }
                    "the subscription ended".to_owned()
                }
                Err(error) => in_words(&error),
            };
            tokio::time::sleep(patience.failed("no subscription to facts", &cause)).await;
        }
    }
}
