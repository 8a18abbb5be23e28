//! The manager's database.
//!
//! One implementation serves SQLite and PostgreSQL through `sqlx::Any`. Its statements use only what both understand.
//! Four things differ: the migrations, how the database is opened, how writing transactions are serialised, and how one
//! of several managers is chosen. Every change goes through a [`Tx`]. A running manager's transaction also checks that
//! the manager still holds the fold.

mod ahead;
mod alike;
mod archive;
mod audit;
mod backup;
mod blocks;
mod broken;
mod error;
mod history;
mod identities;
mod jobs;
mod leadership;
mod looks;
mod messages;
mod metrics;
mod migrations;
mod miners;
mod money;
mod network;
mod open;
mod orders;
mod outbox;
mod outcome;
mod pledges;
mod proofs;
mod recover;
mod restored;
mod rows;
mod sectors;
mod statements;
mod tables;
mod waits;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use sealbus_schema::{SectorId, workflows::State};
use sqlx::{Any, AnyPool, Executor, Row, Transaction, any::AnyRow};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::config::Database;

use rows::Places;

pub(crate) use error::sql;
pub(crate) use statements::Statement;
pub(crate) use tables::{Columns, InJson, Table};

pub use alike::Alike;
pub use audit::{AuditEntry, AuditFilter};
pub use backup::{Copied, beside};
pub use broken::BrokenCount;
pub use error::StoreError;
pub use history::{Happening, HistoryEntry, Verdict};
pub use jobs::{Job, SectorFilter};
pub use leadership::{Candidate, Leadership};
pub use looks::{Due, Look};
pub use messages::{
    CallFilter, CallId, CallRow, CarriedSector, Delegated, Envelope, Errand, ErrandId, ErrandState, Message,
    MessageKind, MessageState, NewDelegated, NewErrand, Place, Ready, Signed, Stage, Tries, Unsigned, WantId,
    filler_key,
};
pub use metrics::{Count, Expiring};
pub use miners::Counts;
pub use money::{BookedEntry, MoneyEnd, MoneyFilter, MoneyOrder};
pub use orders::WorkerOrders;
pub use outbox::{OutboxKind, OutboxRow};
pub use outcome::{Outcome, Outgoing, WantedMessage};
pub use pledges::Pledge;
pub use restored::Restored;
pub use sectors::{Existing, OnChain};
pub use waits::{ManagerSeen, secs_between};

/// Serialises writing transactions on PostgreSQL; see [`Store::begin`].
const POSTGRES_WRITER: &str = "SELECT pg_advisory_xact_lock(x'5ea1b06'::int, hashtext(current_schema()))";

/// How long a transaction may wait for the others of this process. As long as it waits for those of other processes.
const WRITER_LIMIT: Duration = Duration::from_secs(15);

/// `only` is a reserved word in PostgreSQL.
const FOLD_STATE: &str = "SELECT stream, last_sequence, epoch FROM fold WHERE \"only\" = 1";

/// The manager's database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: AnyPool,
    database: Database,
    /// The open file; `None` on PostgreSQL.
    file: Option<open::FileId>,
    /// Whoever writes in this process; see [`Store::turn_to_write`].
    writer: Arc<Mutex<()>>,
}

/// A transaction.
pub struct Tx {
    inner: Transaction<'static, Any>,
    places: Places,
    /// The present states, in the database, of the jobs that this transaction has read or stored.
    states: BTreeMap<SectorId, State>,
    /// Given up after the transaction has ended, because fields are dropped in this order.
    _turn: OwnedMutexGuard<()>,
}

/// How far the log is folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldState {
    /// The identity of the stream that was folded.
    pub stream: String,
    /// The last sequence whose effects are stored.
    pub last_sequence: u64,
    /// The epoch of the manager that holds the fold.
    pub epoch: i64,
}

