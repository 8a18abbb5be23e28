//! The invariants that this process has seen broken. The counts travel in its heartbeat.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use sealbus_schema::{Invariant, Violation, message::BrokenInvariant};

/// How often each invariant was seen broken, and what was seen last.
#[derive(Debug, Default)]
pub struct Broken(Mutex<BTreeMap<Invariant, (u64, String)>>);

impl Broken {
    /// Logs and counts a violation.
    pub fn count(&self, Violation { invariant, seen }: Violation) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (times, last) = counts.entry(invariant).or_default();
        *times += 1;
        tracing::error!(%invariant, times, seen, "an invariant is broken");
        *last = seen;
    }

    /// The counts, in the form that a heartbeat shows.
    pub fn shown(&self) -> Vec<BrokenInvariant> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = |(invariant, (times, seen)): (&Invariant, &(u64, String))| BrokenInvariant {
            invariant: invariant.name().to_owned(),
            times: *times,
            seen: seen.clone(),
        };
        counts.iter().map(shown).collect()
    }
}
