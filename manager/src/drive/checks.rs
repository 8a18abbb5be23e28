//! Checks of files under way, and what follows from their outcomes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use sealbus_schema::{
    ErrorClass, ErrorReport, SectorId,
    parts::StoredSector,
    workflows::{Input, seal::manager::Answer},
};

use super::{apply_to, attempt_policy, lock};
use crate::{
    config::Config,
    files::Running,
    store::Store,
    store_access,
    waits::{Cause, Subject, Waits},
    wake::Wake,
};

/// The sectors whose files are being read, and in which store.
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

/// What a check needs when it is done.
pub(super) struct Check {
    pub(super) turn: Turn,
    pub(super) store: Store,
    pub(super) config: Arc<Config>,
    pub(super) waits: Arc<Waits>,
    pub(super) epoch: i64,
    pub(super) changed: Wake,
}

impl Checks {
    /// A turn for a sector's files in a store; `None` while they are being checked, or `at_once` others in that store are. So
    /// a store that hangs holds up no other.
    pub(super) fn begin(&self, sector: SectorId, store: &str, at_once: usize) -> Option<Turn> {
        let mut running = lock(&self.running);
        let in_store = running.values().filter(|of| *of == store).count();
        if in_store >= at_once || running.contains_key(&sector) {
            return None;
        }
        running.insert(sector, store.to_owned());
        Some(Turn { checks: self.clone(), sector })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.checks.running).remove(&self.sector);
    }
}

impl Check {
    /// Waits for a check's outcome, applies it, and keeps the turn until the process is gone.
    pub(super) async fn follow(self, id: SectorId, files: StoredSector, running: Result<Running, ErrorReport>) {
        let Check { turn, store, config, waits, epoch, changed } = self;
        let limit = Duration::from_secs(config.policy.file_check_timeout_secs);
        let (outcome, running) = match running {
            Ok(mut running) => (running.outcome(limit).await, Some(running)),
            Err(error) => (Err(error), None),
        };
        let subject = Subject::Sector(id);
        let input = match outcome {
            Ok(()) => Ok(Input::from(Answer::FilesChecked)),
            Err(error) => {
                let denied = match config.stores.iter().find(|store| store.name == files.store) {
                    Some(store) => store_access::denied(store, &files).await,
                    None => None,
                };
                // What a person or time mends outside is waited for; what the files are is not.
                match denied.or_else(|| (error.class == ErrorClass::Temp).then(|| Cause::from(&error))) {
                    Some(cause) => Err(cause),
                    None => Ok(Input::Refused(error)),
                }
            }
        };
        match input {
            Ok(input) => {
                waits.goes_on(&subject);
                if let Err(error) = apply_to(&store, epoch, id, input, attempt_policy(&config)).await {
                    tracing::error!(sector = %id, %error, "the check's outcome is not stored; checking again");
                }
            }
            Err(cause) => drop(waits.waits(&subject, cause, config.chain.poll_interval())),
        }
        if let Some(running) = running {
            running.ended().await;
        }
        drop(turn);
        // Others may have waited for the turn.
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
