//! The fold: the sectors' log into SQL, each batch and the offset in one transaction.
//!
//! So every event takes effect exactly once, whatever dies between the log and the database. Whether an event counts is
//! decided here, by [`sealbus_schema::lease`], and not by the headers that a writer chose to send.

use sealbus_nats::{
    Bus,
    log::{Entry, LogError, Record},
    topology::TopologyError,
};
use sealbus_schema::{
    SectorId, Transition, WorkerName,
    lease::{Ownership, Record as LeaseFold},
    message::{Event, LeaseRecord},
    seal::manager::{AttemptPolicy, Input},
};
use serde_json::json;
use tokio::sync::Notify;

use crate::{
    life,
    store::{FoldState, Happening, OutboxKind, Sector, Store, StoreError, Tx, Verdict, time_text},
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
         made anew, and old lease numbers could match new records. Restore the stream, or start with a new database"
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
            last = self.fold(last, &entries).await?;
            log.acknowledge().await;
            self.changed.notify_waiters();
        }
    }

    /// Folds one batch behind `last`, and returns the new offset.
    async fn fold(&self, last: u64, entries: &[Entry]) -> Result<u64, FoldError> {
        let Some(end) = entries.last().map(|entry| entry.sequence).filter(|end| *end > last) else {
            return Ok(last);
        };
        let mut tx = self.store.begin_as(self.epoch).await?;
        for entry in entries.iter().filter(|entry| entry.sequence > last) {
            self.fold_entry(&mut tx, entry).await?;
        }
        tx.move_offset(self.epoch, last, end).await?;
        tx.commit().await?;
        Ok(end)
    }

    async fn fold_entry(&self, tx: &mut Tx, entry: &Entry) -> Result<(), StoreError> {
        match &entry.record {
            Record::Lease { sector, owner, record } => self.lease(tx, entry, *sector, owner.as_ref(), record).await,
            Record::Event { sector, worker, event } => self.event(tx, entry, *sector, worker, event).await,
            // Our own answers: what they say was stored when they were decided.
            Record::Fact { .. } => Ok(()),
            Record::Unreadable { subject, why } => {
                tracing::error!(sequence = entry.sequence, %subject, %why, "a record of the log is unreadable; skipped");
                Ok(())
            }
        }
    }

    async fn lease(
        &self,
        tx: &mut Tx,
        entry: &Entry,
        id: SectorId,
        owner: Option<&WorkerName>,
        record: &LeaseRecord,
    ) -> Result<(), StoreError> {
        let Some(mut sector) = tx.sector(id).await? else {
            tracing::error!(sector = %id, sequence = entry.sequence, "a lease of a sector that this database does not know");
            return Ok(());
        };
        let fold = match owner {
            Some(worker) => LeaseFold::Claim { worker, sequence: entry.sequence },
            None => LeaseFold::Release { sequence: entry.sequence },
        };
        let Transition::Advance { next, .. } = sector.ownership.fold(&fold) else {
            return self.refused(tx, entry, &sector, "lease", json!(record), Verdict::Illegal).await;
        };
        sector.ownership = next;
        let (actor, kind, detail) = match record {
            LeaseRecord::Claim { host, .. } => (owner, "claimed", json!({ "host": host })),
            LeaseRecord::Release { reason } => (None, "released", json!({ "reason": reason })),
            LeaseRecord::Unknown => (owner, "lease", json!({})),
        };
        let happening = Happening {
            at: time_text(entry.time),
            sequence: Some(entry.sequence),
            actor: actor.map_or_else(|| "manager".to_owned(), WorkerName::to_string),
            token: owner.map(|_| entry.sequence),
            kind: kind.to_owned(),
            detail,
        };
        let input = match owner {
            Some(_) => Input::Claimed,
            None => Input::Released { attempt: sector.attempt },
        };
        let verdict = life::apply(tx, &mut sector, input, happening, self.policy).await?;
        if owner.is_some() && verdict == Verdict::Illegal {
            // A claim of something that was not offered: take it back.
            let reason = b"claimed without an intent".to_vec();
            tx.add_to_outbox(&OutboxKind::Release, id, entry.sequence, reason).await?;
        }
        Ok(())
    }

    async fn event(
        &self,
        tx: &mut Tx,
        entry: &Entry,
        id: SectorId,
        worker: &WorkerName,
        event: &Event,
    ) -> Result<(), StoreError> {
        let Some(mut sector) = tx.sector(id).await? else {
            tracing::error!(sector = %id, %worker, "an event of a sector that this database does not know");
            return Ok(());
        };
        let record = LeaseFold::Event { worker, token: event.token, number: event.number };
        match sector.ownership.fold(&record) {
            Transition::Advance { next, .. } => sector.ownership = next,
            Transition::Ignore(_) => return Ok(()),
            Transition::Illegal(why) => {
                tracing::warn!(sector = %id, %worker, token = %event.token, kind = event.body.kind(), why, "rejected");
                let happening = self.happening(entry, worker, event);
                return tx.add_history(id, &happening, Verdict::Fenced).await;
            }
        }
        let happening = self.happening(entry, worker, event);
        life::apply(tx, &mut sector, Input::Event(event.body.clone()), happening, self.policy).await?;
        Ok(())
    }

    fn happening(&self, entry: &Entry, worker: &WorkerName, event: &Event) -> Happening {
        let mut detail = json!(event.body);
        if let Some(fields) = detail.as_object_mut() {
            fields.remove("kind");
        }
        Happening {
            at: time_text(entry.time),
            sequence: Some(entry.sequence),
            actor: worker.to_string(),
            token: Some(event.token.0),
            kind: event.body.kind().to_owned(),
            detail,
        }
    }

    async fn refused(
        &self,
        tx: &mut Tx,
        entry: &Entry,
        sector: &Sector,
        kind: &str,
        detail: serde_json::Value,
        verdict: Verdict,
    ) -> Result<(), StoreError> {
        tracing::error!(sector = %sector.id, sequence = entry.sequence, kind, "a record that cannot follow the last one");
        let happening = Happening {
            at: time_text(entry.time),
            sequence: Some(entry.sequence),
            actor: match &sector.ownership {
                Ownership::Held { worker, .. } => worker.to_string(),
                Ownership::Free { .. } => "nobody".to_owned(),
            },
            token: None,
            kind: kind.to_owned(),
            detail,
        };
        tx.add_history(sector.id, &happening, verdict).await
    }
}
