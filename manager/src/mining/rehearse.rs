//! Makes a winning PoSt without having won, once a day: a miner that wins rarely would otherwise learn only from a lost
//! block that a store is slow or that parameters are missing.

use sealbus_schema::{MinerId, SectorNumber};
use tokio::time::Instant;

use super::{
    Mining,
    block::{Rehearsal, Steps},
    heard,
};
use crate::{
    chain::{
        Transport,
        node::mining::{Base, ChallengedSector},
        randomness::{Domain, blake2b256, draw, masked, miner_entropy},
        sector_set::SectorSet,
        types::{Epoch, TipSetKey},
    },
    drive::address,
    proving::{Error, tasks::Tasks},
    store::now_text,
};

/// After how many epochs a miner rehearses again: a day.
const EVERY: Epoch = 2880;
/// The same after a failure: an hour.
const AGAIN: Epoch = 120;

/// Whether a miner rehearses now. `last` is its last rehearsal, `troubled` whether one or a block has failed since.
pub fn is_due(last: Option<Epoch>, troubled: bool, head: Epoch) -> bool {
    let pause = if troubled { AGAIN } else { EVERY };
    last.is_none_or(|last| head >= last + pause)
}

impl<T: Transport, B: Tasks> Mining<'_, T, B> {
    /// Proves a random active sector until a moment. `None` if the miner has no active sector.
    pub(super) async fn rehearse(
        &self,
        miner: MinerId,
        head: &Base,
        until: Instant,
    ) -> Result<Option<Rehearsal>, Error> {
        // Anything that is different each time serves: nobody gains by knowing it.
        let digest = blake2b256(head.min_ticket());
        let drawn = masked(draw(&digest, Domain::WinningPoStChallengeSeed, head.height, &miner_entropy(miner.0)));
        let Some(sector) = self.random_sector(miner, &head.key, &drawn).await? else { return Ok(None) };
        let challenge = self.challenge_of(miner, &format!("{}{}", heard::REHEARSAL, head.height), drawn, &sector)?;
        let budget_ms = i64::try_from(until.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(i64::MAX);
        let mut steps = Steps::default();
        let without_key = self.lacks_key(miner, &head.key).await?;
        let problem = self.prove(&challenge, until, &mut steps).await?.err().or(without_key);
        let (number, epoch) = (SectorNumber(sector.sector_number), head.height);
        let rehearsal = Rehearsal { miner, epoch, sector: number, steps, budget_ms, problem, at: now_text() };
        match &rehearsal.problem {
            None => {
                tracing::info!(%miner, sector = %number, ms = rehearsal.steps.total_ms(), "rehearsed a winning PoSt")
            }
            Some(cause) => tracing::error!(%miner, sector = %number, cause, "a winning PoSt cannot be made in time"),
        }
        let mut tx = self.store.begin_as(self.epoch).await?;
        tx.note_rehearsal(&rehearsal).await?;
        tx.commit().await?;
        Ok(Some(rehearsal))
    }

    /// Why the node could not sign a block.
    async fn lacks_key(&self, miner: MinerId, at: &TipSetKey) -> Result<Option<String>, Error> {
        let worker = self.node.miner_info(&address(miner), at).await?.worker;
        let key = self.node.account_key(&worker, at).await?;
        let lacks = !self.node.wallet_has(&key).await?;
        Ok(lacks.then(|| format!("the node's wallet does not have the key of the miner's worker, {key}")))
    }

    /// One of the active sectors of the first deadline that has any, from a random one on.
    async fn random_sector(
        &self,
        miner: MinerId,
        at: &TipSetKey,
        drawn: &[u8; 32],
    ) -> Result<Option<ChallengedSector>, Error> {
        let [a, b, c, d, e, f, g, h, ..] = *drawn;
        let (which_deadline, which_sector) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        let miner = address(miner);
        let deadlines = self.node.miner_proving_deadline(&miner, at).await?.period_deadlines.max(1);
        for step in 0..deadlines {
            let deadline = (u64::from(which_deadline) + step) % deadlines;
            let partitions = self.node.miner_partitions(&miner, deadline, at).await?;
            let active = || partitions.iter().map(|partition| &partition.active_sectors);
            let count: u64 = active().map(SectorSet::len).sum();
            if count == 0 {
                continue;
            }
            let chosen = u64::from(which_sector) % count;
            let number = active().flat_map(SectorSet::iter).nth(usize::try_from(chosen).unwrap_or_default());
            let sectors = self.node.miner_sectors(&miner, &SectorSet::from_numbers(number), at).await?;
            return Ok(sectors.into_iter().next().map(|sector| ChallengedSector {
                seal_proof: sector.seal_proof,
                sector_number: sector.sector_number,
                sealed_cid: sector.sealed_cid,
            }));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miner_rehearses_each_day_and_each_hour_after_a_failure() {
        assert!(is_due(None, false, 0));
        assert!(!is_due(Some(100), false, 100 + EVERY - 1) && is_due(Some(100), false, 100 + EVERY));
        assert!(!is_due(Some(100), true, 100 + AGAIN - 1) && is_due(Some(100), true, 100 + AGAIN));
    }
}
