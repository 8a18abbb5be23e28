//! Copies of the SQLite database, made while the manager uses it.

use std::path::{Path, PathBuf};

use sqlx::{AnyConnection, Connection, Row};

use super::{Store, StoreError, open, sql};
use crate::config::Database;

/// What a copy of the database holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The version of its schema.
    pub schema: i64,
    /// The identity of the stream that is folded, and the last folded sequence. `None` if no manager has run yet.
    pub log: Option<(String, u64)>,
    /// The miners of its sectors and pledges.
    pub miners: Vec<String>,
    /// How many sectors it knows.
    pub sectors: u64,
    /// The network's name, if it is known.
    pub network: Option<String>,
}

impl Store {
    /// Copies a SQLite database into a new file, in one read transaction. Writers go on meanwhile. The copy is not synced.
    pub async fn copy(path: &Path, to: &Path) -> Result<(), StoreError> {
        sqlx::any::install_default_drivers();
        let mut connection = open::connect(&Database::Sqlite { path: path.to_owned() }).await?;
        // A path cannot be bound here with every version of the driver.
        let into = format!("VACUUM INTO '{}'", to.display().to_string().replace('\'', "''"));
        sqlx::query(&into).execute(&mut connection).await.map_err(sql("copy the database"))?;
        connection.close().await.map_err(sql("copy the database"))
    }

    /// Checks a copy that nobody uses, and returns what it holds.
    pub async fn examine(path: &Path) -> Result<Copied, StoreError> {
        sqlx::any::install_default_drivers();
        let mut connection = open::connect_as_is(path).await?;
        let check = "PRAGMA quick_check";
        let row = sqlx::query(check).fetch_one(&mut connection).await.map_err(sql("check a copy of the database"))?;
        let found: String = row.get(0);
        if found != "ok" {
            return Err(StoreError::BadRow { what: format!("the copy {}", path.display()), problem: found });
        }
        let copied = read(&mut connection).await?;
        connection.close().await.map_err(sql("check a copy of the database"))?;
        Ok(copied)
    }

    /// Closes a SQLite database that nobody else uses, so that everything is in its one file.
    pub async fn close(self) -> Result<(), StoreError> {
        let checkpoint = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.pool).await;
        self.pool.close().await;
        checkpoint.map(drop).map_err(sql("close the database"))
    }
}

async fn read(connection: &mut AnyConnection) -> Result<Copied, StoreError> {
    let failed = || sql("read a copy of the database");
    let schema = "SELECT MAX(version) AS version FROM _sqlx_migrations WHERE success AND version < 9000";
    let schema = sqlx::query(schema).fetch_one(&mut *connection).await.map_err(failed())?.get("version");
    let fold = sqlx::query("SELECT stream, last_sequence FROM fold").fetch_optional(&mut *connection).await;
    let fold = fold.map_err(failed())?;
    let miners = "SELECT miner FROM sectors UNION SELECT miner FROM pledges ORDER BY 1";
    let miners = sqlx::query(miners).fetch_all(&mut *connection).await.map_err(failed())?;
    let sectors =
        sqlx::query("SELECT COUNT(*) AS n FROM sectors").fetch_one(&mut *connection).await.map_err(failed())?;
    let network = sqlx::query("SELECT name FROM network").fetch_optional(&mut *connection).await.map_err(failed())?;
    Ok(Copied {
        schema,
        log: fold.map(|row| (row.get("stream"), row.get::<i64, _>("last_sequence") as u64)),
        miners: miners.iter().map(|row| row.get("miner")).collect(),
        sectors: sectors.get::<i64, _>("n") as u64,
        network: network.map(|row| row.get("name")),
    })
}

/// The path of a file beside a database, such as its write-ahead log.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
