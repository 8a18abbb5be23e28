//! How a simulated slot takes an intent.

use sealbus_nats::{lease::ClaimOutcome, log::Record};
use sealbus_schema::message::LeaseRecord;
use sealbus_worker::{
    driver::core::claim::{self, ClaimStep},
    journal::Journal,
};

use super::{Purpose, RECOVER, SlotState};
use crate::sim::{
    bug::Bug,
    bus::Publish,
    loss,
    world::{Request, World},
};

impl World {
    pub(super) fn claim_step(&mut self, w: usize, s: usize, step: ClaimStep) {
        let loses_queue = self.loses_queue();
        let SlotState::Claiming(claiming) = &mut self.workers[w].slots[s].state else { return };
        let sector = claiming.intent.sector;
        match step {
            // Production always asks. Other worlds skip the question, so that their seeds stay the same.
            ClaimStep::Claim if loses_queue => {
                return self.ask(w, s, Purpose::ClaimStream, Request::Stream);
            }
            ClaimStep::Claim => return self.send_claim(w, s),
            ClaimStep::Persist(journal) => {
                if !self.persist(w, s, &journal) {
                    if let SlotState::Claiming(claiming) = &mut self.workers[w].slots[s].state {
                        claiming.steps.push_front(ClaimStep::Persist(journal));
                    }
                    return self.go(w, s, RECOVER);
                }
                if let SlotState::Claiming(claiming) = &mut self.workers[w].slots[s].state {
                    claiming.won = Some(*journal);
                }
            }
            ClaimStep::Hold => {
                if let Some(Journal { token, state, .. }) = &claiming.won {
                    let (token, state) = (*token, state.clone());
                    self.workers[w].board.hold(s, sector, token, &state);
                }
            }
            ClaimStep::Release => self.workers[w].board.end_claim(s),
            ClaimStep::Accept => {
                let queued = claiming.queued;
                claiming.tries += 1;
                return self.ask(w, s, Purpose::Accept, Request::Accept(queued));
            }
            ClaimStep::Pause => return self.go(w, s, 10_000),
        }
        self.go(w, s, 2);
    }

    pub(super) fn send_claim(&mut self, w: usize, s: usize) {
        self.lose_queue_under_claim();
        let worker = &self.workers[w];
        let SlotState::Claiming(claiming) = &worker.slots[s].state else { return };
        let intent = claiming.intent.clone();
        let id = (1, intent.sector, intent.lease_sequence, w as u64, claiming.nonce);
        let fence = Some(intent.lease_sequence);
        let record = Record::Lease {
            sector: intent.sector,
            owner: Some(worker.name.clone()),
            record: LeaseRecord::Claim { intent, host: String::new() },
        };
        let origin = Some(claiming.stream.unwrap_or_default());
        self.ask(w, s, Purpose::Claim, Request::Publish(Box::new(Publish { id, fence, record, origin })));
    }

    /// Handles the stream's identity, which was asked for before the claim. `None` if there was no answer; then nothing
    /// is claimed.
    pub(super) fn claim_stream(&mut self, w: usize, s: usize, stream: Option<u64>) {
        let SlotState::Claiming(claiming) = &mut self.workers[w].slots[s].state else { return };
        claiming.stream = stream;
        match stream {
            Some(_) => self.send_claim(w, s),
            None => self.after_claim(w, s, None),
        }
    }

    pub(super) fn claimed(&mut self, w: usize, s: usize, outcome: ClaimOutcome) {
        if !self.loses_queue() || self.options.bug == Some(Bug::ClaimInAnyStream) {
            return self.after_claim(w, s, Some(outcome));
        }
        let SlotState::Claiming(claiming) = &mut self.workers[w].slots[s].state else { return };
        claiming.outcome = Some(outcome);
        self.ask(w, s, Purpose::ClaimedStream, Request::Stream);
    }

    /// Handles the stream's identity, which was asked for after the claim. If it has changed, it is unknown which stream
    /// the token belongs to.
    pub(super) fn claimed_stream(&mut self, w: usize, s: usize, stream: Option<u64>) {
        let SlotState::Claiming(claiming) = &mut self.workers[w].slots[s].state else { return };
        let outcome = claiming.outcome.take().filter(|_| claiming.stream == stream);
        self.after_claim(w, s, outcome);
    }

    fn after_claim(&mut self, w: usize, s: usize, outcome: Option<ClaimOutcome>) {
        let bug = self.options.bug;
        let worker = &mut self.workers[w];
        let SlotState::Claiming(claiming) = &mut worker.slots[s].state else { return };
        let sector = claiming.intent.sector;
        let stream = claiming.stream.map(loss::name_of);
        let finished = |token| bug != Some(Bug::ReuseToken) && worker.board.has_finished(sector, token);
        let mut steps = claim::claimed(outcome, finished, stream, &claiming.intent);
        if bug == Some(Bug::AcceptBeforeJournal) {
            steps.sort_by_key(|step| *step != ClaimStep::Accept);
        }
        claiming.steps.extend(steps);
        self.go(w, s, 1);
    }
}
