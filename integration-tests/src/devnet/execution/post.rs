//! SubmitWindowedPoSt (method 5) and DisputeWindowedPoSt (method 24).

use fil_actor_miner_state::v19::{
    Deadline, DeadlineInfo, DisputeWindowedPoStParams, PoStResult, SectorOnChainInfo, Sectors,
    SubmitWindowedPoStParams, deadline_available_for_optimistic_post_dispute, load_partitions_sectors_max,
    new_deadline_info, pledge_penalty_for_invalid_windowpost, quant_spec_for_deadline, reward_for_disputed_window_post,
};
use fil_actors_shared::actor_error_v19 as actor_error;
use fil_actors_shared::v19::ActorError;
use fil_actors_shared::v19::runtime::DomainSeparationTag;
use fvm_ipld_encoding::RawBytes;
use fvm_shared::address::Address;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::randomness::RANDOMNESS_LENGTH;
use fvm_shared::sector::PoStProof;
use serde::Serialize;

use super::Store;
use super::gas::verify_post;
use super::miner::{Call, illegal_state};
use crate::devnet::proofs::PostInfo;
use crate::devnet::randomness::miner_entropy;

/// An accepted window PoSt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Posted {
    /// Its deadline.
    pub deadline: u64,
    /// The partitions.
    pub partitions: Vec<u64>,
    /// The sectors that it skips.
    pub skipped: Vec<u64>,
    /// Whether the chain has not verified it, because no sector recovers.
    pub is_optimistic: bool,
    /// Whether it is right. The chain accepts an optimistic one that is wrong.
    pub is_right: bool,
}

/// Proves partitions of the open deadline. Without recovering sectors the proof is believed, and may be disputed later.
pub fn submit_windowed_post(call: &mut Call<'_>, mut params: SubmitWindowedPoStParams) -> Result<RawBytes, ActorError> {
    check_shape(call, &params)?;
    call.require_controlling_caller()?;
    check_size(call, &params)?;
    let current = call.state.deadline_info(call.context.policy, call.context.epoch);
    check_time(call, &current, &params)?;

    let (store, policy) = (call.context.store, call.context.policy);
    let sectors = load_sectors(call, &call.state.sectors)?;
    let mut deadlines = call.state.load_deadlines(store)?;
    let mut deadline = deadlines.load_deadline(store, current.index)?;
    let result = deadline
        .record_proven_sectors(
            store,
            &sectors,
            call.info.sector_size,
            current.quant_spec(),
            current.last() + policy.fault_max_age,
            &mut params.partitions,
        )
        .map_err(illegal_state("failed to process post submission"))?;
    if (&result.sectors - &result.ignored_sectors).is_empty() {
        return Err(actor_error!(illegal_argument, "cannot prove partitions with no active sectors"));
    }
    accept(call, &current, &mut deadline, &sectors, &result, &params)?;
    deadlines
        .update_deadline(policy, store, current.index, &deadline)
        .map_err(illegal_state("failed to update a deadline"))?;
    call.state.save_deadlines(store, deadlines).map_err(illegal_state("failed to save deadlines"))?;
    call.check_balance()?;
    Ok(RawBytes::default())
}

/// Checks what the parameters alone tell.
fn check_shape(call: &Call<'_>, params: &SubmitWindowedPoStParams) -> Result<(), ActorError> {
    let policy = call.context.policy;
    let [proof] = params.proofs.as_slice() else {
        return Err(actor_error!(illegal_argument, "expected exactly one proof, got {}", params.proofs.len()));
    };
    if !policy.valid_post_proof_type.contains(proof.post_proof) {
        return Err(actor_error!(illegal_argument, "proof type {:?} not allowed", proof.post_proof));
    }
    check_deadline(call, params.deadline)?;
    let length = params.chain_commit_rand.0.len();
    if length > RANDOMNESS_LENGTH {
        return Err(actor_error!(
            illegal_argument,
            "expected at most {} bytes of randomness, got {}",
            RANDOMNESS_LENGTH,
            length
        ));
    }
    Ok(())
}

fn check_deadline(call: &Call<'_>, index: u64) -> Result<(), ActorError> {
    let deadlines = call.context.policy.wpost_period_deadlines;
    match index < deadlines {
        true => Ok(()),
        false => Err(actor_error!(illegal_argument, "invalid deadline {} of {}", index, deadlines)),
    }
}

