//! A database that was restored from a backup, until it has caught up with the log and the chain.

use sealbus_schema::{
    MinerId, SectorId, WorkerName, codec,
    message::{Fact, Orders},
};
use sqlx::{Row, any::AnyRow};

use super::{Store, StoreError, Tx, now_text, open, sql};
use crate::{config::Database, fold::Unsent};

const RESTORED: &str = "SELECT backup_at, restored_at, log_until, log_is_read FROM restored WHERE \"only\" = 1";

/// The mark of a restored database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// When the backup was made, if its manifest said so.
    pub backup_at: Option<String>,
    /// When it was restored, or when the manager noticed.
    pub restored_at: String,
    /// The last record of the log that may hold decisions of before the loss. `None` if the manager has not looked yet.
    pub log_until: Option<u64>,
    /// Whether the log is read up to there. What remains are the messages to the chain.
    pub log_is_read: bool,
}

impl Restored {
    /// What is still to come, in words.
    pub fn words(&self) -> String {
        let backup = self.backup_at.as_ref().map(|at| format!(" of {at}")).unwrap_or_default();
        let what = match (self.log_is_read, self.log_until) {
            (true, _) => {
                "waits until every message that was sent after the backup is on chain or gone; signs nothing before"
            }
            (false, Some(_)) => "reads in the log what was decided after the backup; sends nothing before",
            (false, None) => "has not looked at the log yet; sends nothing before",
        };
        format!("catching up after the restoration of a backup{backup}: {what}")
    }
}

impl Store {
    /// What a restored database still has to catch up with, in words. `None` if nothing, or if that cannot be read.
    pub async fn restored_in(database: &Database) -> Option<String> {
        sqlx::any::install_default_drivers();
        let mut connection = open::connect(database).await.ok()?;
        let row = sqlx::query(RESTORED).fetch_optional(&mut connection).await.ok()??;
        Some(restored(&row).words())
    }

    /// Begins the transaction of a person's order. Refuses it while the log may hold decisions that this database does not
    /// know.
    pub async fn begin_order(&self) -> Result<Tx, StoreError> {
        let mut tx = self.begin().await?;
        match tx.restored().await? {
            Some(restored) if !restored.log_is_read => Err(StoreError::BehindLog(restored.words())),
            _ => Ok(tx),
        }
    }

    /// The mark of a restored database. `None` if it has caught up, or was never restored.
    pub async fn restored(&self) -> Result<Option<Restored>, StoreError> {
        let row =
            sqlx::query(RESTORED).fetch_optional(&self.pool).await.map_err(sql("read the mark of a restoration"))?;
        Ok(row.as_ref().map(restored))
    }

    /// Whether a number was given out.
    pub async fn knows(&self, sector: SectorId) -> Result<bool, StoreError> {
        Ok(self.numbers_among(sector.miner, &[sector.number.0]).await?.contains(&sector.number.0))
    }
}

