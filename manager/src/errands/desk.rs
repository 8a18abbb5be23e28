//! Where errands are asked for, and where it is seen which ones are open.

use serde_json::Value;

use super::Draft;
use crate::{commands::Person, store::StoreError};

use sealbus_schema::MinerId;

/// The manager's database, as whoever asks for errands sees it.
pub trait Desk {
    /// The details of a miner's errands of one kind that are neither landed nor given up.
    fn open(&self, miner: MinerId, kind: &str) -> impl Future<Output = Result<Vec<Value>, StoreError>> + Send;

    /// Asks for errands by an order, in one transaction with an entry of the audit for each.
    fn ask(&self, verb: &str, person: &Person, drafts: &[Draft])
    -> impl Future<Output = Result<(), StoreError>> + Send;
}
