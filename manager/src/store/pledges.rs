//! Pledges: sectors that people asked for, until each has its number.

use serde::Serialize;
use sqlx::{Row, any::AnyRow};

use super::{Store, StoreError, Tx, now_text, sql};

/// Sectors that a person asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pledge {
    /// The row's number.
    pub id: i64,
    /// The miner.
    pub miner: String,
    /// How many were asked for.
    pub asked: u64,
    /// How many have no number yet.
    pub remaining: u64,
    /// How many were taken back before they had a number.
    pub cancelled: u64,
    /// When, by the clock of the host where the order was given.
    pub asked_at: String,
    /// Who asked.
    pub asked_by: String,
    /// Why, in that person's words.
    pub why: String,
}

impl Pledge {
    /// How many have a number.
    pub const fn numbered(&self) -> u64 {
        self.asked.saturating_sub(self.remaining).saturating_sub(self.cancelled)
    }
}

impl Store {
    /// Pledges with sectors that have no number yet, oldest first.
    pub async fn open_pledges(&self) -> Result<Vec<Pledge>, StoreError> {
        self.pledges(false).await
    }

    /// Every pledge that was ever made, oldest first.
    pub async fn all_pledges(&self) -> Result<Vec<Pledge>, StoreError> {
        self.pledges(true).await
    }

    /// The numbers of the last command and of the last pledge. The pair changes with each of them.
    pub async fn last_command(&self) -> Result<(i64, i64), StoreError> {
        let row = sqlx::query(
            "SELECT CAST(COALESCE((SELECT MAX(id) FROM audit), 0) AS BIGINT) AS command, \
             CAST(COALESCE((SELECT MAX(id) FROM pledges), 0) AS BIGINT) AS pledge",
        )
        .fetch_one(&self.pool)
        .await
        .map_err(sql("look for commands"))?;
        Ok((row.get("command"), row.get("pledge")))
    }

    async fn pledges(&self, all: bool) -> Result<Vec<Pledge>, StoreError> {
        let rows = sqlx::query("SELECT * FROM pledges WHERE remaining >= $1 ORDER BY id")
            .bind(i64::from(!all))
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read pledges"))?;
        Ok(rows.iter().map(pledge).collect())
    }
}

impl Tx {
    /// Records that a person wants sectors. Returns the pledge's number.
    pub async fn add_pledge(&mut self, miner: &str, count: u64, by: &str) -> Result<i64, StoreError> {
        self.add_pledge_because(miner, count, by, "").await
    }

    /// The same, with the person's reason.
    pub async fn add_pledge_because(
        &mut self,
        miner: &str,
        count: u64,
        by: &str,
        why: &str,
    ) -> Result<i64, StoreError> {
        let row = sqlx::query(
            "INSERT INTO pledges (miner, asked, remaining, asked_at, asked_by, why) VALUES ($1, $2, $2, $3, $4, $5) \
             RETURNING id",
        )
        .bind(miner)
        .bind(count as i64)
        .bind(now_text())
        .bind(by)
        .bind(why)
        .fetch_one(&mut *self.inner)
        .await
        .map_err(sql("record a pledge"))?;
        Ok(row.get("id"))
    }

    /// Counts `count` sectors of a pledge as numbered. Returns `false` if the pledge no longer asks for that many,
    /// because it was taken back since it was read.
    pub async fn use_pledge(&mut self, id: i64, count: u64) -> Result<bool, StoreError> {
        let used = sqlx::query("UPDATE pledges SET remaining = remaining - $2 WHERE id = $1 AND remaining >= $2")
            .bind(id)
            .bind(count as i64)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("count a pledge"))?;
        Ok(used.rows_affected() == 1)
    }

    /// Takes back the part of a pledge that has no numbers yet. Returns the pledge as it was before; `None` if nothing
    /// was left to take back.
    pub async fn cancel_pledge(&mut self, id: i64) -> Result<Option<Pledge>, StoreError> {
        let row = sqlx::query("SELECT * FROM pledges WHERE id = $1 AND remaining > 0")
            .bind(id)
            .fetch_optional(&mut *self.inner)
            .await
            .map_err(sql("read a pledge"))?;
        let Some(before) = row.as_ref().map(pledge) else { return Ok(None) };
        sqlx::query("UPDATE pledges SET cancelled = cancelled + remaining, remaining = 0 WHERE id = $1")
            .bind(id)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("take back a pledge"))?;
        Ok(Some(before))
    }
}

fn pledge(row: &AnyRow) -> Pledge {
    let count = |column: &str| row.get::<i64, _>(column).max(0) as u64;
    Pledge {
        id: row.get("id"),
        miner: row.get("miner"),
        asked: count("asked"),
        remaining: count("remaining"),
        cancelled: count("cancelled"),
        asked_at: row.get("asked_at"),
        asked_by: row.get("asked_by"),
        why: row.get("why"),
    }
}
