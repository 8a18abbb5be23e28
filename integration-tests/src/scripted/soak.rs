//! The soak: many workers, thousands of sectors, and something killed every few hundred milliseconds until the last one is
//! active.
//!
//! What happens is drawn from a seed; when it happens is real time, so a seed gives the same blows and not the same run.
//! The blows: `kill -9` of workers, of their processors, of the manager, of one of three NATS servers, and workers stopped
//! for so long that the manager takes their sectors back, which wake up as stale owners.

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
    world::{Options, World},
};
use chaos::Chaos;
pub use report::Report;

/// How often is looked how far the sectors are.
const LOOK_PERIOD: Duration = Duration::from_secs(5);

/// A soak.
#[derive(Clone, Debug)]
pub struct Soak {
    /// How many workers, each with one slot.
    pub workers: usize,
    /// How many sectors.
    pub sectors: usize,
    /// Where the blows are drawn from.
    pub seed: u64,
    /// How long it may take.
    pub limit: Duration,
    /// Whether progress is told on stderr.
    pub tell: bool,
}

impl Soak {
    /// Runs it in an empty directory, and reads the books. An error if it does not come to an end.
    pub fn run(&self, root: &Path) -> anyhow::Result<Report> {
        let start = Instant::now();
        let mut world = self.world(root)?;
        let mut chaos = Chaos::new(self.seed);
        let mut looked = Instant::now();
        let mut left = self.sectors;
        loop {
            chaos.blow(&mut world)?;
            // The pull of a worker that died stands at the server for ten seconds, and takes an intent with it that comes back
            // after thirty. Where fewer sectors are left than workers, blows without a break would leave none to be taken.
            let breaks = if left < self.workers { 10 } else { 1 };
            std::thread::sleep(chaos.pause() * breaks);
            if looked.elapsed() >= LOOK_PERIOD {
                looked = Instant::now();
                left = self.left(&mut world, &chaos, start)?;
                if left == 0 {
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
        // Who is silent for ten seconds has lost its sector, whatever it was at.
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

    /// How many sectors are not at their end.
    fn left(&self, world: &mut World, chaos: &Chaos, start: Instant) -> anyhow::Result<usize> {
        let sectors = world.sectors()?;
        let open: Vec<_> = sectors.iter().filter(|sector| !sector.is_done()).collect();
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
