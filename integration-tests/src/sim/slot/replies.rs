//! How a simulated slot handles the answers of the bus.

use sealbus_nats::lease::{ClaimOutcome, refused_claim};
use sealbus_schema::{
    SectorId, Token,
    lease::{Standing, standing},
};
use sealbus_worker::driver::{
    core::{End, Happened, News, claim::ClaimStep, leave},
    resume::{self, Present},
};

use super::{Purpose, SlotState};
use crate::sim::{
    bug::Bug,
    bus::Answer,
    world::{Reply, Request, World},
};

impl World {
    /// Handles an answer of the bus to a slot, or a timeout.
    pub fn slot_reply(&mut self, w: usize, s: usize, tag: u64, reply: Reply) {
        let slot = &mut self.workers[w].slots[s];
        let Some(at) = slot.asked.iter().position(|(asked, _)| *asked == tag) else { return };
        let (_, purpose) = slot.asked.swap_remove(at);
        let name = self.workers[w].name.clone();
        match (purpose, reply) {
            (Purpose::Claim, Reply::Published(Answer::Stored { sequence, .. })) => {
                self.claimed(w, s, ClaimOutcome::Won(Token(sequence)));
            }
            (Purpose::ClaimStream, Reply::Stream(stream)) => self.claim_stream(w, s, Some(stream)),
            (Purpose::ClaimStream, _) => self.claim_stream(w, s, None),
            (Purpose::ClaimedStream, Reply::Stream(stream)) => self.claimed_stream(w, s, Some(stream)),
            (Purpose::ClaimedStream, _) => self.claimed_stream(w, s, None),
            (Purpose::Claim, Reply::Published(_)) | (Purpose::ClaimLease, Reply::Timeout) => {
                let SlotState::Claiming(claiming) = &self.workers[w].slots[s].state else { return };
                self.ask_lease(w, s, Purpose::ClaimLease, claiming.intent.sector);
            }
            (Purpose::Claim, _) => self.send_claim(w, s),
            (Purpose::ClaimLease, Reply::Lease { lease, event, .. }) => {
                let event = event.filter(|_| self.options.bug != Some(Bug::ReuseToken));
                let SlotState::Claiming(claiming) = &self.workers[w].slots[s].state else { return };
                let outcome = refused_claim(&claiming.intent, &name, lease.as_ref(), event.as_ref());
                self.claimed(w, s, outcome);
            }
            (Purpose::Accept, Reply::Timeout) => {
                let SlotState::Claiming(claiming) = &mut self.workers[w].slots[s].state else { return };
                if claiming.tries < 3 {
                    claiming.steps.push_front(ClaimStep::Accept);
                }
                self.go(w, s, 1);
            }
            (Purpose::Accept, _) => self.go(w, s, 1),
            (Purpose::Resume, Reply::Lease { stream, lease, word, .. }) => {
                let SlotState::Resuming(journal) = &self.workers[w].slots[s].state else { return };
                let mut journal = (**journal).clone();
                let right = leave::right(&journal, &name, identity(&stream));
                let standing = standing(&right, lease.as_ref(), word.as_ref());
                match &standing {
                    Standing::Ours { .. } => {
                        let written = match stream.and_then(|present| resume::reinstated(&journal, present, &standing))
                        {
                            Some(reinstated) => {
                                journal.go_on_in(reinstated);
                                self.persist(w, s, &journal)
                            }
                            None => true,
                        };
                        match written {
                            true => self.begin_life(w, s, journal, true),
                            false => self.ask_lease(w, s, Purpose::Resume, journal.intent.sector),
                        }
                    }
                    Standing::Gone => self.leave(w, s, journal, End::Fenced),
                    // The log does not say yet who owns the sector, so ask again.
                    Standing::Open { .. } | Standing::Anothers { .. } => {
                        self.ask_lease(w, s, Purpose::Resume, journal.intent.sector);
                    }
                }
            }
            (Purpose::Resume, _) => {
                let SlotState::Resuming(journal) = &self.workers[w].slots[s].state else { return };
                self.ask_lease(w, s, Purpose::Resume, journal.intent.sector);
            }
            (Purpose::Report, Reply::Published(Answer::Stored { sequence, .. })) => {
                let SlotState::Living(living) = &mut self.workers[w].slots[s].state else { return };
                if let Some(event) = living.publishing.take() {
                    living.inbox.push((0, Happened::Reported { number: event.number, sequence }));
                }
                self.go(w, s, 1);
            }
            (Purpose::Report, Reply::Published(_)) | (Purpose::Standing, Reply::Timeout) => {
                let SlotState::Living(living) = &self.workers[w].slots[s].state else { return };
                self.ask_lease(w, s, Purpose::Standing, living.core.journal().intent.sector);
            }
            (Purpose::Standing, Reply::Lease { stream, lease, word, .. }) => {
                let SlotState::Living(living) = &mut self.workers[w].slots[s].state else { return };
                let (journal, sector) = (living.core.journal(), living.core.journal().intent.sector);
                let right = leave::right(journal, &name, identity(&stream));
                match standing(&right, lease.as_ref(), word.as_ref()) {
                    Standing::Ours { fence, .. } => {
                        living.fence = Some(fence);
                        self.send_event(w, s);
                    }
                    Standing::Open { .. } | Standing::Anothers { .. } => {
                        self.ask_lease(w, s, Purpose::Standing, sector);
                    }
                    Standing::Gone => self.push_inbox(w, s, 0, Happened::Refused),
                }
            }
            (Purpose::Report, _) => self.send_event(w, s),
            (Purpose::Read(watch), Reply::Read { facts, lease, word }) => {
                let loses_queue = self.loses_queue();
                let SlotState::Living(living) = &mut self.workers[w].slots[s].state else { return };
                let (journal, sector) = (living.core.journal(), living.core.journal().intent.sector);
                let facts =
                    facts.into_iter().filter(|fact| fact.counts_for(journal.token, journal.resubmitted)).collect();
                let standing = standing(&leave::right(journal, &name, None), lease.as_ref(), word.as_ref());
                if loses_queue && !matches!(standing, Standing::Ours { known: None, .. }) {
                    living.read = facts;
                    return self.ask_lease(w, s, Purpose::Look(watch), sector);
                }
                let lease_moved = standing == Standing::Gone;
                self.push_inbox(w, s, watch, Happened::News(News { facts, lease_moved, reinstated: None }));
            }
            (Purpose::Look(watch), Reply::Lease { stream, lease, word, .. }) => {
                let SlotState::Living(living) = &mut self.workers[w].slots[s].state else { return };
                let (facts, journal) = (std::mem::take(&mut living.read), living.core.journal());
                let right = leave::right(journal, &name, identity(&stream));
                let standing = standing(&right, lease.as_ref(), word.as_ref());
                let lease_moved = standing == Standing::Gone;
                let reinstated = stream.and_then(|present| resume::reinstated(journal, present, &standing));
                self.push_inbox(w, s, watch, Happened::News(News { facts, lease_moved, reinstated }));
            }
            (Purpose::Look(watch), _) => {
                let SlotState::Living(living) = &mut self.workers[w].slots[s].state else { return };
                let facts = std::mem::take(&mut living.read);
                self.push_inbox(w, s, watch, Happened::News(News { facts, ..News::default() }));
            }
            (Purpose::Read(watch), _) => self.push_inbox(w, s, watch, Happened::News(News::default())),
            (Purpose::ClaimLease | Purpose::Standing, _) => {}
        }
    }

    fn ask_lease(&mut self, w: usize, s: usize, purpose: Purpose, sector: SectorId) {
        let worker = self.workers[w].name.clone();
        self.ask(w, s, purpose, Request::Lease { sector, worker, stream: None });
    }
}

/// The stream's identity, if it was asked for.
fn identity(stream: &Option<Present>) -> Option<&str> {
    stream.as_ref().map(|present| present.identity.as_str())
}
