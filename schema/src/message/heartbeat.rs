//! Heartbeats: which workers are alive and what they hold. They inform people and policies, but never decide who owns a
//! sector.

use serde::{Deserialize, Serialize};

use crate::{
    error::ErrorReport,
    id::{SectorId, Token, WorkerName},
};

/// The most processors in a heartbeat.
const MAX_PROCESSORS: usize = 96;
/// The most bytes in a text about a processor.
const MAX_TEXT_BYTES: usize = 60;

/// A worker's sign of life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The worker's name.
    pub worker: WorkerName,
    /// The machine's host name.
    pub host: String,
    /// The worker's version.
    pub version: String,
    /// A random number drawn at the process's start, to distinguish two processes of one name.
    pub incarnation: u64,
    /// Whether the worker takes no new jobs.
    #[serde(default)]
    pub draining: bool,
    /// The revision of the orders that it follows; 0 if it knows no orders.
    #[serde(default)]
    pub orders: u64,
    /// Its slots.
    pub slots: Vec<SlotStatus>,
    /// Its processors.
    #[serde(default)]
    pub processors: Vec<ProcessorStatus>,
    /// The invariants that this process has seen broken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<BrokenInvariant>,
}

/// An invariant that a worker has seen broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenInvariant {
    /// The name of the [`Invariant`](crate::Invariant). A newer worker may know more of them.
    pub invariant: String,
    /// How often, since the process's start.
    pub times: u64,
    /// What was seen last.
    pub seen: String,
}

/// A slot's state, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// The slot's directory.
    pub path: String,
    /// What it holds, if anything.
    #[serde(default)]
    pub holding: Option<Holding>,
    /// Why it is blocked, if it is.
    #[serde(default)]
    pub blocked: Option<ErrorReport>,
    /// Whether the slot may hold an unknown sector, because its journal cannot be read.
    #[serde(default)]
    pub unreadable: bool,
    /// The slot's id, once the worker has verified that this is the right slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The number of the last order to release the slot that was carried out; 0 if there was none.
    #[serde(default)]
    pub released: u64,
    /// Whether the worker is still checking the disk, the store and the parameters after its start, and does not know
    /// yet if the slot can take a sector.
    #[serde(default, skip_serializing_if = "is_false")]
    pub checking: bool,
}

/// A sector in a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// The sector.
    pub sector: SectorId,
    /// The lease's token.
    pub token: Token,
    /// The step it is at, for people.
    pub step: String,
    /// For a sector that waits for a person: the serial of the last order to resubmit that was carried out here; 0 if
    /// there was none. Later orders have not arrived yet. `None` from an older worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resubmitted: Option<u32>,
}

/// A processor's state, for people. Texts are [bounded](Heartbeat::bounded).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessorStatus {
    /// Its name, such as `pc1-0`.
    pub id: String,
    /// Its process id, if it runs.
    #[serde(default)]
    pub pid: Option<u32>,
    /// Whether it is working on a request.
    pub busy: bool,
    /// The stage that it serves.
    #[serde(default)]
    pub stage: String,
    /// The CPUs that it is to run on, in the kernel's list format; empty for any.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cpus: String,
    /// The NUMA node whose memory it is to use; `None` for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u32>,
    /// The GPUs that it sees, separated by commas; empty for those that the worker sees.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub gpus: String,
    /// What its process is bound to, as read back from the operating system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<String>,
    /// The requests that it works on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub work: Vec<WorkStatus>,
}

/// A request that a processor works on. Times are durations by the worker's clock, because the clocks of two hosts are
/// never compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkStatus {
    /// The sector.
    pub sector: SectorId,
    /// The slot, as an index into the heartbeat's list.
    pub slot: usize,
    /// How long it has been running, in seconds.
    pub age_secs: u64,
    /// Progress in percent, if the processor reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// The processor's description of its present work.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// The estimated remaining time in seconds, from the stage's earlier runs; 0 if it already takes longer than those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_secs: Option<u64>,
}

impl SlotStatus {
    /// What [`SlotStatus::state`] may say.
    pub const STATES: [&str; 4] = ["free", "holds", "blocked", "checking"];

    /// What the slot does, in a word.
    pub const fn state(&self) -> &'static str {
        match self {
            SlotStatus { blocked: Some(_), .. } | SlotStatus { unreadable: true, .. } => "blocked",
            SlotStatus { holding: Some(_), .. } => "holds",
            SlotStatus { checking: true, .. } => "checking",
            _ => "free",
        }
    }
}

