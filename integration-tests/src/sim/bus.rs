//! The simulated JetStream: the sectors' log with its fence and its memory of message ids, and the work queue of intents.

use std::collections::{HashMap, HashSet};

use sealbus_nats::{
    lease::Lease,
    log::{Entry, Record},
};
use sealbus_schema::{
    SectorId, WorkerName,
    message::{Event, Fact, FactKind, Intent},
};
use time::OffsetDateTime;

/// How long message ids are remembered: ten minutes in the log, two in the queue.
const LOG_MEMORY: u64 = 600_000;
const QUEUE_MEMORY: u64 = 120_000;
/// An intent that is not acknowledged for this long is delivered again.
pub const ACK_WAIT: u64 = 30_000;

/// How far above the lost log's last folded sequence the new log begins. This is more than the number of records that
/// were not folded yet.
const BEHIND_LOST: u64 = 10_000;

/// A message's id: its kind, and what distinguishes it from others of that kind. Copies have the same id.
pub type MessageId = (u8, SectorId, u64, u64, u64);

/// A record to store in the log.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Its id.
    pub id: MessageId,
    /// The sequence that the sector's last lease record must have.
    pub fence: Option<u64>,
    /// The record.
    pub record: Record,
    /// The stream that its token belongs to, only for the checks. `None` from a writer that does not follow the protocol.
    pub origin: Option<u64>,
}

/// The server's answer to a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Stored, now or before.
    Stored {
        /// The sequence.
        sequence: u64,
        /// Whether it was stored before.
        duplicate: bool,
    },
    /// The lease has moved.
    Fenced,
    /// The same intent is already in the queue.
    Outstanding,
}

/// An intent in the queue.
#[derive(Clone, Debug)]
pub struct Queued {
    /// Its sequence in the queue's stream.
    pub sequence: u64,
    /// The intent.
    pub intent: Intent,
    /// The stream that its lease belongs to, only for the checks.
    pub stream: u64,
    /// When it was last delivered.
    pub delivered: Option<u64>,
}

/// The server.
#[derive(Debug, Default)]
pub struct Bus {
    /// The number of the present stream with the sectors' logs. A stream that replaces it has a higher number.
    pub stream: u64,
    /// The sequence before the first record.
    before: u64,
    /// All stored records, in order. The first one's sequence comes after `before`.
    log: Vec<Entry>,
    /// The records that were deleted.
    purged: HashSet<u64>,
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
    /// Whether ids are checked before the fence, as in a cluster.
    ids_first: bool,
    /// Whether a publisher compares its record with the stored one if the server calls it a duplicate. All do so in
    /// worlds where a stranger may have used up their ids.
    pub compares: bool,
}

impl Bus {
    /// A server without messages. With `ids_first`, it checks ids before the fence, as a cluster does.
    pub fn new(ids_first: bool) -> Bus {
        Bus { ids_first, ..Bus::default() }
    }

    /// Stores a record, if its fence permits.
    pub fn publish(&mut self, mut out: Publish, now: u64) -> Answer {
        let (sector, fact_of) = match &out.record {
            Record::Lease { sector, .. } | Record::Event { sector, .. } => (*sector, None),
            Record::Fact { sector, worker, fact } => (*sector, fact.kind().map(|kind| (worker.clone(), kind))),
            Record::Unreadable { .. } => return Answer::Fenced,
        };
        let find = |id| self.ids.get(&id).filter(|(_, at)| now < at + LOG_MEMORY).map(|(sequence, _)| *sequence);
        let mut known = find(out.id);
        // This is the publisher's part, not the server's: if the stored record is another one, it publishes again under
        // another id.
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

    /// Whether this record is stored at a sequence.
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

    /// The first sequence that the log can contain.
    pub fn first_sequence(&self) -> u64 {
        self.before + 1
    }

    /// The records after a sequence, without those that were deleted.
    pub fn behind(&self, sequence: u64) -> impl Iterator<Item = &Entry> {
        let after = self.log.iter().skip(sequence.saturating_sub(self.before) as usize);
        after.filter(|entry| !self.purged.contains(&entry.sequence))
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

    /// Loses everything. Empty streams with the same names replace the old ones.
    pub fn lose(&mut self) {
        let Bus { stream, ids_first, compares, queue_sequence, .. } = *self;
        // The queue's sequences continue, so that a late acknowledgement of an old intent removes no new one.
        *self = Bus { stream: stream + 1, ids_first, compares, queue_sequence, ..Bus::default() };
    }

    /// Empties the log that has replaced a lost one, and moves its sequences beyond those of the lost one, as
    /// production's `Bus::begin_sectors_behind` does. `None`, for a planted bug, lets them start again. Returns the
    /// sequence before the first one.
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

    /// Puts an intent into the queue, unless it is already there.
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

    /// Removes an intent from the queue. It does not matter who acknowledges which delivery.
    pub fn accept(&mut self, sequence: u64) -> Option<Queued> {
        let at = self.queue.iter().position(|queued| queued.sequence == sequence)?;
        Some(self.queue.remove(at))
    }

    /// A sector's last lease record.
    pub fn last_lease(&self, sector: SectorId) -> Option<&Lease> {
        self.leases.get(&sector)
    }

    /// The manager's last lease record about a sector.
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

    /// Deletes an ended sector's events and facts. The fold has already read them.
    pub fn purge(&mut self, sector: SectorId) {
        let concerns = |record: &Record| match record {
            Record::Event { sector: of, .. } | Record::Fact { sector: of, .. } => *of == sector,
            _ => false,
        };
        self.purged.extend(self.log.iter().filter(|entry| concerns(&entry.record)).map(|entry| entry.sequence));
        self.events.retain(|(of, _), _| *of != sector);
        self.facts.retain(|(of, ..), _| *of != sector);
    }
}
