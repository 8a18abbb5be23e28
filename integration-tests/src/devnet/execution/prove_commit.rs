//! ProveCommitSectors3 (method 34). It checks pre-commits and proofs; `activation` creates the sectors.

use fil_actor_miner_state::v19::{
    ProveCommitSectors3Params, ProveCommitSectors3Return, SectorActivationManifest, SectorPreCommitOnChainInfo,
    max_prove_commit_duration,
};
use fil_actors_shared::actor_error_v19 as actor_error;
use fil_actors_shared::v19::runtime::{DomainSeparationTag, Policy};
use fil_actors_shared::v19::{ActorError, BatchReturn, BatchReturnGen, util};
use fvm_ipld_encoding::RawBytes;
use fvm_shared::error::ExitCode;
use fvm_shared::piece::PieceInfo;
use fvm_shared::sector::RegisteredAggregateProof;

use super::activation::activate_sectors;
use super::miner::{Call, encode_return};
use crate::devnet::chain::ChainError;
use crate::devnet::proofs::{SealInfo, unsealed_cid};
use crate::devnet::randomness::miner_entropy;

/// The actor's exit code if a data consumer could not be notified.
const NOTIFICATION_SEND_FAILED: ExitCode = ExitCode::new(1001);

/// Activates the sectors whose proofs are valid.
pub fn prove_commit_sectors3(call: &mut Call<'_>, params: &ProveCommitSectors3Params) -> Result<RawBytes, ActorError> {
    call.require_controlling_caller()?;
    let numbers: Vec<u64> = params.sector_activations.iter().map(|sector| sector.sector_number).collect();
    let pre_commits = call.state.get_precommitted_sectors(call.context.store, &numbers)?;
    check_shape(call.context.policy, &pre_commits, params)?;

    let all_or_nothing = params.require_activation_success;
    let (valid, infos) = check_pre_commits(call, &pre_commits, all_or_nothing)?;
    if valid.success_count == 0 {
        return Err(actor_error!(illegal_argument, "no valid precommits specified"));
    }
    let proven = if params.sector_proofs.is_empty() {
        // The aggregate is about all sectors, also those with invalid pre-commits.
        check_aggregate(call, &infos, &params.aggregate_proof)?;
        BatchReturn::ok(valid.success_count)
    } else {
        let (infos, proofs) = (valid.successes(&infos), valid.successes(&params.sector_proofs));
        check_proofs(call, &infos, &proofs, all_or_nothing)?
    };
    if proven.success_count == 0 {
        return Err(actor_error!(illegal_argument, "no valid proofs specified"));
    }
    let pre_commits = successes(&proven, valid.successes(&pre_commits));
    let manifests = successes(&proven, valid.successes(&params.sector_activations));

    for (manifest, pre_commit) in manifests.iter().zip(&pre_commits) {
        check_unsealed_cid(manifest, pre_commit)?;
    }
    let activated = BatchReturn::ok(manifests.len() as u32);
    let pairs: Vec<_> = manifests.iter().copied().zip(pre_commits.iter().copied()).collect();
    activate_sectors(call, &pairs)?;
    check_notifications(&manifests, params.require_notification_success)?;

    let activation_results = util::stack(&[valid, proven, activated]);
    encode_return(&ProveCommitSectors3Return { activation_results })
}

/// The checks of the counts, before any sector is considered.
fn check_shape(
    policy: &Policy,
    pre_commits: &[SectorPreCommitOnChainInfo],
    params: &ProveCommitSectors3Params,
) -> Result<(), ActorError> {
    let Some(first) = pre_commits.first() else {
        return Err(actor_error!(illegal_argument, "no sectors to prove"));
    };
    if params.sector_proofs.is_empty() == params.aggregate_proof.is_empty() {
        return Err(actor_error!(
            illegal_argument,
            "exactly one of sector proofs or aggregate proof must be non-empty"
        ));
    }
    if params.sector_proofs.is_empty() {
        return check_aggregate_shape(policy, params);
    }
    if params.aggregate_proof_type.is_some() {
        return Err(actor_error!(illegal_argument, "aggregate proof type must be null with batched proofs"));
    }
    if params.sector_activations.len() != params.sector_proofs.len() {
        return Err(actor_error!(
            illegal_argument,
            "mismatched lengths: {} sector activations, {} proofs",
            params.sector_activations.len(),
            params.sector_proofs.len()
        ));
    }
    let longest = first.info.seal_proof.proof_size();
    let longest =
        longest.map_err(|error| actor_error!(illegal_state, "failed to determine max proof size: {}", error))?;
    for proof in &params.sector_proofs {
        if proof.bytes().len() > longest {
            return Err(actor_error!(
                illegal_argument,
                "sector proof size {} exceeds max {}",
                proof.bytes().len(),
                longest
            ));
        }
    }
    Ok(())
}