impl Tx {
    /// Marks this database as restored from a backup. The manager then catches up before it sends anything.
    pub async fn mark_restored(&mut self, backup_at: Option<&str>) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO restored (\"only\", backup_at, restored_at, log_is_read) VALUES (1, $1, $2, 0) \
             ON CONFLICT (\"only\") DO UPDATE SET backup_at = COALESCE(excluded.backup_at, restored.backup_at), \
             restored_at = excluded.restored_at, log_until = NULL, log_is_read = 0",
        )
        .bind(backup_at.map(str::to_owned))
        .bind(now_text())
        .execute(&mut *self.inner)
        .await
        .map_err(sql("mark a restoration"))?;
        Ok(())
    }

    /// The mark, as this transaction sees it.
    pub async fn restored(&mut self) -> Result<Option<Restored>, StoreError> {
        let row = sqlx::query(RESTORED)
            .fetch_optional(&mut *self.inner)
            .await
            .map_err(sql("read the mark of a restoration"))?;
        Ok(row.as_ref().map(restored))
    }

    /// Notes up to which record the log may hold decisions of before the loss.
    ///
    /// A message that was wanted at the time of the backup may have been signed since. So its sector is sealed again to the
    /// same replica if its worker is lost. An errand that was not signed then is given up, and one that was is not signed
    /// anew: nothing on chain tells whether it took effect already, so a person must look.
    pub async fn catch_up_until(&mut self, sequence: u64) -> Result<(), StoreError> {
        let until = format!("UPDATE restored SET log_until = {sequence} WHERE \"only\" = 1");
        for statement in [
            until.as_str(),
            "UPDATE jobs SET signed = 1, version = version + 1 WHERE is_last = 1 AND id IN (SELECT wants.job FROM wants \
             WHERE wants.state = 'wanted' AND wants.kind = 'precommit' AND wants.attempt = jobs.attempt)",
            "UPDATE errands SET state = 'failed', error = 'the database was restored from a backup, and it is not known whether \
             this was sent since: look at the chain, and ask again if it is still wanted' WHERE state = 'wanted'",
            "UPDATE errands SET signed_once = 1 WHERE state IN ('called', 'withdrawn')",
        ] {
            sqlx::query(statement).execute(&mut *self.inner).await.map_err(sql("begin to catch up"))?;
        }
        Ok(())
    }

    /// Notes that the log is read, up to this record at least.
    pub async fn note_log_read(&mut self, until: u64) -> Result<(), StoreError> {
        for statement in [
            "UPDATE restored SET log_is_read = 1 WHERE \"only\" = 1".to_owned(),
            // The last records may be gone from the log.
            format!("UPDATE fold SET last_sequence = {until} WHERE \"only\" = 1 AND last_sequence < {until}"),
        ] {
            sqlx::query(&statement).execute(&mut *self.inner).await.map_err(sql("end the catching up"))?;
        }
        Ok(())
    }

    /// Removes the mark.
    pub async fn end_restoration(&mut self) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM restored").execute(&mut *self.inner).await.map_err(sql("end a restoration"))?;
        Ok(())
    }

    /// A sector's facts in the outbox, oldest first.
    pub async fn unsent_facts(&mut self, sector: SectorId) -> Result<Vec<Unsent>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, worker, payload FROM outbox WHERE kind = 'fact' AND miner = $1 AND number = $2 ORDER BY id",
        )
        .bind(sector.miner.to_string())
        .bind(sector.number.0 as i64)
        .fetch_all(&mut *self.inner)
        .await
        .map_err(sql("read the outbox"))?;
        rows.iter().map(unsent).collect()
    }

    /// Removes a row that the log shows to be published.
    pub async fn remove_unsent(&mut self, row: i64) -> Result<(), StoreError> {
        let query = sqlx::query("DELETE FROM outbox WHERE id = $1").bind(row);
        query.execute(&mut *self.inner).await.map(drop).map_err(sql("clear the outbox"))
    }

    /// Counts one sector of a miner's oldest open pledge as numbered, if there is one.
    pub async fn use_oldest_pledge(&mut self, miner: MinerId) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE pledges SET remaining = remaining - 1 \
             WHERE id = (SELECT MIN(id) FROM pledges WHERE miner = $1 AND remaining > 0)",
        )
        .bind(miner.to_string())
        .execute(&mut *self.inner)
        .await
        .map(drop)
        .map_err(sql("count a pledge"))
    }

    /// Takes over a worker's standing orders that are on the bus and newer than those that this database knows. Returns
    /// whether they are.
    pub async fn adopt_orders(&mut self, worker: &WorkerName, found: &Orders) -> Result<bool, StoreError> {
        let adopted = sqlx::query(
            "INSERT INTO worker_orders (worker, revision, published, drain) VALUES ($1, $2, $2, $3) \
             ON CONFLICT (worker) DO UPDATE SET revision = excluded.revision, published = excluded.revision, \
             drain = excluded.drain WHERE worker_orders.revision < excluded.revision",
        )
        .bind(worker.as_str())
        .bind(found.revision as i64)
        .bind(i64::from(found.drain))
        .execute(&mut *self.inner)
        .await
        .map_err(sql("take over a worker's orders"))?;
        if adopted.rows_affected() == 0 {
            return Ok(false);
        }
        // An order that is not there any more was carried out or taken back.
        let ended = "UPDATE slot_releases SET done_at = $2 WHERE worker = $1 AND done_at IS NULL";
        let query = sqlx::query(ended).bind(worker.as_str()).bind(now_text());
        query.execute(&mut *self.inner).await.map_err(sql("take over a worker's orders"))?;
        for release in &found.release {
            sqlx::query("INSERT INTO slot_releases (worker, slot, at, order_number) VALUES ($1, $2, $3, $4)")
                .bind(worker.as_str())
                .bind(release.slot.clone())
                .bind(now_text())
                .bind(release.id as i64)
                .execute(&mut *self.inner)
                .await
                .map_err(sql("take over a worker's orders"))?;
        }
        Ok(true)
    }
}

fn restored(row: &AnyRow) -> Restored {
    Restored {
        backup_at: row.get("backup_at"),
        restored_at: row.get("restored_at"),
        log_until: row.get::<Option<i64>, _>("log_until").map(|until| until as u64),
        log_is_read: row.get::<i64, _>("log_is_read") != 0,
    }
}

fn unsent(row: &AnyRow) -> Result<Unsent, StoreError> {
    let id: i64 = row.get("id");
    let bad = |problem: String| StoreError::BadRow { what: format!("outbox {id}"), problem };
    let worker: Option<String> = row.get("worker");
    let worker = worker.unwrap_or_default().parse().map_err(|error| bad(format!("{error}")))?;
    let fact: Fact = codec::decode(&row.get::<Vec<u8>, _>("payload")).map_err(|error| bad(error.to_string()))?;
    Ok(Unsent { row: id, worker, fact })
}
