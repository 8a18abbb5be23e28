//! A person's orders to a machine, as opposed to a sector. They stay in force until they are changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::MinerId;

/// The largest weight. More would only make small shares smaller than anybody could observe.
pub const MAX_WEIGHT: u32 = 1000;

/// A worker's standing orders. The last published ones count. Following them twice is harmless.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// Incremented with each change.
    pub revision: u64,
    /// Whether to finish the jobs in the slots and take no new ones.
    #[serde(default)]
    pub drain: bool,
    /// The slots to release.
    #[serde(default)]
    pub release: Vec<SlotRelease>,
    /// The worker's known slots. An empty directory in the place of one is a disk that is not mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<KnownSlot>,
    /// How the miners share the workers.
    #[serde(default, skip_serializing_if = "Weights::are_equal")]
    pub weights: Weights,
}

/// How miners share workers that serve several of them: each miner's weight, relative to those of the others. A miner that
/// is not named has weight 1. One with weight 0 gets new sectors only while no other miner has any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weights(BTreeMap<MinerId, u32>);

impl Weights {
    /// A miner's weight, at most [`MAX_WEIGHT`].
    pub fn of(&self, miner: MinerId) -> u32 {
        self.0.get(&miner).map_or(1, |weight| *weight.min(&MAX_WEIGHT))
    }

    /// Whether all miners have weight 1.
    pub fn are_equal(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(MinerId, u32)> for Weights {
    fn from_iter<I: IntoIterator<Item = (MinerId, u32)>>(weights: I) -> Weights {
        Weights(weights.into_iter().filter(|(_, weight)| *weight != 1).collect())
    }
}

/// A slot as the manager remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownSlot {
    /// The slot's directory, as the heartbeat names it.
    pub path: String,
    /// Its id.
    pub id: String,
}

/// An order to release a slot. Its contents are quarantined, never deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRelease {
    /// Its number, rising per worker. A slot carries out an order only if its number [comes
    /// after](SlotRelease::comes_after) that of the last one.
    pub id: u64,
    /// The slot's directory, as the heartbeat names it.
    pub slot: String,
}

impl SlotRelease {
    /// Whether an order's number comes after another one's. Numbers wrap around, so there is always a later one, even
    /// after the largest, which a forged order may have used.
    pub const fn comes_after(id: u64, last: u64) -> bool {
        id != last && id.wrapping_sub(last) <= u64::MAX / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn there_is_a_later_number_after_each() {
        for last in [0, 1, 7, i64::MAX as u64, u64::MAX - 1, u64::MAX] {
            assert!(SlotRelease::comes_after(last.wrapping_add(1), last), "{last}");
            assert!(!SlotRelease::comes_after(last, last) && !SlotRelease::comes_after(last, last.wrapping_add(1)));
        }
        assert!(SlotRelease::comes_after(7, u64::MAX));
    }

    /// What a release before weights wrote and read.
    #[derive(Serialize, Deserialize)]
    struct Before {
        revision: u64,
        drain: bool,
        release: Vec<SlotRelease>,
    }

    #[test]
    fn orders_without_weights_are_read_and_written_as_before_and_weights_stop_no_older_reader() {
        let before = Before { revision: 7, drain: true, release: Vec::new() };
        let orders: Orders = codec::decode(&codec::encode(&before).expect("writes")).expect("reads");
        assert_eq!(orders.weights.of(MinerId(1000)), 1);
        assert_eq!(codec::encode(&orders).expect("writes"), codec::encode(&before).expect("writes"));

        let weights: Weights = [(MinerId(1000), 3), (MinerId(1001), 0), (MinerId(1002), 1)].into_iter().collect();
        let bytes = codec::encode(&Orders { weights: weights.clone(), ..orders }).expect("writes");
        let older: Before = codec::decode(&bytes).expect("reads");
        assert!(older.drain && older.revision == 7);
        let newer: Orders = codec::decode(&bytes).expect("reads");
        assert_eq!(newer.weights, weights);
        assert_eq!([1000, 1001, 1002, 1003].map(|miner| newer.weights.of(MinerId(miner))), [3, 0, 1, 1]);
    }

    #[test]
    fn a_forged_weight_counts_no_more_than_the_largest() {
        let weights: Weights = [(MinerId(1000), u32::MAX)].into_iter().collect();
        assert_eq!(weights.of(MinerId(1000)), MAX_WEIGHT);
    }
}
