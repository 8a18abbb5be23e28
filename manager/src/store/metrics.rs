//! What is counted for metrics: sums that the database makes, so that their cost does not grow with what they count.

use sqlx::{Row, any::AnyRow};

use super::{Places, Store, StoreError, sql, tables, waits::secs_between};

/// A number of rows that have the same labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The labels' values.
    pub labels: Vec<String>,
    /// How many rows.
    pub count: i64,
    /// The least of a number of theirs, if it was asked for and any has it.
    pub least: Option<i64>,
}

/// When the next jobs lose what they have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expiring {
    /// The last epoch of the first of them.
    pub first: Option<i64>,
    /// How many expire before the epoch that was asked for.
    pub soon: i64,
}

impl Store {
    /// The unfinished jobs by workflow and state, with the seconds since the oldest one's last change.
    pub async fn count_jobs(&self) -> Result<Vec<Count>, StoreError> {
        let text = "SELECT workflow, state, COUNT(*) AS n, MIN(changed_at) AS since FROM jobs WHERE ended = 0 \
                    GROUP BY workflow, state";
        let now = super::now_text();
        self.counts(text, &["workflow", "state"], |row| secs_between(row.get("since"), &now)).await
    }

    /// The unfinished jobs that are blocked, by class and code of the cause.
    pub async fn count_blocked_jobs(&self) -> Result<Vec<Count>, StoreError> {
        let field = |field: &str| self.json("blocked", field);
        let text = format!(
            "SELECT {} AS class, {} AS code, COUNT(*) AS n FROM jobs WHERE ended = 0 AND blocked IS NOT NULL GROUP BY 1, 2",
            field("class"),
            field("code")
        );
        self.counts(&text, &["class", "code"], |_| None).await
    }

    /// The jobs that lose their ticket, and those that lose their deposit, each with how many do so before an epoch.
    pub async fn count_expiring(&self, tickets: i64, deposits: i64) -> Result<[Expiring; 2], StoreError> {
        let text = tables::expiring(self.places());
        let query = sqlx::query(&text).bind(tickets).bind(deposits);
        let row = query.fetch_one(&self.pool).await.map_err(sql("look for jobs that expire"))?;
        Ok(["ticket", "deposit"].map(|limit| Expiring {
            first: row.get(limit),
            soon: row.get::<Option<i64>, _>(format!("{limit}s_soon").as_str()).unwrap_or_default(),
        }))
    }

    /// The waits by kind, class and code, with the oldest one's age in seconds.
    pub async fn count_waits(&self) -> Result<Vec<Count>, StoreError> {
        let text = "SELECT kind, class, code, COUNT(*) AS n, MIN(since) AS since FROM waits GROUP BY kind, class, code";
        let now = self.clock_now().await?;
        self.counts(text, &["kind", "class", "code"], |row| secs_between(row.get("since"), &now)).await
    }

    /// The messages that have not ended, by kind and state, with the epoch at which the first of them was signed.
    pub async fn count_messages(&self) -> Result<Vec<Count>, StoreError> {
        let text = "SELECT COALESCE(errands.kind, calls.kind) AS kind, calls.state, COUNT(*) AS n, \
                    MIN(calls.signed_epoch) AS least FROM calls LEFT JOIN errands ON errands.id = calls.errand \
                    WHERE calls.state IN ('reserved', 'signed', 'pushed', 'withdrawn') GROUP BY 1, 2 \
                    UNION ALL SELECT kind, state, COUNT(*), NULL FROM wants WHERE state = 'wanted' GROUP BY kind, state \
                    UNION ALL SELECT kind, state, COUNT(*), NULL FROM errands WHERE state = 'wanted' GROUP BY kind, state";
        self.counts(text, &["kind", "state"], |row| row.get("least")).await
    }

    /// The proofs of partitions of the last turns, by miner and state, with the least epochs that were left.
    pub async fn count_partitions(&self, epochs: i64) -> Result<Vec<Count>, StoreError> {
        let text = format!(
            "SELECT miner, state, COUNT(*) AS n, MIN(closes - proved_epoch) AS least FROM partition_proofs \
             WHERE opens > (SELECT MAX(opens) FROM partition_proofs) - {epochs} GROUP BY miner, state"
        );
        self.counts(&text, &["miner", "state"], |row| row.get("least")).await
    }

    /// The sectors that these proofs have left out, by miner.
    pub async fn count_skipped(&self, epochs: i64) -> Result<Vec<Count>, StoreError> {
        let length = match self.places() {
            Places::Plain => "json_array_length(skipped)",
            Places::Numbered => "json_array_length(CAST(skipped AS JSON))",
        };
        let text = format!(
            "SELECT miner, CAST(SUM({length}) AS BIGINT) AS n FROM partition_proofs \
             WHERE opens > (SELECT MAX(opens) FROM partition_proofs) - {epochs} GROUP BY miner"
        );
        self.counts(&text, &["miner"], |_| None).await
    }

    /// The epochs that were won lately, by miner and what became of the block.
    pub async fn count_blocks(&self, epochs: i64) -> Result<Vec<Count>, StoreError> {
        let text = format!(
            "SELECT miner, state, COUNT(*) AS n FROM blocks WHERE epoch > (SELECT MAX(epoch) FROM blocks) - {epochs} \
             GROUP BY miner, state"
        );
        self.counts(&text, &["miner", "state"], |_| None).await
    }

    /// How many records are decided but not published.
    pub async fn count_outbox(&self) -> Result<i64, StoreError> {
        self.count("SELECT COUNT(*) AS n FROM outbox").await
    }

    /// How often orders were withdrawn from the bus that nobody had given.
    pub async fn count_forged_orders(&self) -> Result<i64, StoreError> {
        self.count("SELECT COUNT(*) AS n FROM audit WHERE verb = 'workers withdraw-orders'").await
    }

    async fn count(&self, text: &str) -> Result<i64, StoreError> {
        Ok(sqlx::query(text).fetch_one(&self.pool).await.map_err(sql("count for metrics"))?.get("n"))
    }

    async fn counts(
        &self,
        text: &str,
        labels: &[&str],
        least: impl Fn(&AnyRow) -> Option<i64>,
    ) -> Result<Vec<Count>, StoreError> {
        let rows = sqlx::query(text).fetch_all(&self.pool).await.map_err(sql("count for metrics"))?;
        let count = |row: &AnyRow| Count {
            labels: labels.iter().map(|label| row.get::<Option<String>, _>(*label).unwrap_or_default()).collect(),
            count: row.get("n"),
            least: least(row),
        };
        Ok(rows.iter().map(count).collect())
    }

    fn json(&self, column: &str, field: &str) -> String {
        match self.places() {
            Places::Plain => format!("json_extract({column}, '$.{field}')"),
            Places::Numbered => format!("(CAST({column} AS JSON) ->> '{field}')"),
        }
    }
}
