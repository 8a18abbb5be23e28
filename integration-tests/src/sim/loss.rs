//! The loss of the queue with everything in it, and its recovery from what the database knows.
//!
//! Sequences start again in the stream that replaces the lost one, so a worker's token may equal the sequence of another
//! record there. Managers end when they see the new stream, and start again after a person has run `bus recover`.

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

/// How long a manager takes at most to notice the loss: production's `TOPOLOGY_PERIOD`.
const LOOK_PERIOD: u64 = 10_000;

/// The identity of a stream, as written in journals and in the database.
pub fn name_of(stream: u64) -> String {
    format!("SEAL_SECTORS@{stream}")
}

/// The number of the stream with this identity. Only worlds that lose their queue ask for the identity; in the others it
/// is the first stream.
pub fn number_of(name: Option<&str>) -> u64 {
    name.and_then(|name| name.rsplit('@').next()?.parse().ok()).unwrap_or_default()
}

/// The right that a journal gives.
pub fn right_of(journal: &Journal) -> Right {
    (number_of(journal.stream.as_deref()), journal.token.0)
}

impl World {
    /// Whether this world loses its queue at some time. Only such worlds ask for the stream's identity, so that other
    /// worlds stay the same.
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

    /// The right of a sector's owner, as the database knows it.
    pub fn right_in(&self, ownership: &Ownership) -> Option<Right> {
        let Ownership::Held { token, stream, .. } = ownership else { return None };
        Some((stream.as_deref().map_or(self.db.stream, |name| number_of(Some(name))), token.0))
    }

    /// Lets the servers lose everything. A person recovers the queue later.
    pub fn lose_queue(&mut self, recovered_after: u64) {
        self.bus.lose();
        self.deliver_soon();
        for m in 0..self.managers.len() {
            let delay = self.rng.range(1, LOOK_PERIOD);
            self.manager_in(m, delay, Task::LookAtStream);
        }
        self.schedule(recovered_after, Event::Recover);
    }

    /// Called when a claim is sent. If the queue is to be lost during a claim, it is lost and recovered now, and the
    /// claim is retried until the recovery is complete.
    pub fn lose_queue_under_claim(&mut self) {
        if !std::mem::take(&mut self.loses_queue_under_claim) || self.now >= self.faults.end {
            return;
        }
        let recovered_after = self.rng.range(1_000, 10_000);
        self.outage_until = self.outage_until.max(self.now + recovered_after + 1);
        self.lose_queue(recovered_after);
    }

    /// Lets a manager check that its database was folded from this stream. If not, the manager ends.
    pub fn look_at_stream(&mut self, m: usize) {
        if self.bus.stream != self.managers[m].stream {
            self.trace(|| format!("m{m} finds another stream"));
            self.kill_manager(m);
            self.start_manager_later(m);
        }
    }

    /// Starts a manager again after a while, as its service unit would.
    pub fn start_manager_later(&mut self, m: usize) {
        let delay = self.rng.range(1_000, MINUTE);
        self.schedule(delay, Event::StartManager(m));
    }

    /// Runs `bus recover`: writes what follows for each sector into the new stream.
    pub fn recover(&mut self) {
        if self.db.stream == self.bus.stream {
            return;
        }
        self.trace(|| "a person runs bus recover".to_owned());
        let lost = name_of(self.db.stream);
        self.note_what_is_kept();
        // All ended sectors get a record too: no world lasts longer than production remembers them.
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

    /// Remembers what slots hold with the database's knowledge, when the queue or the database is lost. These sectors must not be started again.
    pub fn note_what_is_kept(&mut self) {
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
