//! What a batch of the log does, decided from sectors in memory. Whether they were as the database has them, the
//! transaction that stores it finds out.

use std::{collections::BTreeMap, sync::Arc};

use sealbus_nats::log::{Entry, Record};
use sealbus_schema::{SectorId, seal::manager::AttemptPolicy};

use super::entry;
use crate::store::{Happening, Outgoing, Sector, Store, Verdict, Versioned, WantedMessage};

/// Sectors in memory.
type Sectors = BTreeMap<SectorId, Arc<Versioned>>;

/// What the records of a batch do to the sectors that they are about.
#[derive(Default)]
pub(super) struct Decision {
    /// What is newer than what the store keeps.
    newer: Sectors,
    /// The sectors as they were.
    before: Sectors,
    /// The sectors as they are. Always some, but while one changes.
    after: BTreeMap<SectorId, Option<Sector>>,
    history: Vec<(SectorId, Happening, Verdict)>,
    outbox: Vec<(SectorId, Outgoing)>,
    messages: Vec<(SectorId, WantedMessage)>,
    /// How many records of the batch are decided.
    records: usize,
    /// How many of them are about sectors that are not in memory.
    of_unknown: usize,
}

/// What is to be stored of a decision, but for the history.
pub(super) struct Changes {
    /// The sectors on which it builds.
    pub(super) before: Vec<Arc<Versioned>>,
    pub(super) sectors: Vec<Sector>,
    pub(super) outbox: Vec<(SectorId, Outgoing)>,
    pub(super) messages: Vec<(SectorId, WantedMessage)>,
}

impl Decision {
    /// A decision that builds on sectors that were just read.
    pub(super) fn on(sectors: Vec<Arc<Versioned>>) -> Decision {
        let newer = sectors.into_iter().map(|known| (known.sector.id, known)).collect();
        Decision { newer, ..Decision::default() }
    }

    /// A decision about the next batch, which builds on what this one leaves, once it is stored.
    pub(super) fn next(&self) -> Decision {
        let after = |(id, before): (&SectorId, &Arc<Versioned>)| match self.after.get(id) {
            Some(Some(sector)) if *sector != before.sector => {
                (*id, Arc::new(Versioned { version: before.version + 1, sector: sector.clone() }))
            }
            _ => (*id, Arc::clone(before)),
        };
        Decision { newer: self.before.iter().map(after).collect(), ..Decision::default() }
    }

    /// Decides those of a batch's records that are not decided yet.
    pub(super) fn go_on(&mut self, batch: &[Entry], store: &Store, policy: AttemptPolicy) {
        for entry in &batch[self.records..] {
            let sequence = entry.sequence;
            if let Record::Unreadable { subject, why } = &entry.record {
                tracing::error!(sequence, %subject, %why, "a record of the log is unreadable; skipped");
            }
            let Some(id) = entry::sector_of(&entry.record) else { continue };
            if !self.after.contains_key(&id) {
                let Some(known) = self.newer.get(&id).cloned().or_else(|| store.kept(id)) else {
                    self.of_unknown += 1;
                    continue;
                };
                self.after.insert(id, Some(known.sector.clone()));
                self.before.insert(id, known);
            }
            if let Some(place) = self.after.get_mut(&id)
                && let Some(sector) = place.take()
            {
                let outcome = entry::decide(sector, entry, policy);
                *place = Some(outcome.sector);
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
        let Decision { before, mut after, outbox, messages, .. } = self;
        let changed = |known: &Arc<Versioned>| after.remove(&known.sector.id)?.filter(|sector| *sector != known.sector);
        Changes {
            sectors: before.values().filter_map(changed).collect(),
            before: before.into_values().collect(),
            outbox,
            messages,
        }
    }
}
