//! The simulated database: the data of the manager's store, with each transaction as one step.

use std::collections::BTreeMap;

use sealbus_manager::store::{Job, Outcome, Outgoing};
use sealbus_schema::{SealProof, SectorId, Workflow, lease::Ownership, workflows::State};

use super::{bug::Bug, restore::Restored};

mod messages;
pub mod rows;

use rows::{Call, Want};

/// The tables.
#[derive(Clone, Debug, Default)]
pub struct Db {
    /// Every sector.
    pub sectors: BTreeMap<SectorId, Job>,
    /// The records to publish.
    pub outbox: BTreeMap<i64, (SectorId, Outgoing)>,
    /// Every want, by its name.
    pub wants: BTreeMap<String, Want>,
    /// Every call and every filler, by its number.
    pub calls: BTreeMap<i64, Call>,
    /// The stream that is folded.
    pub stream: u64,
    /// The last sequence that is folded.
    pub last_sequence: u64,
    /// The epoch of the manager that holds the fold.
    pub epoch: i64,
    /// Whether this is a restored backup that has not caught up yet.
    pub restored: Option<Restored>,
    /// When each job ended whose records are still in the log.
    pub ended: BTreeMap<SectorId, u64>,
    /// A planted mistake.
    pub bug: Option<Bug>,
    rows: i64,
}

impl Db {
    /// Gives out a number and begins a job of its sector.
    pub fn insert_sector(&mut self, id: SectorId, workflow: Workflow) -> Job {
        let sector = Job {
            id,
            proof: SealProof::StackedDrg2KiBV1_1,
            attempt: 1,
            issues: 1,
            resubmits: 0,
            signed: false,
            created_at: String::new(),
            changed_at: String::new(),
            ownership: Ownership::Free { last_lease: 0 },
            leased_at: None,
            state: State::start(workflow),
            blocked: None,
        };
        self.sectors.insert(id, sector.clone());
        sector
    }

    /// Stores an outcome.
    pub fn store(&mut self, outcome: Outcome) {
        if outcome.history.is_empty() {
            return;
        }
        let id = outcome.sector.id;
        for outgoing in outcome.outbox {
            self.add_to_outbox(id, outgoing);
        }
        for wanted in outcome.messages {
            self.want(id, wanted.kind, wanted.attempt);
        }
        self.sectors.insert(id, outcome.sector);
    }

    /// Begins the fold of a new stream, as production's `Tx::restart_fold` does.
    pub fn restart_fold(&mut self, stream: u64, before: u64, outcomes: Vec<Outcome>) {
        self.outbox.clear();
        for sector in self.sectors.values_mut() {
            match &mut sector.ownership {
                ownership if sector.state.is_terminal() => *ownership = Ownership::Free { last_lease: 0 },
                Ownership::Free { last_lease } | Ownership::Held { last_lease, .. } => *last_lease = 0,
            }
        }
        (self.stream, self.last_sequence) = (stream, before);
        self.epoch += 1;
        for mut outcome in outcomes {
            if matches!(outcome.sector.ownership, Ownership::Free { .. }) {
                let reason = "the queue was lost".to_owned();
                outcome.outbox.push(Outgoing::Release { lease_sequence: 0, reason });
            }
            self.store(outcome);
        }
    }

    /// The number of the outbox's next row.
    pub fn next_row(&self) -> u64 {
        self.rows as u64 + 1
    }

    /// Adds a row to the outbox.
    pub fn add_to_outbox(&mut self, id: SectorId, outgoing: Outgoing) {
        self.rows += 1;
        self.outbox.insert(self.rows, (id, outgoing));
    }
}
