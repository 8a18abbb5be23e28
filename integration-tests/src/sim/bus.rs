//! The simulated JetStream: the sectors' log with its fence and its memory of ids, and the work queue of intents.

use std::collections::HashMap;

use sealbus_nats::{
    lease::Lease,
    log::{Entry, Record},
};
use sealbus_schema::{
    SectorId, WorkerName,
    message::{Event, Fact, FactKind, Intent},
};
use time::OffsetDateTime;

/// How long ids are remembered: ten minutes in the log, two in the queue.
const LOG_MEMORY: u64 = 600_000;
const QUEUE_MEMORY: u64 = 120_000;
/// After how long an intent that was not acknowledged is delivered again.
pub const ACK_WAIT: u64 = 30_000;

/// How far behind the lost log's last folded record the next one begins; more than was not folded yet.
const BEHIND_LOST: u64 = 10_000;

/// What makes a copy of a message recognisable: its kind and what tells it from others of the kind.
pub type MessageId = (u8, SectorId, u64, u64, u64);

/// Something to be stored in the log.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Its id.
    pub id: MessageId,
    /// What it expects the sector's last lease record to be.
    pub fence: Option<u64>,
    /// What it says.
    pub record: Record,
    /// The stream of which its token is a sequence, for the checks alone; `None` from somebody who keeps no protocol.
    pub origin: Option<u64>,
}

/// What the server answers to a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Stored, now or before.
    Stored {
        /// Where.
        sequence: u64,
        /// Before.
        duplicate: bool,
    },
    /// The lease has moved.
    Fenced,
    /// The same intent is in the queue.
    Outstanding,
}

/// An intent in the queue.
#[derive(Clone, Debug)]
pub struct Queued {
    /// Its sequence in the queue's stream.
    pub sequence: u64,
    /// What it wants.
    pub intent: Intent,
    /// The stream of which its lease is, for the checks alone.
    pub stream: u64,
    /// When it was delivered last.
    pub delivered: Option<u64>,
}

/// The server.
#[derive(Debug, Default)]
pub struct Bus {
    /// Which stream of sectors' logs this is; a later one of the same name has a higher number.
    pub stream: u64,
    /// The sequence before the first record.
    before: u64,
    /// Everything that was stored, in order; the first one's sequence is behind `before`.
    log: Vec<Entry>,
    /// The origin of each record of the log.
    origins: Vec<Option<u64>>,
    /// The work queue.
    pub queue: Vec<Queued>,
    leases: HashMap<SectorId, Lease>,
    /// The manager's last lease records.
    words: HashMap<SectorId, Lease>,
    events: HashMap<(SectorId, WorkerName), Event>,
    facts: HashMap<(SectorId, WorkerName, FactKind), Fact>,
    ids: HashMap<MessageId, (u64, u64)>,
    queue_ids: HashMap<(SectorId, u64), u64>,
    queue_sequence: u64,
    /// Whether ids are looked up before the fence, as in a cluster.
    ids_first: bool,
    /// Whether publishers compare what they are told is a copy, as all do where somebody may have used up their ids.
    pub compares: bool,
}

impl Bus {
    /// A server without messages. One of a cluster looks ids up before the fence.
    pub fn new(ids_first: bool) -> Bus {
        Bus { ids_first, ..Bus::default() }
    }

    /// Stores a record, if its fence holds.
    pub fn publish(&mut self, mut out: Publish, now: u64) -> Answer {
        let (sector, fact_of) = match &out.record {
            Record::Lease { sector, .. } | Record::Event { sector, .. } => (*sector, None),
            Record::Fact { sector, worker, fact } => (*sector, fact.kind().map(|kind| (worker.clone(), kind))),
            Record::Unreadable { .. } => return Answer::Fenced,
        };
        let find = |id| self.ids.get(&id).filter(|(_, at)| now < at + LOG_MEMORY).map(|(sequence, _)| *sequence);
        let mut known = find(out.id);
        // Not the server but the publisher does this: what is no copy goes out again, under another id.
        while let Some(sequence) = known.filter(|sequence| self.compares && !self.has(*sequence, &out.record)) {
            out.id.4 ^= super::rng::hash(&[sequence]);
            known = find(out.id);
        }
        let copy = known.map(|sequence| Answer::Stored { sequence, duplicate: true });
        if let (true, Some(copy)) = (self.ids_first, copy) {
            return copy;
        }
        if out.fence.is_some_and(|expected| expected != self.last_lease(sector).map_or(0, |lease| lease.sequence)) {
            return Answer::Fenced;
        }
        if let Some(copy) = copy {
            return copy;
        }
        let sequence = self.last_sequence() + 1;
        match &out.record {
            Record::Lease { owner, record, .. } => {
                let lease = Lease { sequence, owner: owner.clone(), record: record.clone() };
                if owner.is_none() {
                    self.words.insert(sector, lease.clone());
                }
                self.leases.insert(sector, lease);
            }
            Record::Event { worker, event, .. } => {
                self.events.insert((sector, worker.clone()), event.clone());
            }
            Record::Fact { fact, .. } => {
                if let Some((worker, kind)) = fact_of {
                    self.facts.insert((sector, worker, kind), fact.clone());
                }
            }
            Record::Unreadable { .. } => {}
        }
        self.ids.insert(out.id, (sequence, now));
        let time = OffsetDateTime::UNIX_EPOCH + std::time::Duration::from_millis(now);
        self.log.push(Entry { sequence, time, record: out.record });
        self.origins.push(out.origin);
        Answer::Stored { sequence, duplicate: false }
    }

