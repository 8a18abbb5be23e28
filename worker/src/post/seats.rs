//! Keeps provers free for window PoSts that are due soon, on a machine where provers share a lock with other work.
//!
//! The manager says when a miner's window PoSts are due: from some epochs before a challenge until the proofs are made.
//! Then each prover's seat is reserved: nothing that runs is stopped, but nothing else that needs the same lock begins. A
//! proof takes a seat that is kept, and gives it back to be kept for the next one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use sealbus_nats::post::DUE_HOLDS;
use sealbus_schema::Phase;
use tokio::{sync::Notify, time::Instant};

use super::{Post, phases};
use crate::{causes::in_words, processor::GroupConfig, processor::ProcessorGuard};

/// The pause between two looks at what is due.
const LOOK: Duration = Duration::from_secs(5);

/// The seats that are kept.
#[derive(Default)]
pub(super) struct Kept {
    inner: Mutex<Inner>,
    /// Rings when there is another one.
    rang: Notify,
}

#[derive(Default)]
struct Inner {
    is_due: bool,
    guards: Vec<ProcessorGuard>,
}

/// What the manager has said.
#[derive(Debug, Default)]
struct Due {
    /// Where it stood in the stream at the last look.
    seen: Option<BTreeMap<String, u64>>,
    until: Option<Instant>,
}

impl Kept {
    /// Waits for a seat that is kept.
    pub(super) async fn next(&self) -> ProcessorGuard {
        loop {
            let mut rang = std::pin::pin!(self.rang.notified());
            // From here on no seat is missed.
            rang.as_mut().enable();
            if let Some(guard) = self.lock().guards.pop() {
                return guard;
            }
            rang.await;
        }
    }

    /// Gives a seat back. It is kept as long as proofs are due.
    pub(super) fn put(&self, guard: ProcessorGuard) {
        let mut inner = self.lock();
        if !inner.is_due {
            // Others may have it. Not while this is locked, because that wakes them.
            drop(inner);
            drop(guard);
            return;
        }
        inner.guards.push(guard);
        drop(inner);
        self.rang.notify_one();
    }

    /// Notes whether proofs are due. Returns the seats that need not be kept any more.
    fn set_due(&self, is_due: bool) -> Vec<ProcessorGuard> {
        let mut inner = self.lock();
        inner.is_due = is_due;
        if is_due { Vec::new() } else { std::mem::take(&mut inner.guards) }
    }

    fn count(&self) -> usize {
        self.lock().guards.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Due {
    /// Notes what was found in the stream.
    fn see(&mut self, found: BTreeMap<String, u64>, now: Instant) {
        // What was said before the first look may be old.
        let is_new = self.seen.as_ref().is_some_and(|seen| found.iter().any(|(of, at)| seen.get(of) != Some(at)));
        if is_new {
            self.until = Some(now + DUE_HOLDS);
        }
        self.seen = Some(found);
    }

    fn is_due(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

/// Whether a prover needs a lock that other work needs too.
pub(super) fn are_shared(groups: &[GroupConfig], prover: Phase) -> bool {
    let locks = || groups.iter().filter(|group| group.stage == prover).flat_map(|group| &group.locks);
    let others = || groups.iter().filter(|group| group.stage != prover).flat_map(|group| &group.locks);
    locks().any(|lock| others().any(|other| other == lock))
}

/// Keeps the seats for ever.
pub(super) async fn keep(post: Arc<Post>) {
    let Post { context, kept, .. } = &*post;
    let [_, prover] = phases(post.kind);
    let mut due = Due::default();
    let mut reserving = FuturesUnordered::new();
    loop {
        match context.bus.posts_due(&context.config.miners).await {
            Ok(found) => due.see(found.into_iter().collect(), Instant::now()),
            Err(error) => tracing::debug!(error = in_words(&error), "cannot look whether proofs are due"),
        }
        let is_due = due.is_due(Instant::now());
        drop(kept.set_due(is_due));
        if is_due {
            // Those of the provers that work are given back later.
            let wanted = post.proves.available_permits().saturating_sub(kept.count() + reserving.len());
            reserving.extend((0..wanted).map(|_| context.pool.reserve(prover)));
        } else {
            reserving.clear();
        }
        let look = Instant::now() + LOOK;
        loop {
            tokio::select! {
                Some(reserved) = reserving.next() => match reserved {
                    Ok(guard) => {
                        tracing::info!(processor = guard.id(), "kept free: window PoSts are due");
                        kept.put(guard);
                    }
                    Err(error) => tracing::debug!(%error, "cannot keep a prover free"),
                },
                () = tokio::time::sleep_until(look) => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(at: u64) -> BTreeMap<String, u64> {
        BTreeMap::from([("seal.post.due.f01000".to_owned(), at)])
    }

    #[test]
    fn what_is_said_again_is_due_until_it_is_not_said_any_more() {
        let (mut due, now) = (Due::default(), Instant::now());
        due.see(found(7), now);
        assert!(!due.is_due(now), "it may have been said long ago");
        due.see(found(7), now + LOOK);
        assert!(!due.is_due(now + LOOK));
        let said = now + 2 * LOOK;
        due.see(found(9), said);
        assert!(due.is_due(said));
        due.see(found(9), said + LOOK);
        assert!(due.is_due(said + LOOK) && !due.is_due(said + DUE_HOLDS));
        due.see(BTreeMap::new(), said + DUE_HOLDS);
        assert!(!due.is_due(said + DUE_HOLDS), "the stream has dropped it");
        due.see(found(99), said + 2 * DUE_HOLDS);
        assert!(due.is_due(said + 2 * DUE_HOLDS));
    }

    #[test]
    fn seats_are_kept_only_where_other_work_needs_the_same_lock() {
        let [_, prover] = Phase::POST;
        let group = |stage, locks: &[&str]| GroupConfig {
            locks: locks.iter().map(|lock| (*lock).to_owned()).collect(),
            ..GroupConfig::built_in(stage, 1)
        };
        let prover_with = |locks: &[&str]| group(prover, locks);
        assert!(are_shared(&[group(Phase::C2, &["gpu0"]), prover_with(&["gpu1", "gpu0"])], prover));
        assert!(!are_shared(&[group(Phase::C2, &["gpu0"]), prover_with(&["gpu1"])], prover));
        assert!(!are_shared(&[group(Phase::C2, &[]), prover_with(&[])], prover));
        assert!(!are_shared(&[prover_with(&["gpu0"]), prover_with(&["gpu0"])], prover), "among provers");
    }
}
