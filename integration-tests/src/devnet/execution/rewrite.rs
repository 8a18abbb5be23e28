//! ExtendSectorExpiration2 (method 32) and UpgradeSectorQuality (method 37, from network version 29): both rewrite
//! active sectors where they are.

use std::collections::{BTreeMap, BTreeSet};

use fil_actor_miner_state::v19::{
    ExtendSectorExpiration2Params, Partition, PowerPair, SectorOnChainInfo, SectorOnChainInfoFlags, Sectors,
    UpgradeSectorQualityParams, ValidatedExpirationExtension, daily_proof_fee, daily_proof_fee_adjust,
    qa_power_for_sector, qa_power_max,
};
use fil_actors_shared::actor_error_v19 as actor_error;
use fil_actors_shared::v19::ActorError;
use fvm_ipld_encoding::RawBytes;
use fvm_shared::bigint::BigInt;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::econ::TokenAmount;

use super::miner::{Call, illegal_state};
use super::pre_commit::check_expiration;

/// Sectors of one partition, and their new expiration, if they get one.
type Declaration = ValidatedExpirationExtension;
type Deadline = fil_actor_miner_state::v19::Deadline;

/// Moves the expiration of active sectors. Their quality and pledge stay the same.
pub fn extend_sector_expiration2(
    call: &mut Call<'_>,
    params: ExtendSectorExpiration2Params,
) -> Result<RawBytes, ActorError> {
    let declarations: Vec<Declaration> = params.extensions.into_iter().map(Declaration::from).collect();
    check_deadlines(call, &declarations)?;
    call.require_controlling_caller()?;
    rewrite(call, &declarations, |call, _, declaration, sector| {
        let expiration = declaration.new_expiration.unwrap_or(sector.expiration);
        extended(call, sector, expiration).map(Some)
    })?;
    Ok(RawBytes::default())
}

/// Raises sectors to ten times the power of their size, with the pledge for it. One sector that cannot be upgraded
/// fails the whole message (FIP-0118).
pub fn upgrade_sector_quality(call: &mut Call<'_>, params: UpgradeSectorQualityParams) -> Result<RawBytes, ActorError> {
    let declarations: Vec<Declaration> = params.upgrades.into_iter().map(Declaration::from).collect();
    check_deadlines(call, &declarations)?;
    call.require_controlling_caller()?;
    call.repay_debts()?;
    let pledge = rewrite(call, &declarations, upgraded)?;
    let unlocked = call
        .state
        .get_unlocked_balance(&call.balance)
        .map_err(illegal_state("failed to calculate unlocked balance"))?;
    if unlocked < pledge {
        return Err(actor_error!(
            insufficient_funds,
            "insufficient funds for aggregate initial pledge requirement {}, available: {}",
            pledge,
            unlocked
        ));
    }
    call.state.add_initial_pledge(&pledge).map_err(illegal_state("failed to add initial pledge"))?;
    call.check_balance()?;
    Ok(RawBytes::default())
}

fn check_deadlines(call: &Call<'_>, declarations: &[Declaration]) -> Result<(), ActorError> {
    let deadlines = call.context.policy.wpost_period_deadlines;
    match declarations.iter().find(|declaration| declaration.deadline >= deadlines) {
        None => Ok(()),
        Some(declaration) => {
            Err(actor_error!(illegal_argument, "deadline {} not in range 0..{}", declaration.deadline, deadlines))
        }
    }
}

/// What a sector becomes, or `None` if it stays as it is.
type Rule =
    fn(&Call<'_>, &Partition, &Declaration, &SectorOnChainInfo) -> Result<Option<SectorOnChainInfo>, ActorError>;

/// Rewrites the declared sectors, and returns the difference of their pledges.
fn rewrite(call: &mut Call<'_>, declarations: &[Declaration], rule: Rule) -> Result<TokenAmount, ActorError> {
    let (store, policy) = (call.context.store, call.context.policy);
    let mut deadlines = call.state.load_deadlines(store)?;
    let mut sectors = Sectors::load(store, &call.state.sectors)
        .map_err(|error| actor_error!(illegal_state, "failed to load sectors array: {}", error))?;
    let mut pledge = TokenAmount::default();
    let indices: BTreeSet<u64> = declarations.iter().map(|declaration| declaration.deadline).collect();
    for index in indices {
        let mut deadline = deadlines.load_deadline(store, index)?;
        let own = declarations.iter().filter(|declaration| declaration.deadline == index);
        pledge += rewrite_deadline(call, &mut sectors, &mut deadline, own, rule)?;
        deadlines
            .update_deadline(policy, store, index, &deadline)
            .map_err(illegal_state("failed to save a deadline"))?;
    }
    call.state.sectors =
        sectors.amt.flush().map_err(|error| actor_error!(illegal_state, "failed to save sectors: {}", error))?;
    call.state.save_deadlines(store, deadlines).map_err(illegal_state("failed to save deadlines"))?;
    Ok(pledge)
}

fn rewrite_deadline<'a>(
    call: &Call<'_>,
    sectors: &mut Sectors<'_, super::Store>,
    deadline: &mut Deadline,
    declarations: impl Iterator<Item = &'a Declaration>,
    rule: Rule,
) -> Result<TokenAmount, ActorError> {
    let (store, policy) = (call.context.store, call.context.policy);
    let mut partitions = deadline.partitions_amt(store).map_err(illegal_state("failed to load partitions"))?;
    let mut power = PowerPair::zero();
    let (mut pledge, mut fees) = (TokenAmount::default(), TokenAmount::default());
    let mut by_expiration: BTreeMap<ChainEpoch, Vec<u64>> = BTreeMap::new();
    let mut quant = None;
    for declaration in declarations {
        let (index, number) = (declaration.deadline, declaration.partition);
        let quant = *quant.get_or_insert_with(|| call.state.quant_spec_for_deadline(policy, index));
        let found = partitions
            .get(number)
            .map_err(|error| actor_error!(illegal_state, "failed to load partition {}: {}", number, error))?;
        let Some(mut partition) = found.cloned() else {
            return Err(actor_error!(not_found, "no such partition {} of deadline {}", number, index));
        };
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for sector in sectors.load_sectors(&declaration.sectors)? {
            if let Some(changed) = rule(call, &partition, declaration, &sector)? {
                new.push(changed);
                old.push(sector);
            }
        }
        sectors.store(new.clone()).map_err(illegal_state("failed to update sectors"))?;
        let (power_delta, pledge_delta, fee_delta) = partition
            .replace_sectors(store, &old, &new, call.info.sector_size, quant)
            .map_err(illegal_state("failed to replace sector expirations"))?;
        power += &power_delta;
        pledge += &pledge_delta;
        fees += &fee_delta;
        partitions
            .set(number, partition)
            .map_err(|error| actor_error!(illegal_state, "failed to save partition {}: {}", number, error))?;
        if let Some(expiration) = declaration.new_expiration {
            by_expiration.entry(expiration).or_default().push(number);
        }
    }
    deadline.live_power += &power;
    deadline.daily_fee += &fees;
    deadline.partitions =
        partitions.flush().map_err(|error| actor_error!(illegal_state, "failed to save partitions: {}", error))?;
    for (expiration, numbers) in by_expiration {
        let Some(quant) = quant else { continue };
        deadline
            .add_expiration_partitions(store, expiration, &numbers, quant)
            .map_err(illegal_state("failed to add expiration partitions"))?;
    }
    Ok(pledge)
}

