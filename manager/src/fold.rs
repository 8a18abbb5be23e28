//! The fold: the sectors' log into SQL, each batch and the offset in one transaction.
//!
//! So every event takes effect exactly once, whatever dies between the log and the database. Whether an event counts is
//! decided here, by [`sealbus_schema::lease`], and not by the headers that a writer chose to send.

mod decision;
mod entry;

use std::{collections::BTreeSet, convert::Infallible, pin::pin};

use futures::future::{self, Either};
use sealbus_nats::{
    Bus,
    log::{Entry, LogError, SectorsLog},
    topology::TopologyError,
};
use sealbus_schema::{SectorId, machine::manager::AttemptPolicy};

use decision::{Changes, Decision};
pub use entry::decide;

use crate::{
    store::{FoldState, Store, StoreError, Tx},
    wake::Wake,
};

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
    /// Rings when something changed.
    pub changed: &'a Wake,
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
    pub async fn run(&self) -> Result<Infallible, FoldError> {
        let failed = self.follow().await;
        // A database that failed may come back as an earlier state of it.
        self.store.forget();
        failed
    }

    async fn follow(&self) -> Result<Infallible, FoldError> {
        let mut tx = self.store.begin_as(self.epoch).await?;
        let mut last = tx.fold_state().await?.map_or(0, |fold| fold.last_sequence);
        tx.commit().await?;
        let mut log = self.bus.open_log(last).await?;
        let mut decision = Decision::default();
        loop {
            log.ahead(0).await?;
            let mut tx = self.store.begin_as(self.epoch).await?;
            self.write_history(&mut tx, &mut log, &mut decision).await?;
            let batch = if decision.is_complete() { log.take_batch() } else { log.next_batch().await? };
            let end = batch.last().map_or(last, |entry| entry.sequence);
            let decided = decision.is_complete().then(|| decision.into_changes());
            let mut next = Decision::on(decided.as_ref().map_or(&[], |changes| &changes.after));
            // While the database is at the rest of one batch, the next is read and decided.
            let storing = pin!(self.store_rest(tx, (last, end), &batch, decided));
            let stood = match future::select(storing, pin!(self.decide_ahead(&mut log, &mut next))).await {
                Either::Left((stood, _)) => stood?,
                Either::Right((Err(failed), storing)) => {
                    storing.await?;
                    return Err(failed.into());
                }
            };
            last = end;
            // What builds on a decision that did not stand does not stand either.
            decision = if stood { next } else { Decision::default() };
            log.acknowledge().await;
            self.changed.ring();
        }
    }

    /// Stores the history of a batch while it is read and decided: until nothing more is there, or it is full, or a sector
    /// is not in memory.
    async fn write_history(&self, tx: &mut Tx, log: &mut SectorsLog, decision: &mut Decision) -> Result<(), FoldError> {
        loop {
            let (lines, before) = (decision.take_history(), decision.records());
            let reading = future::lazy(|_| {
                decision.go_on(log.read_ahead()?, self.store, self.policy);
                Ok::<_, LogError>(())
            });
            let (written, read) = future::join(tx.add_histories(&lines), reading).await;
            written?;
            read?;
            if !decision.is_complete() || (lines.is_empty() && decision.records() == before) {
                return Ok(());
            }
        }
    }

    /// Reads what comes for the next batch, and decides it.
    async fn decide_ahead(&self, log: &mut SectorsLog, next: &mut Decision) -> Result<Infallible, LogError> {
        loop {
            let batch = log.ahead(next.records()).await?;
            next.go_on(batch, self.store, self.policy);
            tokio::task::yield_now().await;
        }
    }

    /// Stores what else a batch does, and the new offset, in the transaction with its history. Says whether what was
    /// decided stood: it does not if it builds on a sector that is another one now. Then, or if a sector was not in memory,
    /// all is decided again from what the database has.
    async fn store_rest(
        &self,
        mut tx: Tx,
        offset: (u64, u64),
        batch: &[Entry],
        decided: Option<Changes>,
    ) -> Result<bool, FoldError> {
        let (stands, changes) = match decided {
            Some(changes) if tx.confirm(&changes.before).await? => (true, changes),
            _ => {
                tx.rollback().await?;
                tx = self.store.begin_as(self.epoch).await?;
                (false, self.decide_in(&mut tx, batch).await?)
            }
        };
        tx.save_versions(changes.after).await?;
        tx.add_to_outbox(&changes.outbox).await?;
        tx.want_messages(&changes.messages).await?;
        tx.move_offset(self.epoch, offset.0, offset.1).await?;
        tx.commit().await?;
        Ok(stands)
    }

    /// Decides a batch from what the database has, and stores its history.
    async fn decide_in(&self, tx: &mut Tx, batch: &[Entry]) -> Result<Changes, StoreError> {
        let concerned = batch.iter().filter_map(|entry| entry::sector_of(&entry.record)).collect();
        let sectors = tx.known_sectors(&concerned).await?;
        let known: BTreeSet<SectorId> = sectors.iter().map(|known| known.sector.id).collect();
        for unknown in concerned.difference(&known) {
            tracing::error!(sector = %unknown, "the log has records of a sector that this database does not know");
        }
        let unknown = batch.iter().filter_map(entry::lease_of).filter(|(sector, _)| !known.contains(sector));
        tx.note_unknown_leases(&unknown.collect::<Vec<_>>()).await?;
        let mut decision = Decision::on(&sectors);
        decision.go_on(batch, self.store, self.policy);
        tx.add_histories(&decision.take_history()).await?;
        Ok(decision.into_changes())
    }
}