fn check_aggregate_shape(policy: &Policy, params: &ProveCommitSectors3Params) -> Result<(), ActorError> {
    if params.aggregate_proof_type != Some(RegisteredAggregateProof::SnarkPackV2) {
        return Err(actor_error!(illegal_argument, "aggregate proof type must be SnarkPackV2"));
    }
    let (sectors, bytes) = (params.sector_activations.len() as u64, params.aggregate_proof.len());
    let (least, most) = (policy.min_aggregated_sectors, policy.max_aggregated_sectors);
    if sectors > most {
        return Err(actor_error!(
            illegal_argument,
            "too many sectors addressed, addressed {} want <= {}",
            sectors,
            most
        ));
    }
    if sectors < least {
        return Err(actor_error!(
            illegal_argument,
            "too few sectors addressed, addressed {} want >= {}",
            sectors,
            least
        ));
    }
    if bytes > policy.max_aggregated_proof_size {
        return Err(actor_error!(
            illegal_argument,
            "sector prove-commit proof of size {} exceeds max size of {}",
            bytes,
            policy.max_aggregated_proof_size
        ));
    }
    Ok(())
}

/// Determines which pre-commits may be proven now, and the inputs for verifying their proofs.
fn check_pre_commits(
    call: &Call<'_>,
    pre_commits: &[SectorPreCommitOnChainInfo],
    all_or_nothing: bool,
) -> Result<(BatchReturn, Vec<SealInfo>), ActorError> {
    let epoch = call.context.epoch;
    let policy = call.context.policy;
    let mut batch = BatchReturnGen::new(pre_commits.len());
    let mut infos = Vec::with_capacity(pre_commits.len());
    for (index, pre_commit) in pre_commits.iter().enumerate() {
        let info = &pre_commit.info;
        let proof = info.seal_proof;
        let duration = max_prove_commit_duration(policy, proof)
            .ok_or_else(|| actor_error!(illegal_state, "no max seal duration for proof type: {}", i64::from(proof)))?;
        let in_time = epoch <= pre_commit.pre_commit_epoch + duration;
        if pre_commits.first().is_some_and(|first| first.info.seal_proof != proof) {
            return Err(actor_error!(
                illegal_state,
                "seal proof group for verification contains mismatched seal proofs"
            ));
        }
        if epoch <= pre_commit.pre_commit_epoch + policy.pre_commit_challenge_delay {
            return Err(actor_error!(forbidden, "too early to prove sector"));
        }
        infos.push(seal_info(call, pre_commit)?);
        if in_time && info.deal_ids.is_empty() {
            batch.add_success();
        } else if all_or_nothing {
            return Err(actor_error!(
                illegal_argument,
                "invalid pre-commit {} while requiring activation success",
                index
            ));
        } else {
            batch.add_fail(ExitCode::USR_ILLEGAL_ARGUMENT);
        }
    }
    Ok((batch.generate(), infos))
}

fn seal_info(call: &Call<'_>, pre_commit: &SectorPreCommitOnChainInfo) -> Result<SealInfo, ActorError> {
    let context = call.context;
    let entropy = miner_entropy(call.miner);
    let unavailable = |error: ChainError| actor_error!(illegal_argument, "failed to get randomness: {}", error);
    let challenge = pre_commit.pre_commit_epoch + context.policy.pre_commit_challenge_delay;
    let info = &pre_commit.info;
    Ok(SealInfo {
        proof_type: info.seal_proof,
        miner: call.miner,
        sector: info.sector_number,
        sealed_cid: info.sealed_cid,
        unsealed_cid: info.unsealed_cid.get_cid(info.seal_proof)?,
        ticket: context
            .ticket_randomness(DomainSeparationTag::SealRandomness, info.seal_rand_epoch, &entropy)
            .map_err(unavailable)?,
        seed: context
            .beacon_randomness(DomainSeparationTag::InteractiveSealChallengeSeed, challenge, &entropy)
            .map_err(unavailable)?,
    })
}

