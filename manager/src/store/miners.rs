//! What the database knows of each miner: the weight that people ordered, and how many sectors it has.

use std::collections::BTreeMap;

use sealbus_schema::{MinerId, message::Weights};
use serde::Serialize;
use sqlx::Row;

use super::{Store, StoreError, Tx, now_text, sql};

/// How many sectors of a miner are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Pledged, without a number yet.
    pub pledged: u64,
    /// In the queue, or on their way into it.
    pub queued: u64,
    /// Begun, and not ended.
    pub in_work: u64,
    /// Active on chain.
    pub proving: u64,
}

impl Store {
    /// The weights that people ordered, by miner.
    pub async fn ordered_weights(&self) -> Result<BTreeMap<MinerId, u32>, StoreError> {
        let rows = sqlx::query("SELECT miner, weight FROM miner_weights")
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read the miners' weights"))?;
        rows.iter().map(|row| Ok((miner(row.get("miner"))?, row.get::<i64, _>("weight") as u32))).collect()
    }

    /// How many of a miner's sectors are in which state, without those whose jobs have ended.
    pub async fn states_of(&self, miner: MinerId) -> Result<BTreeMap<String, u64>, StoreError> {
        let rows = sqlx::query(
            "SELECT state, COUNT(*) AS n FROM jobs WHERE is_last = 1 AND ended = 0 AND miner = $1 GROUP BY state",
        )
        .bind(miner.to_string())
        .fetch_all(&self.pool)
        .await
        .map_err(sql("count a miner's sectors by state"))?;
        Ok(rows.iter().map(|row| (row.get("state"), row.get::<i64, _>("n") as u64)).collect())
    }

    /// How many of a miner's PreCommits have landed from an epoch on.
    pub async fn precommitted_since(&self, miner: MinerId, epoch: i64) -> Result<u64, StoreError> {
        let row = sqlx::query(
            "SELECT COUNT(DISTINCT wants.number) AS n FROM calls JOIN call_wants ON call_wants.call = calls.id \
             JOIN wants ON wants.id = call_wants.want AND wants.state = 'landed' \
             WHERE calls.kind = 'precommit' AND calls.miner = $1 AND landed_epoch >= $2",
        )
        .bind(miner.to_string())
        .bind(epoch)
        .fetch_one(&self.pool)
        .await
        .map_err(sql("count landed PreCommits"))?;
        Ok(row.get::<i64, _>("n") as u64)
    }

    /// How many sectors each miner has, if it ever had one or a pledge.
    pub async fn counts_by_miner(&self) -> Result<BTreeMap<MinerId, Counts>, StoreError> {
        let mut counts: BTreeMap<MinerId, Counts> = BTreeMap::new();
        let jobs = sqlx::query(
            "SELECT miner, state, ended, COUNT(*) AS n, COUNT(offered) AS queued \
             FROM jobs WHERE is_last = 1 GROUP BY miner, state, ended",
        );
        for row in jobs.fetch_all(&self.pool).await.map_err(sql("count the miners' sectors"))? {
            let counts = counts.entry(miner(row.get("miner"))?).or_default();
            let [n, queued, ended] = ["n", "queued", "ended"].map(|column| row.get::<i64, _>(column) as u64);
            match row.get::<String, _>("state").as_str() {
                "proving" => counts.proving += n,
                _ if ended == 0 => {
                    counts.queued += queued;
                    counts.in_work += n - queued;
                }
                _ => {}
            }
        }
        for pledge in self.open_pledges().await? {
            counts.entry(miner(pledge.miner)?).or_default().pledged += pledge.remaining;
        }
        Ok(counts)
    }
}

impl Tx {
    /// Orders a miner's weight. `None`: the configured weight counts again.
    pub async fn order_weight(&mut self, miner: MinerId, weight: Option<u32>, by: &str) -> Result<(), StoreError> {
        let query = match weight {
            Some(weight) => sqlx::query(
                "INSERT INTO miner_weights (miner, weight, set_at, set_by) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (miner) DO UPDATE \
                 SET weight = excluded.weight, set_at = excluded.set_at, set_by = excluded.set_by",
            )
            .bind(miner.to_string())
            .bind(i64::from(weight))
            .bind(now_text())
            .bind(by),
            None => sqlx::query("DELETE FROM miner_weights WHERE miner = $1").bind(miner.to_string()),
        };
        query.execute(&mut *self.inner).await.map_err(sql("order a miner's weight"))?;
        Ok(())
    }

    /// Puts the weights into the orders of every worker that has others.
    pub async fn tell_weights(&mut self, weights: &Weights) -> Result<(), StoreError> {
        let told = serde_json::to_string(weights)
            .map_err(|e| StoreError::BadRow { what: "the miners' weights".to_owned(), problem: e.to_string() })?;
        sqlx::query("UPDATE worker_orders SET weights = $1, revision = revision + 1 WHERE weights <> $1")
            .bind(told)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("tell the miners' weights"))?;
        Ok(())
    }
}

fn miner(text: String) -> Result<MinerId, StoreError> {
    text.parse().map_err(|e| StoreError::BadRow { what: format!("the miner {text}"), problem: format!("{e}") })
}
