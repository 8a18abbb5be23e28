//! A simulated slot. It carries out the actions of the worker's core, one after another. [`claiming`] takes an intent,
//! and [`replies`] handles the answers of the bus.

use std::collections::VecDeque;

use sealbus_nats::{lease::ClaimOutcome, log::Record};
use sealbus_schema::{
    Invariant, SectorId,
    machine::worker::RetryPolicy,
    message::{Event as SectorEvent, Fact, Intent},
};
use sealbus_worker::{
    driver::{
        board::Verdict,
        core::{
            Core, Do, End, Happened, News, Place,
            claim::{self, ClaimStep},
            leave::{self, LeaveStep},
        },
        expiry::Arrivals,
    },
    journal::Journal,
};

use super::{
    bug::Bug,
    bus::Publish,
    loss,
    world::{Event, Request, World},
};
use crate::workflows;

mod claiming;
mod replies;

/// The pause between two tries of a file operation.
const RECOVER: u64 = 30_000;

/// A slot, with its disk.
#[derive(Default)]
pub struct Slot {
    /// The journal on the disk.
    pub journal: Option<Journal>,
    /// Whether the journal is unreadable.
    pub damaged: bool,
    pub state: SlotState,
    /// Rises with each change of the state. Events that were scheduled for an earlier generation are ignored.
    pub generation: u64,
    /// The requests to the bus that are not answered yet.
    pub asked: Vec<(u64, Purpose)>,
    stepping: bool,
}

/// The state of a slot.
#[derive(Default)]
pub enum SlotState {
    /// The worker's process is not running.
    #[default]
    Down,
    /// Waits for an intent.
    Free,
    /// Claims the sector of an intent.
    Claiming(Box<Claiming>),
    /// Asks whether its sector is still its own.
    Resuming(Box<Journal>),
    /// Works on a sector.
    Living(Box<Living>),
    /// Cleans up after a sector's end here.
    Leaving { journal: Box<Journal>, steps: VecDeque<LeaveStep> },
    /// Waits for a person to move away its journal.
    Dead,
}

/// A slot with an intent.
pub struct Claiming {
    pub intent: Intent,
    queued: u64,
    steps: VecDeque<ClaimStep>,
    won: Option<Journal>,
    nonce: u64,
    tries: u32,
    /// The stream before the claim.
    stream: Option<u64>,
    /// The outcome of the claim, while the slot asks for the stream after the claim.
    outcome: Option<ClaimOutcome>,
}

/// A slot with a sector.
pub struct Living {
    pub core: Core,
    todo: VecDeque<Do>,
    inbox: Vec<(u64, Happened)>,
    /// The number of the present work. Results of earlier work are ignored.
    pub work: u64,
    watch: Option<(u64, sealbus_worker::driver::core::Watch)>,
    watches: u64,
    rung: bool,
    publishing: Option<SectorEvent>,
    /// The lease record that its events must expect, if it is not the token.
    fence: Option<u64>,
    /// The facts that were read, while the slot asks which stream they are from.
    read: Vec<Fact>,
}

/// The purpose of a request to the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Claim,
    ClaimStream,
    ClaimedStream,
    ClaimLease,
    Accept,
    Resume,
    Report,
    Standing,
    Read(u64),
    Look(u64),
}

impl World {
    /// Moves a slot to another state. Requests and events of the previous state are forgotten.
    pub fn set_slot(&mut self, w: usize, s: usize, state: SlotState) {
        self.drop_work(w, s, true);
        let slot = &mut self.workers[w].slots[s];
        slot.generation += 1;
        slot.asked.clear();
        slot.stepping = false;
        slot.state = state;
        if matches!(slot.state, SlotState::Free) {
            self.deliver_soon();
        }
    }

    /// Schedules the slot's next action.
    pub fn go(&mut self, w: usize, s: usize, delay: u64) {
        let slot = &mut self.workers[w].slots[s];
        if !std::mem::replace(&mut slot.stepping, true) {
            let generation = slot.generation;
            self.schedule(delay, Event::Step { worker: w, slot: s, generation });
        }
    }