/// A sector with full quality.
fn upgraded(
    call: &Call<'_>,
    partition: &Partition,
    declaration: &Declaration,
    sector: &SectorOnChainInfo,
) -> Result<Option<SectorOnChainInfo>, ActorError> {
    let context = call.context;
    let (number, epoch) = (sector.sector_number, context.epoch);
    if !partition.is_active(number) {
        return Err(actor_error!(illegal_argument, "cannot upgrade sector {}, which is not active", number));
    }
    if sector.expiration < epoch {
        return Err(actor_error!(forbidden, "cannot upgrade expired sector {} at {}", number, sector.expiration));
    }
    let full = sector.flags.contains(SectorOnChainInfoFlags::FULL_QA_POWER);
    let mut new = match declaration.new_expiration {
        None if full => return Ok(None),
        None => sector.clone(),
        Some(expiration) if expiration <= epoch.max(sector.expiration) => {
            return Err(actor_error!(
                illegal_argument,
                "new expiration {} of sector {} must be after the present one {}",
                expiration,
                number,
                sector.expiration
            ));
        }
        Some(expiration) => extended(call, sector, expiration)?,
    };
    if !full {
        let size = call.info.sector_size;
        let (old_power, power) = (qa_power_for_sector(size, sector), qa_power_max(size));
        new.flags |= SectorOnChainInfoFlags::FULL_QA_POWER;
        new.initial_pledge = new.initial_pledge.max(context.economics.initial_pledge(&power, epoch));
        new.daily_fee = match sector.daily_fee.is_zero() {
            true => daily_proof_fee(context.policy, &context.economics.circulating_supply, &power),
            false => daily_proof_fee_adjust(&sector.daily_fee, &old_power, &power),
        };
    }
    Ok(Some(new))
}

/// A sector that expires later, with the spacetime of its data restated from now on.
fn extended(
    call: &Call<'_>,
    sector: &SectorOnChainInfo,
    expiration: ChainEpoch,
) -> Result<SectorOnChainInfo, ActorError> {
    let context = call.context;
    let (number, epoch) = (sector.sector_number, context.epoch);
    if sector.expiration < epoch {
        return Err(actor_error!(
            forbidden,
            "cannot extend expiration for expired sector {} at {}",
            number,
            sector.expiration
        ));
    }
    if expiration < sector.expiration {
        return Err(actor_error!(
            illegal_argument,
            "cannot reduce sector {} expiration to {} from {}",
            number,
            expiration,
            sector.expiration
        ));
    }
    check_expiration(context.policy, epoch, sector.activation, expiration, sector.seal_proof)?;

    let old_duration = sector.expiration - sector.power_base_epoch;
    let left = |weight: &BigInt| weight * (sector.expiration - epoch) / old_duration;
    let verified_weight = match sector.flags.contains(SectorOnChainInfoFlags::SIMPLE_QA_POWER) {
        true => &sector.verified_deal_weight / old_duration * (expiration - epoch),
        false => left(&sector.verified_deal_weight),
    };
    let mut new = SectorOnChainInfo {
        expiration,
        power_base_epoch: epoch,
        deal_weight: left(&sector.deal_weight),
        verified_deal_weight: verified_weight,
        ..sector.clone()
    };
    let size = call.info.sector_size;
    let power = qa_power_for_sector(size, &new);
    new.daily_fee = match sector.daily_fee.is_zero() {
        true => daily_proof_fee(context.policy, &context.economics.circulating_supply, &power),
        false => daily_proof_fee_adjust(&sector.daily_fee, &qa_power_for_sector(size, sector), &power),
    };
    Ok(new)
}
