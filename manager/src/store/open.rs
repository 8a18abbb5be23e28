//! Opening the database: what differs between SQLite and PostgreSQL, but for [`super::leadership`].

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

use sqlx::{
    AnyConnection, AnyPool, ConnectOptions, Connection, Executor, Row,
    any::{AnyConnectOptions, AnyPoolOptions},
    migrate::MigrateError,
};

use super::{Store, StoreError, migrations};
use crate::config::Database;

/// How long connecting, or waiting for a connection of the pool, may take.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long another process that opens the same file, and may migrate it, is waited for.
const OPENING_LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked at.
const OPENING_PAUSE: Duration = Duration::from_millis(10);
/// How long a command waits for the file that a manager may just make.
const MAKING_LIMIT: Duration = Duration::from_secs(10);

/// Other processes (the command line) write as well; an acknowledged transaction survives power loss. A batch of the log
/// changes thousands of pages: memory for 64 MiB of them, and a checkpoint every 64 MiB, spare reading and writing them twice.
/// A sector's row takes up to 4 KiB, so pages of 16 KiB, which only a new file gets, are fewer and fuller than those of 4 KiB.
const SQLITE_SESSION: &str = "PRAGMA page_size = 16384; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 15000; \
    PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -65536; PRAGMA wal_autocheckpoint = 4096;";
/// The same for PostgreSQL: what waits has a limit, and what is acknowledged is on disk, whatever the server's defaults.
/// The connection of a host that lost its power is given up within seconds, and its locks with it.
const POSTGRES_SESSION: &str = "SET application_name = 'sealbus-manager'; SET lock_timeout = '15s'; \
    SET statement_timeout = '60s'; SET idle_in_transaction_session_timeout = '30s'; \
    SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3; \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local');";

/// What is done about a SQLite file that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IfMissing {
    Make,
    Refuse,
}

/// Which file is open, whatever its path leads to later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl Store {
    /// Opens the database and brings it to the present schema. A SQLite file is made when it is missing; a PostgreSQL
    /// database must exist.
    pub async fn open(database: &Database) -> Result<Store, StoreError> {
        open(database, IfMissing::Make).await
    }

    /// [`Store::open`] for whoever only asks or orders something: never makes a file, in which nobody would find it. One
    /// that a manager may just make is waited for.
    pub async fn open_existing(database: &Database) -> Result<Store, StoreError> {
        if let Database::Sqlite { path } = database {
            let deadline = Instant::now() + MAKING_LIMIT;
            while !path.exists() {
                if Instant::now() >= deadline {
                    return Err(StoreError::Missing { path: path.clone() });
                }
                tokio::time::sleep(OPENING_PAUSE).await;
            }
        }
        open(database, IfMissing::Refuse).await
    }

    /// Whether it could be opened now, without making or changing anything. A SQLite file that a manager would make is no
    /// failure.
    pub async fn look(database: &Database) -> Result<(), StoreError> {
        if matches!(database, Database::Sqlite { path } if !path.exists()) {
            return Ok(());
        }
        sqlx::any::install_default_drivers();
        let mut connection = connect(database).await?;
        let (newer, _) = schema_of(database, &mut connection).await;
        newer.map_or(Ok(()), Err)
    }

    /// Refused when the path of a SQLite file does not lead to the open one any more: what is written there is lost.
    pub fn check_file(&self) -> Result<(), StoreError> {
        let Database::Sqlite { path } = &self.database else { return Ok(()) };
        match file_id(path) {
            Ok(found) if Some(found) == self.file => Ok(()),
            Ok(_) => Err(StoreError::Replaced { path: path.clone() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::Gone { path: path.clone() }),
            Err(error) => Err(StoreError::open(&self.database.to_string(), error.into())),
        }
    }
}

async fn open(database: &Database, if_missing: IfMissing) -> Result<Store, StoreError> {
    sqlx::any::install_default_drivers();
    let options = options(database, if_missing)?;
    // Held until the schema is there. PostgreSQL takes such a lock in the database itself.
    let _opening = match database {
        Database::Sqlite { path } => Some(lock_opening(path).await?),
        Database::Postgres { .. } => None,
    };
    // A pool tries until its time is over, and then says no more than that; this says why.
    let mut first = connect_with(database, &options).await?;
    let (newer, is_present) = schema_of(database, &mut first).await;
    drop(first);
    if let Some(newer) = newer {
        return Err(newer);
    }
    // A database that is up to date is only read, as it may be one that cannot be written now. What is older is migrated by
    // a pool of its own, which is closed: a connection of SQLite that has read the older schema would go on with its columns.
    if !is_present {
        let once = pool(database, options.clone(), 1).await?;
        match migrations::run(database, &once).await {
            Err(MigrateError::Execute(source)) => return Err(StoreError::open(&database.to_string(), source)),
            outcome => outcome.map_err(StoreError::Migrate)?,
        }
        once.close().await;
    }
    let pool = pool(database, options, 4).await?;
    let file = match database {
        Database::Sqlite { path } => {
            Some(file_id(path).map_err(|error| StoreError::open(&database.to_string(), error.into()))?)
        }
        Database::Postgres { .. } => None,
    };
    Ok(Store { pool, database: database.clone(), file })
}

