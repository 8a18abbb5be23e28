//! The invariants that were seen broken, as a command shows them.

use sealbus_nats::heartbeats::Seen;
use sealbus_schema::message::BrokenInvariant;
use serde_json::{Value, json};

use crate::store::BrokenCount;

/// Follows the list.
const ADVICE: &str = "what to do about a broken invariant: see docs/operations.md";

/// What the manager has stored, and what the workers' heartbeats tell.
#[derive(Debug, Default)]
pub struct Broken {
    /// What the manager has seen.
    pub by_manager: Vec<BrokenCount>,
    /// The workers that have a heartbeat.
    pub by_workers: Vec<Seen>,
}

impl Broken {
    /// Prints a line for each count.
    pub fn show(&self) {
        let lines = self.lines();
        for line in &lines {
            outln!("{line}");
        }
        if !lines.is_empty() {
            outln!("{ADVICE}");
        }
    }

    /// For scripts.
    pub fn json(&self) -> Vec<Value> {
        let by_manager = self.by_manager.iter().map(|count| (json!("manager"), json!(count)));
        let by_workers = self.told().map(|(worker, broken)| (json!(format!("worker {worker}")), json!(broken)));
        let by = |(by, mut value): (Value, Value)| {
            value["by"] = by;
            value
        };
        by_manager.chain(by_workers).map(by).collect()
    }

    fn lines(&self) -> Vec<String> {
        let by_manager = self.by_manager.iter().map(|count| {
            let BrokenCount { invariant, times, first_at, last_at, seen } = count;
            format!("broken {invariant}: the manager saw it {times} time(s), first {first_at}, last {last_at}: {seen}")
        });
        let by_workers = self.told().map(|(worker, broken)| {
            let BrokenInvariant { invariant, times, seen } = broken;
            format!("broken {invariant}: worker {worker} saw it {times} time(s) since its start: {seen}")
        });
        by_manager.chain(by_workers).collect()
    }

    fn told(&self) -> impl Iterator<Item = (&sealbus_schema::WorkerName, &BrokenInvariant)> {
        self.by_workers
            .iter()
            .map(|seen| &seen.heartbeat)
            .flat_map(|beat| beat.broken.iter().map(move |broken| (&beat.worker, broken)))
    }
}

#[cfg(test)]
mod tests {
    use sealbus_schema::message::Heartbeat;
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn a_person_reads_who_saw_which_invariant_broken_and_what_was_seen() {
        let by_manager = vec![BrokenCount {
            invariant: "nothing_illegal".to_owned(),
            times: 3,
            first_at: "2026-11-27T14:00:00Z".to_owned(),
            last_at: "2026-11-28T01:00:00Z".to_owned(),
            seen: "f01000/1: pc2_done in state packing".to_owned(),
        }];
        let broken = BrokenInvariant {
            invariant: "one_slot_a_lease".to_owned(),
            times: 1,
            seen: "slot /nvme0: it holds f01000/1 under 9, and so does /nvme1".to_owned(),
        };
        let heartbeat = Heartbeat {
            worker: "seal-1".parse().expect("worker"),
            host: "h1".to_owned(),
            version: "1".to_owned(),
            incarnation: 1,
            draining: false,
            orders: 0,
            slots: vec![],
            processors: vec![],
            broken: vec![broken],
        };
        let now = OffsetDateTime::UNIX_EPOCH;
        let broken = Broken { by_manager, by_workers: vec![Seen { heartbeat, at: now, now }] };
        assert_eq!(
            broken.lines(),
            [
                "broken nothing_illegal: the manager saw it 3 time(s), first 2026-11-27T14:00:00Z, last 2026-11-28T01:00:00Z: \
                 f01000/1: pc2_done in state packing",
                "broken one_slot_a_lease: worker seal-1 saw it 1 time(s) since its start: slot /nvme0: it holds f01000/1 \
                 under 9, and so does /nvme1",
            ]
        );
        let json = json!(broken.json());
        assert_eq!((&json[0]["by"], &json[0]["times"]), (&json!("manager"), &json!(3)));
        assert_eq!((&json[1]["by"], &json[1]["invariant"]), (&json!("worker seal-1"), &json!("one_slot_a_lease")));
    }
}
