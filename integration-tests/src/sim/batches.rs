//! Messages of many sectors: which worlds send them, by which policy, and what else goes wrong there.

use sealbus_manager::drive::batch::Policy;
use sealbus_schema::SectorId;

use super::{
    chain::Spoiler,
    faults::Incident,
    rng::Rng,
    world::{Event, World},
};

/// How many epochs at most after the signing of a message of many sectors its fork comes. That is about as long as such a message
/// lives.
const LIFE: u64 = 40;

/// How messages are grouped in a world, and what happens to groups.
#[derive(Clone, Debug)]
pub struct Batches {
    /// The most sectors in a message. 1 in worlds without batches.
    pub sectors_max: usize,
    /// How many epochs a message waits for others.
    wait_epochs: i64,
    /// How many sectors, and slots of a worker, such a world has at least.
    pub crowd: (usize, usize),
    /// The probability in millionths that another tool takes the number of a sector whose PreCommit is in the pool, per
    /// epoch.
    taken: u64,
    /// The same, that one of many ProveCommits fails.
    refused: u64,
    /// The same, that a fork follows a message of many sectors.
    forked: u64,
    /// The same, that a person gives up one of its sectors while it is on its way.
    given_up: u64,
    /// The same, that the chain refuses many at once although it takes each alone.
    too_many: u64,
    rng: Rng,
}

/// How often something happened to messages of many sectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Worlds that send them.
    pub worlds: u64,
    /// The messages.
    pub messages: u64,
    /// What they carried.
    pub sectors: u64,
    /// Those that failed as a whole.
    pub failed: u64,
    /// Those that were withdrawn.
    pub withdrawn: u64,
    /// Reorganisations while one of them was on its way, or that undid one.
    pub forks: u64,
}

impl Batches {
    /// The batches of a seed's world. Every second world has some. They have a random stream of their own, so that the other
    /// worlds stay the same.
    pub fn draw(seed: u64) -> Batches {
        let mut rng = Rng::new(seed ^ 0x6261_7463_6865_7321);
        if !rng.chance(500_000) {
            return Batches::none();
        }
        let sectors_max = rng.range(2, 6) as usize;
        let wait_epochs = if rng.chance(750_000) { rng.range(5, 60) } else { 0 } as i64;
        let crowd = (rng.range(3, 6) as usize, rng.range(2, 4) as usize);
        let mut some = |high| if rng.chance(500_000) { rng.range(0, high) } else { 0 };
        let (taken, refused) = (some(150_000), some(500_000));
        let (too_many, given_up) = (some(300_000), some(400_000));
        let forked = if rng.chance(700_000) { rng.range(100_000, 1_000_000) } else { 0 };
        Batches { sectors_max, wait_epochs, crowd, taken, refused, forked, given_up, too_many, rng }
    }

    /// Each message carries one sector, at once.
    pub fn none() -> Batches {
        let rng = Rng::new(0);
        Batches {
            sectors_max: 1,
            wait_epochs: 0,
            crowd: (0, 0),
            taken: 0,
            refused: 0,
            forked: 0,
            given_up: 0,
            too_many: 0,
            rng,
        }
    }

    /// The policy by which messages are grouped.
    pub fn policy(&self) -> Policy {
        let (sectors_max, wait_epochs) = (self.sectors_max, self.wait_epochs);
        Policy { sectors_max, wait_epochs, slack_epochs: 20, at_once: false }
    }

    /// What spoils messages on the chain, if anything does.
    pub fn spoiler(&self) -> Option<Spoiler> {
        let Batches { taken, refused, .. } = *self;
        (taken + refused > 0).then(|| Spoiler { taken, refused, rng: self.rng.clone() })
    }
}

impl Counts {
    /// Adds those of other worlds.
    pub fn add(&mut self, other: &Counts) {
        let Counts { worlds, messages, sectors, failed, withdrawn, forks } = other;
        self.worlds += worlds;
        self.messages += messages;
        self.sectors += sectors;
        self.failed += failed;
        self.withdrawn += withdrawn;
        self.forks += forks;
    }
}

impl World {
    /// Whether the chain refuses so many sectors at once.
    pub fn is_too_much(&mut self, sectors: usize) -> bool {
        let likely = self.batches.too_many;
        sectors > 1 && likely > 0 && self.now < self.faults.end && self.batches.rng.chance(likely)
    }

    /// Counts a message that was signed. Something may happen at any moment of its life.
    pub fn note_batch(&mut self, sectors: &[SectorId]) {
        if sectors.len() < 2 {
            return;
        }
        self.counts.messages += 1;
        self.counts.sectors += sectors.len() as u64;
        let Batches { forked, given_up, .. } = self.batches;
        let life = LIFE * self.chain.epoch_millis;
        let rng = &mut self.batches.rng;
        let mut incidents = Vec::new();
        if rng.chance(forked) {
            incidents.push((rng.range(0, life), Incident::Reorg { depth: rng.range(1, 20) as i64 }));
        }
        if rng.chance(given_up) {
            let id = sectors[rng.next() as usize % sectors.len()];
            let sector = self.sectors.iter().position(|known| *known == id).unwrap_or_default();
            incidents.push((rng.range(0, life / 8), Incident::GiveUp { sector }));
        }
        for (delay, incident) in incidents {
            if self.now + delay < self.faults.end {
                self.schedule(delay, Event::Incident(incident));
            }
        }
    }

    /// Counts a reorganisation of this depth if it concerns a message of many sectors.
    pub fn note_fork(&mut self, depth: i64) {
        let on_its_way = self.db.calls.values().any(|call| call.wants.len() > 1 && call.is_open());
        if on_its_way || self.chain.has_many_within(depth) {
            self.counts.forks += 1;
        }
    }
}
