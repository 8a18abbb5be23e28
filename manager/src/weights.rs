//! How the miners share the workers: the weights that are in force, from the configuration and from people's orders.

use std::collections::BTreeMap;

use sealbus_schema::{MinerId, message::Weights};

use crate::config::Miner;

/// The weights in force. An order overrides the configuration.
pub fn in_force(miners: &[Miner], ordered: &BTreeMap<MinerId, u32>) -> Weights {
    miners.iter().map(|miner| (miner.id, ordered.get(&miner.id).copied().unwrap_or(miner.weight))).collect()
}

/// Each configured miner's part of the new sectors, from 0 to 1, while all of them have work.
pub fn parts(miners: &[Miner], weights: &Weights) -> BTreeMap<MinerId, f64> {
    let weight = |miner: &Miner| f64::from(weights.of(miner.id));
    let total: f64 = miners.iter().map(weight).sum();
    // If all have weight 0, they share equally.
    let part = |miner: &Miner| if total > 0.0 { weight(miner) / total } else { 1.0 / miners.len() as f64 };
    miners.iter().map(|miner| (miner.id, part(miner))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn miners(weights: &[u32]) -> Vec<Miner> {
        let miner = |(at, weight): (usize, &u32)| {
            let text = format!("id = \"f0100{at}\"\nsector_size = \"2KiB\"\nweight = {weight}");
            toml::from_str(&text).expect("a miner")
        };
        weights.iter().enumerate().map(miner).collect()
    }

    #[test]
    fn an_order_overrides_the_configuration_and_counts_for_configured_miners_alone() {
        let miners = miners(&[3, 1, 1]);
        let ordered = BTreeMap::from([(MinerId(1001), 9), (MinerId(1007), 5)]);
        let weights = in_force(&miners, &ordered);
        assert_eq!([1000, 1001, 1002, 1007].map(|miner| weights.of(MinerId(miner))), [3, 9, 1, 1]);
        assert!(in_force(&miners[1..], &BTreeMap::new()).are_equal());
    }

    #[test]
    fn parts_follow_the_weights() {
        for (weights, parts) in [
            (vec![3, 1], vec![0.75, 0.25]),
            (vec![2, 0], vec![1.0, 0.0]),
            (vec![0, 0], vec![0.5, 0.5]),
            (vec![7], vec![1.0]),
            (vec![], vec![]),
        ] {
            let miners = miners(&weights);
            let found = super::parts(&miners, &in_force(&miners, &BTreeMap::new()));
            assert_eq!(found.into_values().collect::<Vec<_>>(), parts, "{weights:?}");
        }
    }
}
