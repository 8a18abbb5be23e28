//! The queue is lost with everything in it, and a person goes on with what the database knows.
//!
//! Sequences start again in the stream that takes the old one's place, so a worker's token may be the number of another
//! record there. Managers end when they see the other stream, and start when a person has run `bus recover`.

use sealbus_manager::{
    life,
    store::{Happening, Outgoing},
};
use sealbus_schema::{
    lease::Ownership,
    message::{CommonFact, FactBody},
};
use sealbus_worker::{
    driver::{core::leave, resume::Present},
    journal::Journal,
};

use super::{
    bug::Bug,
    checks::Right,
    faults::{Incident, MINUTE},
    manager::Task,
    world::{Event, World},
};

/// How long a manager may take to notice: production's `TOPOLOGY_PERIOD`.
const LOOK_PERIOD: u64 = 10_000;

/// The identity of a stream, as it stands in journals and in the database.
pub fn name_of(stream: u64) -> String {
    format!("SEAL_SECTORS@{stream}")
}

/// The stream of an identity. Only a world that loses its queue asks which stream it has; in the others it is the first.
pub fn number_of(name: Option<&str>) -> u64 {
    name.and_then(|name| name.rsplit('@').next()?.parse().ok()).unwrap_or_default()
}

/// The right that a journal has.
pub fn right_of(journal: &Journal) -> Right {
    (number_of(journal.stream.as_deref()), journal.token.0)
}

impl World {
    /// Whether the queue is lost at some time. Only then is asked which stream it is, so that other worlds stay the same.
    pub fn loses_queue(&self) -> bool {
        let is_loss =
            |incident: &Incident| matches!(incident, Incident::LoseQueue { .. } | Incident::LoseQueueUnderClaim);
        self.faults.incidents.iter().any(|(_, incident)| is_loss(incident))
    }

    /// The stream as a worker sees it.
    pub fn present_stream(&self) -> Present {
        let forgets = self.options.bug == Some(Bug::ForgetOwnReports);
        let first_sequence = if forgets { u64::MAX } else { self.bus.first_sequence() };
        Present { identity: name_of(self.bus.stream), first_sequence }
    }

    /// The right that the database knows of a sector's owner.
    pub fn right_in(&self, ownership: &Ownership) -> Option<Right> {
        let Ownership::Held { token, stream, .. } = ownership else { return None };
        Some((stream.as_deref().map_or(self.db.stream, |name| number_of(Some(name))), token.0))
    }

    /// The servers lose what they had. A person looks after it later.
    pub fn lose_queue(&mut self, recovered_after: u64) {
        self.bus.lose();
        self.deliver_soon();
        for m in 0..self.managers.len() {
            let delay = self.rng.range(1, LOOK_PERIOD);
            self.manager_in(m, delay, Task::LookAtStream);
        }
        self.schedule(recovered_after, Event::Recover);
    }

    /// A claim is sent. If it is to meet the loss of the queue, the servers come back empty when a person has recovered it
    /// already, and the claim is tried until then.
    pub fn lose_queue_under_claim(&mut self) {
        if !std::mem::take(&mut self.loses_queue_under_claim) || self.now >= self.faults.end {
            return;
        }
        let recovered_after = self.rng.range(1_000, 10_000);
        self.outage_until = self.outage_until.max(self.now + recovered_after + 1);
        self.lose_queue(recovered_after);
    }

    /// A manager looks whether the stream is the one that its database was folded from, and ends if not.
    pub fn look_at_stream(&mut self, m: usize) {
        if self.bus.stream != self.managers[m].stream {
            self.trace(|| format!("m{m} finds another stream"));
            self.kill_manager(m);
            self.start_manager_later(m);
        }
    }

    /// A manager's unit starts it again.
    pub fn start_manager_later(&mut self, m: usize) {
        let delay = self.rng.range(1_000, MINUTE);
        self.schedule(delay, Event::StartManager(m));
    }

    /// `bus recover`: every sector's place in the stream that took the place of the lost one.
    pub fn recover(&mut self) {
        if self.db.stream == self.bus.stream {
            return;
        }
        self.trace(|| "a person runs bus recover".to_owned());
        let lost = name_of(self.db.stream);
        self.note_what_is_kept();
        // Ends are told as well: no world lasts as long as production remembers them.
        let bug = self.options.bug;
        let concerned = self.db.sectors.values().cloned();
        let concerned = concerned.filter(|sector| bug != Some(Bug::ForgetEnded) || !sector.state.is_terminal());
        let outcomes = concerned.map(|sector| {
            let happening = Happening::of_manager("queue_recovered", serde_json::Value::Null);
            let mut outcome = life::recovered(sector, &lost, "the queue was lost", happening);
            outcome.outbox.retain(|outgoing| bug != Some(Bug::ForgetOrder) || !is_order(outgoing));
            outcome
        });
        let outcomes = outcomes.collect();
        let lost = if bug == Some(Bug::SequencesBeginAgain) { None } else { Some(self.db.last_sequence) };
        let before = self.bus.begin_behind(lost);
        self.db.restart_fold(self.bus.stream, before, outcomes);
    }

    /// What a slot holds, and the database knows that it does, must not be begun again.
    fn note_what_is_kept(&mut self) {
        self.checks.kept.clear();
        for (id, sector) in &self.db.sectors {
            let (Some(right), true) = (self.right_in(&sector.ownership), life::goes_on(sector)) else { continue };
            let Ownership::Held { worker: owner, .. } = &sector.ownership else { continue };
            let slots = self.workers.iter().filter(|worker| worker.name == *owner).flat_map(|worker| &worker.slots);
            let mut journals = slots.filter(|slot| !slot.damaged).filter_map(|slot| slot.journal.as_ref());
            if journals
                .any(|journal| journal.intent.sector == *id && right_of(journal) == right && leave::must_ask(journal))
            {
                self.checks.kept.insert(*id, right);
            }
        }
    }
}

fn is_order(outgoing: &Outgoing) -> bool {
    let Outgoing::Fact { fact, .. } = outgoing else { return false };
    matches!(fact.body, FactBody::Common(CommonFact::Resubmit { .. }))
}
