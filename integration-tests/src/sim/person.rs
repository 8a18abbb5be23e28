//! Incidents, the end of all faults, and the operator of a simulated Sealbus.

use sealbus_manager::{
    life,
    store::{Happening, Outgoing},
};
use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, Invariant, Phase, SectorId, WorkerName, lease::Ownership, message::Intent,
    workflows::Input,
};

use super::{
    bug::Bug,
    faults::{CUT, Incident, MINUTE},
    slot::SlotState,
    worker::Worker,
    world::{Event, World},
};

/// How long an absent owner keeps its sectors.
const GRACE: u64 = 20 * MINUTE;

impl World {
    /// Lets an incident happen.
    pub fn incident(&mut self, incident: Incident) {
        self.trace(|| format!("{incident:?}"));
        let now = self.now;
        match incident {
            Incident::KillWorker { worker, back_after } => {
                if self.workers[worker].up {
                    self.kill_worker(worker);
                    self.schedule(back_after, Event::StartWorker(worker));
                }
            }
            Incident::PauseWorker { worker, millis } => self.workers[worker].stopped_until = now + millis,
            Incident::CutWorker { worker, millis } => self.workers[worker].cut_until = now + millis,
            Incident::KillManager { manager, back_after } => {
                if self.managers[manager].up {
                    self.kill_manager(manager);
                    self.schedule(back_after, Event::StartManager(manager));
                }
            }
            Incident::PauseManager { manager, millis } => {
                if self.managers[manager].up {
                    self.managers[manager].stopped_until = now + millis;
                }
            }
            Incident::CutSite { workers } => self.cut_site(workers),
            Incident::CutManager { manager, millis } => self.managers[manager].cut_until = now + millis,
            Incident::StartManager { manager } => self.start_manager(manager),
            Incident::Outage { millis } => self.outage_until = now + millis,
            Incident::Reorg { depth } => {
                self.note_fork(depth);
                self.chain.reorganise(depth, &mut self.rng);
            }
            Incident::Order { sector } => {
                let id = self.sectors[sector];
                self.order(id);
            }
            Incident::GiveUp { sector } => {
                let id = self.sectors[sector];
                self.give(id, abandoned(true));
            }
            Incident::Forge { sector } => {
                let id = self.sectors[sector];
                self.forge_claim(id);
            }
            Incident::Stranger { sector, trick } => {
                let id = self.sectors[sector];
                self.play_trick(id, trick);
            }
            Incident::LoseQueue { recovered_after } => self.lose_queue(recovered_after),
            Incident::LoseQueueUnderClaim => self.loses_queue_under_claim = true,
            Incident::Backup => self.back_up(),
            Incident::LoseManager { back_after } => self.lose_manager(back_after),
            Incident::Revoke { .. } if self.is_catching_up() => {}
            Incident::Revoke { sector } => {
                let id = self.sectors[sector];
                self.checks.kept.remove(&id);
                self.revoke(id, "a person wants it elsewhere");
            }
        }
    }

    /// Ends all faults. Everything that was away comes back.
    pub fn heal(&mut self) {
        self.trace(|| "everything heals".to_owned());
        self.outage_until = 0;
        (self.chain.trouble, self.chain.spoiler) = (None, None);
        self.recover();
        for w in 0..self.workers.len() {
            (self.workers[w].stopped_until, self.workers[w].cut_until) = (0, 0);
            self.schedule(1_000, Event::StartWorker(w));
        }
        for manager in &mut self.managers {
            (manager.stopped_until, manager.cut_until) = (0, 0);
        }
        if !self.managers.iter().any(|manager| manager.up && manager.epoch == self.db.epoch) {
            for m in 0..self.managers.len() {
                self.kill_manager(m);
            }
            self.schedule(1_000, Event::StartManager(0));
        }
    }

    /// Lets the person, and the policy for absent owners, check everything.
    pub fn person(&mut self) {
        for id in self.db.sectors.keys().copied().collect::<Vec<_>>() {
            self.look_for_owner(id);
            let blocked = self.db.sectors[&id].blocked.is_some();
            if blocked && self.has_person && (self.now > self.faults.end || self.rng.chance(300_000)) {
                self.resolve(id);
            }
        }
        for w in 0..self.workers.len() {
            // Move an unreadable journal away and start the worker again.
            if self.has_person || self.now > self.faults.end {
                let dead = self.workers[w].slots.iter().any(|slot| matches!(slot.state, SlotState::Dead));
                if dead {
                    self.kill_worker(w);
                    for slot in &mut self.workers[w].slots {
                        if std::mem::take(&mut slot.damaged) {
                            slot.journal = None;
                        }
                    }
                    self.schedule(1_000, Event::StartWorker(w));
                }
            }
        }
        let next = self.rng.range(3, 8) * MINUTE;
        self.schedule(next, Event::Person);
    }

