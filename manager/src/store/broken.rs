//! The invariants that the manager has seen broken, counted.

use std::collections::BTreeMap;

use sealbus_schema::{Invariant, Violation};
use serde::Serialize;
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{Store, StoreError, Tx, now_text, sql};

/// The first violations of an invariant are all logged, then the 16th, the 32nd, and so on.
const TOLD: i64 = 10;

/// How often an invariant was seen broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BrokenCount {
    /// The invariant's name.
    pub invariant: String,
    /// How often.
    pub times: u64,
    /// When it was first seen broken, by that manager's clock.
    pub first_at: String,
    /// When it was last seen broken.
    pub last_at: String,
    /// What was seen last.
    pub seen: String,
}

impl Store {
    /// The invariants that were ever seen broken, by name.
    pub async fn broken_invariants(&self) -> Result<Vec<BrokenCount>, StoreError> {
        read(&mut *self.pool.acquire().await.map_err(sql("read the broken invariants"))?).await
    }
}

/// The same over a connection outside the pool.
pub(super) async fn read(connection: &mut AnyConnection) -> Result<Vec<BrokenCount>, StoreError> {
    let rows = sqlx::query("SELECT * FROM broken_invariants ORDER BY invariant")
        .fetch_all(connection)
        .await
        .map_err(sql("read the broken invariants"))?;
    Ok(rows.iter().map(from_row).collect())
}

impl Tx {
    /// Counts violations in this transaction, so that one that is seen again after a failure counts once. Logs a line for
    /// each invariant.
    pub(super) async fn count_broken(&mut self, violations: &[Violation]) -> Result<(), StoreError> {
        let mut broken: BTreeMap<Invariant, (i64, &str)> = BTreeMap::new();
        for Violation { invariant, seen } in violations {
            let (times, last) = broken.entry(*invariant).or_default();
            (*times, *last) = (*times + 1, seen);
        }
        let now = now_text();
        for (invariant, (more, seen)) in broken {
            let row = sqlx::query(
                "INSERT INTO broken_invariants (invariant, times, first_at, last_at, seen) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (invariant) DO UPDATE SET times = broken_invariants.times + excluded.times, \
                 last_at = excluded.last_at, seen = excluded.seen RETURNING times",
            )
            .bind(invariant.name())
            .bind(more)
            .bind(&now)
            .bind(&now)
            .bind(seen)
            .fetch_one(&mut *self.inner)
            .await
            .map_err(sql("count a broken invariant"))?;
            let times: i64 = row.get("times");
            if is_told(times - more, times) {
                tracing::error!(%invariant, times, seen, "an invariant is broken");
            }
        }
        Ok(())
    }
}

/// Whether a line is logged when a count rises.
fn is_told(before: i64, after: i64) -> bool {
    before < TOLD || before.ilog2() < after.ilog2()
}

fn from_row(row: &AnyRow) -> BrokenCount {
    BrokenCount {
        invariant: row.get("invariant"),
        times: row.get::<i64, _>("times") as u64,
        first_at: row.get("first_at"),
        last_at: row.get("last_at"),
        seen: row.get("seen"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_violations_are_told_a_few_times() {
        assert_eq!((0..1_000_000).filter(|before| is_told(*before, before + 1)).count(), 26);
    }
}
