//! Sectors that are kept in memory between transactions, so that most need not be read again.
//!
//! A sector's row has a version that rises with each change, whoever makes it; the database refuses a change that does
//! not raise it. So what is in memory counts only while its row still has the version that was read or stored here.
//! What is decided from it outside a transaction is [confirmed](Tx::confirm) in the one that stores it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sealbus_schema::{SectorId, lease::Ownership};

use super::{Job, Store, StoreError, Tx};

/// More are not kept, which bounds the memory: a sector takes up to 4 KiB.
const KEPT_MAX: usize = 20_000;

/// Sectors that somebody has read or stored, each with the version of its row.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(HashMap<SectorId, Arc<Versioned>>);

/// A sector, and its row's version.
#[derive(Debug)]
pub(crate) struct Versioned {
    pub(crate) version: i64,
    pub(crate) sector: Job,
}

impl Versioned {
    /// The sector after a change.
    pub(crate) fn next(&self, sector: Job) -> Arc<Versioned> {
        Arc::new(Versioned { version: self.version + 1, sector })
    }
}

/// What committed transactions knew, for those to come.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedKnown(Arc<Mutex<Known>>);

impl Known {
    /// A sector was read, or is new.
    pub(super) fn read(&mut self, read: Versioned) {
        self.0.insert(read.sector.id, Arc::new(read));
    }

    /// A sector was stored, and its row has another version.
    pub(super) fn saved(&mut self, saved: Arc<Versioned>) {
        if let Some(known) = self.0.get_mut(&saved.sector.id) {
            *known = saved;
        }
    }

    /// What is known of a sector.
    pub(super) fn get(&self, id: SectorId) -> Option<&Versioned> {
        self.0.get(&id).map(AsRef::as_ref)
    }
}

impl SharedKnown {
    /// Keeps what a transaction knew that has been committed. Sectors that have ended, and that nobody owns, are not asked
    /// for any more.
    pub(super) fn keep(&self, known: Known) {
        let mut kept = self.lock();
        if kept.0.len() + known.0.len() > KEPT_MAX {
            kept.0.clear();
        }
        for (id, known) in known.0 {
            let free = matches!(known.sector.ownership, Ownership::Free { .. });
            match known.sector.state.is_terminal() && free {
                true => kept.0.remove(&id),
                false => kept.0.insert(id, known),
            };
        }
    }

    /// What is known of these sectors, which may not be so any more.
    fn recall(&self, ids: &BTreeSet<SectorId>) -> Vec<Arc<Versioned>> {
        let kept = self.lock();
        ids.iter().filter_map(|id| kept.0.get(id).cloned()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// A sector as a transaction of this process read or stored it last, if that is kept. It may have changed since.
    pub(crate) fn kept(&self, id: SectorId) -> Option<Arc<Versioned>> {
        self.known.lock().0.get(&id).cloned()
    }

    /// Keeps nothing of what transactions have read or stored so far.
    pub(crate) fn forget(&self) {
        self.known.lock().0.clear();
    }
}

impl Tx {
    /// Whether all these sectors are still in the database as they are here. If so, this transaction knows them.
    pub(crate) async fn confirm(&mut self, sectors: &[Arc<Versioned>]) -> Result<bool, StoreError> {
        let versions: Vec<_> = sectors.iter().map(|known| (known.sector.id, known.version)).collect();
        let confirmed = self.changed_among(&versions).await?.is_empty();
        if confirmed {
            self.known.0.extend(sectors.iter().map(|known| (known.sector.id, Arc::clone(known))));
        }
        Ok(confirmed)
    }

    /// One sector, as this transaction sees it.
    pub async fn sector(&mut self, id: SectorId) -> Result<Option<Job>, StoreError> {
        Ok(self.sectors(&BTreeSet::from([id])).await?.pop())
    }

    /// Those of these sectors that exist, as this transaction sees them, by miner and number.
    pub async fn sectors(&mut self, ids: &BTreeSet<SectorId>) -> Result<Vec<Job>, StoreError> {
        Ok(self.known_sectors(ids).await?.iter().map(|known| known.sector.clone()).collect())
    }

    /// The same, with the versions of their rows.
    pub(crate) async fn known_sectors(&mut self, ids: &BTreeSet<SectorId>) -> Result<Vec<Arc<Versioned>>, StoreError> {
        for known in self.shared.recall(ids) {
            self.known.0.entry(known.sector.id).or_insert(known);
        }
        let (known, unknown): (Vec<SectorId>, Vec<SectorId>) = ids.iter().partition(|id| self.known.0.contains_key(id));
        let versions: Vec<_> = known.iter().filter_map(|id| Some((*id, self.known.get(*id)?.version))).collect();
        let mut to_read = self.changed_among(&versions).await?;
        to_read.extend(unknown);
        for read in self.read_sectors(&to_read).await? {
            self.known.read(read);
        }
        Ok(ids.iter().filter_map(|id| self.known.0.get(id).cloned()).collect())
    }
}
