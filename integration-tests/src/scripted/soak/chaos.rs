//! The faults, and their repair after a while.

use std::{
    fmt,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use rustix::process::{Signal, kill_process};
use sealbus_schema::lease::Ownership;

use crate::{cluster::children_of, scripted::world::World};

/// The shares of the kinds of faults in percent, as cumulative bounds of the draw.
const WORKERS: u32 = 55;
const PROCESSORS: u32 = 75;
const STOPS: u32 = 90;
const MANAGERS: u32 = 95;

/// The shortest time between two faults of the manager. It needs some seconds to decide which workers are silent.
const MANAGER_REST: Duration = Duration::from_secs(15);
/// The shortest time between two faults of NATS. An election takes seconds, and without a leader nothing else is
/// tested.
const NATS_REST: Duration = Duration::from_secs(30);

/// The numbers of faults of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Workers killed.
    pub workers: u64,
    /// Processors killed.
    pub processors: u64,
    /// Workers stopped for a moment.
    pub short_stops: u64,
    /// Workers stopped for longer than the manager waits.
    pub long_stops: u64,
    /// Sectors taken from a stopped worker, as a person would do.
    pub taken: u64,
    /// Managers killed.
    pub managers: u64,
    /// NATS servers killed.
    pub nats: u64,
    /// Workers that ended by themselves and were started again.
    pub ended: u64,
}

/// What is to be repaired.
#[derive(Clone, Copy, Debug)]
enum Repair {
    StartWorker(usize),
    Continue(usize),
    StartManager,
    StartNats(usize),
}

/// The faults of a soak.
pub struct Chaos {
    random: StdRng,
    repairs: Vec<(Instant, Repair)>,
    manager_struck: Option<Instant>,
    nats_struck: Option<Instant>,
    /// The faults so far.
    pub counts: Counts,
}

impl Chaos {
    /// The faults for a seed.
    pub fn new(seed: u64) -> Chaos {
        Chaos {
            random: StdRng::seed_from_u64(seed),
            repairs: Vec::new(),
            manager_struck: None,
            nats_struck: None,
            counts: Counts::default(),
        }
    }

    /// The time until the next fault.
    pub fn pause(&mut self) -> Duration {
        Duration::from_millis(self.random.gen_range(100..500))
    }

    /// Makes the repairs that are due, then causes one fault.
    pub fn blow(&mut self, world: &mut World) -> anyhow::Result<()> {
        let now = Instant::now();
        let due: Vec<Repair> = self.repairs.iter().filter(|(at, _)| *at <= now).map(|(_, repair)| *repair).collect();
        self.repairs.retain(|(at, _)| *at > now);
        due.into_iter().try_for_each(|repair| mend(world, repair))?;
        self.counts.ended += world.restart_ended_workers()?;
        let (draw, victim) = (self.random.gen_range(0..100), self.random.gen_range(0..world.workers.len()));
        match draw {
            0..WORKERS => self.kill_worker(world, victim),
            WORKERS..PROCESSORS => self.kill_processor(world, victim),
            PROCESSORS..STOPS => self.stop_worker(world, victim)?,
            STOPS..MANAGERS if has_rested(self.manager_struck, MANAGER_REST) => self.kill_manager(world),
            MANAGERS.. if has_rested(self.nats_struck, NATS_REST) => self.kill_nats(world),
            _ => self.kill_worker(world, victim),
        }
        Ok(())
    }

    /// Makes all repairs at once.
    pub fn mend(&mut self, world: &mut World) -> anyhow::Result<()> {
        self.repairs.drain(..).try_for_each(|(_, repair)| mend(world, repair))
    }

    fn kill_worker(&mut self, world: &mut World, victim: usize) {
        if self.is_struck(victim) {
            return;
        }
        world.kill_worker(victim);
        self.counts.workers += 1;
        self.repair_within(0..1500, Repair::StartWorker(victim));
    }

    fn kill_processor(&mut self, world: &World, victim: usize) {
        let children = world.workers[victim].pid().map(children_of).unwrap_or_default();
        if children.is_empty() {
            return;
        }
        let child = children[self.random.gen_range(0..children.len())];
        if kill_process(child, Signal::KILL).is_ok() {
            self.counts.processors += 1;
        }
    }

    fn stop_worker(&mut self, world: &mut World, victim: usize) -> anyhow::Result<()> {
        if self.is_struck(victim) || world.workers[victim].pid().is_none() {
            return Ok(());
        }
        world.signal_worker(victim, Signal::STOP);
        let millis = if self.random.gen_bool(0.5) {
            self.counts.short_stops += 1;
            200..3000
        } else {
            self.counts.long_stops += 1;
            13_000..20_000
        };
        self.repair_within(millis, Repair::Continue(victim));
        if self.random.gen_bool(0.5) {
            self.take_from(world, victim)?;
        }
        Ok(())
    }

    /// Revokes a worker's lease; when it wakes up it is a stale owner.
    fn take_from(&mut self, world: &mut World, victim: usize) -> anyhow::Result<()> {
        let name = world.workers[victim].name.clone();
        for sector in world.sectors()? {
            let Ownership::Held { worker, token, .. } = &sector.ownership else { continue };
            if worker.as_str() != name || sector.state.is_terminal() {
                continue;
            }
            // If NATS is down, or the lease has already changed, nothing is revoked.
            let released =
                world.on_bus(async |bus| Ok(bus.release(sector.id, token.0, "a person took it").await.map(drop)?));
            self.counts.taken += u64::from(released.is_ok());
        }
        Ok(())
    }

    fn kill_manager(&mut self, world: &mut World) {
        if world.manager_runs() {
            world.kill_manager();
            self.manager_struck = Some(Instant::now());
            self.counts.managers += 1;
            self.repair_within(0..2000, Repair::StartManager);
        }
    }

    /// Never kills a second server while one is down: the remaining one would have no quorum.
    fn kill_nats(&mut self, world: &mut World) {
        if self.repairs.iter().any(|(_, repair)| matches!(repair, Repair::StartNats(_))) {
            return;
        }
        let victim = self.random.gen_range(0..world.nats.len());
        world.kill_nats(victim);
        self.nats_struck = Some(Instant::now());
        self.counts.nats += 1;
        self.repair_within(500..4000, Repair::StartNats(victim));
    }

    fn is_struck(&self, victim: usize) -> bool {
        self.repairs.iter().any(
            |(_, repair)| matches!(repair, Repair::StartWorker(worker) | Repair::Continue(worker) if *worker == victim),
        )
    }

    fn repair_within(&mut self, millis: std::ops::Range<u64>, repair: Repair) {
        let pause = Duration::from_millis(self.random.gen_range(millis));
        self.repairs.push((Instant::now() + pause, repair));
    }
}

fn mend(world: &mut World, repair: Repair) -> anyhow::Result<()> {
    match repair {
        Repair::StartWorker(index) => world.start_worker(index),
        Repair::Continue(index) => {
            world.signal_worker(index, Signal::CONT);
            Ok(())
        }
        Repair::StartManager => world.start_manager(),
        Repair::StartNats(index) => world.start_nats(index),
    }
}

fn has_rested(struck: Option<Instant>, rest: Duration) -> bool {
    struck.is_none_or(|struck| struck.elapsed() >= rest)
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "killed {} workers, {} processors, {} managers, {} NATS servers; stopped {} workers shortly, {} for long, and \
             took {} sectors from them; {} workers ended by themselves",
            self.workers,
            self.processors,
            self.managers,
            self.nats,
            self.short_stops,
            self.long_stops,
            self.taken,
            self.ended
        )
    }
}
