//! What workers have said of winning PoSts.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sealbus_nats::post::PostSaid;
use sealbus_schema::{
    MinerId,
    post::{PostJob, PostSubject},
};
use tokio::sync::Notify;

/// How the names of the jobs begin: of a block's winning PoSt, and of a rehearsal's.
pub const BLOCK: &str = "b-";
/// See [`BLOCK`].
pub const REHEARSAL: &str = "r-";

/// The reports on jobs whose names begin with [`BLOCK`] or [`REHEARSAL`], in their order.
#[derive(Debug, Default)]
pub struct Heard {
    said: Mutex<BTreeMap<(MinerId, PostJob), Vec<PostSaid>>>,
    rang: Notify,
}

impl Heard {
    /// Remembers a report.
    pub fn hear(&self, said: PostSaid) {
        let name = said.job.as_str();
        if name.starts_with(BLOCK) || name.starts_with(REHEARSAL) {
            self.said().entry((said.miner, said.job.clone())).or_default().push(said);
            self.rang.notify_waiters();
        }
    }

    /// What a function finds in the reports on a job, now.
    pub fn now<R>(&self, of: &PostSubject, find: impl Fn(&[PostSaid]) -> Option<R>) -> Option<R> {
        find(self.said().get(&(of.miner, of.job.clone())).map(Vec::as_slice).unwrap_or_default())
    }

    /// Waits until a function finds something in the reports on a job.
    pub async fn first<R>(&self, of: &PostSubject, find: impl Fn(&[PostSaid]) -> Option<R>) -> R {
        loop {
            let mut rang = std::pin::pin!(self.rang.notified());
            // From here on no report is missed.
            rang.as_mut().enable();
            if let Some(found) = self.now(of, &find) {
                return found;
            }
            rang.await;
        }
    }

    /// Forgets a miner's reports, except those on one job.
    pub fn keep_only(&self, of: &PostSubject) {
        self.said().retain(|(miner, job), _| *miner != of.miner || *job == of.job);
    }

    fn said(&self) -> MutexGuard<'_, BTreeMap<(MinerId, PostJob), Vec<PostSaid>>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
