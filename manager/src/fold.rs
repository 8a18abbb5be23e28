//! The fold writes the sectors' log into SQL. Each batch and its offset are stored in one transaction.
//!
//! So every event takes effect exactly once, whatever dies between the log and the database. Whether an event counts is
//! decided here, by [`sealbus_schema::lease`]. The headers that a writer chose to send do not matter.

mod entry;
mod rejected;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
};

use sealbus_nats::{
    Bus,
    log::{Entry, LogError, Record},
    topology::TopologyError,
};
use sealbus_schema::{SectorId, machine::manager::AttemptPolicy};

use rejected::Rejected;

pub use entry::decide;

use crate::{
    store::{FoldState, Outcome, Store, StoreError, Tx},
    wake::Wake,
};

/// The fold of one manager.
pub struct Fold<'a> {
    /// The bus that has the log.
    pub bus: &'a Bus,
    /// The database to fold it into.
    pub store: &'a Store,
    /// The epoch under which we hold the fold.
    pub epoch: i64,
    /// How many attempts and offers a sector gets.
    pub policy: AttemptPolicy,
    /// Rung when something has changed.
    pub changed: &'a Wake,
}

/// Why the fold cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The streams cannot be read.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The database cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The database was folded from another log.
    #[error(
        "the stream SEAL_SECTORS is not the one that this database was folded from ({known}, now {found}): the queue was \
         made anew, and old lease numbers could match new records. Restore the stream, or give it up with \
         `sealbus-manager bus recover`"
    )]
    OtherStream {
        /// The identity in the database.
        known: String,
        /// The identity of the log on the bus.
        found: String,
    },
}

/// Takes over the fold, or begins it in a new database. Refuses a log that the database was not folded from.
pub async fn take_over(bus: &Bus, store: &Store) -> Result<i64, FoldError> {
    let found = bus.sectors_identity().await?;
    let mut tx = store.begin().await?;
    match tx.fold_state().await? {
        None => tx.start_fold(found.as_str()).await?,
        Some(FoldState { stream, .. }) if stream != found.as_str() => {
            return Err(FoldError::OtherStream { known: stream, found: found.as_str().to_owned() });
        }
        Some(_) => {}
    }
    let epoch = tx.take_over().await?;
    tx.commit().await?;
    Ok(epoch)
}

impl Fold<'_> {
    /// Folds until something fails. The caller then opens the log again; nothing is lost by that.
    pub async fn run(&self) -> Result<Infallible, FoldError> {
        let mut tx = self.store.begin_as(self.epoch).await?;
        let folded = tx.fold_state().await?;
        tx.commit().await?;
        let mut last = folded.as_ref().map_or(0, |fold| fold.last_sequence);
        let mut log = self.bus.open_log(last).await?;
        // The log may have been lost and created again since we took over. Ask after opening it, so that the answer is
        // about the log that we read.
        let found = self.bus.sectors_identity().await?;
        if let Some(FoldState { stream: known, .. }) = folded.filter(|fold| fold.stream != found.as_str()) {
            return Err(FoldError::OtherStream { known, found: found.as_str().to_owned() });
        }
        let rejected = Rejected::default();
        loop {
            let batch = log.next_batch().await?;
            let end = batch.last().map_or(last, |entry| entry.sequence);
            let mut tx = self.store.begin_as(self.epoch).await?;
            self.store_batch(&mut tx, &batch, &rejected).await?;
            tx.move_offset(self.epoch, last, end).await?;
            tx.commit().await?;
            last = end;
            log.acknowledge().await;
            self.changed.ring();
        }
    }

    /// Decides, record by record, what a batch does to its jobs, and stores the outcomes.
    async fn store_batch(&self, tx: &mut Tx, batch: &[Entry], rejected: &Rejected) -> Result<(), StoreError> {
        let concerned: BTreeSet<SectorId> = batch.iter().filter_map(|entry| entry::sector_of(&entry.record)).collect();
        let known = tx.sectors(&concerned).await?;
        let mut outcomes: BTreeMap<SectorId, Outcome> =
            known.into_iter().map(|job| (job.id, Outcome::unchanged(job))).collect();
        for unknown in concerned.iter().filter(|id| !outcomes.contains_key(id)) {
            if let Some(count) = rejected.count("unknown") {
                tracing::error!(sector = %unknown, count, "the log has records of a sector that this database does not know");
            }
        }
        for entry in batch {
            if let Record::Unreadable { subject, why } = &entry.record
                && let Some(count) = rejected.count("unreadable")
            {
                let sequence = entry.sequence;
                tracing::error!(sequence, %subject, %why, count, "a record of the log is unreadable; skipped");
            }
            let Some(id) = entry::sector_of(&entry.record) else { continue };
            if let Some(outcome) = outcomes.remove(&id) {
                outcomes.insert(id, outcome.then(|job| rejected.tell(entry::decide(job, entry, self.policy))));
            }
        }
        tx.store_outcomes(outcomes.into_values().collect()).await
    }
}
