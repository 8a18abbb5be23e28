//! Opens the database. Except for [`super::leadership`], this is where SQLite and PostgreSQL differ.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{
    AnyConnection, AnyPool, ConnectOptions, Connection, Executor, Row,
    any::{AnyConnectOptions, AnyPoolOptions},
    migrate::MigrateError,
};

use super::{BrokenCount, Store, StoreError, broken, migrations};
use crate::config::Database;

/// How long connecting, or waiting for a connection of the pool, may take.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long to wait for another process that opens, and perhaps migrates, the same file.
const OPENING_LIMIT: Duration = Duration::from_secs(60);
/// How often this is checked.
const OPENING_PAUSE: Duration = Duration::from_millis(10);
/// How long a command waits for a file that a manager may be creating.
const MAKING_LIMIT: Duration = Duration::from_secs(10);

/// The settings of a SQLite connection. Other processes (the command line) write as well, and a committed transaction
/// must survive a power loss. A batch of the log changes thousands of pages. A cache of 64 MiB, and a checkpoint every 64
/// MiB, avoid reading and writing them twice. A sector's row takes up to 4 KiB, so pages of 16 KiB are used better than
/// pages of 4 KiB. Only a new file gets this page size.
const SQLITE_SESSION: &str = "PRAGMA page_size = 16384; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 15000; \
    PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -65536; PRAGMA wal_autocheckpoint = 4096;";
/// The same for PostgreSQL, whatever the server's defaults are: waiting has a limit, and a committed transaction is on
/// disk. If a host loses power, its connection and locks are given up within seconds.
const POSTGRES_SESSION: &str = "SET application_name = 'sealbus-manager'; SET lock_timeout = '15s'; \
    SET statement_timeout = '60s'; SET idle_in_transaction_session_timeout = '30s'; \
    SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3; \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local');";

/// What to do if a SQLite file is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IfMissing {
    Make,
    Refuse,
}

/// The identity of the open file, whatever its path leads to later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl Store {
    /// Opens the database and migrates it to the present schema. A missing SQLite file is created; a PostgreSQL database
    /// must exist.
    pub async fn open(database: &Database) -> Result<Store, StoreError> {
        open(database, IfMissing::Make).await
    }

    /// [`Store::open`] for commands. It never creates a file, because no manager would read an order from it. It waits a
    /// moment for a file that a manager may be creating.
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

    /// Checks whether the database could be opened now, without creating or changing anything. Returns the invariants that
    /// were seen broken. A missing SQLite file is not an error, because a manager would create it.
    pub async fn look(database: &Database) -> Result<Vec<BrokenCount>, StoreError> {
        if matches!(database, Database::Sqlite { path } if !path.exists()) {
            return Ok(Vec::new());
        }
        sqlx::any::install_default_drivers();
        let mut connection = connect(database).await?;
        match schema_of(database, &mut connection).await {
            (Some(newer), _) => Err(newer),
            (None, true) => broken::read(&mut connection).await,
            // The next start migrates it.
            (None, false) => Ok(Vec::new()),
        }
    }

    /// Fails if the path of a SQLite file no longer leads to the open one, because everything written to that one would
    /// be lost.
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
    // Held until the schema is there. For PostgreSQL, such a lock is taken in the database itself.
    let _opening = match database {
        Database::Sqlite { path } => Some(lock_opening(path).await?),
        Database::Postgres { .. } => None,
    };
    // A pool retries until its time is up and then reports only the timeout. This first connection shows the cause.
    let mut first = connect_with(database, &options).await?;
    let (newer, is_present) = schema_of(database, &mut first).await;
    drop(first);
    if let Some(newer) = newer {
        return Err(newer);
    }
    // If the schema is up to date, the database is only read, because it may not be writable now. An older one is
    // migrated by a separate pool, which is then closed: a SQLite connection that has read the older schema would keep
    // using its columns.
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
    Ok(Store { pool, database: database.clone(), file, writer: Arc::default() })
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
    // A new database does not have this table yet.
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

/// A connection to a SQLite file that nobody else uses. It changes nothing there.
pub(super) async fn connect_as_is(path: &Path) -> Result<AnyConnection, StoreError> {
    let failed = |source| StoreError::open(&path.display().to_string(), source);
    let path = std::path::absolute(path).map_err(|error| failed(error.into()))?;
    let options = format!("sqlite://{}?mode=ro", in_address(&path)).parse::<AnyConnectOptions>().map_err(failed)?;
    AnyConnection::connect_with(&options).await.map_err(failed)
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
                // This fails only for a URL without a host, which the configuration's check refuses.
                let _ = url.set_password(Some(&password));
            }
            AnyConnectOptions::from_url(&url).map_err(failed)
        }
    }
}

/// A path with every character percent-encoded that has a special meaning in a URL.
fn in_address(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.');
    let spelled = |byte: &u8| match plain(*byte) {
        true => char::from(*byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    path.as_os_str().as_encoded_bytes().iter().map(spelled).collect()
}

/// Opens a file that is only locked, never written. It may belong to another user.
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

/// Lets only one process at a time open a SQLite file, because a command may do so while the manager is creating it.
/// While another process switches a file to write-ahead logging, SQLite does not wait, whatever its timeout: it reports
/// that the file is locked.
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
