//! The fold writes the sectors' log into SQL. Each batch and its offset are stored in one transaction.
//!
//! So every event takes effect exactly once, whatever dies between the log and the database. Whether an event counts is
//! decided here, by [`sealbus_schema::lease`]. The headers that a writer chose to send do not matter.

mod entry;
pub mod recall;
mod rejected;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    time::Duration,
};

use sealbus_nats::{
    Bus,
    log::{Entry, LogError, Record, SectorsLog},
    topology::TopologyError,
};
use sealbus_schema::{SealProof, SectorId, lease::Ownership, machine::manager::AttemptPolicy, message::Intent};
use serde_json::json;

use rejected::Rejected;

pub use entry::decide;
pub use recall::Unsent;

use crate::{
    store::{FoldState, Happening, Outcome, Store, StoreError, Tx, Verdict},
    wake::Wake,
};

/// After how long without a record a log is checked for its end.
const QUIET: Duration = Duration::from_millis(500);

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

/// How a restored database catches up with the log.
pub struct Recall<'a> {
    /// The last record that may hold decisions of before the loss.
    pub until: u64,
    /// The number of epochs from a PreCommit to its seed.
    pub seed_delay: i64,
    /// The seal proof of a sector that only the log knows, if its number may be the manager's.
    pub proof_of: &'a (dyn Fn(SectorId) -> Option<SealProof> + Sync),
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
    /// The log is older than the database.
    #[error(
        "the stream SEAL_SECTORS ends with record {last}, but this database has read record {folded}: the stream was restored \
         from an older copy. Restore a newer copy, or delete the stream and give it up with `sealbus-manager bus recover`"
    )]
    LogIsOlder {
        /// The last record of the log.
        last: u64,
        /// The last record that was folded.
        folded: u64,
    },
}

/// Takes over the fold, or begins it in a new database. Refuses a log that the database was not folded from. A database that
/// is behind what the server knows to be folded was restored from a backup, and is marked so.
pub async fn take_over(bus: &Bus, store: &Store) -> Result<i64, FoldError> {
    let found = bus.sectors_identity().await?;
    let (read, last) = (bus.sectors_read().await?, bus.sectors_last_sequence().await?);
    let mut tx = store.begin().await?;
    match tx.fold_state().await? {
        None => tx.start_fold(found.as_str()).await?,
        Some(FoldState { stream, .. }) if stream != found.as_str() => {
            return Err(FoldError::OtherStream { known: stream, found: found.as_str().to_owned() });
        }
        Some(FoldState { last_sequence: folded, .. }) if last < folded => {
            return Err(FoldError::LogIsOlder { last, folded });
        }
        Some(FoldState { last_sequence: folded, .. }) if read > folded && tx.restored().await?.is_none() => {
            tracing::warn!(
                read,
                folded,
                "the database is older than what was read of the log: it was restored from a backup"
            );
            tx.mark_restored(None).await?;
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
        let (mut log, mut last) = self.open().await?;
        let rejected = Rejected::default();
        loop {
            let batch = log.next_batch().await?;
            last = self.fold(&batch, last, &rejected).await?;
            log.acknowledge().await;
        }
    }

    /// Folds the log up to a record, and takes what the manager wrote there for its decisions.
    pub async fn recall(&self, recall: &Recall<'_>) -> Result<(), FoldError> {
        let (mut log, mut last) = self.open().await?;
        while last < recall.until {
            let Ok(batch) = tokio::time::timeout(QUIET, log.next_batch()).await else {
                // The last records may be gone.
                if self.bus.sectors_unread().await? == 0 {
                    break;
                }
                continue;
            };
            let batch = batch?;
            let end = batch.last().map_or(last, |entry| entry.sequence);
            let mut tx = self.store.begin_as(self.epoch).await?;
            for entry in batch {
                if entry.sequence > recall.until {
                    // What comes later was written for a manager that had read all before it.
                    self.store_batch(&mut tx, &[entry], &Rejected::default()).await?;
                } else {
                    self.recall_entry(&mut tx, &entry, recall).await?;
                }
            }
            tx.move_offset(self.epoch, last, end).await?;
            tx.commit().await?;
            last = end;
            log.acknowledge().await;
        }
        Ok(())
    }

    /// Opens the log behind what is folded, and returns also the last folded sequence.
    async fn open(&self) -> Result<(SectorsLog, u64), FoldError> {
        let mut tx = self.store.begin_as(self.epoch).await?;
        let folded = tx.fold_state().await?;
        tx.commit().await?;
        let last = folded.as_ref().map_or(0, |fold| fold.last_sequence);
        let log = self.bus.open_log(last).await?;
        // The log may have been lost and created again since we took over. Ask after opening it, so that the answer is
        // about the log that we read.
        let found = self.bus.sectors_identity().await?;
        match folded.filter(|fold| fold.stream != found.as_str()) {
            Some(FoldState { stream: known, .. }) => {
                Err(FoldError::OtherStream { known, found: found.as_str().to_owned() })
            }
            None => Ok((log, last)),
        }
    }

    /// Stores a batch and its offset. Returns the last folded sequence.
    async fn fold(&self, batch: &[Entry], last: u64, rejected: &Rejected) -> Result<u64, StoreError> {
        let end = batch.last().map_or(last, |entry| entry.sequence);
        let mut tx = self.store.begin_as(self.epoch).await?;
        self.store_batch(&mut tx, batch, rejected).await?;
        tx.move_offset(self.epoch, last, end).await?;
        tx.commit().await?;
        self.changed.ring();
        Ok(end)
    }

    /// Folds one record of before the loss.
    async fn recall_entry(&self, tx: &mut Tx, entry: &Entry, recall: &Recall<'_>) -> Result<(), StoreError> {
        let Some(id) = entry::about(&entry.record) else { return Ok(()) };
        if let Some((_, intent)) = recall::first_claim(&entry.record)
            && tx.sector(id).await?.is_none()
            && (recall.proof_of)(id) == Some(intent.proof)
        {
            find_sector(tx, intent, "log").await?;
        }
        let Some(sector) = tx.sector(id).await? else { return Ok(()) };
        let mut is_known = false;
        if let Record::Fact { worker, fact, .. } = &entry.record {
            let sent = recall::sent(&tx.unsent_facts(id).await?, worker, fact);
            for row in sent.rows {
                tx.remove_unsent(row).await?;
            }
            is_known = sent.is_known;
        }
        let outcome = recall::recall(sector, entry, is_known, recall.seed_delay, self.policy);
        tx.store_outcomes(vec![outcome]).await
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

/// Gives out the number of a sector that was found where a manager had offered it. It is in the queue after the record that its
/// intent names.
pub async fn find_sector(tx: &mut Tx, intent: &Intent, place: &str) -> Result<(), StoreError> {
    tx.insert_sector(intent.sector, intent.proof).await?;
    tx.use_oldest_pledge(intent.sector.miner).await?;
    let Some(mut sector) = tx.sector(intent.sector).await? else { return Ok(()) };
    tracing::warn!(sector = %intent.sector, place, "a sector of after the backup is found");
    sector.ownership = Ownership::Free { last_lease: intent.lease_sequence };
    sector.attempt = intent.attempt;
    let detail =
        json!({ "where": place, "why": "its number was given out after the backup", "proof": intent.proof.name() });
    let history = vec![(Happening::of_manager("found", detail), Verdict::Applied)];
    tx.store_outcomes(vec![Outcome { history, ..Outcome::unchanged(sector) }]).await
}