    /// Gives an intent to a slot.
    pub fn slot_offered(&mut self, w: usize, s: usize, generation: u64, queued: u64, intent: Intent) {
        let slot = &self.workers[w].slots[s];
        if slot.generation != generation || !matches!(slot.state, SlotState::Free) {
            return;
        }
        let verdict = self.workers[w].board.begin_claim(s, &intent);
        let verdict = if self.options.bug == Some(Bug::TwoSlotsOneSector) { Verdict::Claim } else { verdict };
        let name = self.workers[w].name.clone();
        self.trace(|| {
            format!("{name} slot {s} is offered {} after lease {}: {verdict:?}", intent.sector, intent.lease_sequence)
        });
        let steps = claim::offered(verdict).into();
        let nonce = self.rng.next();
        let claiming = Claiming { intent, queued, steps, won: None, nonce, tries: 0, stream: None, outcome: None };
        self.set_slot(w, s, SlotState::Claiming(Box::new(claiming)));
        self.go(w, s, 1);
    }

    /// Carries out a slot's next action.
    pub fn slot_step(&mut self, w: usize, s: usize, generation: u64) {
        let slot = &mut self.workers[w].slots[s];
        if slot.generation != generation {
            return;
        }
        slot.stepping = false;
        if self.dies(w) {
            return;
        }
        match &mut self.workers[w].slots[s].state {
            SlotState::Claiming(claiming) => match claiming.steps.pop_front() {
                Some(step) => self.claim_step(w, s, step),
                None => match claiming.won.take() {
                    Some(journal) => self.begin_life(w, s, journal, false),
                    None => self.set_slot(w, s, SlotState::Free),
                },
            },
            SlotState::Living(living) => match living.todo.pop_front() {
                Some(action) => self.life_step(w, s, action),
                None => self.life_next(w, s),
            },
            SlotState::Leaving { steps, .. } => match steps.front().copied() {
                Some(step) => self.leave_step(w, s, step),
                None => self.set_slot(w, s, SlotState::Free),
            },
            SlotState::Down | SlotState::Free | SlotState::Resuming(_) | SlotState::Dead => {}
        }
    }

    /// Begins to drive a sector.
    pub fn begin_life(&mut self, w: usize, s: usize, journal: Journal, resumed: bool) {
        self.check_life(w, s, &journal, resumed);
        let mut core = Core::new(journal, Arrivals::default(), RetryPolicy { max_retries: 3 }, Place::default());
        let todo = core.start().into();
        let living = Living {
            core,
            todo,
            inbox: Vec::new(),
            work: 0,
            watch: None,
            watches: 0,
            rung: false,
            publishing: None,
            fence: None,
            read: Vec::new(),
        };
        self.set_slot(w, s, SlotState::Living(Box::new(living)));
        self.go(w, s, 1);
    }

    fn life_step(&mut self, w: usize, s: usize, action: Do) {
        match action {
            Do::Persist(journal) => {
                if !self.persist(w, s, &journal) {
                    if let SlotState::Living(living) = &mut self.workers[w].slots[s].state {
                        living.todo.push_front(Do::Persist(journal));
                    }
                    return self.go(w, s, RECOVER);
                }
                self.workers[w].board.hold(s, journal.intent.sector, journal.token, &journal.state);
            }
            Do::DropWork => self.drop_work(w, s, false),
            Do::Work(state) => self.begin_work(w, s, &state),
            Do::Run(state) => self.run_phase(w, s, &state),
            Do::Publish(event) => {
                if let SlotState::Living(living) = &mut self.workers[w].slots[s].state {
                    living.publishing = Some(*event);
                }
                self.send_event(w, s);
            }
            Do::Watch(watch) => self.watch(w, s, watch),
            Do::Count(violation) => self.break_invariant(violation.invariant, || violation.seen),
            Do::End(end) => {
                let SlotState::Living(living) = &self.workers[w].slots[s].state else { return };
                let journal = living.core.journal().clone();
                return self.leave(w, s, journal, end);
            }
        }
        self.go(w, s, 1);
    }

