//! PreCommitSectorBatch2 (method 28), with the checks in the actor's order.

use fil_actor_miner_state::v19::{
    CollisionPolicy, PreCommitSectorBatchParams2, SectorPreCommitInfo, SectorPreCommitOnChainInfo,
    can_pre_commit_seal_proof, is_sealed_sector, is_unsealed_sector, max_prove_commit_duration,
    seal_proof_sector_maximum_lifetime,
};
use fil_actors_shared::actor_error_v19 as actor_error;
use fil_actors_shared::v19::ActorError;
use fil_actors_shared::v19::runtime::Policy;
use fil_actors_shared::v19::runtime::policy_constants::MAX_SECTOR_NUMBER;
use fvm_ipld_bitfield::BitField;
use fvm_ipld_encoding::RawBytes;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::econ::TokenAmount;
use fvm_shared::sector::RegisteredSealProof;

use super::SOLSTICE;
use super::miner::{Call, illegal_state};

/// Locks a deposit for each sector and stores its pre-commitment.
pub fn pre_commit_sector_batch2(
    call: &mut Call<'_>,
    params: PreCommitSectorBatchParams2,
) -> Result<RawBytes, ActorError> {
    let policy = call.context.policy;
    let epoch = call.context.epoch;
    if params.sectors.is_empty() {
        return Err(actor_error!(illegal_argument, "batch empty"));
    }
    let mut numbers = BitField::new();
    for sector in &params.sectors {
        if numbers.get(sector.sector_number) {
            return Err(actor_error!(illegal_argument, "duplicate sector number {}", sector.sector_number));
        }
        if sector.sector_number > MAX_SECTOR_NUMBER {
            return Err(actor_error!(
                illegal_argument,
                "sector number {} out of range 0..(2^63-1)",
                sector.sector_number
            ));
        }
        numbers.set(sector.sector_number);
        check_sector(policy, call.context.network_version, epoch, sector)?;
    }

    let store = call.context.store;
    let available = call.state.get_available_balance(&call.balance);
    let available =
        available.map_err(|error| actor_error!(illegal_state, "failed to calculate available balance: {}", error))?;
    call.repay_debts()?;
    call.require_controlling_caller()?;
    if epoch <= call.info.consensus_fault_elapsed {
        return Err(actor_error!(forbidden, "pre-commit not allowed during active consensus fault"));
    }

    let deposit = call.context.economics.pre_commit_deposit(call.info.sector_size);
    let mut total = TokenAmount::default();
    let mut on_chain = Vec::with_capacity(params.sectors.len());
    let mut clean_ups = Vec::with_capacity(params.sectors.len());
    for info in params.sectors {
        check_window_post_proof(call, info.seal_proof)?;
        let duration = max_prove_commit_duration(policy, info.seal_proof).ok_or_else(|| {
            actor_error!(illegal_argument, "no max seal duration set for proof type: {}", i64::from(info.seal_proof))
        })?;
        let clean_up = epoch + duration + policy.expired_pre_commit_clean_up_delay;
        clean_ups.push((clean_up, info.sector_number));
        total += &deposit;
        on_chain.push(SectorPreCommitOnChainInfo {
            info,
            pre_commit_deposit: deposit.clone(),
            pre_commit_epoch: epoch,
        });
    }

    if available < total {
        return Err(actor_error!(
            insufficient_funds,
            "insufficient funds {} for pre-commit deposit: {}",
            available,
            total
        ));
    }
    let state = &mut call.state;
    state.add_pre_commit_deposit(&total).map_err(illegal_state("failed to add pre-commit deposit"))?;
    state.allocate_sector_numbers(store, &numbers, CollisionPolicy::DenyCollisions)?;
    state.put_precommitted_sectors(store, on_chain).map_err(illegal_state("failed to write pre-committed sectors"))?;
    state
        .add_pre_commit_clean_ups(policy, store, clean_ups)
        .map_err(illegal_state("failed to add pre-commit expiry to queue"))?;
    state.deadline_cron_active = true;
    call.check_balance()?;
    Ok(RawBytes::default())
}

