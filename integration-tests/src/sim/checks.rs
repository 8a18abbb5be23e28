//! Checks the invariants at each step. The state here serves only the checks.

use std::collections::{HashMap, HashSet};

use sealbus_manager::store::{Job, Message};
use sealbus_nats::log::Record;
use sealbus_schema::{
    ErrorCode, ErrorReport, Invariant, Phase, SectorId, WorkerName,
    machine::manager::Life,
    message::{EventBody, Intent, LeaseRecord},
    workflows::seal::{manager::State, worker::Step},
};
use sealbus_worker::journal::Journal;

use super::{
    bug::Bug,
    chain::{self, SimMessage},
    loss,
    slot::SlotState,
    world::World,
};

/// A right to a sector: the token's stream, and the token, which is a sequence in that stream.
pub type Right = (u64, u64);

/// The state of the checks.
#[derive(Debug, Default)]
pub struct Checks {
    /// The first broken invariant, and what was seen.
    pub broken: Option<(Invariant, String)>,
    /// When a worker last got an answer about a sector's lease.
    pub asked: HashMap<(WorkerName, SectorId), u64>,
    /// The highest `next_event` of a journal that a worker's disk has had under a token.
    pub journaled: HashMap<(WorkerName, Right), u64>,
    /// The event that was stored under each number of each token.
    bodies: HashMap<(SectorId, Right, u64), EventBody>,
    /// The granted claims, by stream and sequence.
    pub granted: HashSet<(u64, u64)>,
    /// The records that took effect, by stream and sequence.
    pub folded: HashSet<(u64, u64)>,
    /// The worker whose events counted under a token.
    pub accepted: HashMap<Right, WorkerName>,
    /// The events that counted.
    pub counted: HashSet<(SectorId, Right, u64)>,
    /// The rights under which a slot has sealed a sector, with the serial of the last order to resubmit in its journal
    /// then.
    sealed: HashMap<(SectorId, Right), u32>,
    /// What slots held when the queue was recovered. An entry is removed when somebody takes the sector away.
    pub kept: HashMap<SectorId, Right>,
    /// The call that was signed for each want.
    pub signed: HashMap<String, Vec<u8>>,
    /// The highest seed that a worker has read under a token.
    pub seeds: HashMap<(WorkerName, Right), u32>,
    /// The permanent store: the replica of each sector.
    pub store: HashMap<SectorId, [u8; 32]>,
}

impl World {
    /// Records a broken invariant. Only the first one counts.
    pub fn break_invariant(&mut self, invariant: Invariant, what: impl FnOnce() -> String) {
        if self.checks.broken.is_none() {
            let what = what();
            self.trace(|| format!("BROKEN {invariant}: {what}"));
            self.checks.broken = Some((invariant, what));
        }
    }

    /// Checks a stored record. `origin` is the stream that the writer's token belongs to.
    pub fn check_stored(&mut self, record: &Record, origin: u64) {
        let Record::Event { sector, worker, event } = record else { return };
        let (sector, token, number) = (*sector, (origin, event.token.0), event.number);
        // An owner that reports is there, also if nobody looked at that moment.
        self.missing.remove(&token);
        let lease = self.bus.last_lease(sector).map_or((self.bus.stream, 0), |lease| match &lease.record {
            LeaseRecord::Reinstate { token, stream, .. } if lease.owner.is_none() => {
                (stream.as_deref().map_or(self.bus.stream, |name| loss::number_of(Some(name))), token.0)
            }
            _ => (self.bus.stream, lease.sequence),
        });
        // Until a lost queue is recovered, an old token may equal the sequence of another record in the new log. Recovery
        // deletes what is stored there then, and it is reported again, so it is not checked. And to show the planted bug
        // of the fold, the worker must not be fenced either.
        let is_kept = self.db.stream == self.bus.stream;
        if is_kept && lease != token && self.options.bug != Some(Bug::FoldWithoutOwner) {
            let what = format!("{worker} writes about {sector} under {token:?} while the lease is {lease:?}");
            self.break_invariant(Invariant::WritersAreFenced, || what);
        }
        let journaled = self.checks.journaled.get(&(worker.clone(), token)).copied().unwrap_or_default();
        if number >= journaled {
            let what =
                format!("event {number} of {worker} under {token:?}; its journal knows of {journaled} as the next");
            self.break_invariant(Invariant::JournalBeforeEvent, || what);
        }
        let before = self.checks.bodies.insert((sector, token, number), event.body.clone());
        if before.is_some_and(|before| before != event.body) {
            let what = format!("event {number} of {sector} under {token:?} was another one before");
            self.break_invariant(Invariant::TokensAreNotReused, || what);
        }
        if event.body.error().is_some_and(|error| error.code == ErrorCode::PROTOCOL_VIOLATED) {
            let what = format!("{worker} reports {:?}", event.body);
            self.break_invariant(Invariant::NothingIllegal, || what);
        }
    }

