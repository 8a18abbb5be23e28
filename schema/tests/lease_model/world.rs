//! The state of the model. Sequences are counted per sector, because only their order within a sector matters.

use std::sync::LazyLock;

use sealbus_schema::{
    Token, Transition, WorkerName,
    lease::{Lease, Ownership, Record, Remedy, Right, Standing, standing},
    message::LeaseRecord,
};

pub const WORKERS: u8 = 2;
pub const SECTORS: u8 = 2;
/// A sector is done when its owner's event with this number is folded.
pub const LAST_EVENT: u8 = 2;
/// How many records the fold may be behind.
pub const MAX_LAG: usize = 2;

/// The limits of a run: which faults may occur, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How many sectors are wanted, at most [`SECTORS`].
    pub sectors: u8,
    /// The most crashes of workers.
    pub crashes: u8,
    /// The most revokes by a person, based on the manager's view, which may be stale.
    pub revokes: u8,
    /// The most claims by a stranger, of any sector, without an offer and without an expectation.
    pub forgeries: u8,
    /// Whether the manager takes back a lease that its living owner does not hold.
    pub orphans_are_revoked: bool,
    /// Whether the intents of queued sectors are published again from time to time.
    pub reoffered: bool,
    pub planted: Option<Planted>,
}

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    IntentSubjectWithoutLease,
    EventsWithoutFence,
    FoldWithoutOwner,
    AcceptBeforeJournal,
    IntentBesideTheFold,
    ResumeWithoutAsking,
    FoldGrantsAnyClaim,
    NoRemedy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct World {
    pub sectors: [Sector; SECTORS as usize],
    pub workers: [Worker; WORKERS as usize],
    pub crashes_left: u8,
    pub revokes_left: u8,
    pub forgeries_left: u8,
}

/// A sector's log, its intents, and the manager's view of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sector {
    /// The server's side: the last lease record and whom it names, the manager's last record, and the highest event
    /// stored under each token.
    pub lease: u8,
    pub owner: Claimer,
    pub word: Word,
    pub stored: (u8, u8),
    /// The records that the fold has not seen yet, oldest first.
    pub tail: [Option<Entry>; MAX_LAG],
    /// The workers whose claims of the present lease may still arrive.
    pub claims: Set,
    /// The owner's events that may still arrive, and the lease under which it wrote them.
    pub events: Set,
    pub writer: Option<(u8, u8)>,
    /// An event of a former owner that may still arrive, if the fence would not stop it.
    pub stray: Option<(u8, u8, u8)>,
    /// The intents in the queue, by the lease that they follow.
    pub queue: Set,
    /// The manager's fold.
    pub view: View,
    pub phase: Phase,
    /// The manager's outbox: rows stay until they are known to be published.
    pub intents_due: Set,
    pub releases_due: Set,
    /// The records that did not count and that the manager must still follow with a remedy.
    pub remedies_due: Set,
    /// The worker whose events were accepted, and the token, for the checks only.
    pub accepted: Option<(u8, u8)>,
}

/// A set of numbers below 16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Set(u16);

/// A compact form of [`Ownership`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct View {
    pub lease: u8,
    pub token: u8,
    pub owner: Option<u8>,
    pub last_event: u8,
}

/// The name in a lease record's subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claimer {
    /// No name: the manager wrote the record.
    #[default]
    Manager,
    Worker(u8),
    /// A stranger who does not follow the protocol.
    Stranger,
}

/// The manager's last lease record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Word {
    #[default]
    None,
    Released {
        sequence: u8,
    },
    Reinstated {
        sequence: u8,
        worker: u8,
        token: u8,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    #[default]
    Queued,
    Working,
    /// Done; the lease is being closed.
    Closing,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    Claim { worker: u8, sequence: u8 },
    Forged { sequence: u8 },
    Release { sequence: u8 },
    Reinstated { worker: u8, token: u8, sequence: u8 },
    Event { worker: u8, token: u8, number: u8 },
}

