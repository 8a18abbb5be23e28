//! Which proofs a turn needs, and of which sectors, as the chain has it at the challenge.
//!
//! From some epochs before the challenge until the close nothing changes which sectors a partition has, and what was
//! declared of them. So the tipset of the challenge says the same whenever it is asked, also after a restart.

use sealbus_schema::{Commitment, MinerId, Randomness, SectorNumber};

use super::{
    Error, Proving,
    make::Making,
    proof::{PartitionProof, ProofId},
    reads::{Provable, Reads},
    tasks::Tasks,
    turn::Turn,
};
use crate::{
    chain::{
        Transport, commitment,
        randomness::{Domain, masked},
        sector_set::SectorSet,
        types::{Partition, TipSet},
    },
    drive::address,
};

impl<T: Transport, B: Tasks> Proving<'_, T, B> {
    /// Stores the proofs of a turn, one for each partition.
    pub(super) async fn begin_turn(&self, miner: MinerId, turn: &Turn, head: &TipSet) -> Result<(), Error> {
        let at = self.node.tipset_by_height(turn.challenge, &head.key).await?;
        let partitions = self.node.miner_partitions(&address(miner), turn.deadline, &at.key).await?;
        if partitions.is_empty() {
            return Ok(());
        }
        let domain = Domain::WindowedPoStChallengeSeed;
        let randomness = masked(self.node.randomness_from_beacon(domain, turn.challenge, miner.0, &head.key).await?);
        let mut tx = self.store.begin_as(self.epoch).await?;
        for (partition, index) in partitions.iter().zip(0..) {
            let id = ProofId { miner, period: turn.period, deadline: turn.deadline, partition: index };
            let (sectors, recovering) = (to_prove(partition).len() as u64, partition.recovering_sectors.len());
            let proof = PartitionProof::begun(id, turn, Randomness(randomness), (sectors, recovering));
            tx.begin_proof(&proof).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// What is needed to make a proof that was begun.
    pub(super) async fn making(&self, proof: &PartitionProof, head: &TipSet) -> Result<Making, Error> {
        let (id, miner) = (proof.id, address(proof.id.miner));
        let info = self.node.miner_proving_deadline(&miner, &head.key).await?;
        let turn = Turn {
            period: id.period,
            deadline: id.deadline,
            challenge: proof.challenge,
            open: proof.open,
            close: proof.close,
            fault_cutoff: proof.open - info.fault_declaration_cutoff,
        };
        let at = self.node.tipset_by_height(turn.challenge, &head.key).await?;
        let partitions = self.node.miner_partitions(&miner, id.deadline, &at.key).await?;
        let partition = usize::try_from(id.partition).ok().and_then(|index| partitions.into_iter().nth(index));
        let partition = partition.ok_or_else(|| Error::Odd(format!("the chain has no {id}")))?;
        let sectors = self.provables(id.miner, &to_prove(&partition), &at).await?;
        Ok(Making::new(id, turn, Reads::new(sectors), proof.attempts.len()))
    }

    /// What is needed to read these sectors, by rising number.
    pub async fn provables(&self, miner: MinerId, numbers: &[u64], at: &TipSet) -> Result<Vec<Provable>, Error> {
        let set = SectorSet::from_numbers(numbers.iter().copied());
        let on_chain = self.node.miner_sectors(&address(miner), &set, &at.key).await?;
        if on_chain.len() != numbers.len() {
            return Err(Error::Odd(format!("the node tells of {} of {} sectors", on_chain.len(), numbers.len())));
        }
        let stores = self.store.stores_of(miner, numbers).await?;
        let mut sectors = Vec::with_capacity(on_chain.len());
        for sector in on_chain {
            let number = sector.sector_number;
            let comm_r = Commitment(commitment::comm_r(&sector.sealed_cid)?);
            sectors.push(Provable { number: SectorNumber(number), comm_r, store: stores.get(&number).cloned() });
        }
        sectors.sort_by_key(|sector| sector.number);
        Ok(sectors)
    }
}

/// The sectors that a partition's proof is about: those that live and are not faulty, and those that recover.
pub fn to_prove(partition: &Partition) -> Vec<u64> {
    let is_proven =
        |number: &u64| !partition.faulty_sectors.contains(*number) || partition.recovering_sectors.contains(*number);
    partition.live_sectors.iter().filter(is_proven).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faulty_sectors_are_proven_only_if_they_recover() {
        let set = |numbers: &[u64]| SectorSet::from_numbers(numbers.iter().copied());
        let partition = Partition {
            all_sectors: set(&[1, 2, 3, 4, 5]),
            live_sectors: set(&[1, 2, 3, 4]),
            faulty_sectors: set(&[2, 3]),
            recovering_sectors: set(&[3]),
            // A new sector is not active yet, and is proven.
            active_sectors: set(&[1]),
        };
        assert_eq!(to_prove(&partition), [1, 3, 4]);
        assert_eq!(to_prove(&Partition::default()), [0; 0]);
    }
}