    /// Checks an intent that is put into the queue.
    pub fn check_offer(&mut self, intent: &Intent) {
        let after = intent.lease_sequence;
        let leaves_it_free = after == 0
            || self.bus.entry(after).is_some_and(|entry| match &entry.record {
                Record::Lease { record: LeaseRecord::Reinstate { .. }, owner: None, .. } => false,
                // A claim that was not granted leaves a free sector free.
                Record::Lease { sector, .. } => {
                    *sector == intent.sector && !self.checks.granted.contains(&(self.bus.stream, after))
                }
                _ => false,
            });
        if !leaves_it_free || after > self.db.last_sequence {
            let what = format!("an intent for {} after record {after}", intent.sector);
            self.break_invariant(Invariant::IntentsComeFromTheFold, || what);
        }
    }

    /// Checks that a worker that removes the intent of its own claim has the claim in its journal. Other workers may remove
    /// it too, because this intent can no longer claim.
    pub fn check_accept(&mut self, intent: &Intent, by: usize) {
        let name = self.workers[by].name.clone();
        let Some(lease) = self.bus.last_lease(intent.sector) else {
            return self.break_invariant(Invariant::JournalBeforeAccept, || "an intent that nobody claimed".to_owned());
        };
        let claims_it = matches!(&lease.record, sealbus_schema::message::LeaseRecord::Claim { intent: claimed, .. }
            if claimed.lease_sequence == intent.lease_sequence);
        let token = (self.bus.stream, lease.sequence);
        let own = claims_it && lease.owner.as_ref() == Some(&name);
        if own && self.claims(by, intent.sector) && !self.checks.journaled.contains_key(&(name.clone(), token)) {
            let what = format!("{} leaves the queue before the journal of {name} has token {token:?}", intent.sector);
            self.break_invariant(Invariant::JournalBeforeAccept, || what);
        }
    }

    /// Whether a worker is about to write a claim into its journal.
    fn claims(&self, worker: usize, sector: SectorId) -> bool {
        let slots = self.workers[worker].slots.iter();
        slots
            .map(|slot| &slot.state)
            .any(|state| matches!(state, SlotState::Claiming(claiming) if claiming.intent.sector == sector))
    }

    /// Checks a slot that begins to drive a sector.
    pub fn check_life(&mut self, w: usize, s: usize, journal: &Journal, resumed: bool) {
        let worker = &self.workers[w];
        let (name, sector, token) = (worker.name.clone(), journal.intent.sector, journal.token);
        let right = loss::right_of(journal);
        let asked = self.checks.asked.get(&(name.clone(), sector)).is_some_and(|at| *at >= worker.started);
        let twice = worker.slots.iter().enumerate().any(|(other, slot)| {
            other != s
                && matches!(&slot.state, SlotState::Living(living) if loss::right_of(living.core.journal()) == right
                    && living.core.journal().intent.sector == sector)
        });
        if resumed && !asked {
            self.break_invariant(Invariant::LeaseAskedBeforeWork, || {
                format!("{name} goes on with {sector} under {token}")
            });
        }
        if twice {
            self.break_invariant(Invariant::OneSlotALease, || format!("{name} has {sector} under {token} twice"));
        }
        if journal.next_event == 1 && self.checks.bodies.contains_key(&(sector, right, 1)) {
            let what = format!("{name} begins {sector} under {token} again");
            self.break_invariant(Invariant::TokensAreNotReused, || what);
        }
    }

    /// Checks a journal that was written to the disk.
    pub fn check_journal(&mut self, journal: &Journal) {
        let sealed = journal.state.step().is_some_and(|step| {
            let unsealed = [Phase::AddPieces, Phase::TreeD, Phase::Pc1, Phase::Pc2];
            step.phase()
                .map_or(matches!(step.seal(), Some(Step::AwaitingPreCommit { .. })), |phase| !unsealed.contains(&phase))
        });
        if sealed {
            let key = (journal.intent.sector, loss::right_of(journal));
            self.checks.sealed.insert(key, journal.resubmitted);
        }
    }

    /// Checks a slot that begins a phase.
    pub fn check_phase(&mut self, journal: &Journal, phase: Phase) {
        let (sector, right) = (journal.intent.sector, loss::right_of(journal));
        let ordered = self.checks.sealed.get(&(sector, right)).is_none_or(|order| *order < journal.resubmitted);
        if matches!(phase, Phase::AddPieces | Phase::TreeD | Phase::Pc1 | Phase::Pc2) && !ordered {
            let what = format!("{} of {sector} under {right:?} is run again", phase.name());
            self.break_invariant(Invariant::NothingSealedAgain, || what);
        }
    }

