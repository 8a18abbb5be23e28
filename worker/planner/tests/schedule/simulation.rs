//! A closed system with a fixed number of slots. Each slot takes a sector through all stages, waits for the chain, and
//! takes the next sector. Events happen in the order of their times, and everything follows from one seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use rand::{Rng, SeedableRng, rngs::StdRng};
use sealbus_planner::schedule::{Grant, GrantId, Scheduler, Ticket, Urgency};

use crate::ledger::Ledger;
use crate::machine::{Machine, ticks};

/// What goes wrong, and what is checked.
#[derive(Clone, Copy, Debug)]
pub struct Conduct {
    pub slots: usize,
    /// How many sectors are finished before counting begins, and while counting.
    pub warm_up: usize,
    pub counted: usize,
    /// How many percent of the requests are given up, fail, or are urgent.
    pub gives_up: u32,
    pub fails: u32,
    pub urgent: u32,
    /// By how many percent a stage's time may differ from its mean.
    pub spread: u64,
    /// Whether all slots take their first sectors at the same moment.
    pub begins_together: bool,
    /// Whether room is requested before a seat.
    pub asks_for_room: bool,
    /// Whether idle resources are searched for after each event.
    pub strict: bool,
}

/// The result of a simulation.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Sectors per tick while counting. It is measured by the stage that did the least work, so that moving work from
    /// one queue to another does not count.
    pub rate: f64,
    /// The number of sectors that each slot finished.
    pub by_slot: Vec<usize>,
    /// The highest number of times that a request was overtaken.
    pub most_overtaken: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The work in a slot is done.
    Done(usize, GrantId),
    /// A slot requests its next stage.
    Asks(usize),
    /// A slot gives up waiting.
    GivesUp(usize, Ticket),
    Wakeup,
}

struct Simulation<'a> {
    machine: &'a Machine,
    conduct: Conduct,
    rng: StdRng,
    scheduler: Scheduler,
    ledger: Ledger,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    /// For each slot, the index of its stage.
    at: Vec<usize>,
    /// For each slot, the number of its sector.
    sector: Vec<u64>,
    sectors: u64,
    has_room: Vec<bool>,
    waiting: BTreeMap<Ticket, usize>,
    finished: Vec<usize>,
    /// For each stage, the total time of work on its requests.
    worked: Vec<u64>,
}

pub fn simulate(machine: &Machine, conduct: Conduct, seed: u64) -> Outcome {
    let mut simulation = Simulation {
        machine,
        conduct,
        rng: StdRng::seed_from_u64(seed),
        scheduler: Scheduler::new(&machine.setup).expect("a setup"),
        ledger: Ledger::new(&machine.setup),
        now: 0,
        events: BinaryHeap::new(),
        sequence: 0,
        at: vec![0; conduct.slots],
        sector: (0..conduct.slots as u64).collect(),
        sectors: conduct.slots as u64,
        has_room: vec![false; conduct.slots],
        waiting: BTreeMap::new(),
        finished: vec![0; conduct.slots],
        worked: vec![0; machine.stages.len()],
    };
    for slot in 0..conduct.slots {
        let begins = if conduct.begins_together { 0 } else { simulation.rng.gen_range(0..=machine.alone()) };
        simulation.at(begins, Event::Asks(slot));
    }
    let all = |simulation: &Simulation<'_>| simulation.finished.iter().sum::<usize>();
    while all(&simulation) < conduct.warm_up {
        simulation.step();
    }
    let (began, before) = (simulation.now, simulation.worked.clone());
    while all(&simulation) < conduct.warm_up + conduct.counted {
        simulation.step();
    }
    let stages = machine.stages.iter().zip(simulation.worked.iter().zip(&before));
    let done = stages.map(|((_, time), (after, before))| (after - before) as f64 / *time as f64);
    let rate = done.fold(f64::INFINITY, f64::min) / (simulation.now - began).max(1) as f64;
    let (by_slot, most_overtaken) = (simulation.finished.clone(), simulation.ledger.most_overtaken);
    simulation.end();
    Outcome { rate, by_slot, most_overtaken }
}

