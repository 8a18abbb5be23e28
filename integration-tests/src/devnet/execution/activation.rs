//! Activates new sectors: their on-chain info, pledge, and assignment to deadlines.

use fil_actor_miner_state::v19::{
    SectorActivationManifest, SectorOnChainInfo, SectorOnChainInfoFlags, SectorPreCommitOnChainInfo, daily_proof_fee,
    qa_power_for_sector,
};
use fil_actors_shared::actor_error_v19 as actor_error;
use fil_actors_shared::v19::ActorError;
use fvm_shared::bigint::BigInt;
use fvm_shared::econ::TokenAmount;

use super::SOLSTICE;
use super::miner::{Call, illegal_state};

type Activation<'a> = (&'a SectorActivationManifest, &'a SectorPreCommitOnChainInfo);

/// Turns proven pre-commits into sectors. Their deposits are released and their pledges locked.
pub fn activate_sectors(call: &mut Call<'_>, activations: &[Activation<'_>]) -> Result<(), ActorError> {
    let context = call.context;
    let (store, policy, epoch) = (context.store, context.policy, context.epoch);
    let mut deposits = TokenAmount::default();
    let mut pledges = TokenAmount::default();
    let mut sectors = Vec::with_capacity(activations.len());
    for (manifest, pre_commit) in activations {
        let sector = new_sector(call, manifest, pre_commit)?;
        deposits += &pre_commit.pre_commit_deposit;
        pledges += &sector.initial_pledge;
        sectors.push(sector);
    }
    let numbers: Vec<u64> = sectors.iter().map(|sector| sector.sector_number).collect();

    let state = &mut call.state;
    state.put_sectors(store, sectors.clone()).map_err(illegal_state("failed to put new sectors"))?;
    state.delete_precommitted_sectors(store, &numbers)?;
    state
        .assign_sectors_to_deadlines(
            policy,
            store,
            epoch,
            sectors,
            call.info.window_post_partition_sectors,
            call.info.sector_size,
        )
        .map_err(illegal_state("failed to assign new sectors to deadlines"))?;
    let released = -deposits;
    state.add_pre_commit_deposit(&released).map_err(illegal_state("failed to release deposits"))?;
    let unlocked =
        state.get_unlocked_balance(&call.balance).map_err(illegal_state("failed to calculate unlocked balance"))?;
    if unlocked < pledges {
        return Err(actor_error!(
            insufficient_funds,
            "insufficient funds for aggregate initial pledge requirement {}, available: {}",
            pledges,
            unlocked
        ));
    }
    state.add_initial_pledge(&pledges).map_err(illegal_state("failed to add initial pledge"))?;
    call.check_balance()
}

fn new_sector(
    call: &Call<'_>,
    manifest: &SectorActivationManifest,
    pre_commit: &SectorPreCommitOnChainInfo,
) -> Result<SectorOnChainInfo, ActorError> {
    let context = call.context;
    let epoch = context.epoch;
    let info = &pre_commit.info;
    let duration = info.expiration - epoch;
    if duration < context.policy.min_sector_expiration {
        return Err(actor_error!(
            illegal_argument,
            "precommit {} has lifetime {} less than minimum {}. ignoring",
            info.sector_number,
            duration,
            context.policy.min_sector_expiration
        ));
    }
    let pieces: u64 = manifest.pieces.iter().map(|piece| piece.size.0).sum();
    let weight = BigInt::from(pieces) * duration;
    let full_quality = context.network_version >= SOLSTICE;
    let (deal_weight, verified_deal_weight) =
        if full_quality { (BigInt::default(), weight) } else { (weight, BigInt::default()) };
    let flags =
        if full_quality { SectorOnChainInfoFlags::FULL_QA_POWER } else { SectorOnChainInfoFlags::SIMPLE_QA_POWER };
    let mut sector = SectorOnChainInfo {
        sector_number: info.sector_number,
        seal_proof: info.seal_proof,
        sealed_cid: info.sealed_cid,
        deprecated_deal_ids: Vec::new(),
        activation: epoch,
        expiration: info.expiration,
        deal_weight,
        verified_deal_weight,
        initial_pledge: TokenAmount::default(),
        expected_day_reward: None,
        expected_storage_pledge: None,
        power_base_epoch: epoch,
        replaced_day_reward: None,
        sector_key_cid: None,
        flags,
        daily_fee: TokenAmount::default(),
    };
    let power = qa_power_for_sector(call.info.sector_size, &sector);
    sector.initial_pledge = context.economics.initial_pledge(&power, epoch);
    sector.daily_fee = daily_proof_fee(context.policy, &context.economics.circulating_supply, &power);
    Ok(sector)
}
