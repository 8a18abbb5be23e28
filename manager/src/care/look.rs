//! Reads a miner's sectors with their places and how they stand, all at one tipset.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt, TryStreamExt, stream};
use fvm_shared::address::Address;

use super::{LeftOut, Now, OnChain, Reason, Standing};
use crate::chain::{
    Error, NodeClient, Transport,
    sector_set::SectorSet,
    types::{Index, MinerInfo, Partition, SectorLocation, TipSet},
};

/// How many sectors are asked for in one call: an answer of some 3 MB.
const SECTORS_A_CALL: usize = 5_000;
/// How many calls are made at once.
const PARALLEL: usize = 8;

/// A miner and its sectors at one tipset.
#[derive(Clone, Debug)]
pub struct Look {
    /// The tipset.
    pub head: TipSet,
    /// What plans depend on.
    pub now: Now,
    /// The miner.
    pub info: MinerInfo,
    /// The partitions of each deadline.
    pub deadlines: Vec<Vec<Partition>>,
    /// The wanted sectors that have not ended, by deadline and partition.
    pub sectors: Vec<OnChain>,
}

/// Reads a miner with its partitions, and those sectors that are wanted.
pub async fn look<T: Transport>(
    node: &NodeClient<T>,
    miner: &Address,
    wanted: impl Fn(Index) -> bool,
) -> Result<Look, Error> {
    let head = node.chain_head().await?;
    let (info, deadline, version) = futures::try_join!(
        node.miner_info(miner, &head.key),
        node.miner_proving_deadline(miner, &head.key),
        node.network_version(&head.key),
    )?;
    let partitions = |index| node.miner_partitions(miner, index, &head.key);
    let deadlines: Vec<Vec<Partition>> =
        stream::iter(0..deadline.period_deadlines).map(partitions).buffered(PARALLEL).try_collect().await?;
    let mut places: HashMap<Index, (SectorLocation, Standing)> = HashMap::new();
    let mut numbers = Vec::new();
    for (deadline, partitions) in deadlines.iter().enumerate() {
        for (partition, sets) in partitions.iter().enumerate() {
            let at = SectorLocation { deadline: deadline as Index, partition: partition as Index };
            for number in sets.live_sectors.iter().filter(|number| wanted(*number)) {
                places.insert(number, (at, standing(sets, number)));
                numbers.push(number);
            }
        }
    }
    let calls = numbers.chunks(SECTORS_A_CALL).map(|numbers| SectorSet::from_numbers(numbers.iter().copied()));
    let calls: Vec<SectorSet> = calls.collect();
    let answers: Vec<_> = stream::iter(&calls)
        .map(|numbers| node.miner_sectors(miner, numbers, &head.key))
        .buffered(PARALLEL)
        .try_collect()
        .await?;
    let mut sectors: Vec<OnChain> = Vec::with_capacity(numbers.len());
    for info in answers.into_iter().flatten() {
        // A node may answer with more than was asked for.
        if let Some((at, standing)) = places.remove(&info.sector_number) {
            sectors.push(OnChain { info, at, standing });
        }
    }
    if let Some(number) = places.keys().min() {
        return Err(Error::bad_answer("StateMinerSectors", format!("sector {number} is missing")));
    }
    sectors.sort_by_key(|sector| (sector.at.deadline, sector.at.partition, sector.info.sector_number));
    let now = Now { head: head.height, version, deadline, sector_bytes: info.sector_bytes };
    Ok(Look { head, now, info, deadlines, sectors })
}

impl Look {
    /// Those of the named sectors that are not among the live ones.
    pub fn missing(&self, named: &[Index]) -> Vec<LeftOut> {
        let live: HashSet<Index> = self.sectors.iter().map(|sector| sector.info.sector_number).collect();
        let has_ended = |number| self.deadlines.iter().flatten().any(|sets| sets.all_sectors.contains(number));
        let reason = |number| if has_ended(number) { Reason::Ended } else { Reason::NotProven };
        let missing = named.iter().filter(|number| !live.contains(number));
        missing.map(|number| LeftOut { sector: *number, why: reason(*number) }).collect()
    }
}

fn standing(sets: &Partition, number: Index) -> Standing {
    if sets.active_sectors.contains(number) {
        Standing::Active
    } else if sets.faulty_sectors.contains(number) {
        Standing::Faulty
    } else {
        Standing::Unproven
    }
}
