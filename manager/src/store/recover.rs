//! A database whose log is gone goes on with another one.

use super::{Outcome, Outgoing, StoreError, Tx, sql};

impl Tx {
    /// Begins the fold of another stream from its beginning. No sector has an owner in it yet, and what was to be
    /// published on the old one is forgotten. Each of the outcomes, which must be of the unfinished sectors, ends the
    /// lease that the sector does not have: the record is the sector's first one in the new stream, and its fold leads to
    /// whatever comes next. A manager that still holds the fold loses it.
    pub async fn restart_fold(&mut self, stream: &str, unfinished: Vec<Outcome>, why: &str) -> Result<(), StoreError> {
        for statement in [
            "DELETE FROM outbox",
            "UPDATE sectors SET owner = NULL, last_lease = 0, last_event = 0, leased_at = NULL, version = version + 1",
            "UPDATE sectors SET issues = 0, version = version + 1 WHERE state NOT IN ('proving', 'aborted')",
        ] {
            sqlx::query(statement).execute(&mut *self.inner).await.map_err(sql("forget the old stream"))?;
        }
        sqlx::query("UPDATE fold SET stream = $1, last_sequence = 0 WHERE \"only\" = 1")
            .bind(stream)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("begin the fold of another stream"))?;
        self.take_over().await?;
        let ended = unfinished.into_iter().map(|mut outcome| {
            outcome.outbox.push(Outgoing::Release { lease_sequence: 0, reason: why.to_owned() });
            outcome
        });
        self.store_outcomes(ended.collect()).await
    }
}
