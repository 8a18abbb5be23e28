//! Creates the sectors that should exist, by pledges and policy: allocates their numbers and offers them.

pub mod numbers;

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use fvm_shared::address::Address;
use sealbus_schema::{ErrorCode, MinerId, SectorId, SectorNumber};
use serde_json::json;

use crate::{
    chain::{Error as ChainError, NodeClient, Transport, sector_set::SectorSet, types::TipSetKey},
    config::{Config, Miner},
    drive::DriveError,
    life,
    store::{Happening, Store, StoreError},
    waits::{self, Cause},
};
use numbers::Place;

/// The most sectors that are numbered in one transaction.
const MAX_AT_ONCE: usize = 100;
/// How many numbers are looked up in one statement.
const CANDIDATES: usize = 256;

/// Why no sector could be numbered.
#[derive(Debug, thiserror::Error)]
pub enum IntentsError {
    /// The node did not return the used numbers.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The configuration allows no more numbers.
    #[error("{0}")]
    NumbersUsedUp(String),
}

/// The outcome of one reconciliation.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// Whether sectors were numbered.
    pub changed: bool,
    /// Miners that did not get all wanted sectors, and why.
    pub short: BTreeMap<MinerId, Cause>,
}

/// Fills every miner's queue with the wanted sectors, except for miners that are `held`. Idempotent. A failure for one
/// miner does not affect the others.
pub async fn reconcile<T: Transport>(
    store: &Store,
    node: &NodeClient<T>,
    config: &Config,
    (epoch, numbering): (i64, &Numbering),
    is_held: impl Fn(MinerId) -> bool,
) -> Result<Reconciled, StoreError> {
    let mut reconciled = Reconciled::default();
    for pledge in store.open_pledges().await? {
        let Ok(id) = pledge.miner.parse::<MinerId>() else { continue };
        let Some(miner) = config.miner(id) else {
            let text = format!(
                "{} sectors are pledged for {id}, which has no [[miner]] in the configuration; take them back with `pledges cancel`",
                pledge.remaining
            );
            reconciled.short.insert(id, Cause::to_mend(ErrorCode::CONFIGURATION_WRONG, text));
            continue;
        };
        if is_held(id) {
            continue;
        }
        let queued = store.queued_count(miner.id).await?;
        let wanted = to_number(pledge.remaining, queued, miner.max_queued);
        reconciled.note(miner.id, number(store, node, miner, (epoch, numbering), wanted, Some(pledge.id)).await)?;
    }
    for miner in config.miners.iter().filter(|miner| miner.keep_queued > 0 && !is_held(miner.id)) {
        let queued = store.queued_count(miner.id).await?;
        let wanted = to_number(u64::MAX, queued, miner.keep_queued);
        reconciled.note(miner.id, number(store, node, miner, (epoch, numbering), wanted, None).await)?;
    }
    Ok(reconciled)
}

/// Where each miner's search for free numbers continues. This only saves work; each manager starts from the beginning.
#[derive(Debug, Default)]
pub struct Numbering {
    places: Mutex<BTreeMap<MinerId, Place>>,
}

impl Numbering {
    fn place(&self, miner: MinerId) -> Place {
        lock(&self.places).get(&miner).copied().unwrap_or_default()
    }
}

impl Reconciled {
    fn note(&mut self, miner: MinerId, outcome: Result<bool, IntentsError>) -> Result<(), StoreError> {
        match outcome {
            Ok(changed) => self.changed |= changed,
            Err(IntentsError::Store(error)) => return Err(error),
            Err(IntentsError::Chain(error)) => {
                self.short.insert(miner, waits::of_error(&DriveError::Chain(error)));
            }
            Err(IntentsError::NumbersUsedUp(text)) => {
                self.short.insert(miner, Cause::to_mend(ErrorCode::NUMBERS_USED_UP, text));
            }
        }
        Ok(())
    }
}

/// How many of the wanted sectors get a number now: at most one transaction's worth, and only until the queue reaches
/// its limit, so that a mistaken pledge can still be taken back.
fn to_number(wanted: u64, queued: u64, limit: u64) -> usize {
    wanted.min(limit.saturating_sub(queued)).min(MAX_AT_ONCE as u64) as usize
}

async fn number<T: Transport>(
    store: &Store,
    node: &NodeClient<T>,
    miner: &Miner,
    (epoch, numbering): (i64, &Numbering),
    count: usize,
    pledge: Option<i64>,
) -> Result<bool, IntentsError> {
    if count == 0 {
        return Ok(false);
    }
    // The chain knows numbers that this database does not: those of other tools, and those whose PreCommit has expired.
    let allocated = node.allocated(&Address::new_id(miner.id.0), &TipSetKey::head()).await?;
    let (free, behind) = free_numbers(store, miner, &allocated, numbering.place(miner.id), count).await?;
    let mut tx = store.begin_as(epoch).await?;
    if free.is_empty() {
        let text =
            format!("every number of miner {} that its `numbers` = \"{}\" allows is used", miner.id, miner.numbers);
        return Err(IntentsError::NumbersUsedUp(text));
    }
    if let Some(pledge) = pledge
        && !tx.use_pledge(pledge, free.len() as u64).await?
    {
        // The pledge was taken back or partly used since it was read.
        tx.rollback().await?;
        return Ok(false);
    }
    let mut offers = Vec::with_capacity(free.len());
    for number in &free {
        let id = SectorId { miner: miner.id, number: SectorNumber(*number) };
        tx.insert_sector(id, miner.sector_size.seal_proof()).await?;
        if let Some(sector) = tx.sector(id).await? {
            let why = if pledge.is_some() { "pledged" } else { "policy" };
            let detail = json!({ "why": why, "proof": sector.proof.name() });
            offers.push(life::offer(sector, Happening::of_manager("wanted", detail)));
        }
    }
    tx.store_outcomes(offers).await?;
    tx.commit().await?;
    lock(&numbering.places).insert(miner.id, behind);
    tracing::info!(miner = %miner.id, count = free.len(), "sectors are wanted");
    Ok(true)
}

/// Up to `count` free numbers from a place on, used neither on chain nor in our database, and the place after them.
async fn free_numbers(
    store: &Store,
    miner: &Miner,
    allocated: &SectorSet,
    from: Place,
    count: usize,
) -> Result<(Vec<u64>, Place), StoreError> {
    let mut candidates = miner.numbers.unallocated(allocated, from);
    let (mut free, mut behind) = (Vec::with_capacity(count), from);
    while free.len() < count {
        let some: Vec<(u64, Place)> = candidates.by_ref().take(CANDIDATES).collect();
        if some.is_empty() {
            break;
        }
        let numbers: Vec<u64> = some.iter().map(|(number, _)| *number).collect();
        let ours = store.numbers_among(miner.id, &numbers).await?;
        for (number, place) in some {
            if free.len() < count {
                behind = place;
                free.extend((!ours.contains(&number)).then_some(number));
            }
        }
    }
    Ok((free, behind))
}

fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_numbered_in_steps_up_to_the_limit_of_the_queue() {
        for (wanted, queued, limit, now) in [
            (100_000, 0, 3000, 100),
            (100_000, 2950, 3000, 50),
            (100_000, 3000, 3000, 0),
            (100_000, 5000, 3000, 0),
            (7, 0, 3000, 7),
            (u64::MAX, 3, 10, 7),
            (0, 0, 10, 0),
        ] {
            assert_eq!(to_number(wanted, queued, limit), now, "{wanted} wanted, {queued} of {limit} queued");
        }
    }
}
