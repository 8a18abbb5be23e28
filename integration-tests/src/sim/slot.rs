//! A simulated slot: carries out what the worker's core asks for, one action after another.

use std::collections::VecDeque;

use sealbus_nats::{
    lease::{ClaimOutcome, refused_claim},
    log::Record,
};
use sealbus_schema::{
    Invariant, Token,
    lease::{Standing, standing},
    machine::worker::RetryPolicy,
    message::{Event as SectorEvent, Fact, FactBody, Intent, LeaseRecord},
    workflows::seal,
};
use sealbus_worker::{
    driver::{
        board::Verdict,
        core::{
            Core, Do, End, Happened, Place,
            claim::{self, ClaimStep},
            leave::{self, LeaveStep},
        },
        expiry::Arrivals,
        facts::News,
    },
    journal::Journal,
};

use super::{
    bug::Bug,
    bus::{Answer, Publish},
    world::{Event, Reply, Request, World},
};

/// The pause between two tries of a file operation.
const RECOVER: u64 = 30_000;

/// A slot, with its disk.
#[derive(Default)]
pub struct Slot {
    /// What the disk has.
    pub journal: Option<Journal>,
    /// Whether it can be read.
    pub damaged: bool,
    pub state: SlotState,
    /// Rises whenever the state is another one: what was scheduled for an earlier one does not count.
    pub generation: u64,
    /// What the bus was asked and has not answered.
    pub asked: Vec<(u64, Purpose)>,
    stepping: bool,
}

/// What goes on in a slot.
#[derive(Default)]
pub enum SlotState {
    /// Its process does not run.
    #[default]
    Down,
    /// Waits for an intent.
    Free,
    /// Takes one.
    Claiming(Box<Claiming>),
    /// Asks whether what it holds is still its own.
    Resuming(Box<Journal>),
    /// Has a sector.
    Living(Box<Living>),
    /// Is done with one.
    Leaving { journal: Box<Journal>, steps: VecDeque<LeaveStep> },
    /// Waits for a person to move its journal away.
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
}

/// A slot with a sector.
pub struct Living {
    pub core: Core,
    todo: VecDeque<Do>,
    inbox: Vec<(u64, Happened)>,
    /// The number of what is worked on, and of what is watched for.
    pub work: u64,
    watch: Option<(u64, sealbus_worker::driver::core::Watch)>,
    watches: u64,
    rung: bool,
    publishing: Option<SectorEvent>,
    /// What its events must expect, if not its token.
    fence: Option<u64>,
}

/// What the bus was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Claim,
    ClaimLease,
    Accept,
    Resume,
    Report,
    Standing,
    Read(u64),
}

impl World {
    /// Puts a slot into another state; whatever was asked or scheduled for the last one is forgotten.
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

    /// Carries out the next action soon.
    pub fn go(&mut self, w: usize, s: usize, delay: u64) {
        let slot = &mut self.workers[w].slots[s];
        if !std::mem::replace(&mut slot.stepping, true) {
            let generation = slot.generation;
            self.schedule(delay, Event::Step { worker: w, slot: s, generation });
        }
    }

