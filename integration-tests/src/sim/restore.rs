//! The loss of the manager's host, and the restoration of its database from an earlier backup.
//!
//! The log, the queue, the chain and the workers go on. In such worlds some sectors get their numbers late, so that the log and
//! the queue may know sectors that the backup does not.

use std::collections::{HashMap, HashSet};

use sealbus_manager::{
    drive::settling::{Nonces, SETTLE_EPOCHS},
    fold::{
        decide,
        recall::{Unsent, recall, sent},
    },
    life,
    store::{Happening, Outcome, Outgoing},
    workflows::Now,
};
use sealbus_nats::log::{Entry, Record};
use sealbus_schema::{
    SectorId, WorkerName,
    lease::Ownership,
    message::{Intent, LeaseRecord},
};

use super::{
    bug::Bug,
    chain::{CHALLENGE_DELAY, CONFIDENCE},
    checks::Right,
    db::Db,
    faults::{Faults, Incident, MINUTE},
    rng::Rng,
    world::{Event, World},
};

/// How long after its sector's end a job's records stay in the log. No backup is older.
pub const KEPT: u64 = 60 * MINUTE;

/// What is restored: the database, and what the checks had seen of it.
#[derive(Debug)]
pub struct Backup {
    db: Db,
    folded: HashSet<(u64, u64)>,
    accepted: HashMap<Right, WorkerName>,
    counted: HashSet<(SectorId, Right, u64)>,
    signed: HashMap<String, Vec<u8>>,
}

/// The mark of a restored database.
#[derive(Clone, Copy, Debug, Default)]
pub struct Restored {
    /// The last record of before the loss; `None` if no manager has looked yet.
    pub until: Option<u64>,
    /// Whether the log is read up to there.
    pub log_is_read: bool,
    /// The head's epoch when messages were first to be signed.
    pub settles_from: Option<i64>,
}

/// How often something happened in worlds whose manager was restored, or whose site was cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restorations {
    /// How many restorations there were.
    pub times: u64,
    /// Decisions that were found in the log.
    pub decisions: u64,
    /// Sectors that were found in the log or the queue.
    pub sectors: u64,
    /// How often the line to a site was cut for an hour.
    pub cuts: u64,
    /// Sectors that were under way at a loss, and how many of these are active in the end.
    pub ends: (u64, u64),
}

impl Restorations {
    /// Adds those of other worlds.
    pub fn add(&mut self, other: &Restorations) {
        let Restorations { times, decisions, sectors, cuts, ends } = other;
        self.cuts += cuts;
        self.times += times;
        self.decisions += decisions;
        self.sectors += sectors;
        self.ends = (self.ends.0 + ends.0, self.ends.1 + ends.1);
    }
}

impl Faults {
    /// Adds backups and losses of the manager's host, in every fourth world; in some of them two.
    pub fn lose_manager(&mut self, rng: &mut Rng) {
        let count = if rng.chance(250_000) { rng.range(1, 5).saturating_sub(3).max(1) } else { 0 };
        for _ in 0..count {
            let at = rng.range(0, self.end);
            let age =
                if rng.chance(500_000) { rng.range(500, 2 * MINUTE) } else { rng.range(MINUTE, KEPT - 10 * MINUTE) };
            let back_after = if rng.chance(500_000) { rng.range(1_000, 30_000) } else { rng.range(1, 20) * MINUTE };
            self.incidents.push((at.saturating_sub(age), Incident::Backup));
            self.incidents.push((at, Incident::LoseManager { back_after }));
            // Whether a sector's PreCommit was signed matters once its owner is lost.
            if rng.chance(500_000) {
                let later = rng.range(1, 10) * MINUTE;
                self.incidents.push((at + back_after + later, Incident::Revoke { sector: 0 }));
            }
        }
    }
}

impl World {
    /// Whether the manager's host is lost in this world at some time.
    pub fn loses_manager(&self) -> bool {
        self.faults.incidents.iter().any(|(_, incident)| matches!(incident, Incident::LoseManager { .. }))
    }

