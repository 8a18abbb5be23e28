//! A pipeline in the long run, event by event.
//!
//! Whichever sector came first goes first, everything that can start does start, and a slot that is free takes the next
//! sector. There is no chance in it: the same pipeline gives the same numbers.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use sealbus_schema::Phase;
use serde::{Deserialize, Serialize};

use super::pipeline::{Bound, DAY_MS, PipelineSpec, Resource, SpecError, Step, Work, bounds};

/// How many sectors are simulated at most, roughly.
const SECTORS_MAX: usize = 60_000;
/// How often each slot is used, at least and at most.
const CYCLES: (usize, usize) = (24, 120);

/// What a pipeline does in the long run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Steady {
    /// Sectors a day.
    pub sectors_per_day: f64,
    /// What no order of work could exceed.
    pub bound_per_day: f64,
    /// What it is short of.
    pub bottleneck: Resource,
    /// What each resource alone would allow, the scarcest first.
    pub bounds: Vec<Bound>,
    /// How long a sector is in its slot, on average.
    pub slot_ms: u64,
    /// How long it would be there if it never waited for a processor.
    pub slot_least_ms: u64,
    /// How long a sector waits for a processor or lock before each phase, on average.
    pub queued_ms: Vec<(Phase, u64)>,
    /// The part of its time that each phase's processors work, 0 to 1.
    pub busy: Vec<(Phase, f64)>,
    /// The part of its time that each lock is held, 0 to 1.
    pub locked: BTreeMap<String, f64>,
}

/// Simulates a pipeline until it has settled, and then as long again several times.
///
/// # Errors
/// A pipeline that makes no sense ([`PipelineSpec::check`]).
pub fn simulate(spec: &PipelineSpec) -> Result<Steady, SpecError> {
    spec.check()?;
    let bounds = bounds(spec);
    let slots = Bound { resource: Resource::Slots, per_day: 0.0 };
    let scarcest = bounds.first().unwrap_or(&slots).clone();
    let residence = spec.residence_ms();
    let turn = (spec.slots as f64 * DAY_MS as f64 / scarcest.per_day).max(residence as f64) as u64 + 1;
    let cycles = (SECTORS_MAX / spec.slots).clamp(CYCLES.0, CYCLES.1) as u64;
    let window = (turn * (cycles / 4), turn * cycles);
    let mut run = Run::new(spec, window);
    run.go();
    Ok(run.result(scarcest, bounds, residence))
}

/// One simulation.
struct Run<'a> {
    spec: &'a PipelineSpec,
    works: Vec<&'a Work>,
    /// For each step that is work, its position in `works`.
    work_of_step: Vec<Option<usize>>,
    window: (u64, u64),
    now: u64,
    /// What happens when; the number keeps the order of what happens at one time.
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    count: u64,
    sectors: Vec<Sector>,
    desks: Vec<Desk>,
    locks: BTreeMap<&'a str, Lock>,
    stayed: Average,
    finished: Vec<Finished>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A phase of the sector in a slot is done, on a desk's servers.
    Done { slot: usize, desk: usize, servers: usize },
    /// A wait is over.
    Ripe { slot: usize },
    /// Something may start again.
    Again,
}

/// A sector in its slot.
#[derive(Default)]
struct Sector {
    /// Rises with each sector: the oldest has the least.
    order: u64,
    taken: u64,
    queued: u64,
    step: usize,
    ends: Vec<u64>,
}

/// Where a phase is served.
struct Desk {
    queue: BTreeSet<(u64, usize)>,
    free: Vec<usize>,
    running: usize,
    start_again: u64,
    busy_ms: u64,
    waited: Average,
}

#[derive(Default)]
struct Lock {
    free: usize,
    held_ms: u64,
}

#[derive(Default, Clone, Copy)]
struct Average {
    sum: u128,
    count: u64,
}

/// The sectors of a slot that were finished in the window.
#[derive(Default, Clone, Copy)]
struct Finished {
    count: u64,
    first: u64,
    last: u64,
}

