//! What a miner is told before it tries to win an epoch (`MinerGetBaseInfo`).

use std::sync::Arc;

use fil_actor_miner_state::v19::{PowerPair, SectorOnChainInfo};
use fil_actors_shared::v19::runtime::DomainSeparationTag;
use fvm_ipld_bitfield::BitField;
use fvm_shared::address::Address;
use fvm_shared::bigint::BigInt;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::sector::{RegisteredPoStProof, SectorSize};

use super::{BlockError, latest_beacon_entry};
use crate::devnet::node::Node;
use crate::devnet::proofs::winning_sectors;
use crate::devnet::randomness::{blake2b256, draw_tagged, miner_entropy};
use crate::devnet::tipset::{BeaconEntry, Tipset};
use crate::devnet::view::{MinerView, View, ViewError};
use crate::devnet::world::{WorldError, failed};

/// By how many epochs the state that decides an election is older than it (ChainFinality).
const LOOKBACK: ChainEpoch = 900;

/// What a miner needs to win an epoch.
#[derive(Debug, Clone)]
pub struct BaseInfo {
    /// Its quality-adjusted power in bytes.
    pub power: BigInt,
    /// That of the network.
    pub network_power: BigInt,
    /// The sectors that the winning PoSt must prove.
    pub sectors: Vec<SectorOnChainInfo>,
    /// The key address of its worker.
    pub worker_key: Address,
    /// The size of its sectors.
    pub sector_size: SectorSize,
    /// The type of its window PoSts.
    pub window_post_proof: RegisteredPoStProof,
    /// The last beacon entry of the base.
    pub previous_beacon_entry: BeaconEntry,
    /// The beacon entries since.
    pub beacon_entries: Vec<BeaconEntry>,
    /// Whether its blocks are accepted at present.
    pub is_eligible: bool,
}

impl BaseInfo {
    /// The beacon entry that the epoch's randomness is drawn from.
    pub fn beacon_entry(&self) -> &BeaconEntry {
        self.beacon_entries.last().unwrap_or(&self.previous_beacon_entry)
    }
}

/// What a miner needs to win `epoch` on top of a tipset. `None` if it had no sectors to prove.
pub fn base_info(
    node: &Node,
    address: &Address,
    epoch: ChainEpoch,
    base: &Arc<Tipset>,
) -> Result<Option<BaseInfo>, BlockError> {
    let previous_beacon_entry = latest_beacon_entry(node, base)?;
    if epoch > node.epoch() + 1 {
        let text = format!("beacon entry request returned error: the entry of epoch {epoch} does not exist yet");
        return Err(BlockError::Invalid(text));
    }
    let beacon_entries = node.beacon_entries(base.height(), epoch);
    let (lookback_tipset, state) = lookback(node, base, epoch)?;
    let miner = match state.miner(address) {
        Err(ViewError::NoMiner) => {
            // A miner that is younger than the lookback wins nothing. One that does not exist is an error.
            View::after(&node.store, &node.chain, base.clone())?.miner(address)?;
            return Ok(None);
        }
        found => found?,
    };
    let entry = beacon_entries.last().unwrap_or(&previous_beacon_entry);
    let tag = DomainSeparationTag::WinningPoStChallengeSeed;
    let drawn = draw_tagged(&blake2b256(&entry.1), tag, epoch, &miner_entropy(miner.id));
    let sectors = challenged_sectors(&state, &miner, drawn)?;
    if sectors.is_empty() {
        return Ok(None);
    }
    let worker_key = View::after(&node.store, &node.chain, base.clone())?.world.account_key(&miner.info.worker);
    let worker_key =
        worker_key.ok_or_else(|| BlockError::Invalid("resolving worker address: actor not found".to_owned()))?;
    Ok(Some(BaseInfo {
        power: miner_power(&state, &miner)?.qa,
        network_power: network_power(node, &state)?.qa,
        sectors,
        worker_key,
        sector_size: miner.info.sector_size,
        window_post_proof: miner.info.window_post_proof_type,
        is_eligible: is_eligible(node, address, base, &lookback_tipset)?,
        previous_beacon_entry,
        beacon_entries,
    }))
}

