//! A pipeline in the long run, event by event.
//!
//! Whose turn it is, [`Scheduler`] says: the one that the worker's processors follow. Every phase takes exactly its time, and
//! a slot that is free takes the next sector. There is no chance in it: the same pipeline gives the same numbers.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use sealbus_schema::Phase;
use serde::{Deserialize, Serialize};

use super::{Bound, DAY_MS, PipelineSpec, Resource, SpecError, Step, Work, bounds};
use crate::schedule::{Grant, GrantId, Group, Rules, Scheduler, Setup, Ticket, Urgency};

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
    let mut run = Run::new(spec, window)?;
    run.go();
    Ok(run.result(scarcest, bounds, residence))
}

/// One simulation. Times are milliseconds since its start.
struct Run<'a> {
    spec: &'a PipelineSpec,
    works: Vec<&'a Work>,
    scheduler: Scheduler,
    /// For each of the scheduler's processors, the positions of its work and of its servers there.
    processors: Vec<(usize, usize)>,
    window: (u64, u64),
    now: u64,
    /// What happens when; the number keeps the order of what happens at one time.
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    count: u64,
    /// When the scheduler is to be asked again, if that is among the events.
    wakeup: Option<u64>,
    /// The slot of each sector that waits for a processor.
    waiting: BTreeMap<Ticket, usize>,
    sectors: Vec<Sector>,
    /// For each work.
    tallies: Vec<Tally>,
    /// For each lock, how long its units were held, in milliseconds.
    locked: BTreeMap<&'a str, u64>,
    stayed: Average,
    finished: Vec<Finished>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A phase of the sector in a slot is done.
    Done { slot: usize, grant: GrantId },
    /// A wait is over.
    Ripe { slot: usize },
    /// A stage may start again.
    Wakeup,
}

/// A sector in its slot.
#[derive(Default)]
struct Sector {
    /// Rises with each sector: the oldest has the least.
    seniority: u64,
    taken: u64,
    queued: u64,
    step: usize,
    ends: Vec<u64>,
}

/// What was counted of a phase in the window.
#[derive(Default, Clone, Copy)]
struct Tally {
    busy_ms: u64,
    waited: Average,
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

impl PipelineSpec {
    /// What the scheduler must know of the pipeline: a group for each of its servers, in their order, one sector a process.
    pub(crate) fn setup(&self) -> Setup {
        let servers = || self.works().flat_map(|work| work.servers.iter().map(move |servers| (work.stage, servers)));
        let group = |(stage, servers): (Phase, &super::Servers)| Group {
            stage,
            count: servers.count,
            concurrent: 1,
            locks: servers.locks.iter().cloned().collect(),
        };
        let groups = servers().filter(|(_, servers)| servers.count > 0).map(group).collect();
        let staggered = self.works().filter(|work| work.staggered_ms > 0);
        let is_used = |lock: &String| servers().any(|(_, servers)| servers.locks.contains(lock));
        let rules = Rules {
            concurrent: self.works().filter_map(|work| Some((work.stage, work.concurrent?))).collect(),
            staggered: staggered.map(|work| (work.stage, Duration::from_millis(work.staggered_ms))).collect(),
            locks: self.locks.clone().into_iter().filter(|(lock, _)| is_used(lock)).collect(),
        };
        Setup::new(groups, rules)
    }
}

impl<'a> Run<'a> {
    fn new(spec: &'a PipelineSpec, window: (u64, u64)) -> Result<Self, SpecError> {
        let works: Vec<&Work> = spec.works().collect();
        let processors = works.iter().enumerate().flat_map(|(work, of)| {
            let servers = of.servers.iter().enumerate();
            servers.flat_map(move |(servers, of)| std::iter::repeat_n((work, servers), of.count))
        });
        Ok(Self {
            spec,
            scheduler: Scheduler::new(&spec.setup())?,
            processors: processors.collect(),
            window,
            now: 0,
            events: BinaryHeap::new(),
            count: 0,
            wakeup: None,
            waiting: BTreeMap::new(),
            sectors: (0..spec.slots).map(|_| Sector::default()).collect(),
            tallies: vec![Tally::default(); works.len()],
            works,
            locked: spec.locks.keys().map(|name| (name.as_str(), 0)).collect(),
            stayed: Average::default(),
            finished: vec![Finished::default(); spec.slots],
        })
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
            // Whatever happens at the same time comes before anything starts, so that the order of events does not count.
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
            Event::Done { slot, grant } => {
                let released = self.scheduler.release(grant, Duration::from_millis(self.now));
                debug_assert!(released.is_ok(), "each grant ends once");
                self.step_on(slot);
            }
            Event::Ripe { slot } => self.step_on(slot),
            Event::Wakeup => self.wakeup = None,
        }
    }

