//! Random machines, with the times of their stages.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};
use sealbus_planner::pipeline::{PipelineSpec, Servers, Step, Wait, Work};
use sealbus_planner::schedule::{Group, Rules, Setup};
use sealbus_schema::Phase as Stage;

/// How a machine's groups use locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locks {
    /// A group needs at most one lock, and all groups of a stage need the same one, as with GPUs on most machines.
    Alike,
    /// A group needs at most one lock, and groups of one stage may need different ones.
    Mixed,
    /// A group may need two locks at the same time.
    Coupled,
}

/// A machine, its sectors, and the times of its stages.
#[derive(Clone, Debug)]
pub struct Machine {
    pub setup: Setup,
    /// The stages of a sector in order, with their mean times in ticks.
    pub stages: Vec<(Stage, u64)>,
    /// How long a sector waits for the chain after its last stage, in ticks.
    pub wait: u64,
}

pub const fn ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks)
}

impl Machine {
    /// The machine for a seed.
    pub fn of(seed: u64, kind: Locks) -> Machine {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut stages: Vec<(Stage, u64)> = Vec::new();
        for stage in Stage::SEALING {
            if rng.gen_bool(0.7) {
                // From 10 to 5000 ticks, with each order of magnitude equally likely.
                stages.push((stage, 10_f64.powf(rng.gen_range(1.0..3.7)) as u64));
            }
        }
        if stages.is_empty() {
            stages.push((Stage::Pc1, 1000));
        }
        let locks: BTreeMap<String, usize> =
            (0..rng.gen_range(0..4)).map(|number| (format!("gpu{number}"), rng.gen_range(1..4))).collect();
        let mut groups = Vec::new();
        let mut rules = Rules { locks: locks.clone(), ..Rules::default() };
        for &(stage, time) in &stages {
            let own = some_locks(&mut rng, &locks, kind);
            let mut seats = 0;
            for _ in 0..rng.gen_range(1..3) {
                let locks_of_group =
                    if kind == Locks::Alike { own.clone() } else { some_locks(&mut rng, &locks, kind) };
                let most = locks_of_group.iter().map(|lock| locks[lock]).min().unwrap_or(3);
                let (count, concurrent) = (rng.gen_range(1..4), rng.gen_range(1..=most));
                seats += count * concurrent;
                groups.push(Group { stage, count, concurrent, locks: locks_of_group });
            }
            if rng.gen_bool(0.3) {
                rules.concurrent.insert(stage, rng.gen_range(1..=seats));
            }
            if rng.gen_bool(0.2) {
                let apart = time as f64 / seats as f64 * rng.gen_range(0.3..2.0);
                rules.staggered.insert(stage, ticks(apart as u64));
            }
        }
        let mut setup = Setup::new(groups, rules);
        setup.urgent_within = ticks(2000);
        setup.check().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        Machine { setup, stages, wait: rng.gen_range(0..3000) }
    }

    /// The machine as a pipeline, with one tick as a millisecond.
    pub fn pipeline(&self, slots: usize) -> PipelineSpec {
        let Rules { concurrent, staggered, locks } = &self.setup.rules;
        let work = |&(stage, time_ms): &(Stage, u64)| {
            let groups = self.setup.groups.iter().filter(|group| group.stage == stage);
            let servers = groups.map(|Group { count, concurrent, locks, .. }| Servers {
                count: count * concurrent,
                time_ms,
                locks: locks.iter().cloned().collect(),
            });
            Step::Work(Work {
                stage,
                servers: servers.collect(),
                concurrent: concurrent.get(&stage).copied(),
                staggered_ms: staggered.get(&stage).map_or(0, |apart| apart.as_millis() as u64),
            })
        };
        let chain = Step::Wait(Wait { name: "chain".to_owned(), time_ms: self.wait, since: None });
        PipelineSpec { slots, steps: self.stages.iter().map(work).chain([chain]).collect(), locks: locks.clone() }
    }

    /// How long a sector takes if it never waits for another, in ticks.
    pub fn alone(&self) -> u64 {
        self.stages.iter().map(|(_, time)| time).sum::<u64>() + self.wait
    }
}

fn some_locks(rng: &mut StdRng, locks: &BTreeMap<String, usize>, kind: Locks) -> Vec<String> {
    let names: Vec<&String> = locks.keys().collect();
    let needed = match rng.gen_range(0..100) {
        0..50 => 0,
        50..85 => 1,
        _ if kind == Locks::Coupled => 2,
        _ => 1,
    };
    rand::seq::index::sample(rng, names.len(), needed.min(names.len()))
        .iter()
        .map(|index| names[index].clone())
        .collect()
}
