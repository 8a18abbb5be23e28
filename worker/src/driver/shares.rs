//! Which miner's queue a free slot asks first, so that the miners share this worker by their weights.
//!
//! Smooth weighted round robin: each sector that is taken gives every miner with work its share of one sector, and costs the
//! miner that got it one sector. Whoever is owed most is asked first. Each kind of work is shared for itself, and a more
//! urgent kind comes first, whoever's it is. See `docs/adr/0052-weights-are-kept-by-the-workers.md`.

use std::collections::BTreeMap;

use sealbus_nats::intents::Queue;
use sealbus_schema::{IntentKind, MinerId, message::Weights};

/// How many turns a fleet's workers may be apart at their start.
const START_TURNS: f64 = 1000.0;

/// What this worker owes to the miners.
#[derive(Clone, Debug)]
pub struct Shares {
    /// In sectors, by kind of work. Negative for a miner that is ahead.
    owed: BTreeMap<(IntentKind, MinerId), f64>,
    start: f64,
}

impl Shares {
    /// The shares of a worker that begins at this point, 0 to 1, of the miners' turns. If the workers of a fleet begin at
    /// different points, their first sectors are shared too.
    pub const fn starting_at(start: f64) -> Shares {
        Shares { owed: BTreeMap::new(), start }
    }

    /// The queues in the order in which they are asked. The kinds of work keep their order.
    pub fn order(&mut self, queues: &[Queue], weights: &Weights) -> Vec<Queue> {
        let mut ordered = Vec::with_capacity(queues.len());
        for group in groups(queues, weights) {
            self.begin(&group, weights);
            ordered.extend(self.by_due(&group, weights));
        }
        ordered
    }

    /// Counts a sector that was taken. `is_empty` says which queues had nothing to take. A miner whose queue is empty gains
    /// nothing, and keeps no more than whoever got the sector was owed: when it has work again, it gets its share from then
    /// on, not what it missed.
    pub fn taken(&mut self, taken: Queue, is_empty: impl Fn(&Queue) -> bool, queues: &[Queue], weights: &Weights) {
        let Some(group) = groups(queues, weights).into_iter().find(|group| group.contains(&taken)) else { return };
        let (idle, busy): (Vec<Queue>, Vec<Queue>) =
            group.iter().partition(|queue| **queue != taken && is_empty(queue));
        for queue in &busy {
            *self.owed_mut(queue) += share(queue, &busy, weights);
        }
        let (level, mut given_up) = (self.owed(&taken), 0.0);
        for queue in &idle {
            let too_much = (self.owed(queue) - level).max(0.0);
            *self.owed_mut(queue) -= too_much;
            given_up += too_much;
        }
        // An idle miner was given its share of sectors when nobody knew that it had no work. The others get that by weight.
        for queue in &busy {
            *self.owed_mut(queue) += given_up * share(queue, &busy, weights);
        }
        *self.owed_mut(&taken) -= 1.0;
    }

    /// Brings a group to this worker's starting point, once.
    fn begin(&mut self, group: &[Queue], weights: &Weights) {
        if group.iter().any(|queue| self.owed.contains_key(&key(queue))) {
            return;
        }
        group.iter().for_each(|queue| *self.owed_mut(queue) = 0.0);
        for _ in 0..(self.start * START_TURNS) as usize {
            if let Some(first) = self.by_due(group, weights).first() {
                self.taken(*first, |_| false, group, weights);
            }
        }
    }

    /// A group, whoever is owed most first.
    fn by_due(&self, group: &[Queue], weights: &Weights) -> Vec<Queue> {
        let due = |queue: &Queue| (self.owed(queue) + share(queue, group, weights), *queue);
        let mut ordered: Vec<(f64, Queue)> = group.iter().map(due).collect();
        ordered.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        ordered.into_iter().map(|(_, queue)| queue).collect()
    }

    fn owed(&self, queue: &Queue) -> f64 {
        self.owed.get(&key(queue)).copied().unwrap_or_default()
    }

    fn owed_mut(&mut self, queue: &Queue) -> &mut f64 {
        self.owed.entry(key(queue)).or_default()
    }
}

/// The queues that share a turn, in the order in which the groups are asked: by kind of work, and within a kind first the
/// miners with a weight, then those with weight 0, which share equally what the others leave.
fn groups(queues: &[Queue], weights: &Weights) -> Vec<Vec<Queue>> {
    let mut groups: Vec<Vec<Queue>> = Vec::new();
    let is_last = |queue: &Queue| weights.of(queue.miner) == 0;
    for kind in queues.chunk_by(|a, b| a.kind == b.kind) {
        let (last, first): (Vec<Queue>, Vec<Queue>) = kind.iter().partition(|queue| is_last(queue));
        groups.extend([first, last].into_iter().filter(|group| !group.is_empty()));
    }
    groups
}

/// A queue's share of a group's sectors.
fn share(queue: &Queue, group: &[Queue], weights: &Weights) -> f64 {
    let weight = |queue: &Queue| f64::from(weights.of(queue.miner).max(1));
    weight(queue) / group.iter().map(weight).sum::<f64>()
}

const fn key(queue: &Queue) -> (IntentKind, MinerId) {
    (queue.kind, queue.miner)
}

#[cfg(test)]
mod tests;