/// A worker and its one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Worker {
    Free,
    /// Has taken an intent, and perhaps published the claim.
    Claiming {
        sector: u8,
        lease: u8,
        sent: bool,
    },
    /// Knows that the claim was stored, but the journal does not have it yet.
    Won {
        sector: u8,
        lease: u8,
    },
    /// The claim is in the journal. The intent may still be in the queue.
    Holding {
        held: Held,
        accepted: bool,
        sent: bool,
    },
    /// Killed. The journal remains.
    Down {
        journal: Option<Held>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Held {
    pub sector: u8,
    pub token: u8,
    /// The next event to report.
    pub next: u8,
}

impl World {
    /// The initial state: the sectors are wanted and their intents are in the outbox.
    pub fn new(rules: Rules) -> World {
        let wanted = Sector { intents_due: Set::of(0), ..Sector::default() };
        let done = Sector { phase: Phase::Done, ..Sector::default() };
        World {
            sectors: [wanted, if rules.sectors == SECTORS { wanted } else { done }],
            workers: [Worker::Free; WORKERS as usize],
            crashes_left: rules.crashes,
            revokes_left: rules.revokes,
            forgeries_left: rules.forgeries,
        }
    }

    /// The same world with workers and sectors in canonical order, because worlds that differ only in that order are
    /// equivalent.
    pub fn canonical(self) -> World {
        let other = self.with_workers_swapped();
        let sectors = |world: World| World { sectors: [world.sectors[1], world.sectors[0]], ..world }.renumbered();
        self.min(other).min(sectors(self)).min(sectors(other))
    }

    fn with_workers_swapped(mut self) -> World {
        self.workers.swap(0, 1);
        for side in &mut self.sectors {
            let swap = |worker: &mut u8| *worker = 1 - *worker;
            side.view.owner.iter_mut().for_each(swap);
            if let Claimer::Worker(worker) = &mut side.owner {
                swap(worker);
            }
            if let Word::Reinstated { worker, .. } = &mut side.word {
                swap(worker);
            }
            side.writer.iter_mut().for_each(|(worker, _)| swap(worker));
            side.stray.iter_mut().for_each(|(worker, ..)| swap(worker));
            side.accepted.iter_mut().for_each(|(_, worker)| swap(worker));
            side.claims = Set::from_iter(side.claims.iter().map(|worker| 1 - worker));
            for entry in side.tail.iter_mut().flatten() {
                match entry {
                    Entry::Claim { worker, .. } | Entry::Event { worker, .. } | Entry::Reinstated { worker, .. } => {
                        swap(worker)
                    }
                    Entry::Release { .. } | Entry::Forged { .. } => {}
                }
            }
        }
        self
    }

    /// Renumbers the sectors after they were swapped.
    fn renumbered(mut self) -> World {
        for worker in &mut self.workers {
            match worker {
                Worker::Claiming { sector, .. } | Worker::Won { sector, .. } => *sector = 1 - *sector,
                Worker::Holding { held, .. } | Worker::Down { journal: Some(held) } => held.sector = 1 - held.sector,
                Worker::Free | Worker::Down { journal: None } => {}
            }
        }
        self
    }

    pub fn is_done(&self) -> bool {
        self.sectors.iter().all(|sector| sector.phase == Phase::Done)
    }
}

impl Sector {
    /// The lease moves, so messages that expect the former one can no longer have an effect.
    pub fn move_lease(&mut self, owner: Claimer, strays: bool) {
        if strays && let (Some((worker, token)), Some(number)) = (self.writer, self.events.iter().next()) {
            self.stray = Some((worker, token, number));
        }
        (self.lease, self.owner) = (self.lease + 1, owner);
        (self.claims, self.events, self.writer) = (Set::default(), Set::default(), None);
    }

    /// The manager records that nobody owns the sector.
    pub fn release(&mut self, strays: bool) {
        self.move_lease(Claimer::Manager, strays);
        self.word = Word::Released { sequence: self.lease };
        self.append(Entry::Release { sequence: self.lease });
    }

    /// The manager records that the owner that it knows still owns the sector.
    pub fn reinstate(&mut self, worker: u8, token: u8) {
        self.move_lease(Claimer::Manager, false);
        self.word = Word::Reinstated { sequence: self.lease, worker, token };
        self.append(Entry::Reinstated { worker, token, sequence: self.lease });
    }

    /// What the log says about a lease, by production's own code.
    pub fn standing(&self, worker: u8, token: u8) -> Standing {
        let manager = |sequence: u8, record| Lease { sequence: sequence.into(), owner: None, record };
        // The common case, which production also checks first.
        if self.owner == Claimer::Worker(worker) && self.lease == token {
            return Standing::Ours { fence: u64::from(token), known: None };
        }
        let word = match self.word {
            Word::None => None,
            Word::Released { sequence } => Some(manager(sequence, LeaseRecord::Release { reason: String::new() })),
            Word::Reinstated { sequence, worker, token } => {
                let (worker, token, reason) = (name(worker), Token(token.into()), String::new());
                let record = LeaseRecord::Reinstate { worker, token, stream: None, last_event: 0, reason };
                Some(manager(sequence, record))
            }
        };
        let claim = |owner| Lease { sequence: self.lease.into(), owner: Some(owner), record: LeaseRecord::Unknown };
        let last = match self.owner {
            Claimer::Manager => word.clone(),
            Claimer::Worker(worker) => Some(claim(name(worker))),
            Claimer::Stranger => Some(claim(name(2))),
        };
        let worker = name(worker);
        let right = Right { worker: &worker, token: Token(token.into()), foreign: None };
        standing(&right, last.as_ref(), word.as_ref())
    }

    /// The highest event stored under a token.
    pub fn stored_under(&self, token: u8) -> u8 {
        if self.stored.0 == token { self.stored.1 } else { 0 }
    }

    pub fn append(&mut self, entry: Entry) {
        *self.tail.iter_mut().find(|place| place.is_none()).expect("room") = Some(entry);
    }

    pub fn has_room(&self) -> bool {
        self.tail[MAX_LAG - 1].is_none()
    }
}

impl Set {
    pub fn of(value: u8) -> Set {
        Set(1 << value)
    }

    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..16).filter(move |value| self.contains(*value))
    }

    pub fn contains(self, value: u8) -> bool {
        self.0 & 1 << value != 0
    }

    pub fn insert(&mut self, value: u8) {
        self.0 |= 1 << value;
    }

    pub fn remove(&mut self, value: u8) {
        self.0 &= !(1 << value);
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<u8> for Set {
    fn from_iter<I: IntoIterator<Item = u8>>(values: I) -> Set {
        let mut set = Set::default();
        values.into_iter().for_each(|value| set.insert(value));
        set
    }
}

/// The two workers, and the stranger.
static NAMES: LazyLock<[WorkerName; 3]> = LazyLock::new(|| ["a", "b", "x"].map(|name| name.parse().expect("a name")));

fn name(worker: u8) -> WorkerName {
    NAMES[worker as usize].clone()
}

impl View {
    /// Folds a record with production's own code. `None` if it does not count; otherwise also whether a remedy is owed.
    pub fn fold(self, entry: Entry, phase: Phase, planted: Option<Planted>) -> Option<(View, bool)> {
        let any = planted == Some(Planted::FoldGrantsAnyClaim);
        let is_claim = matches!(entry, Entry::Claim { .. } | Entry::Forged { .. });
        let ownership = match self.owner.filter(|_| !(any && is_claim)) {
            None => Ownership::Free { last_lease: self.lease.into() },
            Some(worker) => Ownership::Held {
                worker: name(worker),
                token: Token(self.token.into()),
                stream: None,
                last_lease: self.lease.into(),
                last_event: self.last_event.into(),
            },
        };
        let named;
        let record = match entry {
            Entry::Claim { worker, sequence } => {
                named = name(worker);
                let offered = phase == Phase::Queued && self.owner.is_none() && sequence == self.lease + 1;
                Record::Claim { worker: &named, sequence: sequence.into(), granted: any || offered }
            }
            Entry::Forged { sequence } => {
                named = name(0);
                Record::Claim { worker: &named, sequence: sequence.into(), granted: any }
            }
            Entry::Release { sequence } => Record::Release { sequence: sequence.into() },
            Entry::Reinstated { worker, token, sequence } => {
                named = name(worker);
                Record::Reinstated { worker: &named, token: Token(token.into()), sequence: sequence.into() }
            }
            Entry::Event { worker, token, number } => {
                let (worker, token) = match (planted, self.owner) {
                    (Some(Planted::FoldWithoutOwner), Some(owner)) => (owner, self.token),
                    _ => (worker, token),
                };
                named = name(worker);
                Record::Event { worker: &named, token: Token(token.into()), number: number.into() }
            }
        };
        let Transition::Advance { next, effects } = ownership.fold(&record) else { return None };
        let view = match next {
            Ownership::Free { last_lease } => View { lease: last_lease as u8, ..View::default() },
            Ownership::Held { worker, token, last_event, last_lease, .. } => View {
                lease: last_lease as u8,
                token: token.0 as u8,
                owner: Some(u8::from(worker.as_str() == "b")),
                last_event: last_event as u8,
            },
        };
        let owed = matches!(effects[..], [Remedy::Reinstate | Remedy::Release]);
        Some((view, owed && planted != Some(Planted::NoRemedy)))
    }

    /// The number that identifies the present lease: [`Ownership::lease`].
    pub fn names(self) -> u8 {
        if self.owner.is_some() { self.token } else { self.lease }
    }
}
