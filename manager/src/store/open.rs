//! Opening the database: what differs between SQLite and PostgreSQL, but for [`super::leadership`].

use std::{
    fs::File,
    path::Path,
    time::{Duration, Instant},
};

use sqlx::{
    AnyConnection, ConnectOptions, Connection, Executor,
    any::{AnyConnectOptions, AnyPoolOptions},
    migrate::Migrator,
};

use super::{Store, StoreError, known::SharedKnown};
use crate::config::Database;

/// How long connecting, or waiting for a connection of the pool, may take.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long another process that opens the same file, and may migrate it, is waited for.
const OPENING_LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked at.
const OPENING_PAUSE: Duration = Duration::from_millis(10);

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

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

impl Store {
    /// Opens the database and brings it to the present schema. A SQLite file is made when it is missing; a PostgreSQL
    /// database must exist.
    pub async fn open(database: &Database) -> Result<Store, StoreError> {
        sqlx::any::install_default_drivers();
        let options = options(database)?;
        // Held until the schema is there. PostgreSQL takes such a lock in the database itself.
        let _opening = match database {
            Database::Sqlite { path } => Some(lock_opening(path).await?),
            Database::Postgres { .. } => None,
        };
        // A pool tries until its time is over, and then says no more than that; this says why.
        drop(connect(database, &options).await?);
        let session = session(database);
        let pool = AnyPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(CONNECT_LIMIT)
            .after_connect(move |connection, _| Box::pin(async move { connection.execute(session).await.map(drop) }))
            .connect_with(options.clone())
            .await
            .map_err(|source| StoreError::Open { database: database.to_string(), source })?;
        match database {
            Database::Sqlite { .. } => SQLITE.run(&pool).await,
            Database::Postgres { .. } => POSTGRES.run(&pool).await,
        }
        .map_err(StoreError::Migrate)?;
        Ok(Store { pool, database: database.clone(), options, known: SharedKnown::default() })
    }
}

/// A connection outside the pool.
pub(super) async fn connect(database: &Database, options: &AnyConnectOptions) -> Result<AnyConnection, StoreError> {
    let failed = |source| StoreError::Open { database: database.to_string(), source };
    let connecting = async {
        let mut connection = AnyConnection::connect_with(options).await?;
        connection.execute(session(database)).await?;
        Ok(connection)
    };
    match tokio::time::timeout(CONNECT_LIMIT, connecting).await {
        Ok(connected) => connected.map_err(failed),
        Err(_) => Err(failed(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))),
    }
}

fn session(database: &Database) -> &'static str {
    match database {
        Database::Sqlite { .. } => SQLITE_SESSION,
        Database::Postgres { .. } => POSTGRES_SESSION,
    }
}

fn options(database: &Database) -> Result<AnyConnectOptions, StoreError> {
    let failed = |source| StoreError::Open { database: database.to_string(), source };
    match database {
        Database::Sqlite { path } => format!("sqlite://{}?mode=rwc", path.display()).parse().map_err(failed),
        Database::Postgres { url, password_file } => {
            let mut url = url.clone();
            if let Some(path) = password_file {
                let read = std::fs::read_to_string(path);
                let password = read.map_err(|source| StoreError::PasswordFile { path: path.clone(), source })?;
                // Only a URL without a host has no place for it, and there is none that passes the configuration's check.
                let _ = url.set_password(Some(password.trim_end_matches(['\r', '\n'])));
            }
            AnyConnectOptions::from_url(&url).map_err(failed)
        }
    }
}

/// Lets one process after the other open a SQLite file: a command may do so while the manager just makes it. SQLite does
/// not wait for a file that another process turns to write-ahead logging, whatever its time-out; it says that it is locked.
async fn lock_opening(path: &Path) -> Result<File, StoreError> {
    let failed = |source: std::io::Error| StoreError::Open {
        database: format!("{}, while another process may open it", path.display()),
        source: source.into(),
    };
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    let file = File::create(&lock).map_err(failed)?;
    let deadline = Instant::now() + OPENING_LIMIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                tokio::time::sleep(OPENING_PAUSE).await;
            }
            Err(std::fs::TryLockError::WouldBlock) => return Err(failed(std::io::ErrorKind::TimedOut.into())),
            Err(std::fs::TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
}
