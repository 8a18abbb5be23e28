//! Running checks of files, and what follows from their outcomes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use sealbus_schema::{Commitment, ErrorClass, ErrorReport, SectorId, parts::StoredSector};

use super::{apply_to, attempt_policy, lock};
use crate::{
    config::Config,
    files::Running,
    store::{Job, Store},
    store_access,
    waits::{Cause, Subject, Waits},
    wake::Wake,
    workflows::{self, Answer, Known, Next, Now, Question},
};

/// The sectors whose files are being read, each with its store.
#[derive(Clone, Debug, Default)]
pub(super) struct Checks {
    running: Arc<Mutex<BTreeMap<SectorId, String>>>,
}

/// The right to check one sector's files, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    checks: Checks,
    sector: SectorId,
}

/// What is needed when a check is done.
pub(super) struct Check {
    pub(super) turn: Turn,
    pub(super) store: Store,
    pub(super) config: Arc<Config>,
    pub(super) waits: Arc<Waits>,
    pub(super) epoch: i64,
    pub(super) changed: Wake,
    /// The job as it was when the check began.
    pub(super) job: Job,
    /// The tick at which the check began.
    pub(super) now: Now,
    /// What was known then.
    pub(super) known: Known,
}

impl Checks {
    /// The turn to check a sector's files in a store. `None` while these files, or those of `at_once` other sectors in
    /// that store, are being checked. Counting by store keeps a hanging store from delaying the others.
    pub(super) fn begin(&self, sector: SectorId, store: &str, at_once: usize) -> Option<Turn> {
        let mut running = lock(&self.running);
        if !has_turn(&running, sector, store, at_once) {
            return None;
        }
        running.insert(sector, store.to_owned());
        Some(Turn { checks: self.clone(), sector })
    }

    /// Whether [`Self::begin`] would give a turn.
    pub(super) fn may_begin(&self, sector: SectorId, store: &str, at_once: usize) -> bool {
        has_turn(&lock(&self.running), sector, store, at_once)
    }
}

fn has_turn(running: &BTreeMap<SectorId, String>, sector: SectorId, store: &str, at_once: usize) -> bool {
    let in_store = running.values().filter(|of| *of == store).count();
    in_store < at_once && !running.contains_key(&sector)
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.checks.running).remove(&self.sector);
    }
}

impl Check {
    /// Waits for a check's outcome and applies what the workflow decides. Keeps the turn until the process has ended.
    pub(super) async fn follow(self, comm_r: Commitment, files: StoredSector, running: Result<Running, ErrorReport>) {
        let Check { turn, store, config, waits, epoch, changed, job, now, mut known } = self;
        let limit = Duration::from_secs(config.policy.file_check_timeout_secs);
        let (outcome, running) = match running {
            Ok(mut running) => (running.outcome(limit).await, Some(running)),
            Err(error) => (Err(error), None),
        };
        let subject = Subject::Sector(job.id);
        let verdict = match outcome {
            Ok(()) => Ok(Ok(())),
            Err(error) => {
                let denied = match config.stores.iter().find(|store| store.name == files.store) {
                    Some(store) => store_access::denied(store, &files).await,
                    None => None,
                };
                // Wait for what a person or time can fix. A fault in the files themselves is final.
                match denied.or_else(|| (error.class == ErrorClass::Temp).then(|| Cause::from(&error))) {
                    Some(cause) => Err(cause),
                    None => Ok(Err(error)),
                }
            }
        };
        match verdict {
            Ok(verdict) => {
                waits.goes_on(&subject);
                known.learn(Question::FilesProve { comm_r, files }, Answer::Verdict(verdict));
                if let Ok(Next::Apply(input)) = workflows::next(&job, &now, &known)
                    && let Err(error) = apply_to(&store, epoch, job.id, None, input, attempt_policy(&config)).await
                {
                    tracing::error!(sector = %job.id, %error, "the check's outcome is not stored; checking again");
                }
            }
            Err(cause) => drop(waits.waits(&subject, cause, config.chain.poll_interval())),
        }
        if let Some(running) = running {
            running.ended().await;
        }
        drop(turn);
        // Others may be waiting for the turn.
        changed.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_has_so_many_checks_at_once_and_a_sector_one() {
        let checks = Checks::default();
        let sector = |number: u64| format!("f01000/{number}").parse::<SectorId>().expect("a sector");
        let first = checks.begin(sector(1), "main", 2).expect("nobody else is there");
        assert!(checks.begin(sector(1), "main", 2).is_none(), "it is being checked");
        let _second = checks.begin(sector(2), "main", 2).expect("two at once");
        assert!(checks.begin(sector(3), "main", 2).is_none());
        let _other = checks.begin(sector(4), "other", 2).expect("another store");
        drop(first);
        checks.begin(sector(3), "main", 2).expect("there is room again");
    }
}