impl<'a> Run<'a> {
    fn new(spec: &'a PipelineSpec, window: (u64, u64)) -> Self {
        let works: Vec<&Work> = spec.works().collect();
        let mut next = 0;
        let numbered = |step: &Step| {
            let is_work = matches!(step, Step::Work(_));
            next += usize::from(is_work);
            is_work.then(|| next - 1)
        };
        let work_of_step = spec.steps.iter().map(numbered).collect();
        let desks = works.iter().map(|work| Desk::new(work)).collect();
        let locks = spec.locks.iter().map(|(name, &free)| (name.as_str(), Lock { free, held_ms: 0 })).collect();
        let sectors = (0..spec.slots).map(|_| Sector::default()).collect();
        Self {
            spec,
            works,
            work_of_step,
            window,
            now: 0,
            events: BinaryHeap::new(),
            count: 0,
            sectors,
            desks,
            locks,
            stayed: Average::default(),
            finished: vec![Finished::default(); spec.slots],
        }
    }

    fn go(&mut self) {
        for slot in 0..self.spec.slots {
            self.take(slot);
        }
        self.start();
        while let Some(Reverse((time, _, event))) = self.events.pop() {
            if time > self.window.1 {
                break;
            }
            self.now = time;
            self.happen(event);
            // Whatever happens at the same time comes before anything starts, so that the oldest goes first.
            while let Some(&Reverse((next, _, event))) = self.events.peek()
                && next == time
            {
                self.events.pop();
                self.happen(event);
            }
            self.start();
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Done { slot, desk, servers } => {
                self.desks[desk].free[servers] += 1;
                self.desks[desk].running -= 1;
                for lock in &self.works[desk].servers[servers].locks {
                    if let Some(lock) = self.locks.get_mut(lock.as_str()) {
                        lock.free += 1;
                    }
                }
                self.step_on(slot);
            }
            Event::Ripe { slot } => self.step_on(slot),
            Event::Again => {}
        }
    }

    /// The next sector for a slot.
    fn take(&mut self, slot: usize) {
        self.count += 1;
        let ends = std::mem::take(&mut self.sectors[slot].ends);
        self.sectors[slot] = Sector { order: self.count, taken: self.now, ends, ..Sector::default() };
        self.sectors[slot].ends.clear();
        self.enter(slot);
    }

    /// A step is over.
    fn step_on(&mut self, slot: usize) {
        self.sectors[slot].ends.push(self.now);
        self.sectors[slot].step += 1;
        self.enter(slot);
    }

    /// The sector comes to its next step, or to its end.
    fn enter(&mut self, slot: usize) {
        let sector = &mut self.sectors[slot];
        let Some(step) = self.spec.steps.get(sector.step) else {
            if self.now >= self.window.0 {
                self.stayed.add(self.now - sector.taken);
                self.finished[slot].add(self.now);
            }
            self.take(slot);
            return;
        };
        match (step, self.work_of_step[sector.step]) {
            (Step::Wait(wait), _) => {
                let until = wait.until(&sector.ends, self.now).max(self.now);
                self.at(until, Event::Ripe { slot });
            }
            (Step::Work(_), Some(desk)) => {
                sector.queued = self.now;
                self.desks[desk].queue.insert((sector.order, slot));
            }
            (Step::Work(_), None) => {}
        }
    }

    /// Starts whatever can start, the oldest sector first.
    fn start(&mut self) {
        loop {
            let able = (0..self.desks.len()).filter_map(|desk| {
                let &(order, slot) = self.desks[desk].queue.first()?;
                Some((order, slot, desk, self.servers_for(desk)?))
            });
            let Some((order, slot, desk, servers)) = able.min() else { return };
            self.desks[desk].queue.remove(&(order, slot));
            self.begin(slot, desk, servers);
        }
    }