/// Checks the proof's type and size, and the number of partitions.
fn check_size(call: &Call<'_>, params: &SubmitWindowedPoStParams) -> Result<(), ActorError> {
    let (policy, wanted) = (call.context.policy, call.info.window_post_proof_type);
    let longest = wanted
        .proof_size()
        .map_err(|error| actor_error!(illegal_state, "failed to determine max window post proof size: {}", error))?;
    let partitions = params.partitions.len();
    for proof in &params.proofs {
        if proof.post_proof != wanted {
            return Err(actor_error!(
                illegal_argument,
                "expected proof of type {:?}, got {:?}",
                wanted,
                proof.post_proof
            ));
        }
        if proof.proof_bytes.len() > longest * partitions {
            return Err(actor_error!(
                illegal_argument,
                "expected proof to be smaller than {} bytes",
                longest * partitions
            ));
        }
    }
    let limit = load_partitions_sectors_max(policy, call.info.window_post_partition_sectors);
    let limit = limit.min(policy.posted_partitions_max);
    if partitions as u64 > limit {
        return Err(actor_error!(illegal_argument, "too many partitions {}, limit {}", partitions, limit));
    }
    Ok(())
}

/// Checks that the deadline is open, and that the proof is committed to this chain.
fn check_time(call: &Call<'_>, current: &DeadlineInfo, params: &SubmitWindowedPoStParams) -> Result<(), ActorError> {
    let (epoch, committed) = (call.context.epoch, params.chain_commit_epoch);
    if !current.is_open() {
        return Err(actor_error!(illegal_state, "proving period {} not yet open at {}", current.period_start, epoch));
    }
    if params.deadline != current.index {
        return Err(actor_error!(
            illegal_argument,
            "invalid deadline {} at epoch {}, expected {}",
            params.deadline,
            epoch,
            current.index
        ));
    }
    if committed < current.challenge {
        return Err(actor_error!(
            illegal_argument,
            "expected chain commit epoch {} to be after {}",
            committed,
            current.challenge
        ));
    }
    if committed >= epoch {
        return Err(actor_error!(
            illegal_argument,
            "chain commit epoch {} must be less than the current epoch {}",
            committed,
            epoch
        ));
    }
    let drawn = call.context.ticket_randomness(DomainSeparationTag::PoStChainCommit, committed, &[]);
    let drawn = drawn.map_err(|error| actor_error!(illegal_argument, "failed to get randomness: {}", error))?;
    if params.chain_commit_rand.0 != drawn {
        return Err(actor_error!(illegal_argument, "post commit randomness mismatched"));
    }
    Ok(())
}

/// Believes the proof, or verifies it if it recovers sectors. Tests learn in both cases whether it is right.
fn accept(
    call: &mut Call<'_>,
    current: &DeadlineInfo,
    deadline: &mut Deadline,
    sectors: &Sectors<'_, Store>,
    result: &PoStResult,
    params: &SubmitWindowedPoStParams,
) -> Result<(), ActorError> {
    let challenged = sectors
        .load_for_proof(&result.sectors, &result.ignored_sectors)
        .map_err(illegal_state("failed to load sectors for post verification"))?;
    let is_right = verify(call, current.challenge, &challenged, &params.proofs)?;
    let is_optimistic = result.recovered_power.is_zero();
    if is_optimistic {
        deadline
            .record_post_proofs(call.context.store, &result.partitions, &params.proofs)
            .map_err(illegal_state("failed to record proof for optimistic verification"))?;
    } else {
        call.done.gas += verify_post(challenged.len() as u64);
        if !is_right {
            return Err(actor_error!(illegal_argument, "invalid post was submitted"));
        }
    }
    call.done.posted = Some(Posted {
        deadline: current.index,
        partitions: result.partitions.iter().collect(),
        skipped: params.partitions.iter().flat_map(|partition| partition.skipped.iter()).collect(),
        is_optimistic,
        is_right,
    });
    Ok(())
}