    /// Makes a backup of the database. A restored one that has not caught up yet is not backed up.
    pub fn back_up(&mut self) {
        if self.db.restored.is_some() {
            return;
        }
        let checks = &self.checks;
        self.backup = Some(Box::new(Backup {
            db: self.db.clone(),
            folded: checks.folded.clone(),
            accepted: checks.accepted.clone(),
            counted: checks.counted.clone(),
            signed: checks.signed.clone(),
        }));
    }

    /// Loses the manager's host. The last backup is restored, and a manager starts there after a time.
    pub fn lose_manager(&mut self, back_after: u64) {
        let Some(backup) = self.backup.take() else { return };
        self.restorations.times += 1;
        self.note_what_is_kept();
        // A lease that was ended before, or was to be, is not kept.
        let bus = &self.bus;
        let is_released = |id: &SectorId| {
            bus.last_lease(*id).is_some_and(|lease| matches!(lease.record, LeaseRecord::Release { .. }))
        };
        self.checks.kept.retain(|id, _| !is_released(id));
        for (id, outgoing) in self.db.outbox.values().chain(backup.db.outbox.values()) {
            if matches!(outgoing, Outgoing::Release { .. }) {
                self.checks.kept.remove(id);
            }
        }
        let under_way = self.db.sectors.values().filter(|sector| !sector.state.is_terminal());
        self.under_way.extend(under_way.map(|sector| sector.id));
        for m in 0..self.managers.len() {
            self.kill_manager(m);
        }
        // Nothing that the dead host had sent arrives after its successor has begun.
        self.dead_tags = self.tags;
        let Backup { db, folded, accepted, counted, signed } = *backup;
        (self.checks.folded, self.checks.accepted) = (folded, accepted);
        (self.checks.counted, self.checks.signed) = (counted, signed);
        self.db = db;
        self.db.restored = Some(Restored::default());
        let last = self.db.last_sequence;
        self.trace(|| format!("the database is that of a backup: folded up to {last}"));
        self.missing.clear();
        self.schedule(back_after, Event::StartManager(0));
        for id in self.sectors.clone() {
            // Its pledge is open again, unless the sector is found.
            self.schedule(back_after + MINUTE, Event::Pledge(id));
        }
    }

    /// Gives out the number of a sector that is wanted, unless it has one.
    pub fn pledge(&mut self, id: SectorId) {
        if self.is_catching_up() {
            return self.schedule(MINUTE / 2, Event::Pledge(id));
        }
        if self.db.sectors.contains_key(&id) {
            return;
        }
        self.trace(|| format!("{id} gets its number"));
        let sector = self.db.insert_sector(id, self.options.workflow());
        let wanted = Happening::of_manager("wanted", serde_json::Value::Null);
        self.db.store(life::offer(sector, wanted));
        for m in 0..self.managers.len() {
            self.wake_outbox(m);
        }
    }

    /// Whether a restored database has not read the log yet, so that nothing may be sent.
    pub fn is_catching_up(&self) -> bool {
        self.db.restored.is_some_and(|restored| !restored.log_is_read)
    }

    /// Begins to catch up: finds sectors in the queue, and notes where the log ends then.
    pub fn begin_to_catch_up(&mut self) {
        if self.db.restored.is_none_or(|restored| restored.until.is_some()) {
            return;
        }
        let queued: Vec<_> = self.bus.queue.iter().map(|queued| queued.intent.clone()).collect();
        for intent in queued.into_iter().filter(|intent| intent.lease_sequence == 0) {
            if !self.db.sectors.contains_key(&intent.sector) {
                self.find_sector(&intent);
            }
        }
        if self.options.bug != Some(Bug::ForgetSigned) {
            self.db.doubt_wanted();
        }
        let (last, until) = (self.db.last_sequence, self.bus.last_sequence());
        self.db.restored = Some(Restored { until: Some(until), ..Restored::default() });
        self.trace(|| format!("catches up with the log from {last} to {until}"));
    }