    /// The fastest servers of a desk that can start now.
    fn servers_for(&self, desk: usize) -> Option<usize> {
        let (work, state) = (self.works[desk], &self.desks[desk]);
        if work.concurrent.is_some_and(|most| state.running >= most) || self.now < state.start_again {
            return None;
        }
        let free = |servers: &usize| {
            let locks = &work.servers[*servers].locks;
            state.free[*servers] > 0
                && locks.iter().all(|lock| self.locks.get(lock.as_str()).is_some_and(|lock| lock.free > 0))
        };
        (0..work.servers.len()).filter(free).min_by_key(|&servers| work.servers[servers].time_ms)
    }

    fn begin(&mut self, slot: usize, desk: usize, servers: usize) {
        let work = self.works[desk];
        let end = self.now + work.servers[servers].time_ms;
        let counted = end.min(self.window.1).saturating_sub(self.now.max(self.window.0));
        let state = &mut self.desks[desk];
        state.free[servers] -= 1;
        state.running += 1;
        state.busy_ms += counted;
        if self.now >= self.window.0 {
            state.waited.add(self.now - self.sectors[slot].queued);
        }
        state.start_again = self.now + work.staggered_ms;
        let again = state.start_again;
        for lock in &work.servers[servers].locks {
            if let Some(lock) = self.locks.get_mut(lock.as_str()) {
                lock.free -= 1;
                lock.held_ms += counted;
            }
        }
        self.at(end, Event::Done { slot, desk, servers });
        if again > self.now {
            self.at(again, Event::Again);
        }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.count += 1;
        self.events.push(Reverse((time, self.count, event)));
    }

    fn result(&self, scarcest: Bound, bounds: Vec<Bound>, residence: u64) -> Steady {
        let length = (self.window.1 - self.window.0) as f64;
        // Each slot by its own rhythm: sectors that end together do not count more or less by where the window begins.
        let rates = self.finished.iter().map(|finished| match finished.last - finished.first {
            0 => finished.count as f64 / length,
            span => (finished.count - 1) as f64 / span as f64,
        });
        let rate: f64 = rates.sum::<f64>() * DAY_MS as f64;
        let phases = |of: &dyn Fn(usize) -> f64| -> Vec<(Phase, f64)> {
            self.works.iter().enumerate().map(|(desk, work)| (work.stage, of(desk))).collect()
        };
        let waited = self.works.iter().zip(&self.desks).map(|(work, desk)| (work.stage, desk.waited.mean()));
        let locked = self.locks.iter().map(|(name, lock)| {
            let capacity = self.spec.locks.get(*name).copied().unwrap_or(1).max(1) as f64;
            ((*name).to_owned(), lock.held_ms as f64 / length / capacity)
        });
        // A little more can come of where the window begins and ends in the rhythm of a slot.
        debug_assert!(rate <= 1.01 * scarcest.per_day, "{rate} sectors a day, and {scarcest:?} is a bound");
        Steady {
            sectors_per_day: rate.min(scarcest.per_day),
            bound_per_day: scarcest.per_day,
            bottleneck: scarcest.resource,
            bounds,
            slot_ms: self.stayed.mean(),
            slot_least_ms: residence,
            queued_ms: waited.collect(),
            busy: phases(&|desk| self.desks[desk].busy_ms as f64 / length / self.works[desk].capacity() as f64),
            locked: locked.collect(),
        }
    }
}

impl Desk {
    fn new(work: &Work) -> Self {
        Self {
            queue: BTreeSet::new(),
            free: work.servers.iter().map(|servers| servers.count).collect(),
            running: 0,
            start_again: 0,
            busy_ms: 0,
            waited: Average::default(),
        }
    }
}

impl Average {
    fn add(&mut self, value: u64) {
        self.sum += u128::from(value);
        self.count += 1;
    }

    fn mean(&self) -> u64 {
        let mean = self.sum.checked_div(u128::from(self.count)).unwrap_or(0);
        u64::try_from(mean).unwrap_or(u64::MAX)
    }
}

impl Finished {
    fn add(&mut self, time: u64) {
        if self.count == 0 {
            self.first = time;
        }
        self.last = time;
        self.count += 1;
    }
}