    /// An intent is given to a slot.
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
        let claiming = Claiming { intent, queued, steps, won: None, nonce, tries: 0 };
        self.set_slot(w, s, SlotState::Claiming(Box::new(claiming)));
        self.go(w, s, 1);
    }

    /// The next action of a slot.
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

    fn claim_step(&mut self, w: usize, s: usize, step: ClaimStep) {
        let SlotState::Claiming(claiming) = &mut self.workers[w].slots[s].state else { return };
        let sector = claiming.intent.sector;
        match step {
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

    fn send_claim(&mut self, w: usize, s: usize) {
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
        self.ask(w, s, Purpose::Claim, Request::Publish(Box::new(Publish { id, fence, record })));
    }

    fn claimed(&mut self, w: usize, s: usize, outcome: ClaimOutcome) {
        let bug = self.options.bug;
        let worker = &mut self.workers[w];
        let SlotState::Claiming(claiming) = &mut worker.slots[s].state else { return };
        let sector = claiming.intent.sector;
        let finished = |token| bug != Some(Bug::ReuseToken) && worker.board.has_finished(sector, token);
        let mut steps = claim::claimed(Some(outcome), finished, None, &claiming.intent);
        if bug == Some(Bug::AcceptBeforeJournal) {
            steps.sort_by_key(|step| *step != ClaimStep::Accept);
        }
        claiming.steps.extend(steps);
        self.go(w, s, 1);
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
            Do::End(end) => {
                let SlotState::Living(living) = &self.workers[w].slots[s].state else { return };
                let journal = living.core.journal().clone();
                return self.leave(w, s, journal, end);
            }
        }
        self.go(w, s, 1);
    }

    /// One of the things that have happened, in no particular order.
    fn life_next(&mut self, w: usize, s: usize) {
        let pick = self.rng.next() as usize;
        let now = self.now as i64;
        let bug = self.options.bug;
        let name = self.workers[w].name.clone();
        let SlotState::Living(living) = &mut self.workers[w].slots[s].state else { return };
        let (work, watch) = (living.work, living.watch.map(|(number, _)| number));
        living.inbox.retain(|(number, happened)| match happened {
            Happened::Acquired { .. } | Happened::Worked(_) => *number == work,
            Happened::News(_) => Some(*number) == watch,
            Happened::Reported(_) | Happened::Refused => true,
        });
        if living.inbox.is_empty() {
            return self.check_waiting(w, s);
        }
        let (_, mut happened) = living.inbox.remove(pick % living.inbox.len());
        if let Happened::News(news) = &mut happened {
            let token = living.core.journal().token.0;
            for fact in &news.facts {
                if let FactBody::Seal(seal::Fact::Seed { seed }) = &fact.body {
                    let highest = self.checks.seeds.entry((name.clone(), token)).or_default();
                    *highest = seed.draw.max(*highest);
                }
            }
            if bug == Some(Bug::WithdrawnSeed) {
                news.facts
                    .retain(|fact| !matches!(&fact.body, FactBody::Seal(seal::Fact::Seed { seed }) if seed.draw > 1));
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
        self.ask(w, s, Purpose::Report, Request::Publish(Box::new(Publish { id, fence, record })));
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

    /// A slot reads its sector's log.
    pub fn slot_poll(&mut self, w: usize, s: usize, generation: u64, number: Option<u64>) {
        let worker = &self.workers[w];
        let slot = &worker.slots[s];
        let SlotState::Living(living) = &slot.state else { return };
        let Some((watch, what)) = living.watch.filter(|_| slot.generation == generation) else { return };
        let reads = slot.asked.iter().any(|(_, purpose)| *purpose == Purpose::Read(watch));
        if number.is_some_and(|number| number != watch) || reads {
            return;
        }
        let (sector, name) = (living.core.journal().intent.sector, worker.name.clone());
        let request = Request::Read { sector, worker: name, kinds: what.kinds, facts: None };
        self.ask(w, s, Purpose::Read(watch), request);
    }

    /// A fact came for a sector.
    pub fn ring(&mut self, w: usize, sector: sealbus_schema::SectorId) {
        for s in 0..self.workers[w].slots.len() {
            let slot = &mut self.workers[w].slots[s];
            let SlotState::Living(living) = &mut slot.state else { continue };
            if living.core.journal().intent.sector != sector {
                continue;
            }
            let reading = slot.asked.iter().any(|(_, purpose)| matches!(purpose, Purpose::Read(_)));
            if reading || living.watch.is_none() {
                living.rung = true;
            } else {
                let generation = slot.generation;
                self.slot_poll(w, s, generation, None);
            }
        }
    }

    /// The bus answers a slot, or does not.
    pub fn slot_reply(&mut self, w: usize, s: usize, tag: u64, reply: Reply) {
        let slot = &mut self.workers[w].slots[s];
        let Some(at) = slot.asked.iter().position(|(asked, _)| *asked == tag) else { return };
        let (_, purpose) = slot.asked.swap_remove(at);
        let name = self.workers[w].name.clone();
        match (purpose, reply) {
            (Purpose::Claim, Reply::Published(Answer::Stored { sequence, .. })) => {
                self.claimed(w, s, ClaimOutcome::Won(Token(sequence)));
            }
            (Purpose::Claim, Reply::Published(_)) | (Purpose::ClaimLease, Reply::Timeout) => {
                let SlotState::Claiming(claiming) = &self.workers[w].slots[s].state else { return };
                let sector = claiming.intent.sector;
                self.ask(w, s, Purpose::ClaimLease, Request::Lease(sector, name));
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
            (Purpose::Resume, Reply::Lease { lease, word, .. }) => {
                let SlotState::Resuming(journal) = &self.workers[w].slots[s].state else { return };
                let journal = (**journal).clone();
                match standing(&leave::right(&journal, &name, None), lease.as_ref(), word.as_ref()) {
                    Standing::Ours { .. } => self.begin_life(w, s, journal, true),
                    Standing::Gone => self.leave(w, s, journal, End::Fenced),
                    Standing::Open { .. } | Standing::Anothers { .. } => {
                        // Lost on the way now and then, so that it is asked again a little later.
                        let sector = journal.intent.sector;
                        self.ask(w, s, Purpose::Resume, Request::Lease(sector, name));
                    }
                }
            }
            (Purpose::Resume, _) => {
                let SlotState::Resuming(journal) = &self.workers[w].slots[s].state else { return };
                let sector = journal.intent.sector;
                self.ask(w, s, Purpose::Resume, Request::Lease(sector, name));
            }
            (Purpose::Report, Reply::Published(Answer::Stored { .. })) => {
                let SlotState::Living(living) = &mut self.workers[w].slots[s].state else { return };
                if let Some(event) = living.publishing.take() {
                    living.inbox.push((0, Happened::Reported(event.number)));
                }
                self.go(w, s, 1);
            }
            (Purpose::Report, Reply::Published(_)) | (Purpose::Standing, Reply::Timeout) => {
                let SlotState::Living(living) = &self.workers[w].slots[s].state else { return };
                let sector = living.core.journal().intent.sector;
                self.ask(w, s, Purpose::Standing, Request::Lease(sector, name));
            }
            (Purpose::Standing, Reply::Lease { lease, word, .. }) => {
                let SlotState::Living(living) = &mut self.workers[w].slots[s].state else { return };
                let (journal, sector) = (living.core.journal(), living.core.journal().intent.sector);
                match standing(&leave::right(journal, &name, None), lease.as_ref(), word.as_ref()) {
                    Standing::Ours { fence, .. } => {
                        living.fence = Some(fence);
                        self.send_event(w, s);
                    }
                    Standing::Open { .. } | Standing::Anothers { .. } => {
                        self.ask(w, s, Purpose::Standing, Request::Lease(sector, name))
                    }
                    Standing::Gone => self.push_inbox(w, s, 0, Happened::Refused),
                }
            }
            (Purpose::Report, _) => self.send_event(w, s),
            (Purpose::Read(watch), Reply::Read { facts, lease, word }) => {
                let SlotState::Living(living) = &self.workers[w].slots[s].state else { return };
                let Journal { token, resubmitted, .. } = living.core.journal();
                let facts = facts.into_iter().filter(|fact| fact.counts_for(*token, *resubmitted)).collect();
                let right = leave::right(living.core.journal(), &name, None);
                let lease_moved = standing(&right, lease.as_ref(), word.as_ref()) == Standing::Gone;
                self.push_inbox(w, s, watch, Happened::News(News { facts, lease_moved, reinstated: None }));
            }
            (Purpose::Read(watch), _) => self.push_inbox(w, s, watch, Happened::News(News::default())),
            (Purpose::ClaimLease | Purpose::Standing, _) => {}
        }
    }

    /// Tells a slot what happened.
    pub fn push_inbox(&mut self, w: usize, s: usize, number: u64, happened: Happened) {
        if let SlotState::Living(living) = &mut self.workers[w].slots[s].state {
            living.inbox.push((number, happened));
            self.go(w, s, 1);
        }
    }

    /// A slot is done with a sector.
    pub fn leave(&mut self, w: usize, s: usize, journal: Journal, end: End) {
        let name = self.workers[w].name.clone();
        self.trace(|| format!("{name} slot {s} leaves {} ({end:?})", journal.intent.sector));
        let steps = leave::left(&journal, end).iter().copied().collect();
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

    /// Writes a slot's journal: it is on the disk, or the operation failed, or the process died in the middle of it, and then
    /// it may be either.
    fn persist(&mut self, w: usize, s: usize, journal: &Journal) -> bool {
        if self.faulty(self.faults.disk) {
            return false;
        }
        let slot = &mut self.workers[w].slots[s];
        if let Some(other) = slot.journal.as_ref().filter(|other| other.token != journal.token) {
            let what = format!(
                "{} under {} over {} under {}",
                journal.intent.sector, journal.token, other.intent.sector, other.token
            );
            self.break_invariant(Invariant::OneSectorASlot, || what);
        }
        let slot = &mut self.workers[w].slots[s];
        slot.journal = Some(journal.clone());
        let key = (self.workers[w].name.clone(), journal.token.0);
        let written = self.checks.journaled.entry(key).or_default();
        *written = journal.next_event.max(*written);
        true
    }
}

/// What happened, in a few words.
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
