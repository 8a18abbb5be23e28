//! Compresses the history of sectors some days after their job has ended, so that the database grows slowly.

use std::time::Duration;

use crate::store::{Store, StoreError};

/// How many sectors are archived in one transaction, during which nobody else writes.
const AT_ONCE: u32 = 64;
/// The pause after a full transaction, for other writers.
const SHORT_PAUSE: Duration = Duration::from_millis(250);
/// The pause when nothing is left.
const LONG_PAUSE: Duration = Duration::from_secs(600);

/// Archives for ever. Only the loss of the database or of the fold ends it.
pub async fn run(store: &Store, epoch: i64, after_days: u32) -> Result<std::convert::Infallible, StoreError> {
    let age = Duration::from_secs(u64::from(after_days) * 24 * 3600);
    loop {
        let archived = store.archive_history(epoch, age, AT_ONCE).await?;
        let pause = if archived == AT_ONCE as usize { SHORT_PAUSE } else { LONG_PAUSE };
        tokio::time::sleep(pause).await;
    }
}
