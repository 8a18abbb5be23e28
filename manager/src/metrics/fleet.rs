//! What the workers' heartbeats say.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use sealbus_nats::{Bus, heartbeats::Seen, metrics::Samples, topology::HEARTBEAT_MAX_AGE};
use sealbus_schema::{ErrorCode, WorkerName, message::SlotStatus};

use super::{Failure, names};
use crate::store::Store;

/// When each worker's last heartbeat was stored, as far as this process knows.
#[derive(Debug, Default)]
pub struct Memory {
    last: BTreeMap<WorkerName, Instant>,
}

/// Looks at the workers. NATS forgets a heartbeat after some minutes. A worker that then still has sectors is missing, and
/// its age goes on.
pub async fn look(bus: &Bus, store: &Store, memory: &mut Memory) -> Result<Samples, Failure> {
    let mut samples = Samples::default();
    let (seen, holders) = (bus.workers().await?, store.held_by_workers().await?);
    let ages = memory.ages(&seen, holders.into_keys(), Instant::now());
    for (worker, age) in ages {
        samples.set(&names::HEARTBEAT_AGE, &[worker.as_str()], age.as_secs_f64());
    }
    show(&seen, &mut samples);
    Ok(samples)
}

/// Shows what heartbeats say.
pub fn show(seen: &[Seen], samples: &mut Samples) {
    for Seen { heartbeat, .. } in seen {
        let worker = heartbeat.worker.as_str();
        samples.set(&names::DRAINING, &[worker], f64::from(heartbeat.draining));
        let broken: u64 = heartbeat.broken.iter().map(|broken| broken.times).fold(0, u64::saturating_add);
        samples.set(&names::WORKER_BROKEN, &[worker], broken as f64);
        show_slots(worker, &heartbeat.slots, samples);
    }
}

fn show_slots(worker: &str, slots: &[SlotStatus], samples: &mut Samples) {
    for state in SlotStatus::STATES {
        let count = slots.iter().filter(|slot| slot.state() == state).count();
        samples.set(&names::SLOTS, &[worker, state], count as f64);
    }
    let mut causes = BTreeMap::new();
    for cause in slots.iter().filter_map(|slot| slot.blocked.as_ref()) {
        *causes.entry((cause.class.name(), ErrorCode::known(cause.code.as_str()))).or_insert(0.0) += 1.0;
    }
    for ((class, code), count) in causes {
        samples.set(&names::SLOTS_BLOCKED, &[worker, class, code], count);
    }
}

impl Memory {
    /// The age of each worker's last heartbeat: of those that NATS still has, and of those that hold sectors.
    fn ages(
        &mut self,
        seen: &[Seen],
        holders: impl Iterator<Item = WorkerName>,
        now: Instant,
    ) -> Vec<(WorkerName, Duration)> {
        let mut last = BTreeMap::new();
        for Seen { heartbeat, at, now: server } in seen {
            let age = Duration::try_from(*server - *at).unwrap_or_default();
            last.insert(heartbeat.worker.clone(), now.checked_sub(age).unwrap_or(now));
        }
        for worker in holders {
            // Of one that this process has never seen, NATS has forgotten the heartbeat.
            let unseen = || now.checked_sub(HEARTBEAT_MAX_AGE).unwrap_or(now);
            let known = self.last.get(&worker).copied();
            last.entry(worker).or_insert_with(|| known.unwrap_or_else(unseen));
        }
        self.last = last;
        self.last.iter().map(|(worker, at)| (worker.clone(), now.saturating_duration_since(*at))).collect()
    }
}

#[cfg(test)]
mod tests {
    use sealbus_schema::message::Heartbeat;
    use time::OffsetDateTime;

    use super::*;

    fn seen(worker: &str, age_secs: i64) -> Seen {
        let heartbeat = Heartbeat {
            worker: worker.parse().expect("a name"),
            host: String::new(),
            version: String::new(),
            incarnation: 1,
            draining: false,
            orders: 0,
            slots: vec![],
            processors: vec![],
            broken: vec![],
        };
        let now = OffsetDateTime::UNIX_EPOCH + time::Duration::hours(1);
        Seen { heartbeat, at: now - time::Duration::seconds(age_secs), now }
    }

    #[test]
    fn a_worker_that_nats_has_forgotten_grows_older_while_it_has_sectors_and_is_forgotten_afterwards() {
        let (mut memory, start) = (Memory::default(), Instant::now() + Duration::from_secs(10_000));
        let [w1, w2] = ["w1", "w2"].map(|name| name.parse::<WorkerName>().expect("a name"));
        let mut ages = |seen: &[Seen], holders: &[&WorkerName], secs: u64| -> Vec<(String, u64)> {
            let now = start + Duration::from_secs(secs);
            let ages = memory.ages(seen, holders.iter().map(|worker| (*worker).clone()), now);
            ages.into_iter().map(|(worker, age)| (worker.to_string(), age.as_secs())).collect()
        };
        let of = |name: &str, secs| (name.to_owned(), secs);
        assert_eq!(ages(&[seen("w1", 5)], &[&w1, &w2], 0), [of("w1", 5), of("w2", 180)]);
        assert_eq!(ages(&[], &[&w1, &w2], 200), [of("w1", 205), of("w2", 380)]);
        assert_eq!(ages(&[], &[&w2], 210), [of("w2", 390)]);
    }
}
