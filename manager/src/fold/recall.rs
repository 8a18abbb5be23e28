//! What a record of the log does to its sector while a restored database catches up with the log. Pure.
//!
//! The manager decided more after the backup than the database knows. Its facts in the log say what it answered, and a
//! claim that it granted says what it had offered. Everything else follows again from the workers' reports and the chain.

use sealbus_nats::log::{Entry, Record};
use sealbus_schema::{
    SectorId, WorkerName,
    lease::Ownership,
    machine::manager::{AtStake, AttemptPolicy},
    message::{CommonFact, Fact, FactBody, Intent, LeaseRecord},
    workflows::{Effect, State},
};
use serde_json::json;

use super::entry;
use crate::store::{Happening, Job, Outcome, Verdict, WantedMessage, time_text};

/// A fact in the outbox, with its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsent {
    /// The row's number.
    pub row: i64,
    /// The owner that it is for.
    pub worker: WorkerName,
    /// The fact.
    pub fact: Fact,
}

/// What a fact in the log says about the facts in the outbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// The rows that are published, or replaced by this fact.
    pub rows: Vec<i64>,
    /// Whether this fact was one of them, so that its decision is known.
    pub is_known: bool,
}

/// Finds out which facts of a sector's outbox, in its order, a fact in the log has published or replaced. The last fact of a
/// kind counts, so an older one must not be published after it.
pub fn sent(unsent: &[Unsent], worker: &WorkerName, fact: &Fact) -> Sent {
    let alike = |one: &&Unsent| one.worker == *worker && one.fact.token == fact.token && one.fact.kind() == fact.kind();
    let alike: Vec<&Unsent> = unsent.iter().filter(alike).collect();
    let last = alike.iter().position(|one| is_same(&one.fact, fact));
    let rows = alike.iter().take(last.map_or(alike.len(), |last| last + 1)).map(|one| one.row).collect();
    Sent { rows, is_known: last.is_some() }
}

/// Whether two facts say the same. The stores are added when a fact is published.
fn is_same(a: &Fact, b: &Fact) -> bool {
    let plain = |fact: &Fact| {
        let mut fact = fact.clone();
        fact.body.note_stores(&[]);
        fact
    };
    plain(a) == plain(b)
}

/// The sector and the first intent of a claim by which a database learns of a sector that it does not know.
pub fn first_claim(record: &Record) -> Option<(SectorId, &Intent)> {
    match record {
        Record::Lease { sector, owner: Some(_), record: LeaseRecord::Claim { intent, .. } }
            if intent.sector == *sector =>
        {
            Some((*sector, intent))
        }
        _ => None,
    }
}

/// What a record does to its sector. `is_known`: it is a fact, and the database knew the decision before. `seed_delay`: the
/// number of epochs from a PreCommit to its seed.
pub fn recall(sector: Job, entry: &Entry, is_known: bool, seed_delay: i64, policy: AttemptPolicy) -> Outcome {
    let mut outcome = match &entry.record {
        Record::Fact { .. } if is_known => Outcome::unchanged(sector),
        Record::Fact { worker, fact, .. } => told(sector, entry, worker, fact, seed_delay),
        Record::Lease { owner: Some(_), record: LeaseRecord::Claim { intent, .. }, .. } => {
            entry::decide(as_offered(sector, intent), entry, policy)
        }
        _ => entry::decide(sector, entry, policy),
    };
    // The message may have been signed before the loss, so the same replica is needed if its worker is lost.
    outcome.sector.signed |= !outcome.messages.is_empty();
    outcome
}

/// The sector as the manager had offered it, if it granted this claim.
///
/// Whether a lease's end began another attempt, and whether a person had put a blocked sector into the queue again, is not
/// in the log. The next claim shows it. A sector with a deposit on chain never begins another attempt.
fn as_offered(mut sector: Job, intent: &Intent) -> Job {
    let Ownership::Free { last_lease } = sector.ownership else { return sector };
    if last_lease != intent.lease_sequence || sector.proof != intent.proof {
        return sector;
    }
    let offers = |state: &State| state.traits().offered == Some(intent.kind);
    let (start, waits) = (State::start(sector.state.workflow()), sector.state.traits().offered.is_some());
    let may_restart = waits && !matches!(sector.state.at_stake(), AtStake::Deposit(_));
    if intent.attempt > sector.attempt && may_restart && offers(&start) {
        (sector.state, sector.attempt, sector.signed, sector.blocked) = (start, intent.attempt, false, None);
    } else if intent.attempt == sector.attempt && offers(&sector.state) {
        sector.blocked = None;
    }
    sector
}

/// What a fact says about the state of the sector that it is about.
fn told(mut sector: Job, entry: &Entry, worker: &WorkerName, fact: &Fact, seed_delay: i64) -> Outcome {
    let is_owners = matches!(&sector.ownership, Ownership::Held { worker: owner, token, .. }
        if owner == worker && *token == fact.token);
    if !is_owners {
        return Outcome::unchanged(sector);
    }
    let mut messages = Vec::new();
    match &fact.body {
        FactBody::Common(CommonFact::Resubmit { from }) if fact.serial > sector.resubmits => {
            (sector.resubmits, sector.issues, sector.blocked) = (fact.serial, 0, None);
            if let Some((next, effects)) = sector.state.resubmitted(*from) {
                sector.state = next;
                let attempt = sector.attempt;
                messages.extend(effects.into_iter().filter_map(|effect| match effect {
                    Effect::Want(purpose) => Some(WantedMessage { kind: purpose.into(), attempt }),
                    _ => None,
                }));
            }
        }
        body => match sector.state.recalled(body, seed_delay) {
            Some(next) => (sector.state, sector.blocked) = (next, None),
            None => return Outcome::unchanged(sector),
        },
    }
    let at = time_text(entry.time);
    sector.changed_at.clone_from(&at);
    let kind = fact.kind().map_or("fact", |kind| kind.name());
    let happening = Happening {
        at,
        sequence: Some(entry.sequence),
        actor: "manager".to_owned(),
        token: Some(fact.token.0),
        kind: "found_in_log".to_owned(),
        detail: json!({ "fact": kind, "state": sector.state.name() }).to_string(),
    };
    Outcome { history: vec![(happening, Verdict::Applied)], messages, ..Outcome::unchanged(sector) }
}