    /// Checks a slot that gives up its sector because the lease is over.
    pub fn check_given_up(&mut self, journal: &Journal) {
        let (sector, right) = (journal.intent.sector, loss::right_of(journal));
        let over = self.db.sectors.get(&sector).is_some_and(|sector| {
            sector.state.traits().life != Life::Going || matches!(sector.state.seal(), Some(State::Cleaning(_)))
        });
        if self.checks.kept.get(&sector) == Some(&right) && !over {
            let what = format!("the slot with {sector} under {right:?} gives it up after the loss of the queue");
            self.break_invariant(Invariant::NothingSealedAgain, || what);
        }
    }

    /// Checks a want that is about to get its call: no other call for the same may still land, and nothing else wants it.
    pub fn check_signed(&mut self, message: &Message) {
        let beside = self.db.rival(message).map(str::to_owned);
        if let Some(other) = beside {
            let what = format!("{} gets a call while {other} has not ended", message.key);
            self.break_invariant(Invariant::OneCallAWant, || what);
        }
    }

    /// Checks that nothing in the pool would do the same as a message that is about to be signed.
    pub fn check_pool(&mut self, sent: &SimMessage) {
        if let Some(part) = sent.parts().iter().find(|part| self.chain.may_land(part)) {
            let what = format!("{:?} is signed while another message for it is in the pool", part.sector);
            self.break_invariant(Invariant::OneCallAWant, || what);
        }
    }

    /// Checks a sector whose proof is about to be sent.
    pub fn check_proof(&mut self, sector: &Job) {
        let Some(proven) = sector.state.seal().and_then(State::proven) else { return };
        let comm_r = &proven.seeded.stored.precommitted.sealed.comm_r.0;
        if chain::proof(sector.id, comm_r, &proven.seeded.seed.randomness.0) != proven.proof.0 {
            let what = format!("{} is to be proven with a proof for another seed", sector.id);
            self.break_invariant(Invariant::ProofForTheSeed, || what);
        }
    }

    /// Whether every sector has ended, or is blocked with nobody to resolve it. One that is proving must be active on chain: a
    /// reorganisation may have taken its ProveCommit away.
    pub fn is_over(&self) -> bool {
        let some_blocked = self.db.sectors.values().any(|sector| sector.blocked.is_some());
        let ended = |sector: &Job| match sector.state.traits() {
            traits if traits.is_terminal() => {
                sector.state.seal().is_none_or(|state| !matches!(state, State::Proving(_)))
                    || self.chain.active(sector.id, self.chain.head()).is_some()
            }
            // Without a person, blocked sectors stay blocked, and others may wait for a slot that is blocked.
            _ if self.has_person => false,
            _ if sector.blocked.is_some() => true,
            traits => traits.offered.is_some() && some_blocked,
        };
        let idle = |state: &SlotState| match state {
            SlotState::Free | SlotState::Down | SlotState::Dead => true,
            SlotState::Living(living) => {
                let id = living.core.journal().intent.sector;
                self.db.sectors.get(&id).is_some_and(|sector| sector.blocked.is_some())
            }
            _ => false,
        };
        self.db.restored.is_none()
            && self.db.sectors.len() == self.sectors.len()
            && self.db.sectors.values().all(ended)
            && self.workers.iter().flat_map(|worker| &worker.slots).all(|slot| idle(&slot.state))
    }

    /// How many sectors are proving.
    pub fn proving(&self) -> usize {
        self.db.sectors.values().filter(|sector| sector.is_done()).count()
    }

    /// What has not ended, in words.
    pub fn unfinished(&self) -> String {
        let sectors = self.db.sectors.values().map(|sector| {
            let blocked = sector.blocked.as_ref().map(ErrorReport::message).unwrap_or_default();
            format!("{} {} {blocked} ({:?})", sector.id, sector.state.name(), sector.ownership)
        });
        let slots = self.workers.iter().flat_map(|worker| {
            worker.slots.iter().map(move |slot| {
                let what = match &slot.state {
                    SlotState::Living(living) => format!("{:?}", living.core.journal().state),
                    SlotState::Free => "free".to_owned(),
                    SlotState::Down => "down".to_owned(),
                    SlotState::Dead => "dead".to_owned(),
                    SlotState::Claiming(_) => "claiming".to_owned(),
                    SlotState::Resuming(_) => "resuming".to_owned(),
                    SlotState::Leaving { .. } => "leaving".to_owned(),
                };
                format!("{}: {what}", worker.name)
            })
        });
        let messages = self.db.open_messages().into_iter().map(|message| message.key);
        sectors.chain(slots).chain(messages).collect::<Vec<_>>().join("; ")
    }

    /// Checks what must hold at the world's end.
    pub fn final_checks(&mut self) {
        for id in self.sectors.clone() {
            let (precommits, proves) = self.chain.effects(id);
            if precommits > 1 || proves > 1 {
                let what = format!("{id}: {precommits} PreCommits, {proves} ProveCommits");
                self.break_invariant(Invariant::OneEffectAPurpose, || what);
            }
        }
    }
}