    /// The next sector for a slot.
    fn take(&mut self, slot: usize) {
        self.count += 1;
        let ends = std::mem::take(&mut self.sectors[slot].ends);
        self.sectors[slot] = Sector { seniority: self.count, taken: self.now, ends, ..Sector::default() };
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
        match self.spec.steps.get(sector.step) {
            None => {
                if self.now >= self.window.0 {
                    self.stayed.add(self.now - sector.taken);
                    self.finished[slot].add(self.now);
                }
                self.take(slot);
            }
            Some(Step::Wait(wait)) => {
                let until = wait.until(&sector.ends, self.now).max(self.now);
                self.at(until, Event::Ripe { slot });
            }
            Some(Step::Work(work)) => {
                sector.queued = self.now;
                let urgency = Urgency { seniority: sector.seniority, expires: None };
                let ticket = self.scheduler.request(work.stage, urgency);
                debug_assert!(ticket.is_ok(), "the pipeline was checked: each phase has a processor");
                self.waiting.extend(ticket.ok().map(|ticket| (ticket, slot)));
            }
        }
    }

    /// Starts what the scheduler grants.
    fn start(&mut self) {
        for Grant { ticket, seat } in self.scheduler.poll(Duration::from_millis(self.now)) {
            if let (Some(slot), Some(seat)) = (self.waiting.remove(&ticket), seat) {
                self.begin(slot, seat.grant, seat.processor);
            }
        }
        let next = self.scheduler.next_wakeup(Duration::from_millis(self.now));
        let next = next.and_then(|next| u64::try_from(next.as_millis()).ok());
        if let Some(next) = next.filter(|next| self.wakeup.is_none_or(|known| *next < known)) {
            self.wakeup = Some(next);
            self.at(next, Event::Wakeup);
        }
    }

    fn begin(&mut self, slot: usize, grant: GrantId, processor: usize) {
        let (work, servers) = self.processors[processor];
        let servers = &self.works[work].servers[servers];
        let end = self.now + servers.time_ms;
        let counted = end.min(self.window.1).saturating_sub(self.now.max(self.window.0));
        let tally = &mut self.tallies[work];
        tally.busy_ms += counted;
        if self.now >= self.window.0 {
            tally.waited.add(self.now - self.sectors[slot].queued);
        }
        for lock in &servers.locks {
            if let Some(held_ms) = self.locked.get_mut(lock.as_str()) {
                *held_ms += counted;
            }
        }
        self.at(end, Event::Done { slot, grant });
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
            self.works.iter().enumerate().map(|(at, work)| (work.stage, of(at))).collect()
        };
        let waited = self.works.iter().zip(&self.tallies).map(|(work, tally)| (work.stage, tally.waited.mean()));
        let locked = self.locked.iter().map(|(name, held_ms)| {
            let capacity = self.spec.locks.get(*name).copied().unwrap_or(1).max(1) as f64;
            ((*name).to_owned(), *held_ms as f64 / length / capacity)
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
            busy: phases(&|at| self.tallies[at].busy_ms as f64 / length / self.works[at].capacity() as f64),
            locked: locked.collect(),
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
