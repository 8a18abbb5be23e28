//! What a batch of the log does, decided from sectors in memory. Whether they were as the database has them, the
//! transaction that stores it finds out.

use std::{
    collections::{HashMap, hash_map},
    sync::Arc,
};

use sealbus_nats::log::{Entry, Record};
use sealbus_schema::{SectorId, machine::manager::AttemptPolicy};

use super::entry;
use crate::store::{Happening, Job, Outgoing, Store, Verdict, Versioned, WantedMessage};

/// What the records of a batch do to the sectors that they are about.
#[derive(Default)]
pub(super) struct Decision {
    /// What is newer than what the store keeps.
    newer: HashMap<SectorId, Arc<Versioned>>,
    sectors: HashMap<SectorId, Course>,
    history: Vec<(SectorId, Happening, Verdict)>,
    outbox: Vec<(SectorId, Outgoing)>,
    messages: Vec<(SectorId, WantedMessage)>,
    /// How many records of the batch are decided.
    records: usize,
    /// How many of them are about sectors that are not in memory.
    of_unknown: usize,
}

/// A sector as it was, and as it is: always something, but while it changes.
struct Course {
    before: Arc<Versioned>,
    after: Option<Job>,
}

/// What is to be stored of a decision, but for the history.
#[derive(Default)]
pub(super) struct Changes {
    /// The sectors on which it builds, by miner and number.
    pub(super) before: Vec<Arc<Versioned>>,
    /// What becomes of those that it changes.
    pub(super) after: Vec<Arc<Versioned>>,
    pub(super) outbox: Vec<(SectorId, Outgoing)>,
    pub(super) messages: Vec<(SectorId, WantedMessage)>,
}

impl Decision {
    /// A decision that builds on these sectors.
    pub(super) fn on(sectors: &[Arc<Versioned>]) -> Decision {
        let newer = sectors.iter().map(|known| (known.sector.id, Arc::clone(known))).collect();
        Decision { newer, ..Decision::default() }
    }

    /// Decides those of a batch's records that are not decided yet.
    pub(super) fn go_on(&mut self, batch: &[Entry], store: &Store, policy: AttemptPolicy) {
        for entry in &batch[self.records..] {
            let sequence = entry.sequence;
            if let Record::Unreadable { subject, why } = &entry.record {
                tracing::error!(sequence, %subject, %why, "a record of the log is unreadable; skipped");
            }
            let Some(id) = entry::sector_of(&entry.record) else { continue };
            let course = match self.sectors.entry(id) {
                hash_map::Entry::Occupied(course) => course.into_mut(),
                hash_map::Entry::Vacant(place) => match self.newer.remove(&id).or_else(|| store.kept(id)) {
                    Some(before) => place.insert(Course { after: Some(before.sector.clone()), before }),
                    None => {
                        self.of_unknown += 1;
                        continue;
                    }
                },
            };
            if let Some(sector) = course.after.take() {
                let outcome = entry::decide(sector, entry, policy);
                course.after = Some(outcome.sector);
                self.history.extend(outcome.history.into_iter().map(|(happening, verdict)| (id, happening, verdict)));
                self.outbox.extend(outcome.outbox.into_iter().map(|outgoing| (id, outgoing)));
                self.messages.extend(outcome.messages.into_iter().map(|message| (id, message)));
            }
        }
        self.records = batch.len();
    }

    /// How many records of the batch are decided.
    pub(super) const fn records(&self) -> usize {
        self.records
    }

    /// Whether all sectors that the records are about were in memory.
    pub(super) const fn is_complete(&self) -> bool {
        self.of_unknown == 0
    }

    /// The lines of history that were not taken yet, in the order of the log.
    pub(super) fn take_history(&mut self) -> Vec<(SectorId, Happening, Verdict)> {
        std::mem::take(&mut self.history)
    }

    /// What else is to be stored.
    pub(super) fn into_changes(self) -> Changes {
        let Decision { sectors, outbox, messages, .. } = self;
        let mut changes = Changes { outbox, messages, ..Changes::default() };
        for Course { before, after } in sectors.into_values() {
            if let Some(sector) = after.filter(|sector| *sector != before.sector) {
                changes.after.push(before.next(sector));
            }
            changes.before.push(before);
        }
        changes.before.sort_unstable_by_key(|known| known.sector.id);
        changes
    }
}