    /// Ends the reading of the log, if it is read.
    pub fn end_catching_up(&mut self, m: usize, is_at_end: bool) {
        let Some(Restored { until: Some(until), log_is_read: false, .. }) = self.db.restored else { return };
        if self.db.last_sequence < until && !is_at_end {
            return;
        }
        let last = self.db.last_sequence.max(until);
        (self.db.last_sequence, self.managers[m].last) = (last, last);
        self.db.restored = Some(Restored { until: Some(until), log_is_read: true, settles_from: None });
        self.trace(|| format!("m{m} has caught up with the log"));
        self.wake_outbox(m);
    }

    fn find_sector(&mut self, intent: &Intent) {
        if self.options.bug == Some(Bug::ForgetNumbers) {
            return;
        }
        self.restorations.sectors += 1;
        let mut sector = self.db.insert_sector(intent.sector, self.options.workflow());
        sector.ownership = Ownership::Free { last_lease: intent.lease_sequence };
        sector.attempt = intent.attempt;
        self.db.sectors.insert(sector.id, sector);
    }

    /// What a record of before the loss does.
    pub fn recall(&mut self, entry: &Entry) -> Option<Outcome> {
        let id = match &entry.record {
            Record::Lease { sector, .. } | Record::Event { sector, .. } | Record::Fact { sector, .. } => *sector,
            Record::Unreadable { .. } => return None,
        };
        if let Record::Lease { owner: Some(_), record: LeaseRecord::Claim { intent, .. }, .. } = &entry.record
            && self.sectors.contains(&id)
            && !self.db.sectors.contains_key(&id)
        {
            self.find_sector(intent);
        }
        let sector = self.db.sectors.get(&id).cloned()?;
        let mut is_known = false;
        if let Record::Fact { worker, fact, .. } = &entry.record {
            if self.options.bug == Some(Bug::ForgetFacts) {
                return None;
            }
            let unsent = self.db.outbox.iter().filter_map(|(row, (of, outgoing))| match outgoing {
                Outgoing::Fact { worker, fact, .. } if *of == id => {
                    Some(Unsent { row: *row, worker: worker.clone(), fact: fact.clone() })
                }
                _ => None,
            });
            let found = sent(&unsent.collect::<Vec<_>>(), worker, fact);
            is_known = found.is_known;
            self.db.outbox.retain(|row, _| !found.rows.contains(row));
            self.restorations.decisions += u64::from(!is_known);
        }
        let is_claim = matches!(&entry.record, Record::Lease { owner: Some(_), .. });
        Some(match self.options.bug {
            Some(Bug::ForgetGrants) if is_claim => decide(sector, entry, self.policy),
            _ => recall(sector, entry, is_known, CHALLENGE_DELAY, self.policy),
        })
    }

    /// Whether a restored manager may not sign yet. `wanted` is a sector for which it would.
    pub fn is_settling(&mut self, m: usize, now: &Now, wanted: Option<SectorId>) -> bool {
        let Some(restored) = &mut self.db.restored else { return false };
        let from = *restored.settles_from.get_or_insert(now.head);
        let nonces = Nonces {
            known: self.db.next_nonce(),
            pending: self.chain.pending(),
            head: self.chain.nonce(now.head),
            confident: self.chain.nonce(now.lagged),
        };
        let settles = now.head < from + CONFIDENCE + SETTLE_EPOCHS || !nonces.are_known();
        if settles && self.options.bug != Some(Bug::SignAtOnce) {
            if let (Some(gap), Some(sector)) = (nonces.gap(), wanted)
                && self.begin(m)
            {
                self.trace(|| format!("m{m} fills nonce {gap}, and what waits behind it is unknown"));
                self.db.fill(sector, gap);
            }
            return true;
        }
        self.trace(|| format!("the restored manager signs again: {nonces:?}"));
        self.db.restored = None;
        false
    }
}
