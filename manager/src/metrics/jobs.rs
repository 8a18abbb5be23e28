//! What the database counts.

use sealbus_nats::metrics::{Metric, Samples};
use sealbus_schema::{ErrorCode, Invariant};

use super::{Failure, names};
use crate::store::{Count, Store, StoreError};

/// How many epochs before its end a ticket counts as near it: an hour.
const TICKET_SOON: i64 = 120;
/// The same for a PreCommit: a day.
const PRECOMMIT_SOON: i64 = 2880;
/// The epochs whose proofs and blocks are counted: a proving period.
const PERIOD: i64 = 2880;

/// Looks at the database. What is measured from the head is left out until the head is known.
pub async fn look(store: &Store, head: Option<i64>) -> Result<Samples, Failure> {
    let mut samples = Samples::default();
    for job in store.count_jobs().await? {
        set(&mut samples, &names::JOBS, &job, job.count);
        set_least(&mut samples, &names::JOBS_OLDEST, &job);
    }
    for blocked in sum_by_known_code(store.count_blocked_jobs().await?) {
        set(&mut samples, &names::JOBS_BLOCKED, &blocked, blocked.count);
    }
    if let Some(head) = head {
        let expiring = store.count_expiring(head + TICKET_SOON, head + PRECOMMIT_SOON).await?;
        for (limit, expiring) in ["ticket", "precommit"].into_iter().zip(expiring) {
            samples.set(&names::EXPIRING, &[limit], expiring.soon as f64);
            if let Some(first) = expiring.first {
                samples.set(&names::EXPIRY, &[limit], (first - head) as f64);
            }
        }
    }
    for wait in sum_by_known_code(store.count_waits().await?) {
        set(&mut samples, &names::WAITS, &wait, wait.count);
        set_least(&mut samples, &names::WAITS_OLDEST, &wait);
    }
    look_at_messages(store, head, &mut samples).await?;
    for partitions in store.count_partitions(PERIOD).await? {
        set(&mut samples, &names::PARTITIONS, &partitions, partitions.count);
        if let (Some(left), [miner, state]) = (partitions.least, &partitions.labels[..])
            && state == "landed"
        {
            samples.set(&names::MARGIN, &[miner], left as f64);
        }
    }
    for skipped in store.count_skipped(PERIOD).await? {
        set(&mut samples, &names::SKIPPED, &skipped, skipped.count);
    }
    for blocks in store.count_blocks(PERIOD).await? {
        set(&mut samples, &names::BLOCKS, &blocks, blocks.count);
    }
    let broken = store.broken_invariants().await?;
    for invariant in Invariant::ALL.iter().map(|invariant| invariant.name()) {
        let times = broken.iter().find(|broken| broken.invariant == invariant).map_or(0, |broken| broken.times);
        samples.set(&names::BROKEN, &[invariant], times as f64);
    }
    samples.set(&names::OUTBOX, &[], store.count_outbox().await? as f64);
    samples.set(&names::FORGED, &[], store.count_forged_orders().await? as f64);
    Ok(samples)
}

async fn look_at_messages(store: &Store, head: Option<i64>, samples: &mut Samples) -> Result<(), StoreError> {
    for messages in store.count_messages().await? {
        set(samples, &names::MESSAGES, &messages, messages.count);
        if let (Some(head), Some(pushed), [kind, state]) = (head, messages.least, &messages.labels[..])
            && state == "pushed"
        {
            samples.set(&names::MESSAGES_OLDEST, &[kind], (head - pushed).max(0) as f64);
        }
    }
    Ok(())
}

fn set(samples: &mut Samples, metric: &'static Metric, found: &Count, value: i64) {
    let labels: Vec<&str> = found.labels.iter().map(String::as_str).collect();
    samples.set(metric, &labels, value as f64);
}

fn set_least(samples: &mut Samples, metric: &'static Metric, found: &Count) {
    if let Some(least) = found.least {
        set(samples, metric, found, least.max(0));
    }
}

/// Codes may come from somebody else's executables. All that Sealbus does not know are shown as `OTHER`. The code is the
/// last label.
fn sum_by_known_code(counts: Vec<Count>) -> Vec<Count> {
    let mut known: Vec<Count> = Vec::new();
    for mut count in counts {
        if let Some(code) = count.labels.last_mut() {
            *code = ErrorCode::known(code).to_owned();
        }
        match known.iter_mut().find(|other| other.labels == count.labels) {
            Some(other) => {
                other.count += count.count;
                other.least = other.least.max(count.least);
            }
            None => known.push(count),
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_nobody_knows_are_one_series() {
        let count = |code: &str, count, age| Count {
            labels: vec!["perm".to_owned(), code.to_owned()],
            count,
            least: Some(age),
        };
        let summed = sum_by_known_code(vec![count("A_B", 2, 5), count("DISK_FULL", 1, 1), count("C_D", 3, 9)]);
        assert_eq!(summed, [count("OTHER", 5, 9), count("DISK_FULL", 1, 1)]);
    }
}