impl Simulation<'_> {
    fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((time, self.sequence, event)));
    }

    fn step(&mut self) {
        let Reverse((time, _, event)) = self.events.pop().expect("while slots go on there is always something to come");
        for ((stage, _), worked) in self.machine.stages.iter().zip(&mut self.worked) {
            *worked += self.ledger.running(*stage) as u64 * (time - self.now);
        }
        self.now = time;
        match event {
            Event::Asks(slot) => self.ask(slot),
            Event::Done(slot, grant) => self.done(slot, grant),
            Event::GivesUp(slot, ticket) => {
                if self.scheduler.cancel(ticket) {
                    assert!(!self.scheduler.cancel(ticket), "given up once");
                    self.ledger.gave_up(ticket);
                    self.waiting.remove(&ticket);
                    self.at(time + 10, Event::Asks(slot));
                }
            }
            Event::Wakeup => {}
        }
        for grant in self.scheduler.poll(ticks(self.now)) {
            self.granted(grant);
        }
        self.agree();
        if self.conduct.strict {
            self.ledger.check_nothing_idle(ticks(self.now));
        }
        if let Some(next) = self.scheduler.next_wakeup(ticks(self.now)) {
            let next = u64::try_from(next.as_millis()).expect("fits");
            assert!(next > self.now);
            // If a wake-up is already queued, a second one does no harm.
            if self.events.peek().is_none_or(|Reverse((first, _, _))| *first > next) {
                self.at(next, Event::Wakeup);
            }
        }
    }

    fn ask(&mut self, slot: usize) {
        let (stage, time) = self.machine.stages[self.at[slot]];
        let expires = self.now + self.rng.gen_range(1..10_000);
        let expires = self.chance(self.conduct.urgent).then_some(ticks(expires));
        let urgency = Urgency { seniority: self.sector[slot], expires };
        let ticket = match self.conduct.asks_for_room && !self.has_room[slot] {
            true => self.scheduler.request_room(stage, urgency),
            false => self.scheduler.request(stage, urgency),
        };
        let ticket = ticket.expect("served");
        self.ledger.asked(ticket, stage, urgency);
        self.waiting.insert(ticket, slot);
        if self.chance(self.conduct.gives_up) {
            let patience = self.rng.gen_range(0..=2 * time);
            self.at(self.now + patience, Event::GivesUp(slot, ticket));
        }
    }

    fn granted(&mut self, Grant { ticket, seat }: Grant) {
        let slot = self.waiting.remove(&ticket).expect("it waits");
        let Some(seat) = seat else {
            self.ledger.shown_room(ticket);
            self.has_room[slot] = true;
            return self.at(self.now + 1, Event::Asks(slot));
        };
        self.has_room[slot] = false;
        self.ledger.granted(ticket, seat, ticks(self.now));
        let (_, mean) = self.machine.stages[self.at[slot]];
        let spread = mean * self.conduct.spread / 100;
        let takes = self.rng.gen_range(mean - spread..=mean + spread).max(1);
        self.at(self.now + takes, Event::Done(slot, seat.grant));
    }

    fn done(&mut self, slot: usize, grant: GrantId) {
        let now = ticks(self.now);
        self.scheduler.release(grant, now).expect("held");
        assert!(self.scheduler.release(grant, now).is_err(), "released once");
        self.ledger.released(grant);
        if self.chance(self.conduct.fails) {
            return self.at(self.now + 50, Event::Asks(slot));
        }
        self.at[slot] += 1;
        let mut next = self.now;
        if self.at[slot] == self.machine.stages.len() {
            self.at[slot] = 0;
            self.finished[slot] += 1;
            self.sector[slot] = self.sectors;
            self.sectors += 1;
            next += self.machine.wait;
        }
        self.at(next, Event::Asks(slot));
    }

    /// Checks that the scheduler's counts are those of the ledger.
    fn agree(&self) {
        for (stage, _) in &self.machine.stages {
            assert_eq!(self.scheduler.running(*stage), self.ledger.running(*stage));
        }
        for lock in self.machine.setup.rules.locks.keys() {
            assert_eq!(self.scheduler.lock_taken(lock), self.ledger.taken(lock));
        }
    }

    fn chance(&mut self, of_100: u32) -> bool {
        of_100 > 0 && self.rng.gen_range(0..100) < of_100
    }

    /// Ends all work without starting more. Nothing may be taken after that.
    fn end(mut self) {
        for ticket in self.waiting.keys() {
            assert!(self.scheduler.cancel(*ticket));
        }
        while let Some(Reverse((_, _, event))) = self.events.pop() {
            if let Event::Done(_, grant) = event {
                self.scheduler.release(grant, ticks(self.now)).expect("held");
                self.ledger.released(grant);
            }
        }
        assert!(self.ledger.is_balanced());
        for stage in self.machine.setup.groups.iter().map(|group| group.stage) {
            assert_eq!((self.scheduler.running(stage), self.scheduler.waiting(stage)), (0, 0));
        }
    }
}
