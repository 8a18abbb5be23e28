//! Simulates a pipeline in the long run, event by event.
//!
//! The [`Scheduler`] that the worker's processors follow decides the order here too. Every phase takes exactly its
//! time, and a free slot takes the next sector at once. Nothing is random: the same pipeline always gives the same
//! numbers.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use sealbus_schema::Phase;
use serde::{Deserialize, Serialize};

use super::{Bound, DAY_MS, PipelineSpec, Resource, SpecError, Step, Work, bounds};
use crate::schedule::{Grant, GrantId, Group, Rules, Scheduler, Setup, Ticket, Urgency};

/// Roughly the highest number of sectors that are simulated.
const SECTORS_MAX: usize = 60_000;
/// How often each slot is used: the lower and the upper limit.
const CYCLES: (usize, usize) = (24, 120);

/// The long-run behaviour of a pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Steady {
    /// Sectors a day.
    pub sectors_per_day: f64,
    /// The upper bound in any order of work.
    pub bound_per_day: f64,
    /// The scarcest resource.
    pub bottleneck: Resource,
    /// The throughput that each resource alone would allow, scarcest first.
    pub bounds: Vec<Bound>,
    /// How long a sector is in its slot, on average.
    pub slot_ms: u64,
    /// How long it would be there if it never waited for a processor.
    pub slot_least_ms: u64,
    /// How long a sector waits for a processor or lock before each phase, on average.
    pub queued_ms: Vec<(Phase, u64)>,
    /// The fraction of time in which each phase's processors are busy, 0 to 1.
    pub busy: Vec<(Phase, f64)>,
    /// The fraction of time for which each lock is held, 0 to 1.
    pub locked: BTreeMap<String, f64>,
}

/// Simulates a pipeline until it has settled, and then measures for several times as long.
///
/// # Errors
/// [`SpecError`] if the pipeline is not valid ([`PipelineSpec::check`]).
pub fn simulate(spec: &PipelineSpec) -> Result<Steady, SpecError> {
    spec.check()?;
    let bounds = bounds(spec);
    let slots = Bound { resource: Resource::Slots, per_day: 0.0 };
    let scarcest = bounds.first().unwrap_or(&slots).clone();
    let residence = spec.residence_ms();
    // A turn is the time in which every slot is used once: by the bound, or by the time that a sector is in its slot.
    let turn = (spec.slots as f64 * DAY_MS as f64 / scarcest.per_day).max(residence as f64) as u64 + 1;
    let cycles = (SECTORS_MAX / spec.slots).clamp(CYCLES.0, CYCLES.1) as u64;
    // The first quarter is the time to settle. It is not measured.
    let window = (turn * (cycles / 4), turn * cycles);
    let mut run = Run::new(spec, window)?;
    run.go();
    Ok(run.result(scarcest, bounds, residence))
}

/// A simulation. Times are in milliseconds since its start.
struct Run<'a> {
    spec: &'a PipelineSpec,
    works: Vec<&'a Work>,
    scheduler: Scheduler,
    /// For each of the scheduler's processors: the index of its work, and of its servers in that work.
    processors: Vec<(usize, usize)>,
    window: (u64, u64),
    now: u64,
    /// Future events by time. The second number keeps the order of events at the same time.
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    count: u64,
    /// The time of the queued wake-up event, if there is one.
    wakeup: Option<u64>,
    /// The slots of the sectors that wait for a processor.
    waiting: BTreeMap<Ticket, usize>,
    sectors: Vec<Sector>,
    /// The measurements for each work.
    tallies: Vec<Tally>,
    /// For each lock, how long its units were held in total, in milliseconds.
    locked: BTreeMap<&'a str, u64>,
    stayed: Average,
    finished: Vec<Finished>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The sector in a slot has completed a phase.
    Done { slot: usize, grant: GrantId },
    /// The sector in a slot has completed a wait.
    Ripe { slot: usize },
    /// A stage may start again, so the scheduler is polled.
    Wakeup,
}

/// The sector in a slot.
#[derive(Default)]
struct Sector {
    /// Increases with each sector, so the oldest has the lowest.
    seniority: u64,
    taken: u64,
    queued: u64,
    step: usize,
    ends: Vec<u64>,
}

/// Measurements of a phase within the window.
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

/// Measurements of a slot's finished sectors within the window.
#[derive(Default, Clone, Copy)]
struct Finished {
    count: u64,
    first: u64,
    last: u64,
}

impl PipelineSpec {
    /// The pipeline as the scheduler's setup: one group for each entry of servers, in the same order, with one sector
    /// per process.
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
            // All events at one time are handled before anything starts, so that their order does not matter.
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

    /// Puts the next sector into a slot.
    fn take(&mut self, slot: usize) {
        self.count += 1;
        let ends = std::mem::take(&mut self.sectors[slot].ends);
        self.sectors[slot] = Sector { seniority: self.count, taken: self.now, ends, ..Sector::default() };
        self.sectors[slot].ends.clear();
        self.enter(slot);
    }

    /// Completes the present step.
    fn step_on(&mut self, slot: usize) {
        self.sectors[slot].ends.push(self.now);
        self.sectors[slot].step += 1;
        self.enter(slot);
    }

    /// Enters the sector's next step, or ends the sector.
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
        // Only the part inside the window counts.
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
        // The rate is measured for each slot between its own first and last finished sector. So it does not depend on
        // how the window's edges fall into a slot's rhythm.
        let rates = self.finished.iter().map(|finished| match finished.last - finished.first {
            0 => finished.count as f64 / length,
            // `count` sectors span `count - 1` intervals.
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
        // A small excess is possible, from how the window's edges fall into a slot's rhythm.
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