    /// Whether the record at a sequence is this one.
    fn has(&self, sequence: u64, record: &Record) -> bool {
        match (self.entry(sequence).map(|entry| &entry.record), record) {
            (Some(Record::Lease { sector, owner, record }), Record::Lease { sector: s, owner: o, record: r }) => {
                (sector, owner, record) == (s, o, r)
            }
            (Some(Record::Event { sector, worker, event }), Record::Event { sector: s, worker: w, event: e }) => {
                (sector, worker, event) == (s, w, e)
            }
            (Some(Record::Fact { sector, worker, fact }), Record::Fact { sector: s, worker: w, fact: f }) => {
                (sector, worker, fact) == (s, w, f)
            }
            _ => false,
        }
    }

    /// The sequence of the last record.
    pub fn last_sequence(&self) -> u64 {
        self.before + self.log.len() as u64
    }

    /// The first sequence that the log may have.
    pub fn first_sequence(&self) -> u64 {
        self.before + 1
    }

    /// The records behind a sequence.
    pub fn behind(&self, sequence: u64) -> impl Iterator<Item = &Entry> {
        self.log.iter().skip(sequence.saturating_sub(self.before) as usize)
    }

    /// The record at a sequence.
    pub fn entry(&self, sequence: u64) -> Option<&Entry> {
        self.log.get(self.index(sequence)?)
    }

    /// The origin of the record at a sequence.
    pub fn origin(&self, sequence: u64) -> Option<u64> {
        self.origins.get(self.index(sequence)?).copied().flatten()
    }

    fn index(&self, sequence: u64) -> Option<usize> {
        Some(sequence.checked_sub(self.before + 1)? as usize)
    }

    /// Everything is lost, and empty streams of the same names take the place of the old ones.
    pub fn lose(&mut self) {
        let Bus { stream, ids_first, compares, queue_sequence, .. } = *self;
        // The queue counts on, so that a late acknowledgement of an old intent takes no new one away.
        *self = Bus { stream: stream + 1, ids_first, compares, queue_sequence, ..Bus::default() };
    }

    /// The log that took the place of a lost one is emptied, and its sequences go on behind the lost one's, as production's
    /// `Bus::begin_sectors_behind` does; with a mistake they begin again. Returns the sequence before its first.
    pub fn begin_behind(&mut self, lost: Option<u64>) -> u64 {
        self.before = lost.map_or(0, |lost| (lost + BEHIND_LOST).max(self.last_sequence()));
        self.log.clear();
        self.origins.clear();
        self.leases.clear();
        self.words.clear();
        self.events.clear();
        self.facts.clear();
        self.before
    }

    /// Puts an intent into the queue, unless it is there.
    pub fn offer(&mut self, intent: Intent, stream: u64, now: u64) -> Answer {
        let key = (intent.sector, intent.lease_sequence);
        if self.queue.iter().any(|queued| (queued.intent.sector, queued.intent.lease_sequence) == key) {
            return Answer::Outstanding;
        }
        if self.queue_ids.get(&key).is_some_and(|at| now < at + QUEUE_MEMORY) {
            return Answer::Stored { sequence: 0, duplicate: true };
        }
        self.queue_ids.insert(key, now);
        self.queue_sequence += 1;
        self.queue.push(Queued { sequence: self.queue_sequence, intent, stream, delivered: None });
        Answer::Stored { sequence: self.queue_sequence, duplicate: false }
    }

    /// Takes an intent out of the queue, whoever acknowledges which delivery of it.
    pub fn accept(&mut self, sequence: u64) -> Option<Queued> {
        let at = self.queue.iter().position(|queued| queued.sequence == sequence)?;
        Some(self.queue.remove(at))
    }

    /// A sector's last lease record.
    pub fn last_lease(&self, sector: SectorId) -> Option<&Lease> {
        self.leases.get(&sector)
    }

    /// The manager's last lease record of a sector.
    pub fn last_word(&self, sector: SectorId) -> Option<&Lease> {
        self.words.get(&sector)
    }

    /// A worker's last event about a sector.
    pub fn last_event(&self, sector: SectorId, worker: &WorkerName) -> Option<&Event> {
        self.events.get(&(sector, worker.clone()))
    }

    /// The last fact of a kind.
    pub fn last_fact(&self, sector: SectorId, worker: &WorkerName, kind: FactKind) -> Option<&Fact> {
        self.facts.get(&(sector, worker.clone(), kind))
    }

    /// Forgets an ended sector's events and facts. The fold is past them.
    pub fn purge(&mut self, sector: SectorId) {
        self.events.retain(|(of, _), _| *of != sector);
        self.facts.retain(|(of, ..), _| *of != sector);
    }
}
