//! Errors of the database.

use sqlx::Error as SqlError;

/// SQLite's codes for a damaged file and for a file that is not a database, in the low byte of an extended code.
const SQLITE_DAMAGED: [u32; 2] = [11, 26];

/// An error of the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be opened.
    #[error("cannot open the database {database}")]
    Open {
        /// The database, without a password.
        database: String,
        /// The cause.
        #[source]
        source: SqlError,
    },
    /// There is no such file. Only a running manager creates it.
    #[error(
        "there is no database {path}: start the manager, which makes it; or correct database.path, or mount the disk that \
         it lies on",
        path = path.display()
    )]
    Missing {
        /// The path.
        path: std::path::PathBuf,
    },
    /// The file was removed or moved away while it was open.
    #[error(
        "the database file {path} is gone; nothing is done until it is there again. What was stored last is only in the \
         open file: copy it back from /proc/{pid}/fd before this process ends, or restore a backup",
        path = path.display(),
        pid = std::process::id()
    )]
    Gone {
        /// The path.
        path: std::path::PathBuf,
    },
    /// Another file has replaced the open one.
    #[error("the database file {path} was replaced by another one", path = path.display())]
    Replaced {
        /// The path.
        path: std::path::PathBuf,
    },
    /// The database was restored and is behind the log. An order would be decided by what was true at the backup.
    #[error(
        "no order can be given now: this database is {0}. Start the manager if it does not run, and give the order again once \
         `sealbus-manager check` no longer says this"
    )]
    BehindLog(String),
    /// The schema comes from a newer version of the program.
    #[error(
        "the database {database} was made or changed by a newer Sealbus (its schema is version {found}, this program knows \
         versions up to {known}): install that version here"
    )]
    Newer {
        /// The database, without a password.
        database: String,
        /// The database's version.
        found: i64,
        /// The newest version that we know.
        known: i64,
    },
    /// The file's content is unreadable.
    #[error(
        "cannot {operation}: the database file is damaged. Stop the manager, keep the file and those beside it, and restore \
         the last backup or recover what is readable with `sqlite3 FILE .recover`"
    )]
    Damaged {
        /// The operation that failed.
        operation: String,
        /// The cause.
        #[source]
        source: SqlError,
    },
    /// The file with the database's password cannot be read.
    #[error("database.password_file: cannot read {path}", path = path.display())]
    PasswordFile {
        /// The path.
        path: std::path::PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The database refused the operation, or is not reachable.
    #[error("cannot {operation}")]
    Sql {
        /// The operation that failed.
        operation: &'static str,
        /// The cause.
        #[source]
        source: SqlError,
    },
    /// The database cannot be migrated to the present schema.
    #[error("cannot migrate the database")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A row contains an impossible value.
    #[error("the row of {what} is unreadable: {problem}")]
    BadRow {
        /// The row.
        what: String,
        /// What is wrong.
        problem: String,
    },
    /// Another manager has taken over the fold.
    #[error("another manager has taken over this database (epoch {epoch} is not the present one)")]
    TakenOver {
        /// Our epoch.
        epoch: i64,
    },
}

pub(crate) fn sql(operation: &'static str) -> impl FnOnce(SqlError) -> StoreError {
    move |source| match is_damage(&source) {
        true => StoreError::Damaged { operation: operation.to_owned(), source: in_utf8(source) },
        false => StoreError::Sql { operation, source },
    }
}

impl StoreError {
    /// The error for a database that cannot be opened. `database` names it, without a password.
    pub(super) fn open(database: &str, source: SqlError) -> StoreError {
        match is_damage(&source) {
            true => StoreError::Damaged { operation: format!("open the database {database}"), source: in_utf8(source) },
            false => StoreError::Open { database: database.to_owned(), source },
        }
    }

    /// Whether the error concerns only one row, so that others can continue.
    pub fn is_about_a_row(&self) -> bool {
        match self {
            StoreError::BadRow { .. } => true,
            StoreError::Sql { source: SqlError::Database(error), .. } => {
                !matches!(error.kind(), sqlx::error::ErrorKind::Other)
            }
            _ => false,
        }
    }

    /// Whether the database must be opened again because its file was replaced.
    pub const fn is_replaced(&self) -> bool {
        matches!(self, StoreError::Replaced { .. })
    }
}

/// The error of a damaged file, with a text that is valid UTF-8. SQLite quotes bytes from the file in its message, and
/// sqlx-sqlite 0.8 treats them as UTF-8 without a check. Reading such a string is undefined behaviour.
fn in_utf8(error: SqlError) -> SqlError {
    let SqlError::Database(cause) = &error else { return error };
    match String::from_utf8_lossy(cause.message().as_bytes()) {
        std::borrow::Cow::Borrowed(_) => error,
        std::borrow::Cow::Owned(words) => SqlError::Protocol(words),
    }
}

fn is_damage(error: &SqlError) -> bool {
    let SqlError::Database(error) = error else { return false };
    let code = error.code();
    // PostgreSQL's codes have five characters.
    let sqlite = code.as_deref().filter(|code| code.len() < 5).and_then(|code| code.parse::<u32>().ok());
    sqlite.is_some_and(|code| SQLITE_DAMAGED.contains(&(code & 0xff)))
}