    /// Takes a lease back if its owner does not hold the sector, or has been away for long.
    fn look_for_owner(&mut self, id: SectorId) {
        let sector = &self.db.sectors[&id];
        let Ownership::Held { worker, token, .. } = &sector.ownership else { return };
        let (token, name) = (token.0, worker.clone());
        let Some(right) = self.right_in(&sector.ownership) else { return };
        // A stranger holds nothing.
        let owner = self.workers.iter().find(|worker| worker.name == name);
        let is_away = |owner: &Worker| !owner.up || self.now < owner.stopped_until || self.now < owner.cut_until;
        let away = owner.is_some_and(is_away);
        if !away && owner.is_some_and(|owner| owner.holds(id, token)) {
            self.missing.remove(&right);
            return;
        }
        let is_cut = self.is_of_cut_site(&name);
        let grace = if away { GRACE } else { 2 * MINUTE };
        let missing = self.missing.entry(right).or_insert((self.now, away));
        // One that is back is given time to find out what it owns.
        if (missing.1, away) == (true, false) {
            *missing = (self.now, away);
        }
        let since = missing.0;
        // An operator with such a site chooses a grace that is longer than the line's cuts.
        let is_spared = is_cut && self.options.bug != Some(Bug::TakeFromCutSite);
        if !is_spared && self.now >= since + grace {
            if !is_cut {
                self.checks.kept.remove(&id);
            }
            self.revoke(id, "its owner does not hold it");
        }
    }

    /// Cuts the line to a site with the first workers. Their sectors stay theirs.
    fn cut_site(&mut self, workers: usize) {
        self.restorations.cuts += 1;
        self.site_cut = (self.now + CUT, workers);
        for worker in &mut self.workers[..workers] {
            worker.cut_until = worker.cut_until.max(self.now + CUT);
        }
        self.note_what_is_kept();
        let first = &self.workers[..workers];
        let (kept, db) = (&mut self.checks.kept, &self.db);
        kept.retain(|id, _| {
            let owner = db.sectors.get(id).and_then(|sector| match &sector.ownership {
                Ownership::Held { worker, .. } => Some(worker),
                Ownership::Free { .. } => None,
            });
            // A lease that is to be ended already is not kept.
            let ends = |(of, outgoing): &(SectorId, Outgoing)| of == id && matches!(outgoing, Outgoing::Release { .. });
            first.iter().any(|worker| Some(&worker.name) == owner) && !db.outbox.values().any(ends)
        });
    }

    fn is_of_cut_site(&self, name: &WorkerName) -> bool {
        let (until, workers) = self.site_cut;
        self.now < until && self.workers[..workers].iter().any(|worker| worker.name == *name)
    }

    /// Takes a sector from the owner that the database knows.
    fn revoke(&mut self, id: SectorId, reason: &str) {
        let held = self.db.sectors.get(&id).is_some_and(|sector| matches!(sector.ownership, Ownership::Held { .. }));
        if !held {
            return;
        }
        self.trace(|| format!("{id} is to be taken back: {reason}"));
        let lease_sequence = self.db.sectors[&id].ownership.lease();
        self.db.add_to_outbox(id, Outgoing::Release { lease_sequence, reason: reason.to_owned() });
        if self.options.bug == Some(Bug::IntentBesideFold) {
            let sector = &self.db.sectors[&id];
            let intent = Intent {
                sector: id,
                kind: self.options.intent(),
                proof: sector.proof,
                lease_sequence: self.bus.last_sequence() + 1,
                attempt: sector.attempt,
            };
            self.db.add_to_outbox(id, Outgoing::Intent(intent));
        }
        for m in 0..self.managers.len() {
            self.wake_outbox(m);
        }
    }

    /// Gives an order about a sector, sensible or not.
    fn order(&mut self, id: SectorId) {
        let phase = Phase::SEALING[self.rng.next() as usize % Phase::SEALING.len()];
        let input = match self.rng.range(0, 9) {
            0..4 => Input::Resubmitted { from: None },
            4..9 => Input::Resubmitted { from: Some(phase) },
            _ => abandoned(self.rng.chance(500_000)),
        };
        self.give(id, input);
    }

    /// Lets a person resolve a blocked sector, so that it ends.
    fn resolve(&mut self, id: SectorId) {
        let turn = self.turns.entry(id).or_default();
        *turn += 1;
        match *turn {
            0..4 => {
                if self.rng.chance(300_000) {
                    self.order(id);
                } else {
                    self.give(id, Input::Resubmitted { from: None });
                }
            }
            4..8 => {
                self.checks.kept.remove(&id);
                self.revoke(id, "a person tries another worker");
                self.give(id, Input::Resubmitted { from: None });
            }
            _ => self.give(id, abandoned(true)),
        }
    }

    fn give(&mut self, id: SectorId, input: Input) {
        self.trace(|| format!("a person orders about {id}: {input:?}"));
        self.checks.kept.remove(&id);
        // In production, the command line refuses orders while the log may hold decisions that the database does not know.
        if self.is_catching_up() {
            return;
        }
        let Some(sector) = self.db.sectors.get(&id).cloned() else { return };
        let happening = Happening::of_manager("order", serde_json::Value::Null);
        let mut outcome = life::decide(sector, input, happening, self.policy);
        // In production, the command line refuses an order that is not possible.
        outcome.broken.retain(|violation| violation.invariant != Invariant::NothingIllegal);
        self.store(0, outcome);
    }
}

fn abandoned(lose_deposit: bool) -> Input {
    let cause = ErrorReport::new(ErrorClass::Abort, ErrorCode::PRECOMMIT_EXPIRED, "a person gave it up");
    Input::Abandoned { cause, lose_deposit }
}
