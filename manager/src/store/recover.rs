//! Switches a database whose log is lost to a new log.

use sealbus_schema::lease::Ownership;

use super::{Outcome, Outgoing, StoreError, Tx, sql};

impl Tx {
    /// Begins the fold of a new stream, after the sequence `before`. No sector has a lease record in it yet. Rows of the
    /// outbox for the old stream are deleted. The outcomes must be those of the [sectors to
    /// recover](super::Store::sectors_to_recover). For a sector with an owner, the outcome publishes a record that
    /// reinstates it. For a sector without one, a release is published, although there is no lease to end. This record is
    /// the sector's first one in the new stream, and folding it leads to the next step. A manager that still holds the
    /// fold loses it.
    pub async fn restart_fold(
        &mut self,
        stream: &str,
        before: u64,
        unfinished: Vec<Outcome>,
        why: &str,
    ) -> Result<(), StoreError> {
        // Records of the old stream mean nothing in the new one. Owners of unfinished jobs are kept, because they
        // continue. Every unfinished sector becomes due.
        for statement in [
            "DELETE FROM outbox",
            "UPDATE jobs SET last_lease = 0, version = version + 1",
            "UPDATE jobs SET owner = NULL, token = NULL, token_stream = NULL, last_event = 0, leased_at = NULL, \
             version = version + 1 WHERE ended = 1",
            "UPDATE jobs SET issues = 0, version = version + 1 WHERE ended = 0",
            "INSERT INTO looks (miner, number, at_epoch) SELECT miner, number, 0 FROM jobs \
             WHERE ended = 0 ON CONFLICT (miner, number) DO UPDATE SET at_epoch = 0",
        ] {
            sqlx::query(statement).execute(&mut *self.inner).await.map_err(sql("forget the old stream"))?;
        }
        sqlx::query("UPDATE fold SET stream = $1, last_sequence = $2 WHERE \"only\" = 1")
            .bind(stream)
            .bind(before as i64)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("begin the fold of another stream"))?;
        // A manager that still folds the old stream loses the fold with this transaction.
        self.take_over().await?;
        let ended = unfinished.into_iter().map(|mut outcome| {
            // Folding this release offers the sector again, or frees a slot that still holds it after its end.
            if matches!(outcome.sector.ownership, Ownership::Free { .. }) {
                outcome.outbox.push(Outgoing::Release { lease_sequence: 0, reason: why.to_owned() });
            }
            outcome
        });
        self.store_outcomes(ended.collect()).await
    }
}