impl Store {
    /// Begins a writing transaction.
    ///
    /// Writing transactions are serialised, by SQLite's write lock or by our own lock on PostgreSQL. So what a
    /// transaction reads does not change before it ends, and it is not refused half-way. The lock is taken before
    /// anything is read, so each statement sees what every earlier transaction stored.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        self.check_file()?;
        let turn = self.turn_to_write().await?;
        let begin = match self.database {
            Database::Sqlite { .. } => "BEGIN IMMEDIATE",
            Database::Postgres { .. } => "BEGIN ISOLATION LEVEL READ COMMITTED",
        };
        let mut inner = self.pool.begin_with(begin).await.map_err(sql("begin a transaction"))?;
        if let Database::Postgres { .. } = self.database {
            inner.execute(POSTGRES_WRITER).await.map_err(sql("wait for the other transactions"))?;
        }
        Ok(Tx { inner, places: self.places(), states: BTreeMap::new(), _turn: turn })
    }

    /// Waits until no other task of this process writes.
    ///
    /// The database would make a second writer wait as well, but badly. SQLite sleeps, longer each time, before it tries
    /// again. On PostgreSQL each writer that waits takes a connection, and soon none is left to read with.
    async fn turn_to_write(&self) -> Result<OwnedMutexGuard<()>, StoreError> {
        tokio::time::timeout(WRITER_LIMIT, self.writer.clone().lock_owned())
            .await
            .map_err(|_| sql("wait for the other transactions")(sqlx::Error::PoolTimedOut))
    }

    /// This database's placeholders for bound values.
    const fn places(&self) -> Places {
        match self.database {
            Database::Sqlite { .. } => Places::Plain,
            Database::Postgres { .. } => Places::Numbered,
        }
    }

    /// Begins a transaction of the manager that took over with this epoch. Fails if another manager has taken over since.
    pub async fn begin_as(&self, epoch: i64) -> Result<Tx, StoreError> {
        let mut tx = self.begin().await?;
        match tx.fold_state().await? {
            Some(fold) if fold.epoch == epoch => Ok(tx),
            _ => Err(StoreError::TakenOver { epoch }),
        }
    }

    /// Fails if another manager has taken over since this epoch. For actions that change nothing in SQL.
    pub async fn check_epoch(&self, epoch: i64) -> Result<(), StoreError> {
        match self.fold_state().await? {
            Some(fold) if fold.epoch == epoch => Ok(()),
            _ => Err(StoreError::TakenOver { epoch }),
        }
    }

    /// How far the log is folded. `None` in a new database.
    pub async fn fold_state(&self) -> Result<Option<FoldState>, StoreError> {
        let row = sqlx::query(FOLD_STATE).fetch_optional(&self.pool).await.map_err(sql("read the fold's offset"))?;
        Ok(row.as_ref().map(fold_state))
    }
}

impl Tx {
    /// Commits this transaction.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.inner.commit().await.map_err(sql("commit a transaction"))
    }

    /// Rolls this transaction back.
    pub async fn rollback(self) -> Result<(), StoreError> {
        self.inner.rollback().await.map_err(sql("undo a transaction"))
    }

    /// How far the log is folded. `None` in a new database.
    pub async fn fold_state(&mut self) -> Result<Option<FoldState>, StoreError> {
        let row =
            sqlx::query(FOLD_STATE).fetch_optional(&mut *self.inner).await.map_err(sql("read the fold's offset"))?;
        Ok(row.as_ref().map(fold_state))
    }

    /// Begins the fold of a stream in a new database.
    pub async fn start_fold(&mut self, stream: &str) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO fold (\"only\", stream, last_sequence, epoch) VALUES (1, $1, 0, 0)")
            .bind(stream)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("start the fold"))?;
        Ok(())
    }

    /// Takes the fold from its present holder, and returns the new epoch.
    pub async fn take_over(&mut self) -> Result<i64, StoreError> {
        let row = sqlx::query("UPDATE fold SET epoch = epoch + 1 WHERE \"only\" = 1 RETURNING epoch")
            .fetch_one(&mut *self.inner)
            .await
            .map_err(sql("take over the fold"))?;
        Ok(row.get("epoch"))
    }

    /// Moves the offset. Fails unless the stored epoch and offset are the given ones.
    pub async fn move_offset(&mut self, epoch: i64, from: u64, to: u64) -> Result<(), StoreError> {
        let moved =
            sqlx::query("UPDATE fold SET last_sequence = $1 WHERE \"only\" = 1 AND last_sequence = $2 AND epoch = $3")
                .bind(to as i64)
                .bind(from as i64)
                .bind(epoch)
                .execute(&mut *self.inner)
                .await
                .map_err(sql("move the fold's offset"))?;
        if moved.rows_affected() == 1 { Ok(()) } else { Err(StoreError::TakenOver { epoch }) }
    }
}

fn fold_state(row: &AnyRow) -> FoldState {
    FoldState {
        stream: row.get("stream"),
        last_sequence: row.get::<i64, _>("last_sequence") as u64,
        epoch: row.get("epoch"),
    }
}

/// This host's present time, for the manager's own actions. It is never compared with another host's time.
pub fn now_text() -> String {
    time_text(OffsetDateTime::now_utc())
}

/// A time in the stored format: RFC 3339, UTC.
pub fn time_text(time: OffsetDateTime) -> String {
    time.to_offset(time::UtcOffset::UTC).format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}
