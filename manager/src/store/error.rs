//! Why the database could not do something.

use sqlx::Error as SqlError;

/// SQLite's codes for a file that is damaged, and for one that is no database, in the low byte of an extended code.
const SQLITE_DAMAGED: [u32; 2] = [11, 26];

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
    /// There is no such file. Only a manager that runs makes it.
    #[error(
        "there is no database {path}: start the manager, which makes it; or correct database.path, or mount the disk that \
         it lies on",
        path = path.display()
    )]
    Missing {
        /// Which.
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
        /// Which.
        path: std::path::PathBuf,
    },
    /// Another file stands in the place of the one that is open.
    #[error("the database file {path} was replaced by another one", path = path.display())]
    Replaced {
        /// Which.
        path: std::path::PathBuf,
    },
    /// A newer program has changed the schema.
    #[error(
        "the database {database} was made or changed by a newer Sealbus (its schema is version {found}, this program knows \
         versions up to {known}): install that version here"
    )]
    Newer {
        /// Which, without a password.
        database: String,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// What the file holds is not readable.
    #[error(
        "cannot {operation}: the database file is damaged. Stop the manager, keep the file and those beside it, and restore \
         the last backup or recover what is readable with `sqlite3 FILE .recover`"
    )]
    Damaged {
        /// What was tried.
        operation: String,
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
    move |source| match is_damage(&source) {
        true => StoreError::Damaged { operation: operation.to_owned(), source: in_utf8(source) },
        false => StoreError::Sql { operation, source },
    }
}

impl StoreError {
    /// A database that cannot be opened. `database` is which, without a password.
    pub(super) fn open(database: &str, source: SqlError) -> StoreError {
        match is_damage(&source) {
            true => StoreError::Damaged { operation: format!("open the database {database}"), source: in_utf8(source) },
            false => StoreError::Open { database: database.to_owned(), source },
        }
    }

    /// Whether it is about what one row says, so that other rows go on.
    pub fn is_about_a_row(&self) -> bool {
        match self {
            StoreError::BadRow { .. } => true,
            StoreError::Sql { source: SqlError::Database(error), .. } => {
                !matches!(error.kind(), sqlx::error::ErrorKind::Other)
            }
            _ => false,
        }
    }

    /// Whether another file must be opened before anything goes on.
    pub const fn is_replaced(&self) -> bool {
        matches!(self, StoreError::Replaced { .. })
    }
}

/// The error of a damaged file with words that are text. SQLite quotes what it found in the file, and sqlx-sqlite 0.8 takes
/// that for UTF-8 without looking: whoever reads such a string gets undefined behaviour.
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
