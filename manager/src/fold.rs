//! The fold: the sectors' log into SQL, each batch and the offset in one transaction.
//!
//! So every event takes effect exactly once, whatever dies between the log and the database. Whether an event counts is
//! decided here, by [`sealbus_schema::lease`], and not by the headers that a writer chose to send.

mod entry;

use std::collections::BTreeMap;

use futures::future;
use sealbus_nats::{
    Bus,
    log::{Entry, LogError, Record},
    topology::TopologyError,
};
use sealbus_schema::{SectorId, seal::manager::AttemptPolicy};
use tokio::sync::Notify;

pub use entry::decide;

use crate::store::{FoldState, Outcome, Store, StoreError, Tx};

/// The fold of one manager.
pub struct Fold<'a> {
    /// Where the log is.
    pub bus: &'a Bus,
    /// Where it is folded into.
    pub store: &'a Store,
    /// Under which epoch we hold the fold.
    pub epoch: i64,
    /// How many attempts a sector gets.
    pub policy: AttemptPolicy,
    /// Woken when something changed.
    pub changed: &'a Notify,
}

/// Why the fold cannot go on.
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
    /// The log is another one than the database was folded from.
    #[error(
        "the stream SEAL_SECTORS is not the one that this database was folded from ({known}, now {found}): the queue was \
         made anew, and old lease numbers could match new records. Restore the stream, or give it up with \
         `sealbus-manager bus recover`"
    )]
    OtherStream {
        /// As remembered.
        known: String,
        /// As found.
        found: String,
    },
}

/// Takes the fold over, or begins it in a new database; refuses a log that is not ours.
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
    /// Folds until something fails. The caller opens it again; nothing is lost by that.
    pub async fn run(&self) -> Result<std::convert::Infallible, FoldError> {
        let mut tx = self.store.begin_as(self.epoch).await?;
        let mut last = tx.fold_state().await?.map_or(0, |fold| fold.last_sequence);
        tx.commit().await?;
        let mut log = self.bus.open_log(last).await?;
        loop {
            let entries = log.next_batch().await?;
            if let Some((tx, end)) = self.fold(last, &entries).await? {
                // While the database makes it durable, what has come meanwhile is taken apart.
                let (committed, ahead) = future::join(tx.commit(), future::lazy(|_| log.read_ahead())).await;
                committed?;
                ahead?;
                last = end;
            }
            log.acknowledge().await;
            self.changed.notify_waiters();
        }
    }

    /// Folds one batch behind `last` in a transaction that is still to be committed; with it, the new offset.
    async fn fold(&self, last: u64, entries: &[Entry]) -> Result<Option<(Tx, u64)>, FoldError> {
        let Some(end) = entries.last().map(|entry| entry.sequence).filter(|end| *end > last) else {
            return Ok(None);
        };
        let new = || entries.iter().filter(|entry| entry.sequence > last);
        let mut tx = self.store.begin_as(self.epoch).await?;
        let concerned = new().filter_map(|entry| entry::sector_of(&entry.record)).collect();
        let sectors = tx.sectors(&concerned).await?;
        let mut outcomes = sectors.into_iter().map(|sector| (sector.id, Some(Outcome::unchanged(sector)))).collect();
        for entry in new() {
            self.fold_entry(&mut outcomes, entry);
        }
        tx.store_outcomes(outcomes.into_values().flatten().collect()).await?;
        tx.move_offset(self.epoch, last, end).await?;
        Ok(Some((tx, end)))
    }

    fn fold_entry(&self, outcomes: &mut BTreeMap<SectorId, Option<Outcome>>, entry: &Entry) {
        let sequence = entry.sequence;
        if let Record::Unreadable { subject, why } = &entry.record {
            tracing::error!(sequence, %subject, %why, "a record of the log is unreadable; skipped");
        }
        let Some(id) = entry::sector_of(&entry.record) else { return };
        match outcomes.get_mut(&id) {
            Some(outcome) => {
                *outcome = outcome.take().map(|so_far| so_far.then(|sector| entry::decide(sector, entry, self.policy)));
            }
            None => tracing::error!(sector = %id, sequence, "a record of a sector that this database does not know"),
        }
    }
}
