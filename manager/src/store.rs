//! What the manager remembers, in SQL.
//!
//! One implementation serves every database that `sqlx::Any` drives: the statements below keep to what SQLite and
//! PostgreSQL share. What differs is the migrations, how the database is opened, how transactions that write are kept
//! apart, and how one of several managers is chosen. Every change goes through a [`Tx`]; those of a running manager
//! also check that it still holds the fold.

mod archive;
mod audit;
mod error;
mod history;
mod identities;
mod jobs;
mod leadership;
mod looks;
mod messages;
mod migrations;
mod open;
mod orders;
mod outbox;
mod outcome;
mod pledges;
mod recover;
mod rows;
mod sectors;
mod statements;
mod tables;
mod waits;

use std::collections::BTreeMap;

use sealbus_schema::{SectorId, workflows::State};
use sqlx::{Any, AnyPool, Executor, Row, Transaction, any::AnyRow};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::config::Database;

use rows::Places;

pub(crate) use error::sql;
pub(crate) use statements::Statement;
pub(crate) use tables::{Columns, Table};

pub use audit::{AuditEntry, AuditFilter};
pub use error::StoreError;
pub use history::{Happening, HistoryEntry, Verdict};
pub use jobs::{Job, SectorFilter};
pub use leadership::{Candidate, Leadership};
pub use looks::{Due, Look};
pub use messages::{Message, MessageKind, MessageState, Signed, Tries, filler_key};
pub use orders::WorkerOrders;
pub use outbox::{OutboxKind, OutboxRow};
pub use outcome::{Outcome, Outgoing, WantedMessage};
pub use pledges::Pledge;
pub use sectors::{Existing, OnChain};
pub use waits::{ManagerSeen, secs_between};

/// On PostgreSQL, what makes transactions that write come one after the other; see [`Store::begin`].
const POSTGRES_WRITER: &str = "SELECT pg_advisory_xact_lock(x'5ea1b06'::int, hashtext(current_schema()))";

/// `only` is a reserved word in PostgreSQL.
const FOLD_STATE: &str = "SELECT stream, last_sequence, epoch FROM fold WHERE \"only\" = 1";

/// The manager's database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: AnyPool,
    database: Database,
    /// Which file is open; `None` on PostgreSQL.
    file: Option<open::FileId>,
}

/// A transaction.
pub struct Tx {
    inner: Transaction<'static, Any>,
    places: Places,
    /// The states of the jobs that it has read or stored, as the database has them now.
    states: BTreeMap<SectorId, State>,
}

/// How far the log is folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoldState {
    /// The identity of the stream that was folded.
    pub stream: String,
    /// The last sequence whose effects are stored.
    pub last_sequence: u64,
    /// Who holds the fold.
    pub epoch: i64,
}

impl Store {
    /// Begins a transaction that will write.
    ///
    /// Transactions that write come one after the other, so that nothing that one of them reads changes before it ends,
    /// and none is refused in its middle: SQLite's write lock, on PostgreSQL a lock of ours. It is taken before anything
    /// is read, and each statement after it sees what every earlier transaction stored.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        self.check_file()?;
        let begin = match self.database {
            Database::Sqlite { .. } => "BEGIN IMMEDIATE",
            Database::Postgres { .. } => "BEGIN ISOLATION LEVEL READ COMMITTED",
        };
        let mut inner = self.pool.begin_with(begin).await.map_err(sql("begin a transaction"))?;
        if let Database::Postgres { .. } = self.database {
            inner.execute(POSTGRES_WRITER).await.map_err(sql("wait for the other transactions"))?;
        }
        Ok(Tx { inner, places: self.places(), states: BTreeMap::new() })
    }

    /// How this database writes the places of bound values.
    const fn places(&self) -> Places {
        match self.database {
            Database::Sqlite { .. } => Places::Plain,
            Database::Postgres { .. } => Places::Numbered,
        }
    }

    /// Begins a transaction of the manager that took over with this epoch; refused when another one has since.
    pub async fn begin_as(&self, epoch: i64) -> Result<Tx, StoreError> {
        let mut tx = self.begin().await?;
        match tx.fold_state().await? {
            Some(fold) if fold.epoch == epoch => Ok(tx),
            _ => Err(StoreError::TakenOver { epoch }),
        }
    }

    /// Refused when another manager has taken over since we did with this epoch. For what changes nothing in SQL.
    pub async fn check_epoch(&self, epoch: i64) -> Result<(), StoreError> {
        match self.fold_state().await? {
            Some(fold) if fold.epoch == epoch => Ok(()),
            _ => Err(StoreError::TakenOver { epoch }),
        }
    }

    /// How far the log is folded; `None` in a new database.
    pub async fn fold_state(&self) -> Result<Option<FoldState>, StoreError> {
        let row = sqlx::query(FOLD_STATE).fetch_optional(&self.pool).await.map_err(sql("read the fold's offset"))?;
        Ok(row.as_ref().map(fold_state))
    }
}

impl Tx {
    /// Makes everything in this transaction true at once.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.inner.commit().await.map_err(sql("commit a transaction"))
    }

    /// Makes nothing of this transaction true.
    pub async fn rollback(self) -> Result<(), StoreError> {
        self.inner.rollback().await.map_err(sql("undo a transaction"))
    }

    /// How far the log is folded; `None` in a new database.
    pub async fn fold_state(&mut self) -> Result<Option<FoldState>, StoreError> {
        let row =
            sqlx::query(FOLD_STATE).fetch_optional(&mut *self.inner).await.map_err(sql("read the fold's offset"))?;
        Ok(row.as_ref().map(fold_state))
    }

    /// Begins a fold of a stream in a new database.
    pub async fn start_fold(&mut self, stream: &str) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO fold (\"only\", stream, last_sequence, epoch) VALUES (1, $1, 0, 0)")
            .bind(stream)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("start the fold"))?;
        Ok(())
    }

    /// Takes the fold from whoever held it, and returns the new epoch.
    pub async fn take_over(&mut self) -> Result<i64, StoreError> {
        let row = sqlx::query("UPDATE fold SET epoch = epoch + 1 WHERE \"only\" = 1 RETURNING epoch")
            .fetch_one(&mut *self.inner)
            .await
            .map_err(sql("take over the fold"))?;
        Ok(row.get("epoch"))
    }

    /// Moves the offset, if it and the epoch are what we think.
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

/// The present time of this host, for what the manager itself did. Never compared with another host's.
pub fn now_text() -> String {
    time_text(OffsetDateTime::now_utc())
}

/// A time as it is stored: RFC 3339, UTC.
pub fn time_text(time: OffsetDateTime) -> String {
    time.to_offset(time::UtcOffset::UTC).format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}
