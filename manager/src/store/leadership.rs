//! Chooses which of several managers folds: the one that has a lock, which ends with its holder.
//!
//! The lock decides who may *start*. The fold's epoch decides, in each transaction, who may *write*. So if a holder is
//! paused and another manager gets its lock, its writes are refused when it comes back.

use std::{fs::File, path::PathBuf, time::Duration};

use sqlx::{AnyConnection, Row};

use super::{
    Store, StoreError,
    open::{self, CONNECT_LIMIT},
    sql,
};
use crate::config::Database;

/// How often the lock's connection is checked.
const PERIOD: Duration = Duration::from_secs(2);
/// The class of our advisory locks. Their second key is the schema, so that one database can serve several installations.
const LOCK_CLASS: &str = "x'5ea1b05'::int";

/// The right to take over the fold. Dropping it lets another manager take it.
pub struct Leadership(Lock);

enum Lock {
    /// A locked file. The kernel releases it when the process ends.
    File { _locked: File, store: Store },
    /// A lock of a database session. The server releases it when the session ends.
    Session(Box<AnyConnection>),
}

/// A manager that waits for the leadership.
pub struct Candidate<'a> {
    store: &'a Store,
    session: Option<Box<AnyConnection>>,
}

impl Store {
    /// Begins to wait for the leadership.
    pub const fn candidate(&self) -> Candidate<'_> {
        Candidate { store: self, session: None }
    }
}

impl Candidate<'_> {
    /// Takes the leadership if nobody has it.
    pub async fn try_lead(&mut self) -> Result<Option<Leadership>, StoreError> {
        match &self.store.database {
            Database::Sqlite { path } => {
                self.store.check_file()?;
                let locked = lock_file(path.as_os_str().to_owned().into())?;
                let store = self.store.clone();
                Ok(locked.map(|locked| Leadership(Lock::File { _locked: locked, store })))
            }
            Database::Postgres { .. } => self.try_lock_session().await,
        }
    }

    async fn try_lock_session(&mut self) -> Result<Option<Leadership>, StoreError> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => Box::new(open::connect(&self.store.database).await?),
        };
        let text = format!("SELECT pg_try_advisory_lock({LOCK_CLASS}, hashtext(current_schema())) AS locked");
        let row = limited(sqlx::query(&text).fetch_one(&mut *session)).await?;
        if row.get("locked") {
            return Ok(Some(Leadership(Lock::Session(session))));
        }
        self.session = Some(session);
        Ok(None)
    }
}

impl Leadership {
    /// Returns when the lock is lost, with the reason.
    pub async fn lost(&mut self) -> StoreError {
        match &mut self.0 {
            Lock::File { store, .. } => loop {
                tokio::time::sleep(PERIOD).await;
                if let Err(error) = store.check_file() {
                    return error;
                }
            },
            Lock::Session(session) => loop {
                tokio::time::sleep(PERIOD).await;
                if let Err(error) = limited(sqlx::query("SELECT 1").execute(&mut **session)).await {
                    return error;
                }
            },
        }
    }
}

fn lock_file(mut path: PathBuf) -> Result<Option<File>, StoreError> {
    path.as_mut_os_string().push(".leader");
    let failed = |source: std::io::Error| sql("lock the database for one manager")(source.into());
    let file = open::lock_file(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Limits a query's time. A server that does not answer in time counts as lost.
async fn limited<T>(asking: impl Future<Output = sqlx::Result<T>>) -> Result<T, StoreError> {
    let answered = tokio::time::timeout(CONNECT_LIMIT, asking).await;
    answered
        .unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
        .map_err(sql("keep the lock of the manager that folds"))
}