impl Heartbeat {
    /// The heartbeat, cut to fit one message: texts are truncated, and if there are too many processors, idle ones are
    /// left out first.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        if self.processors.len() > MAX_PROCESSORS {
            // The sort is stable, so the remaining ones stay in order.
            self.processors.sort_by_key(|processor| !processor.busy);
            self.processors.truncate(MAX_PROCESSORS);
        }
        for processor in &mut self.processors {
            let ProcessorStatus { id, stage, cpus, gpus, bound, work, .. } = processor;
            [id, stage, cpus, gpus].into_iter().chain(bound).for_each(cut);
            work.truncate(self.slots.len());
            work.iter_mut().for_each(|work| cut(&mut work.note));
        }
        self
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_false(value: &bool) -> bool {
    !*value
}

fn cut(text: &mut String) {
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES - '…'.len_utf8()));
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorClass, ErrorCode, Invariant, codec};

    fn heartbeat(slots: usize, processors: usize) -> Heartbeat {
        let long = || "ä".repeat(1000);
        let blocked = ErrorReport::new(ErrorClass::Crit, ErrorCode::DISK_FULL, "x".repeat(5000));
        let slot = |number: usize| SlotStatus {
            path: format!("/nvme{number}"),
            holding: None,
            blocked: Some(blocked.brief()),
            unreadable: false,
            identity: Some("f".repeat(32)),
            released: 0,
            checking: false,
        };
        let sector = "f01000/1".parse().expect("sector");
        let work = |slot| {
            let (percent, left_secs) = (Some(40), Some(10_000));
            WorkStatus { sector, slot, age_secs: 10_000, percent, note: long(), left_secs }
        };
        let processor = |number: usize| ProcessorStatus {
            id: format!("pc1-{number}"),
            pid: Some(70_000),
            busy: number % 2 == 1,
            stage: "pc1".to_owned(),
            cpus: long(),
            node: Some(1),
            gpus: long(),
            bound: Some(long()),
            work: if number < slots { vec![work(number)] } else { vec![] },
        };
        let broken = |invariant: Invariant| {
            let seen = crate::Violation::new(invariant, long()).seen;
            BrokenInvariant { invariant: invariant.name().to_owned(), times: u64::MAX, seen }
        };
        Heartbeat {
            worker: "w1".parse().expect("worker"),
            host: "h1".to_owned(),
            version: "1".to_owned(),
            incarnation: 1,
            draining: false,
            orders: 0,
            slots: (0..slots).map(slot).collect(),
            processors: (0..processors).map(processor).collect(),
            broken: Invariant::ALL.into_iter().map(broken).collect(),
        }
    }

    #[test]
    fn a_hundred_slots_and_any_number_of_processors_fit_one_message() {
        let bounded = heartbeat(100, 500).bounded();
        assert!(codec::encode(&bounded).is_ok());
        assert_eq!(bounded.processors.len(), MAX_PROCESSORS);
        assert!(bounded.processors.iter().all(|processor| processor.busy), "idle ones are left out first");
        let note = &bounded.processors[0].work[0].note;
        assert!(note.len() <= MAX_TEXT_BYTES && note.ends_with('…'), "{note}");
    }

    #[test]
    fn a_sign_of_life_of_an_older_worker_is_read() {
        let old = r#"{"worker":"w1","host":"h1","version":"1","incarnation":1,
                      "slots":[{"path":"/a","holding":{"sector":{"miner":"f01000","number":1},"token":7,"step":"pc1"}}],
                      "processors":[{"id":"pc1-0","pid":7,"busy":true}]}"#;
        let read: Heartbeat = serde_json::from_str(old).expect("reads");
        assert_eq!((read.processors[0].stage.as_str(), read.processors[0].work.len()), ("", 0));
        assert_eq!(read.broken, []);
        assert!(
            !read.slots[0].checking && read.slots[0].holding.as_ref().is_some_and(|held| held.resubmitted.is_none())
        );
        let new = heartbeat(1, 2).bounded();
        let packed = codec::encode(&new).expect("packs");
        assert_eq!(codec::decode::<Heartbeat>(&packed).expect("reads"), new);
    }
}
