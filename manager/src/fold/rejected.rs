//! Limits how many rejected records are reported. A worker's key may write as many of them as the stream takes, and
//! neither the manager's log nor a sector's history may grow with them.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::store::{Happening, Outcome, Verdict};

/// This many rejected records of each writer are all reported.
const TOLD: u64 = 10;

/// How many records of each writer were rejected since this fold began.
#[derive(Debug, Default)]
pub(super) struct Rejected(Mutex<HashMap<String, u64>>);

impl Rejected {
    /// Logs the rejected records of an outcome, up to the limit, and removes the others from its history.
    pub(super) fn tell(&self, mut outcome: Outcome) -> Outcome {
        let sector = outcome.sector.id;
        outcome.history.retain(|(happening, verdict)| {
            if *verdict != Verdict::Fenced {
                return true;
            }
            let Some(count) = self.count(&happening.actor) else { return false };
            let Happening { actor, kind, token, .. } = happening;
            tracing::warn!(%sector, worker = actor, token, kind, count, "rejected: it does not own the sector");
            true
        });
        outcome
    }

    /// Counts one more. Returns the count if the record is to be reported: the first ten, then the 16th, the 32nd, and so
    /// on.
    pub(super) fn count(&self, writer: &str) -> Option<u64> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(writer.to_owned()).or_default();
        *count += 1;
        (*count <= TOLD || count.is_power_of_two()).then_some(*count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_records_are_told_a_few_times() {
        let rejected = Rejected::default();
        let told = (0..1_000_000).filter(|_| rejected.count("w1").is_some()).count();
        assert_eq!(told, 26);
        assert_eq!(rejected.count("w2"), Some(1), "each writer is counted alone");
    }
}
