//! Why the database could not do something.

use sqlx::Error as SqlError;

/// PostgreSQL's SQLSTATEs, and classes of them, that pass by themselves: no connection, shutting down or starting up, too
/// many connections, a lock or a statement that took too long, a deadlock, a serialization that failed.
const POSTGRES_PASSING: [&str; 10] =
    ["08", "57P01", "57P02", "57P03", "53300", "55P03", "57014", "25P03", "40001", "40P01"];
/// SQLite's code for "another process writes", in the low byte of an extended code.
const SQLITE_BUSY: u32 = 5;

/// Why the database could not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be opened.
    #[error("cannot open the database {database}")]
    Open {
        /// Which, without a password.
        database: String,
        /// Why.
        #[source]
        source: SqlError,
    },
    /// The file with the database's password cannot be read.
    #[error("database.password_file: cannot read {path}", path = path.display())]
    PasswordFile {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The database refused, or is not reachable.
    #[error("cannot {operation}")]
    Sql {
        /// What was tried.
        operation: &'static str,
        /// Why.
        #[source]
        source: SqlError,
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

pub(crate) fn sql(operation: &'static str) -> impl FnOnce(SqlError) -> StoreError {
    move |source| StoreError::Sql { operation, source }
}

impl StoreError {
    /// Whether the same may succeed later by itself: the database is away, or busy.
    pub fn is_transient(&self) -> bool {
        match self {
            StoreError::Open { source, .. } | StoreError::Sql { source, .. } => passes(source),
            StoreError::Migrate(sqlx::migrate::MigrateError::Execute(source)) => passes(source),
            _ => false,
        }
    }
}

fn passes(error: &SqlError) -> bool {
    match error {
        // A socket or a file that is not there yet; a connection that broke.
        SqlError::Io(_) | SqlError::PoolTimedOut | SqlError::WorkerCrashed => true,
        SqlError::Database(error) => error.code().is_some_and(|code| match code.parse::<u32>() {
            Ok(sqlite) if code.len() < 5 => sqlite & 0xff == SQLITE_BUSY,
            _ => POSTGRES_PASSING.iter().any(|passing| code.starts_with(passing)),
        }),
        _ => false,
    }
}
