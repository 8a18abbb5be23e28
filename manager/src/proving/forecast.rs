//! What the last proofs of a partition say about its next one. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::proof::{PartitionProof, ProofState};
use crate::chain::types::{Epoch, Index};

/// How many turns back are looked at.
const TURNS: usize = 3;

/// The forecast of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// The deadline.
    pub deadline: Index,
    /// The partition in it.
    pub partition: Index,
    /// From how many proofs it is.
    pub turns: usize,
    /// How many of them were missed.
    pub missed: usize,
    /// The least epochs that were left between a verified proof and the close.
    pub margin: Option<Epoch>,
    /// How many epochs it took at most from the challenge until all was read that counts.
    pub reading: Option<Epoch>,
    /// How long a SNARK took at most, in milliseconds.
    pub prove_ms: Option<u64>,
    /// The slowest sector, and its milliseconds.
    pub slowest: Option<(u64, u64)>,
    /// How many sectors were left out in the last one.
    pub skipped: usize,
}

/// The forecasts of one miner's partitions, by deadline and partition. `proofs` are the newest first.
pub fn forecasts(proofs: &[PartitionProof]) -> Vec<Forecast> {
    let mut by_partition: BTreeMap<(Index, Index), Vec<&PartitionProof>> = BTreeMap::new();
    for proof in proofs.iter().filter(|proof| matches!(proof.state, ProofState::Landed | ProofState::Missed)) {
        let known = by_partition.entry((proof.id.deadline, proof.id.partition)).or_default();
        if known.len() < TURNS {
            known.push(proof);
        }
    }
    by_partition.into_iter().map(|((deadline, partition), proofs)| of(deadline, partition, &proofs)).collect()
}

fn of(deadline: Index, partition: Index, proofs: &[&PartitionProof]) -> Forecast {
    let all = || proofs.iter();
    Forecast {
        deadline,
        partition,
        turns: proofs.len(),
        missed: all().filter(|proof| proof.state == ProofState::Missed).count(),
        margin: all().filter_map(|proof| Some(proof.close - proof.proved_epoch?)).min(),
        reading: all().filter_map(|proof| Some(proof.read_epoch? - proof.challenge)).max(),
        prove_ms: all().filter_map(|proof| proof.told.prove_ms).max(),
        slowest: all().filter_map(|proof| proof.told.slowest).map(|(n, ms)| (n.0, ms)).max_by_key(|(_, ms)| *ms),
        skipped: proofs.first().map_or(0, |proof| proof.skipped.len()),
    }
}

#[cfg(test)]
mod tests {
    use sealbus_schema::{MinerId, Randomness, SectorNumber};

    use super::*;
    use crate::proving::{
        proof::{ProofId, Told},
        turn::{Turn, tests::told},
    };

    fn proof(period: Epoch, state: ProofState, margin: Epoch, ms: u64) -> PartitionProof {
        let mut turn = Turn::of(&told(7));
        turn.period = period;
        let id = ProofId { miner: MinerId(1000), period, deadline: 7, partition: 0 };
        let slowest = Some((SectorNumber(ms), ms));
        PartitionProof {
            state,
            read_epoch: Some(turn.challenge + 3),
            proved_epoch: (state == ProofState::Landed).then_some(turn.close - margin),
            told: Told { slowest, prover: None, prove_ms: Some(ms * 10) },
            ..PartitionProof::begun(id, &turn, Randomness([0; 32]), (3, 0))
        }
    }

    #[test]
    fn the_worst_of_the_last_three_turns_counts() {
        let proofs = [
            proof(5, ProofState::Making, 0, 999),
            proof(4, ProofState::Landed, 50, 20),
            proof(3, ProofState::Missed, 0, 90),
            proof(2, ProofState::Landed, 40, 30),
            proof(1, ProofState::Landed, 1, 800),
        ];
        let forecast = &forecasts(&proofs)[0];
        assert_eq!((forecast.turns, forecast.missed, forecast.margin), (3, 1, Some(40)));
        assert_eq!((forecast.reading, forecast.prove_ms, forecast.slowest), (Some(3), Some(900), Some((90, 90))));
        assert_eq!(forecasts(&[]), []);
    }
}