fn check_proofs(
    call: &Call<'_>,
    infos: &[&SealInfo],
    proofs: &[&RawBytes],
    all_or_nothing: bool,
) -> Result<BatchReturn, ActorError> {
    let mut batch = BatchReturnGen::new(infos.len());
    for (info, proof) in infos.iter().zip(proofs) {
        let verified = call.context.verifier.verify_seal(info, proof.bytes());
        let wrong = match verified {
            Ok(true) => None,
            Ok(false) => Some("the proof is wrong".to_owned()),
            Err(error) => {
                let (miner, sector) = (info.miner, info.sector);
                tracing::warn!(miner, sector, %error, "a seal proof could not be checked");
                Some(error.to_string())
            }
        };
        match wrong {
            None => {
                batch.add_success();
            }
            Some(reason) if all_or_nothing => {
                return Err(actor_error!(
                    illegal_argument,
                    "invalid proof for sector {} while requiring activation success: {}",
                    info.sector,
                    reason
                ));
            }
            Some(_) => {
                batch.add_fail(ExitCode::USR_ILLEGAL_ARGUMENT);
            }
        }
    }
    Ok(batch.generate())
}

fn check_aggregate(call: &Call<'_>, infos: &[SealInfo], aggregate: &RawBytes) -> Result<(), ActorError> {
    let reason = match call.context.verifier.verify_aggregate(infos, aggregate.bytes()) {
        Ok(true) => return Ok(()),
        Ok(false) => "the aggregate is wrong".to_owned(),
        Err(error) => {
            tracing::warn!(miner = call.miner, sectors = infos.len(), %error, "an aggregate could not be checked");
            error.to_string()
        }
    };
    Err(actor_error!(illegal_argument, "aggregate seal verify failed: {}", reason))
}

/// Checks that CommD of the declared pieces is the pre-committed one.
fn check_unsealed_cid(
    manifest: &SectorActivationManifest,
    pre_commit: &SectorPreCommitOnChainInfo,
) -> Result<(), ActorError> {
    let proof = pre_commit.info.seal_proof;
    let declared = pre_commit.info.unsealed_cid.get_cid(proof)?;
    let pieces: Vec<PieceInfo> =
        manifest.pieces.iter().map(|piece| PieceInfo { cid: piece.cid, size: piece.size }).collect();
    let computed = if pieces.is_empty() {
        fil_actor_miner_state::v19::CompactCommD::empty().get_cid(proof)?
    } else {
        unsealed_cid(proof, &pieces)
            .map_err(|error| actor_error!(illegal_argument, "failed to compute unsealed sector CID: {}", error))?
    };
    if declared != computed {
        return Err(actor_error!(
            illegal_argument,
            "unsealed CID does not match pieces for sector {}, computed {} declared {}",
            manifest.sector_number,
            computed,
            declared
        ));
    }
    Ok(())
}

/// No actor here accepts notifications about new data, so every notification fails.
fn check_notifications(manifests: &[&SectorActivationManifest], required: bool) -> Result<(), ActorError> {
    let mut pieces = manifests.iter().flat_map(|manifest| &manifest.pieces);
    if required && pieces.any(|piece| !piece.notify.is_empty()) {
        let text = "failed to notify a data consumer".to_owned();
        return Err(ActorError::unchecked(NOTIFICATION_SEND_FAILED, text));
    }
    Ok(())
}

/// The items that succeeded in a batch.
fn successes<'a, T>(batch: &BatchReturn, items: Vec<&'a T>) -> Vec<&'a T> {
    let codes = batch.codes();
    let kept = items.into_iter().zip(codes).filter(|(_, code)| code.is_success());
    kept.map(|(item, _)| item).collect()
}
