//! Runs one world, or many concurrently.

use std::{
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

pub use super::world::{Options, Report};
use super::{batches::Counts, restore::Restorations, world::World};

/// Runs one world.
pub fn one(seed: u64, options: Options) -> Report {
    World::new(seed, options).run(seed)
}

/// Runs one world if a queue, or a manager's host, is lost in it.
pub fn one_with_loss(seed: u64, options: Options, loss: Loss) -> Option<Report> {
    let world = World::new(seed, options);
    let has_loss = match loss {
        Loss::Queue => world.loses_queue(),
        Loss::Manager => world.loses_manager(),
    };
    has_loss.then(|| world.run(seed))
}

/// What is lost in some worlds only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The queue, with the log.
    Queue,
    /// The manager's host, with the database.
    Manager,
}

/// The result of many worlds.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// How many ran.
    pub worlds: u64,
    /// The number of their events.
    pub events: u64,
    /// How many sectors ended proving, and how many ended blocked or given up.
    pub ends: (usize, usize),
    /// What happened to messages of many sectors.
    pub batches: Counts,
    /// What happened after managers' hosts were lost.
    pub restorations: Restorations,
    /// The failed world with the lowest seed among those that ran.
    pub failed: Option<Report>,
}

/// Runs the worlds of these seeds on this many threads. Stops at the first failure.
pub fn many(seeds: Range<u64>, threads: usize, options: Options) -> Summary {
    let (next, summary) = (AtomicU64::new(seeds.start), Mutex::new(Summary::default()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut mine = Summary::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    mine.take(one(seed, options));
                    if mine.failed.is_some() {
                        next.store(seeds.end, Ordering::Relaxed);
                    }
                }
                if let Ok(mut summary) = summary.lock() {
                    summary.add(mine);
                }
            });
        }
    });
    summary.into_inner().unwrap_or_default()
}

impl Summary {
    fn take(&mut self, report: Report) {
        self.worlds += 1;
        self.events += report.events;
        self.ends = (self.ends.0 + report.ends.0, self.ends.1 + report.ends.1);
        self.batches.add(&report.batches);
        self.restorations.add(&report.restorations);
        if report.broken.is_some() {
            self.failed = Some(report);
        }
    }

    fn add(&mut self, other: Summary) {
        self.worlds += other.worlds;
        self.events += other.events;
        self.ends = (self.ends.0 + other.ends.0, self.ends.1 + other.ends.1);
        self.batches.add(&other.batches);
        self.restorations.add(&other.restorations);
        self.failed = match (self.failed.take(), other.failed) {
            (Some(a), Some(b)) => Some(if a.seed <= b.seed { a } else { b }),
            (a, b) => a.or(b),
        };
    }
}