    /// Handles one of the things that have happened, in random order.
    fn life_next(&mut self, w: usize, s: usize) {
        let pick = self.rng.next() as usize;
        let now = self.now as i64;
        let bug = self.options.bug;
        let name = self.workers[w].name.clone();
        let SlotState::Living(living) = &mut self.workers[w].slots[s].state else { return };
        let (work, watch) = (living.work, living.watch.map(|(number, _)| number));
        // Results of work or reads that were replaced meanwhile are late: production has dropped their futures.
        living.inbox.retain(|(number, happened)| match happened {
            Happened::Acquired { .. } | Happened::Worked(_) => *number == work,
            Happened::News(_) => Some(*number) == watch,
            Happened::Reported { .. } | Happened::Refused => true,
        });
        if living.inbox.is_empty() {
            return self.check_waiting(w, s);
        }
        let (_, mut happened) = living.inbox.remove(pick % living.inbox.len());
        if let Happened::News(news) = &mut happened {
            let right = loss::right_of(living.core.journal());
            for fact in &news.facts {
                if let Some(draw) = workflows::draw_told(&fact.body) {
                    let highest = self.checks.seeds.entry((name.clone(), right)).or_default();
                    *highest = draw.max(*highest);
                }
            }
            if bug == Some(Bug::WithdrawnSeed) {
                news.facts.retain(|fact| workflows::draw_told(&fact.body).is_none_or(|draw| draw <= 1));
            }
            living.watch = None;
        }
        if matches!(happened, Happened::Acquired { .. } | Happened::Worked(_)) {
            living.work += 1;
        }
        let quiet = matches!(&happened, Happened::News(news) if news.facts.is_empty() && !news.lease_moved);
        let line = (self.options.trace && !quiet).then(|| format!("{name} slot {s}: {}", told(&happened)));
        let mut todo = living.core.handle(happened, now);
        if bug == Some(Bug::EventBeforeJournal) {
            todo.sort_by_key(|action| !matches!(action, Do::Publish(_)));
        }
        living.todo.extend(todo);
        if let Some(line) = line {
            self.trace(|| line);
        }
        self.go(w, s, 1);
    }

    fn send_event(&mut self, w: usize, s: usize) {
        let fenced = !matches!(self.options.bug, Some(Bug::SkipFence | Bug::FoldWithoutOwner));
        let worker = &self.workers[w];
        let SlotState::Living(living) = &worker.slots[s].state else { return };
        let Some(event) = living.publishing.clone() else { return };
        let sector = living.core.journal().intent.sector;
        let id = (2, sector, event.token.0, event.number, 0);
        let fence = fenced.then_some(living.fence.unwrap_or(event.token.0));
        let record = Record::Event { sector, worker: worker.name.clone(), event };
        let origin = Some(loss::right_of(living.core.journal()).0);
        self.ask(w, s, Purpose::Report, Request::Publish(Box::new(Publish { id, fence, record, origin })));
    }

    fn watch(&mut self, w: usize, s: usize, watch: sealbus_worker::driver::core::Watch) {
        let pause = self.rng.range(20_000, 40_000);
        let slot = &mut self.workers[w].slots[s];
        let SlotState::Living(living) = &mut slot.state else { return };
        living.watches += 1;
        living.watch = Some((living.watches, watch));
        let at_once = watch.at_once || std::mem::take(&mut living.rung);
        let (number, generation) = (living.watches, slot.generation);
        let delay = if at_once { 0 } else { pause };
        self.schedule(delay, Event::Poll { worker: w, slot: s, generation, watch: number });
    }

    /// Lets a slot read its sector's log.
    pub fn slot_poll(&mut self, w: usize, s: usize, generation: u64, number: Option<u64>) {
        let worker = &self.workers[w];
        let slot = &worker.slots[s];
        let SlotState::Living(living) = &slot.state else { return };
        let Some((watch, what)) = living.watch.filter(|_| slot.generation == generation) else { return };
        let asked = [Purpose::Read(watch), Purpose::Look(watch)];
        let reads = slot.asked.iter().any(|(_, purpose)| asked.contains(purpose));
        if number.is_some_and(|number| number != watch) || reads {
            return;
        }
        let (sector, name) = (living.core.journal().intent.sector, worker.name.clone());
        let request = Request::Read { sector, worker: name, kinds: what.kinds, facts: None };
        self.ask(w, s, Purpose::Read(watch), request);
    }