/// The checks of a sector that do not need the miner's state.
fn check_sector(
    policy: &Policy,
    network_version: u32,
    epoch: ChainEpoch,
    sector: &SectorPreCommitInfo,
) -> Result<(), ActorError> {
    if !can_pre_commit_seal_proof(policy, sector.seal_proof) {
        return Err(actor_error!(illegal_argument, "unsupported seal proof type {}", i64::from(sector.seal_proof)));
    }
    if !is_sealed_sector(&sector.sealed_cid) {
        return Err(actor_error!(illegal_argument, "sealed CID had wrong prefix"));
    }
    if sector.seal_rand_epoch >= epoch {
        return Err(actor_error!(
            illegal_argument,
            "seal challenge epoch {} must be before now {}",
            sector.seal_rand_epoch,
            epoch
        ));
    }
    let earliest = epoch - policy.max_pre_commit_randomness_lookback;
    if sector.seal_rand_epoch < earliest {
        return Err(actor_error!(
            illegal_argument,
            "seal challenge epoch {} too old, must be after {}",
            sector.seal_rand_epoch,
            earliest
        ));
    }
    if let Some(commd) = &sector.unsealed_cid.0
        && !is_unsealed_sector(commd)
    {
        return Err(actor_error!(illegal_argument, "unsealed CID had wrong prefix"));
    }
    // The lifetime must be sufficient even if the sector is activated at the last epoch that its proof type permits.
    let duration = max_prove_commit_duration(policy, sector.seal_proof).unwrap_or_default();
    check_expiration(policy, epoch, epoch + duration, sector.expiration, sector.seal_proof)?;
    // There is no market actor here, which would judge the deals of earlier versions.
    if network_version >= SOLSTICE && !sector.deal_ids.is_empty() {
        return Err(actor_error!(
            illegal_argument,
            "deal IDs are not allowed in a pre-commit of sector {}",
            sector.sector_number
        ));
    }
    Ok(())
}

/// The checks of a sector's expiration, when it is pre-committed and when it is extended.
pub fn check_expiration(
    policy: &Policy,
    epoch: ChainEpoch,
    activation: ChainEpoch,
    expiration: ChainEpoch,
    proof: RegisteredSealProof,
) -> Result<(), ActorError> {
    if expiration <= activation {
        return Err(actor_error!(
            illegal_argument,
            "sector expiration {} must be after activation {}",
            expiration,
            activation
        ));
    }
    let lifetime = expiration - activation;
    if lifetime < policy.min_sector_expiration {
        return Err(actor_error!(
            illegal_argument,
            "invalid expiration {}, total sector lifetime ({}) must exceed {} after activation {}",
            expiration,
            lifetime,
            policy.min_sector_expiration,
            activation
        ));
    }
    if expiration > epoch + policy.max_sector_expiration_extension {
        return Err(actor_error!(
            illegal_argument,
            "invalid expiration {}, cannot be more than {} past current epoch {}",
            expiration,
            policy.max_sector_expiration_extension,
            epoch
        ));
    }
    let longest = seal_proof_sector_maximum_lifetime(proof)
        .ok_or_else(|| actor_error!(illegal_argument, "unrecognized seal proof type {:?}", proof))?;
    if lifetime > longest {
        return Err(actor_error!(
            illegal_argument,
            "invalid expiration {}, total sector lifetime ({}) cannot exceed {} after activation {}",
            expiration,
            lifetime,
            longest,
            activation
        ));
    }
    Ok(())
}

fn check_window_post_proof(call: &Call<'_>, proof: RegisteredSealProof) -> Result<(), ActorError> {
    let window_post = proof.registered_window_post_proof().map_err(|_| {
        actor_error!(
            illegal_argument,
            "failed to lookup Window PoSt proof type for sector seal proof {}",
            i64::from(proof)
        )
    })?;
    let wanted = call.info.window_post_proof_type;
    if window_post != wanted {
        return Err(actor_error!(
            illegal_argument,
            "sector Window PoSt proof type {} must match miner Window PoSt proof type {}",
            i64::from(window_post),
            i64::from(wanted)
        ));
    }
    Ok(())
}