/// The tipset whose state decides who wins `epoch` on top of `base`, and that state.
pub fn lookback<'a>(
    node: &'a Node,
    base: &Arc<Tipset>,
    epoch: ChainEpoch,
) -> Result<(Arc<Tipset>, View<'a>), BlockError> {
    let height = (epoch - node.config.scaled(LOOKBACK)).max(0);
    if height >= base.height() {
        return Ok((base.clone(), View::after(&node.store, &node.chain, base.clone())?));
    }
    let next = node.chain.after_height(height + 1, base)?;
    let tipset = node.chain.parent(&next)?.cloned().unwrap_or_else(|| next.clone());
    Ok((tipset, View::new(&node.store, next)?))
}

/// The sectors that a winning PoSt must prove: a draw from the active ones.
fn challenged_sectors(
    state: &View<'_>,
    miner: &MinerView,
    drawn: [u8; 32],
) -> Result<Vec<SectorOnChainInfo>, BlockError> {
    let mut active = BitField::new();
    for_each_partition(state, miner, |partition| active |= &partition.active_sectors())?;
    if active.is_empty() {
        return Ok(Vec::new());
    }
    let indices = winning_sectors(miner.info.window_post_proof_type, miner.id, drawn, active.len())?;
    let numbers: Vec<u64> = active.iter().collect();
    let chosen = indices.iter().filter_map(|index| numbers.get(usize::try_from(*index).ok()?).copied());
    let chosen = BitField::try_from_bits(chosen).map_err(|error| BlockError::Invalid(error.to_string()))?;
    Ok(miner.state.load_sector_infos(state.store, &chosen).map_err(failed("load sectors")).map_err(ViewError::from)?)
}

/// Whether a miner may make blocks: it had enough power, still has some, owes nothing, and is not punished.
fn is_eligible(node: &Node, address: &Address, base: &Arc<Tipset>, lookback: &Arc<Tipset>) -> Result<bool, BlockError> {
    let before = View::new(&node.store, lookback.clone())?;
    let had = match before.miner(address) {
        Ok(miner) => miner_power(&before, &miner)?.raw,
        Err(_) => BigInt::default(),
    };
    if had < node.policy.minimum_consensus_power {
        return Ok(false);
    }
    let now = View::new(&node.store, base.clone())?;
    let miner = now.miner(address)?;
    Ok(miner_power(&now, &miner)?.qa > BigInt::default()
        && miner.state.fee_debt.is_zero()
        && base.height() > miner.info.consensus_fault_elapsed)
}

fn miner_power(state: &View<'_>, miner: &MinerView) -> Result<PowerPair, ViewError> {
    let mut total = PowerPair::zero();
    for_each_partition(state, miner, |partition| total += &partition.active_power())?;
    Ok(total)
}

/// The power of all miners, and of the rest of the network unless the miners here win all blocks.
pub fn network_power(node: &Node, state: &View<'_>) -> Result<PowerPair, ViewError> {
    let mut total = PowerPair::zero();
    for id in state.world.miners() {
        total += &miner_power(state, &state.miner(&Address::new_id(id))?)?;
    }
    if !node.config.elections {
        let others = node.economics.network_qa_power.estimate();
        total += &PowerPair::new(others.clone(), others);
    }
    Ok(total)
}

/// Visits every partition of a miner.
pub fn for_each_partition(
    view: &View<'_>,
    miner: &MinerView,
    mut each: impl FnMut(&fil_actor_miner_state::v19::Partition),
) -> Result<(), ViewError> {
    let broken = |error: fil_actors_shared::v19::ActorError| WorldError::Store {
        operation: "read deadlines",
        source: error.into(),
    };
    let deadlines = miner.state.load_deadlines(view.store).map_err(broken)?;
    for index in 0..deadlines.due.len() as u64 {
        let deadline = deadlines.load_deadline(view.store, index).map_err(broken)?;
        let visited = deadline.for_each(view.store, |_, partition| {
            each(partition);
            Ok(())
        });
        visited.map_err(failed("read partitions"))?;
    }
    Ok(())
}
