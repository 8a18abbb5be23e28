//! Where errands are asked for, and where it is seen which ones are open.

use sealbus_schema::MinerId;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::Draft;
use crate::{
    commands::Person,
    store::{AuditEntry, ErrandId, Store, StoreError},
};

/// The actor that a message is about whose miner does not exist yet: the one that creates it.
pub const NO_MINER: MinerId = MinerId(4);

/// How long nothing is asked for again that has failed.
const PATIENCE: time::Duration = time::Duration::DAY;

/// The manager's database, as whoever asks for errands sees it.
pub trait Desk {
    /// The details of a miner's errands of one kind that may still land, or that failed less than [`PATIENCE`] ago: what the
    /// chain has just refused, it would refuse again, for the same fee.
    fn open(&self, miner: MinerId, kind: &str) -> impl Future<Output = Result<Vec<Value>, StoreError>> + Send;

    /// Asks for errands by an order, in one transaction with an entry of the audit for each. A running manager sends them.
    fn ask(
        &self,
        verb: &str,
        person: &Person,
        drafts: &[Draft],
    ) -> impl Future<Output = Result<Vec<ErrandId>, StoreError>> + Send;
}

/// The database itself.
#[derive(Clone, Copy)]
pub struct Counter<'s> {
    /// The database.
    pub store: &'s Store,
    /// The epoch with which a manager took over; `None` for a person's command.
    pub epoch: Option<i64>,
}

impl Desk for Counter<'_> {
    async fn open(&self, miner: MinerId, kind: &str) -> Result<Vec<Value>, StoreError> {
        let errands = self.store.errands_in_the_way(miner, kind, OffsetDateTime::now_utc() - PATIENCE).await?;
        Ok(errands.into_iter().map(|errand| errand.asked.detail).collect())
    }

    async fn ask(&self, verb: &str, person: &Person, drafts: &[Draft]) -> Result<Vec<ErrandId>, StoreError> {
        let mut tx = match self.epoch {
            Some(epoch) => self.store.begin_as(epoch).await?,
            None => self.store.begin_order().await?,
        };
        let mut ids = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let new = draft.asked_by(&person.name);
            let id = tx.ask_errand(&new).await?;
            let detail = json!({ "errand": id, "what": draft.what, "value_atto": new.value_atto });
            tx.add_audit(&AuditEntry::new(&person.name, verb, new.miner.to_string(), &person.why, detail)).await?;
            ids.push(id);
        }
        tx.commit().await?;
        Ok(ids)
    }
}