/// Whether a proof of these sectors is right. One that cannot be verified is wrong.
fn verify(
    call: &Call<'_>,
    challenge: ChainEpoch,
    sectors: &[SectorOnChainInfo],
    proofs: &[PoStProof],
) -> Result<bool, ActorError> {
    let context = call.context;
    let tag = DomainSeparationTag::WindowedPoStChallengeSeed;
    let drawn = context
        .beacon_randomness(tag, challenge, &miner_entropy(call.miner))
        .map_err(|error| actor_error!(illegal_argument, "failed to get randomness: {}", error))?;
    let info = PostInfo::new(call.miner, drawn, sectors.iter().map(|sector| (sector.sector_number, sector.sealed_cid)));
    Ok(context.verifier.verify_window_post(&info, proofs).unwrap_or_else(|error| {
        tracing::warn!(miner = call.miner, %error, "a window PoSt could not be checked");
        false
    }))
}

/// Shows that a believed proof is wrong. Its sectors become faulty, the miner pays, and the caller gets a reward.
pub fn dispute_windowed_post(call: &mut Call<'_>, params: DisputeWindowedPoStParams) -> Result<RawBytes, ActorError> {
    check_deadline(call, params.deadline)?;
    let (store, policy, epoch) = (call.context.store, call.context.policy, call.context.epoch);
    let target = disputed_deadline(call, params.deadline)?;
    let mut deadlines = call.state.load_deadlines(store)?;
    let mut deadline = deadlines.load_deadline(store, params.deadline)?;
    let (partitions, proofs) = deadline
        .take_post_proofs(store, params.post_index)
        .map_err(illegal_state("failed to load proof for dispute"))?;
    let mut dispute = deadline
        .load_partitions_for_dispute(store, partitions)
        .map_err(illegal_state("failed to load partition for dispute"))?;
    let sectors = load_sectors(call, &deadline.sectors_snapshot)?;
    let challenged = sectors
        .load_for_proof(&dispute.all_sector_nos, &dispute.ignored_sector_nos)
        .map_err(illegal_state("failed to load sectors to dispute window post"))?;
    call.done.gas += verify_post(challenged.len() as u64);
    if verify(call, target.challenge, &challenged, &proofs)? {
        return Err(actor_error!(illegal_argument, "failed to dispute valid post"));
    }
    deadline
        .record_faults(
            store,
            &sectors,
            call.info.sector_size,
            quant_spec_for_deadline(policy, &target),
            target.last() + policy.fault_max_age,
            &mut dispute.disputed_sectors,
        )
        .map_err(illegal_state("failed to declare faults"))?;
    deadlines
        .update_deadline(policy, store, params.deadline, &deadline)
        .map_err(illegal_state("failed to update a deadline"))?;
    call.state.save_deadlines(store, deadlines).map_err(illegal_state("failed to save deadlines"))?;

    let economics = call.context.economics;
    let power = dispute.disputed_power;
    let penalty = pledge_penalty_for_invalid_windowpost(&economics.reward, &economics.network_qa_power, &power.qa);
    let reward = reward_for_disputed_window_post(call.info.window_post_proof_type, power);
    call.state.apply_penalty(&(penalty + &reward)).map_err(illegal_state("failed to apply penalty"))?;
    let repaid = call.state.repay_partial_debt_in_priority_order(store, epoch, &call.balance);
    let (burnt, _) = repaid.map_err(illegal_state("failed to pay debt"))?;
    let reward = reward.min(burnt.clone());
    call.balance -= &burnt - &reward;
    call.pay(Address::new_id(call.caller), &reward)?;
    call.check_balance()?;
    Ok(RawBytes::default())
}

/// The last time that a deadline was open, if its proofs may still be disputed.
fn disputed_deadline(call: &Call<'_>, index: u64) -> Result<DeadlineInfo, ActorError> {
    let (policy, epoch) = (call.context.policy, call.context.epoch);
    let current = call.state.deadline_info(policy, epoch);
    if !deadline_available_for_optimistic_post_dispute(policy, current.period_start, index, epoch) {
        return Err(actor_error!(
            forbidden,
            "can only dispute window posts during the dispute window ({} epochs after the challenge window closes)",
            policy.wpost_dispute_window
        ));
    }
    let previous = if current.index < index { policy.wpost_proving_period } else { 0 };
    Ok(new_deadline_info(policy, current.period_start - previous, index, epoch))
}

fn load_sectors<'a>(call: &Call<'a>, root: &cid::Cid) -> Result<Sectors<'a, Store>, ActorError> {
    Sectors::load(call.context.store, root)
        .map_err(|error| actor_error!(illegal_state, "failed to load sectors: {}", error))
}