async fn pool(database: &Database, options: AnyConnectOptions, connections: u32) -> Result<AnyPool, StoreError> {
    let session = session(database);
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(CONNECT_LIMIT)
        .after_connect(move |connection, _| Box::pin(async move { connection.execute(session).await.map(drop) }))
        .after_release(|connection, _| Box::pin(has_no_transaction(connection)))
        .connect_with(options)
        .await
        .map_err(|source| StoreError::open(&database.to_string(), source))
}

/// Whether a connection can be used again. If whoever began a transaction was dropped just when it had begun, nobody ends it:
/// it would keep the write lock. sqlx ends it itself in any other case.
async fn has_no_transaction(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    if connection.is_in_transaction() {
        // It may be ending at this moment. That comes before the answer.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

/// The refusal of a schema that is newer than ours, and whether it is ours.
async fn schema_of(database: &Database, connection: &mut AnyConnection) -> (Option<StoreError>, bool) {
    let ours: BTreeSet<i64> = migrations::of(database).iter().map(|migration| migration.version).collect();
    let known = ours.last().copied().unwrap_or(0);
    // Not there yet in a new database.
    let read = sqlx::query("SELECT version FROM _sqlx_migrations WHERE success").fetch_all(connection).await;
    let applied: BTreeSet<i64> = read.iter().flatten().filter_map(|row| row.try_get("version").ok()).collect();
    let newer = applied.last().copied().filter(|found| *found > known);
    let newer = newer.map(|found| StoreError::Newer { database: database.to_string(), found, known });
    (newer, ours.is_subset(&applied))
}

/// A connection outside the pool.
pub(super) async fn connect(database: &Database) -> Result<AnyConnection, StoreError> {
    connect_with(database, &options(database, IfMissing::Refuse)?).await
}

async fn connect_with(database: &Database, options: &AnyConnectOptions) -> Result<AnyConnection, StoreError> {
    let failed = |source| StoreError::open(&database.to_string(), source);
    let connecting = async {
        let mut connection = AnyConnection::connect_with(options).await?;
        connection.execute(session(database)).await?;
        Ok(connection)
    };
    match tokio::time::timeout(CONNECT_LIMIT, connecting).await {
        Ok(connected) => connected.map_err(failed),
        Err(_) => Err(failed(sqlx::Error::Io(io::ErrorKind::TimedOut.into()))),
    }
}

fn session(database: &Database) -> &'static str {
    match database {
        Database::Sqlite { .. } => SQLITE_SESSION,
        Database::Postgres { .. } => POSTGRES_SESSION,
    }
}

fn options(database: &Database, if_missing: IfMissing) -> Result<AnyConnectOptions, StoreError> {
    let failed = |source| StoreError::open(&database.to_string(), source);
    match database {
        Database::Sqlite { path } => {
            let mode = if if_missing == IfMissing::Make { "rwc" } else { "rw" };
            let path = std::path::absolute(path).map_err(|error| failed(error.into()))?;
            format!("sqlite://{}?mode={mode}", in_address(&path)).parse().map_err(failed)
        }
        Database::Postgres { url, password_file } => {
            let mut url = url.clone();
            if let Some(path) = password_file {
                let read = sealbus_nats::secret::read(path);
                let password = read.map_err(|source| StoreError::PasswordFile { path: path.clone(), source })?;
                // Only a URL without a host has no place for it, and there is none that passes the configuration's check.
                let _ = url.set_password(Some(&password));
            }
            AnyConnectOptions::from_url(&url).map_err(failed)
        }
    }
}

/// A path with all that means something else in an address spelled in numbers.
fn in_address(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.');
    let spelled = |byte: &u8| match plain(*byte) {
        true => char::from(*byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    path.as_os_str().as_encoded_bytes().iter().map(spelled).collect()
}

/// A file that is only locked, never written. One that another user has made is good enough.
pub(super) fn lock_file(path: &Path) -> io::Result<File> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            OpenOptions::new().write(true).create(true).truncate(false).open(path)
        }
        opened => opened,
    }
}

fn file_id(path: &Path) -> io::Result<FileId> {
    std::fs::metadata(path).map(|found| FileId { device: found.dev(), inode: found.ino() })
}

/// Lets one process after the other open a SQLite file: a command may do so while the manager just makes it. SQLite does
/// not wait for a file that another process turns to write-ahead logging, whatever its time-out; it says that it is locked.
async fn lock_opening(path: &Path) -> Result<File, StoreError> {
    let failed = |source: io::Error| StoreError::open(&path.display().to_string(), source.into());
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    let file = lock_file(Path::new(&lock)).map_err(failed)?;
    let deadline = Instant::now() + OPENING_LIMIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                tokio::time::sleep(OPENING_PAUSE).await;
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                let busy = "another process has been opening it for a minute";
                return Err(failed(io::Error::new(io::ErrorKind::TimedOut, busy)));
            }
            Err(std::fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
}