    /// Wakes the slot of a sector for which a fact has come.
    pub fn ring(&mut self, w: usize, sector: SectorId) {
        for s in 0..self.workers[w].slots.len() {
            let slot = &mut self.workers[w].slots[s];
            let SlotState::Living(living) = &mut slot.state else { continue };
            if living.core.journal().intent.sector != sector {
                continue;
            }
            let reading = slot.asked.iter().any(|(_, purpose)| matches!(purpose, Purpose::Read(_) | Purpose::Look(_)));
            if reading || living.watch.is_none() {
                living.rung = true;
            } else {
                let generation = slot.generation;
                self.slot_poll(w, s, generation, None);
            }
        }
    }

    /// Tells a slot what happened.
    pub fn push_inbox(&mut self, w: usize, s: usize, number: u64, happened: Happened) {
        if let SlotState::Living(living) = &mut self.workers[w].slots[s].state {
            living.inbox.push((number, happened));
            self.go(w, s, 1);
        }
    }

    /// Begins to clean up after a sector's end in a slot.
    pub fn leave(&mut self, w: usize, s: usize, journal: Journal, end: End) {
        let name = self.workers[w].name.clone();
        self.trace(|| format!("{name} slot {s} leaves {} ({end:?})", journal.intent.sector));
        let steps: VecDeque<_> = leave::left(&journal, end).iter().copied().collect();
        if steps.contains(&LeaveStep::Quarantine) {
            self.check_given_up(&journal);
        }
        self.set_slot(w, s, SlotState::Leaving { journal: Box::new(journal), steps });
        self.go(w, s, 1);
    }

    fn leave_step(&mut self, w: usize, s: usize, step: LeaveStep) {
        if step != LeaveStep::Finish && self.faulty(self.faults.disk) {
            return self.go(w, s, RECOVER);
        }
        let worker = &mut self.workers[w];
        let slot = &mut worker.slots[s];
        let SlotState::Leaving { journal, steps } = &mut slot.state else { return };
        steps.pop_front();
        match step {
            LeaveStep::Quarantine => {}
            LeaveStep::ClearJournal => slot.journal = None,
            LeaveStep::Finish => worker.board.finish(s, journal.intent.sector, journal.token),
        }
        self.go(w, s, 5);
    }

    /// Writes a slot's journal. The write succeeds or fails, or the process dies during it. Then the disk may have the
    /// old or the new journal.
    fn persist(&mut self, w: usize, s: usize, journal: &Journal) -> bool {
        if self.faulty(self.faults.disk) {
            return false;
        }
        let slot = &mut self.workers[w].slots[s];
        if let Some(other) = slot.journal.as_ref().filter(|other| loss::right_of(other) != loss::right_of(journal)) {
            let what = format!(
                "{} under {} over {} under {}",
                journal.intent.sector, journal.token, other.intent.sector, other.token
            );
            self.break_invariant(Invariant::OneSectorASlot, || what);
        }
        let slot = &mut self.workers[w].slots[s];
        slot.journal = Some(journal.clone());
        let key = (self.workers[w].name.clone(), loss::right_of(journal));
        let written = self.checks.journaled.entry(key).or_default();
        *written = journal.next_event.max(*written);
        self.check_journal(journal);
        true
    }
}

/// Describes in a few words what happened.
fn told(happened: &Happened) -> String {
    match happened {
        Happened::News(News { facts, lease_moved, .. }) => {
            let kinds: Vec<_> = facts.iter().filter_map(Fact::kind).map(|kind| kind.name()).collect();
            format!("reads {}{}", kinds.join(", "), if *lease_moved { "; the lease has moved" } else { "" })
        }
        Happened::Worked(input) => format!("{input:?}").chars().take(100).collect(),
        other => format!("{other:?}"),
    }
}
