//! What reads ahead of their deadlines have found.

use sealbus_schema::MinerId;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row, any::AnyRow};

use super::{Store, StoreError, Tx, sql};
use crate::{
    chain::types::Epoch,
    proving::{ahead::ReadAhead, proof::ProofId},
};

impl Store {
    /// What is known of the next deadlines of a miner, or of all, the next one first.
    pub async fn reads_ahead(&self, miner: Option<MinerId>) -> Result<Vec<ReadAhead>, StoreError> {
        let miner = miner.map(|miner| miner.to_string()).unwrap_or_default();
        let text = "SELECT * FROM reads_ahead WHERE ($1 = '' OR miner = $2) ORDER BY opens, miner, \"partition\"";
        let rows = sqlx::query(text)
            .bind(miner.clone())
            .bind(miner)
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read what was read ahead"))?;
        rows.iter().map(from_row).collect()
    }
}

impl Tx {
    /// Stores what reads ahead have found of a partition.
    pub async fn save_read_ahead(&mut self, found: &ReadAhead) -> Result<(), StoreError> {
        let text = "INSERT INTO reads_ahead (miner, period, deadline, \"partition\", challenge, opens, sectors, \
                    read_count, unread, slowest, at_epoch) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
                    ON CONFLICT (miner, period, deadline, \"partition\") DO UPDATE SET sectors = excluded.sectors, \
                    read_count = excluded.read_count, unread = excluded.unread, slowest = excluded.slowest, \
                    at_epoch = excluded.at_epoch";
        sqlx::query(text)
            .bind(found.id.miner.to_string())
            .bind(found.id.period)
            .bind(found.id.deadline as i64)
            .bind(found.id.partition as i64)
            .bind(found.challenge)
            .bind(found.open)
            .bind(found.sectors as i64)
            .bind(found.read as i64)
            .bind(json(&found.unread)?)
            .bind(json(&found.slowest)?)
            .bind(found.at)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("store what was read ahead"))
            .map(drop)
    }

    /// Drops what is known of a miner's deadlines that were challenged before an epoch.
    pub async fn drop_reads_ahead(&mut self, miner: MinerId, challenged_before: Epoch) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM reads_ahead WHERE miner = $1 AND challenge < $2")
            .bind(miner.to_string())
            .bind(challenged_before)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("drop what was read ahead"))
            .map(drop)
    }
}

fn json<V: Serialize>(value: &V) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::BadRow { what: "what was read ahead".to_owned(), problem: error.to_string() })
}

fn from_row(row: &AnyRow) -> Result<ReadAhead, StoreError> {
    let (miner, opens): (String, i64) = (row.get("miner"), row.get("opens"));
    let bad = |problem: String| StoreError::BadRow {
        what: format!("what was read ahead of {miner} for epoch {opens}"),
        problem,
    };
    fn parsed<V: DeserializeOwned>(row: &AnyRow, column: &str) -> Result<V, String> {
        serde_json::from_str(row.get(column)).map_err(|error| format!("{column}: {error}"))
    }
    Ok(ReadAhead {
        id: ProofId {
            miner: miner.parse().map_err(|error| bad(format!("{error}")))?,
            period: row.get("period"),
            deadline: row.get::<i64, _>("deadline") as u64,
            partition: row.get::<i64, _>("partition") as u64,
        },
        challenge: row.get("challenge"),
        open: opens,
        sectors: row.get::<i64, _>("sectors") as u64,
        read: row.get::<i64, _>("read_count") as u64,
        unread: parsed(row, "unread").map_err(bad)?,
        slowest: parsed(row, "slowest").map_err(bad)?,
        at: row.get("at_epoch"),
    })
}
