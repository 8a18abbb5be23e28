//! The soak: many workers and thousands of sectors, with a fault every few hundred milliseconds until the last sector
//! is active.
//!
//! The faults are drawn from a seed, but their times are real. So a seed gives the same faults, not the same run. The
//! faults are `kill -9` of workers, of their processors, of the manager and of one of three NATS servers. Workers are
//! also stopped for so long that the manager revokes their leases; they then wake up as stale owners.

mod chaos;
mod report;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::bail;
use sealbus_manager::config::Liveness;
use sealbus_manager::errln;

use super::{
    ledger::Ledger,
    world::{Options, World, is_over},
};
use chaos::Chaos;
pub use report::Report;

/// How often progress is checked.
const LOOK_PERIOD: Duration = Duration::from_secs(5);

/// A soak.
#[derive(Clone, Debug)]
pub struct Soak {
    /// The number of workers, with one slot each.
    pub workers: usize,
    /// The number of sectors.
    pub sectors: usize,
    /// The seed of the faults.
    pub seed: u64,
    /// The time limit.
    pub limit: Duration,
    /// Whether to print progress on stderr.
    pub tell: bool,
}

impl Soak {
    /// Runs the soak in an empty directory and reads the records. Fails if it does not complete.
    pub fn run(&self, root: &Path) -> anyhow::Result<Report> {
        let start = Instant::now();
        let mut world = self.world(root)?;
        let mut chaos = Chaos::new(self.seed);
        let mut looked = Instant::now();
        loop {
            chaos.blow(&mut world)?;
            std::thread::sleep(chaos.pause());
            if looked.elapsed() >= LOOK_PERIOD {
                looked = Instant::now();
                if self.left(&mut world, &chaos, start)? == 0 {
                    break;
                }
            }
        }
        chaos.mend(&mut world)?;
        let took = start.elapsed();
        let ledger = Ledger::read(&mut world)?;
        Ok(Report { soak: self.clone(), took, counts: chaos.counts, ledger })
    }

    fn world(&self, root: &Path) -> anyhow::Result<World> {
        // A worker that is silent for ten seconds loses its sector, in whatever phase.
        let liveness = Liveness {
            revoke: true,
            dead_after_secs: 8,
            grace_secs: 1,
            short_grace_secs: 1,
            orphan_after_secs: 10,
            reissue_interval_secs: 1,
        };
        let options = Options {
            workers: self.workers,
            nats: 3,
            epoch_millis: 200,
            heartbeat_secs: 2,
            liveness,
            ..Options::default()
        };
        let mut world = World::prepare(root, options)?;
        world.start_manager()?;
        world.pledge_and_wait(self.sectors)?;
        world.start_workers()?;
        Ok(world)
    }

    /// How many sectors have not ended.
    fn left(&self, world: &mut World, chaos: &Chaos, start: Instant) -> anyhow::Result<usize> {
        let sectors = world.sectors()?;
        let open: Vec<_> = sectors.iter().filter(|sector| !is_over(sector)).collect();
        if let Some(blocked) = open.iter().find(|sector| sector.blocked.is_some()) {
            bail!("sector {} waits for a person, seed {}: {:?}", blocked.id, self.seed, blocked.blocked);
        }
        let seconds = start.elapsed().as_secs();
        if self.tell {
            let done = sectors.len() - open.len();
            errln!("soak: {seconds} s, {done} of {} sectors active; {}", sectors.len(), chaos.counts);
        }
        if start.elapsed() > self.limit {
            let some: Vec<_> =
                open.iter().take(20).map(|s| format!("{} {} {:?}", s.id, s.state.name(), s.ownership)).collect();
            bail!("{} sectors are open after {seconds} s, seed {}: {some:#?}", open.len(), self.seed);
        }
        Ok(open.len())
    }
}
