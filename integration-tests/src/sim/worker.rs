//! A simulated worker: a process with slots on disks, a board and processors.

use sealbus_schema::{Invariant, Phase, WorkerName, machine::worker::State, message::Intent};
use sealbus_worker::{
    driver::{
        board::Board,
        core::{End, leave},
    },
    journal::Journal,
};

use super::{
    bug::Bug,
    bus::ACK_WAIT,
    slot::{Slot, SlotState},
    world::{Client, Event, Request, World},
};

/// A machine.
pub struct Worker {
    pub name: WorkerName,
    /// Whether its process is running.
    pub up: bool,
    /// When its process started.
    pub started: u64,
    /// Until when it is stopped, as if by SIGSTOP.
    pub stopped_until: u64,
    /// Until when its network is cut.
    pub cut_until: u64,
    pub board: Board,
    pub slots: Vec<Slot>,
    /// The slot that has the processor of a phase. Each phase has one processor.
    pub holders: Vec<(Phase, usize)>,
    /// The slots that wait for a processor, with the number of their work.
    pub waiting: Vec<(Phase, usize, u64)>,
}

impl Worker {
    /// A machine that is not switched on.
    pub fn new(number: usize, slots: usize) -> Worker {
        Worker {
            name: format!("w{}", number + 1).parse().expect("a worker's name"),
            up: false,
            started: 0,
            stopped_until: 0,
            cut_until: 0,
            board: Board::new([]),
            slots: (0..slots).map(|_| Slot::default()).collect(),
            holders: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// Whether a slot holds, or is about to hold, a sector under this token.
    pub fn holds(&self, sector: sealbus_schema::SectorId, token: u64) -> bool {
        self.slots.iter().any(|slot| match &slot.state {
            SlotState::Living(living) => {
                let journal = living.core.journal();
                journal.intent.sector == sector && journal.token.0 == token
            }
            SlotState::Resuming(journal) | SlotState::Leaving { journal, .. } => {
                journal.intent.sector == sector && journal.token.0 == token
            }
            SlotState::Claiming(claiming) => claiming.intent.sector == sector,
            SlotState::Down | SlotState::Free | SlotState::Dead => false,
        })
    }
}

impl World {
    /// Starts the process, which checks its slots.
    pub fn start_worker(&mut self, w: usize) {
        if self.workers[w].up {
            return;
        }
        let now = self.now;
        let worker = &mut self.workers[w];
        (worker.up, worker.started, worker.stopped_until) = (true, now, 0);
        worker.board = Board::new((0..worker.slots.len()).map(|slot| slot.to_string()));
        let name = worker.name.clone();
        self.trace(|| format!("{name} starts"));
        for s in 0..self.workers[w].slots.len() {
            let slot = &self.workers[w].slots[s];
            match (slot.damaged, slot.journal.clone()) {
                (true, _) => self.set_slot(w, s, SlotState::Dead),
                (false, None) => self.set_slot(w, s, SlotState::Free),
                (false, Some(journal)) => self.resume(w, s, journal),
            }
        }
        self.deliver_soon();
    }

    fn resume(&mut self, w: usize, s: usize, journal: Journal) {
        let worker = &self.workers[w];
        worker.board.hold(s, journal.intent.sector, journal.token, &journal.state);
        let (sector, name) = (journal.intent.sector, worker.name.clone());
        if self.options.bug == Some(Bug::ResumeWithoutAsking) {
            return self.begin_life(w, s, journal, true);
        }
        if !leave::must_ask(&journal) {
            return self.leave(w, s, journal, End::Fenced);
        }
        self.set_slot(w, s, SlotState::Resuming(Box::new(journal)));
        let request = Request::Lease { sector, worker: name, stream: None };
        self.ask(w, s, super::slot::Purpose::Resume, request);
    }

    /// Kill -9. The disks keep their content.
    pub fn kill_worker(&mut self, w: usize) {
        if !self.workers[w].up {
            return;
        }
        let name = self.workers[w].name.clone();
        self.trace(|| format!("{name} is killed"));
        for s in 0..self.workers[w].slots.len() {
            let torn = self.faulty(self.faults.torn);
            let slot = &mut self.workers[w].slots[s];
            slot.damaged |= torn && slot.journal.is_some();
            self.set_slot(w, s, SlotState::Down);
        }
        let worker = &mut self.workers[w];
        worker.up = false;
        worker.holders.clear();
        worker.waiting.clear();
    }

    /// Draws whether the process dies before its next action. If it does, it is started again later.
    pub fn dies(&mut self, w: usize) -> bool {
        if !self.faulty(self.faults.crash) {
            return false;
        }
        self.kill_worker(w);
        let back = self.rng.range(500, 120_000);
        self.schedule(back, Event::StartWorker(w));
        true
    }

    /// Schedules the delivery of intents to free slots.
    pub fn deliver_soon(&mut self) {
        if self.delivery_due > self.now + 20 {
            self.delivery_due = self.now + 20;
            self.schedule(20, Event::Deliver);
        }
    }

    /// Gives each intent that is not delivered, or was not acknowledged in time, to a waiting slot.
    pub fn deliver_intents(&mut self) {
        self.delivery_due = u64::MAX;
        for at in 0..self.bus.queue.len() {
            let queued = &self.bus.queue[at];
            if self.now < self.outage_until || queued.delivered.is_some_and(|time| self.now < time + ACK_WAIT) {
                continue;
            }
            let free = self.free_slots();
            if free.is_empty() {
                break;
            }
            let (worker, slot) = free[self.rng.next() as usize % free.len()];
            let queued = &mut self.bus.queue[at];
            queued.delivered = Some(self.now);
            let (queued, intent): (u64, Intent) = (queued.sequence, queued.intent.clone());
            let generation = self.workers[worker].slots[slot].generation;
            if !self.faulty(self.faults.loss) {
                let delay = self.latency();
                self.schedule(delay, Event::Offered { worker, slot, generation, queued, intent });
            }
        }
        if !self.bus.queue.is_empty() {
            self.delivery_due = self.now + 5_000;
            self.schedule(5_000, Event::Deliver);
        }
    }

    fn free_slots(&self) -> Vec<(usize, usize)> {
        let workers = self.workers.iter().enumerate().filter(|(_, worker)| worker.up && self.now >= worker.cut_until);
        workers
            .flat_map(|(w, worker)| {
                let free = |(_, slot): &(usize, &Slot)| matches!(slot.state, SlotState::Free);
                worker.slots.iter().enumerate().filter(free).map(move |(s, _)| (w, s))
            })
            .collect()
    }

    /// Sends a request to the bus on behalf of a slot.
    pub fn ask(&mut self, w: usize, s: usize, purpose: super::slot::Purpose, request: Request) {
        let tag = self.request(Client::Slot(w, s), request);
        self.workers[w].slots[s].asked.push((tag, purpose));
    }

    /// Checks that a waiting slot holds no processor, that a blocked slot has a cause, and that the worker itself has seen
    /// nothing wrong.
    pub fn check_waiting(&mut self, w: usize, s: usize) {
        if let Some(broken) = self.workers[w].board.broken().pop()
            && let Some(invariant) = Invariant::ALL.into_iter().find(|known| known.name() == broken.invariant)
        {
            self.break_invariant(invariant, || broken.seen);
        }
        let worker = &self.workers[w];
        let SlotState::Living(living) = &worker.slots[s].state else { return };
        let state = &living.core.journal().state;
        let holds = worker.holders.iter().any(|(_, holder)| *holder == s);
        if holds && !matches!(state.need(), sealbus_schema::machine::worker::Need::Run(_)) {
            let what =
                format!("{} slot {s} waits in {:?} and holds a processor", worker.name, state.step().map(|s| s.name()));
            self.break_invariant(Invariant::WaitingHoldsNoProcessor, || what);
        } else if let State::Blocked { error, .. } = state
            && error.causes.is_empty()
        {
            self.break_invariant(Invariant::BlockedWithCause, || "a slot".to_owned());
        }
    }
}
