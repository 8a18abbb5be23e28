//! What the manager remembers, in SQL.
//!
//! One implementation serves every database that `sqlx::Any` drives: the statements below keep to what SQLite and
//! PostgreSQL share, and only the migrations differ. Every change goes through a [`Tx`]; those of a running manager
//! also check that it still holds the fold.

mod audit;
mod history;
mod messages;
mod orders;
mod outbox;
mod outcome;
mod recover;
mod rows;
mod sectors;

use std::path::Path;

use sqlx::{Any, AnyPool, Row, Transaction, any::AnyPoolOptions};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

pub use audit::{AuditEntry, AuditFilter};
pub use history::{Happening, HistoryEntry, Verdict};
pub use messages::{Message, MessageKind, MessageState, Signed};
pub use orders::WorkerOrders;
pub use outbox::{OutboxKind, OutboxRow};
pub use outcome::{Outcome, Outgoing, WantedMessage};
pub use sectors::{Sector, SectorFilter};

/// The manager's database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pool: AnyPool,
}

/// A transaction.
pub struct Tx {
    inner: Transaction<'static, Any>,
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

/// Sectors that a person asked for.
#[derive(Clone, Debug)]
pub struct Pledge {
    /// The row.
    pub id: i64,
    /// Whose.
    pub miner: String,
    /// How many have no number yet.
    pub remaining: u64,
}

/// Why the database could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused, or is not reachable.
    #[error("cannot {operation}")]
    Sql {
        /// What was tried.
        operation: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The database cannot be brought to the present schema.
    #[error("cannot migrate the database")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A row says something that cannot be.
    #[error("the row of {what} is unreadable: {problem}")]
    BadRow {
        /// Which row.
        what: String,
        /// What is wrong.
        problem: String,
    },
    /// Another manager has taken over.
    #[error("another manager has taken over this database (epoch {epoch} is not the present one)")]
    TakenOver {
        /// Ours.
        epoch: i64,
    },
}

pub(crate) fn sql(operation: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Sql { operation, source }
}

impl Store {
    /// Opens the database, makes it when it is missing, and brings it to the present schema.
    pub async fn open(path: &Path) -> Result<Store, StoreError> {
        sqlx::any::install_default_drivers();
        let url = format!("sqlite://{}?mode=rwc", path.display());
        let pool = AnyPoolOptions::new()
            .max_connections(4)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    // Other processes (the command line) write as well; an acknowledged transaction survives power loss.
                    for pragma in
                        ["journal_mode = WAL", "synchronous = FULL", "busy_timeout = 15000", "foreign_keys = ON"]
                    {
                        sqlx::query(&format!("PRAGMA {pragma}")).execute(&mut *connection).await?;
                    }
                    Ok(())
                })
            })
            .connect(&url)
            .await
            .map_err(sql("open the database"))?;
        let migrating = lock_migrations(path).await?;
        sqlx::migrate!("migrations/sqlite").run(&pool).await.map_err(StoreError::Migrate)?;
        drop(migrating);
        Ok(Store { pool })
    }

    /// Begins a transaction that will write.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        // A transaction that begins by reading and then writes could be refused in the middle; this one waits instead.
        let inner = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(sql("begin a transaction"))?;
        Ok(Tx { inner })
    }

    /// Begins a transaction of the manager that took over with this epoch; refused when another one has since.
    pub async fn begin_as(&self, epoch: i64) -> Result<Tx, StoreError> {
        let mut tx = self.begin().await?;
        match tx.fold_state().await? {
            Some(fold) if fold.epoch == epoch => Ok(tx),
            _ => Err(StoreError::TakenOver { epoch }),
        }
    }

    /// Sectors that a person asked for and that have no number yet, oldest first.
    pub async fn open_pledges(&self) -> Result<Vec<Pledge>, StoreError> {
        let rows = sqlx::query("SELECT id, miner, remaining FROM pledges WHERE remaining > 0 ORDER BY id")
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read pledges"))?;
        Ok(rows
            .iter()
            .map(|row| Pledge {
                id: row.get("id"),
                miner: row.get("miner"),
                remaining: row.get::<i64, _>("remaining") as u64,
            })
            .collect())
    }
}

/// Keeps a second process from migrating at the same time: a command may open a database that the manager just makes.
async fn lock_migrations(path: &Path) -> Result<std::fs::File, StoreError> {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    // Waiting blocks its thread, which must not be one that the holder needs.
    let locked = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::create(&lock)?;
        file.lock()?;
        Ok::<_, std::io::Error>(file)
    });
    let locked = locked.await.map_err(std::io::Error::other).and_then(|locked| locked);
    locked.map_err(|source| StoreError::Sql { operation: "lock the database for a migration", source: source.into() })
}

impl Tx {
    /// Makes everything in this transaction true at once.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.inner.commit().await.map_err(sql("commit a transaction"))
    }

    /// How far the log is folded; none in a new database.
    pub async fn fold_state(&mut self) -> Result<Option<FoldState>, StoreError> {
        let row = sqlx::query("SELECT stream, last_sequence, epoch FROM fold WHERE only = 1")
            .fetch_optional(&mut *self.inner)
            .await
            .map_err(sql("read the fold's offset"))?;
        Ok(row.map(|row| FoldState {
            stream: row.get("stream"),
            last_sequence: row.get::<i64, _>("last_sequence") as u64,
            epoch: row.get("epoch"),
        }))
    }

    /// Begins a fold of a stream in a new database.
    pub async fn start_fold(&mut self, stream: &str) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO fold (only, stream, last_sequence, epoch) VALUES (1, $1, 0, 0)")
            .bind(stream)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("start the fold"))?;
        Ok(())
    }

    /// Takes the fold from whoever held it, and returns the new epoch.
    pub async fn take_over(&mut self) -> Result<i64, StoreError> {
        let row = sqlx::query("UPDATE fold SET epoch = epoch + 1 WHERE only = 1 RETURNING epoch")
            .fetch_one(&mut *self.inner)
            .await
            .map_err(sql("take over the fold"))?;
        Ok(row.get("epoch"))
    }

    /// Moves the offset, if it and the epoch are what we think.
    pub async fn move_offset(&mut self, epoch: i64, from: u64, to: u64) -> Result<(), StoreError> {
        let moved =
            sqlx::query("UPDATE fold SET last_sequence = $1 WHERE only = 1 AND last_sequence = $2 AND epoch = $3")
                .bind(to as i64)
                .bind(from as i64)
                .bind(epoch)
                .execute(&mut *self.inner)
                .await
                .map_err(sql("move the fold's offset"))?;
        if moved.rows_affected() == 1 { Ok(()) } else { Err(StoreError::TakenOver { epoch }) }
    }

    /// Records that a person wants sectors.
    pub async fn add_pledge(&mut self, miner: &str, count: u64, by: &str) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO pledges (miner, remaining, asked_at, asked_by) VALUES ($1, $2, $3, $4)")
            .bind(miner)
            .bind(count as i64)
            .bind(now_text())
            .bind(by)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("record a pledge"))?;
        Ok(())
    }

    /// Counts one sector of a pledge as numbered.
    pub async fn use_pledge(&mut self, id: i64) -> Result<(), StoreError> {
        sqlx::query("UPDATE pledges SET remaining = remaining - 1 WHERE id = $1 AND remaining > 0")
            .bind(id)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("count a pledge"))?;
        Ok(())
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
