//! Which of several managers folds: whoever has a lock that ends with its holder.
//!
//! The lock decides who *starts*; who may *write* is decided by the fold's epoch, in each transaction. So a holder that
//! was paused while its lock went to somebody else is refused when it comes back, whatever it believes.

use std::{fs::File, path::PathBuf, time::Duration};

use sqlx::{AnyConnection, Row};

use super::{
    Store, StoreError,
    open::{self, CONNECT_LIMIT},
    sql,
};
use crate::config::Database;

/// How often the lock's connection is tried.
const PERIOD: Duration = Duration::from_secs(2);
/// The class of our advisory locks; the second key is the schema, so that a database may hold several of ours.
const LOCK_CLASS: &str = "x'5ea1b05'::int";

/// The right to take over the fold. Dropping it lets another manager have it.
pub struct Leadership(Lock);

enum Lock {
    /// The kernel releases it with the process.
    File { _locked: File, store: Store },
    /// The server releases it with the session.
    Session(Box<AnyConnection>),
}

/// One that waits for the leadership.
pub struct Candidate<'a> {
    store: &'a Store,
    session: Option<Box<AnyConnection>>,
}

impl Store {
    /// To ask for the leadership, again and again.
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
    /// Returns when the lock is lost, and why.
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

/// A server that does not answer in time is as good as none.
async fn limited<T>(asking: impl Future<Output = sqlx::Result<T>>) -> Result<T, StoreError> {
    let answered = tokio::time::timeout(CONNECT_LIMIT, asking).await;
    answered
        .unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
        .map_err(sql("keep the lock of the manager that folds"))
}
