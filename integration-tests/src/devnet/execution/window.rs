//! What happens to miners at the end of an epoch, without a message.

use std::ops::RangeInclusive;

use fil_actor_miner_state::v19::{
    DeadlineSectorMap, Sectors, State, consensus_fault_penalty, locked_reward_from_reward,
};
use fvm_ipld_bitfield::BitField;
use fvm_ipld_encoding::CborStore;
use fvm_shared::ActorID;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::econ::TokenAmount;
use tracing::warn;

use super::deadline::{DeadlineEnd, close, close_unproven};
use super::terminate::settle_terminations;
use super::{Context, credit};
use crate::devnet::faults::Incident;
use crate::devnet::world::{BURNT_FUNDS, REWARD, World, WorldError, failed, put};

/// What happens in null rounds before a tipset, whose parent has this height. Its messages come afterwards.
pub fn pass_null_rounds(
    context: &Context<'_>,
    world: &mut World,
    parent: ChainEpoch,
) -> Result<Vec<(ActorID, DeadlineEnd)>, WorldError> {
    close_windows(context, world, parent + 1..=context.epoch - 1, &[])
}

/// Closes the deadlines that end in these epochs, and carries out incidents.
pub fn close_windows(
    context: &Context<'_>,
    world: &mut World,
    epochs: RangeInclusive<ChainEpoch>,
    incidents: &[(ActorID, Incident)],
) -> Result<Vec<(ActorID, DeadlineEnd)>, WorldError> {
    let mut ends = Vec::new();
    if epochs.is_empty() {
        return Ok(ends);
    }
    for miner in world.miners() {
        let own = incidents.iter().filter(|(id, _)| *id == miner).map(|(_, incident)| incident);
        let of_miner = close_windows_of(context, world, miner, epochs.clone(), own)?;
        ends.extend(of_miner.into_iter().map(|end| (miner, end)));
    }
    Ok(ends)
}

fn close_windows_of<'a>(
    context: &Context<'_>,
    world: &mut World,
    miner: ActorID,
    epochs: RangeInclusive<ChainEpoch>,
    incidents: impl Iterator<Item = &'a Incident>,
) -> Result<Vec<DeadlineEnd>, WorldError> {
    let (store, policy) = (context.store, context.policy);
    let mut ends = Vec::new();
    let Some(actor) = world.get(miner) else { return Ok(ends) };
    let state: Option<State> = store.get_cbor(&actor.head).map_err(failed("read a miner"))?;
    let mut state = state.ok_or(WorldError::NotFound(actor.head))?;
    let mut balance = actor.balance.clone();
    let mut rewards = TokenAmount::default();
    let mut changed = false;
    for epoch in epochs {
        let closes = state.deadline_cron_active && epoch == state.deadline_info(policy, epoch).last();
        if closes && context.proving {
            let end = close(context, &mut state, &mut balance, epoch).map_err(failed("close a deadline"))?;
            ends.extend(Some(end).filter(DeadlineEnd::is_eventful));
        } else if closes {
            close_unproven(context, &mut state, epoch).map_err(failed("prove a deadline"))?;
        } else if !state.early_terminations.is_empty() {
            // More sectors than one epoch takes are left from an epoch before.
            settle_terminations(context, &mut state, &mut balance, epoch).map_err(failed("settle terminations"))?;
        } else {
            continue;
        }
        changed = true;
    }
    for incident in incidents {
        let happened = match incident {
            Incident::Faulty(sectors) => fault(context, &mut state, sectors),
            Incident::Debt(amount) => state.apply_penalty(amount),
            Incident::Reward(amount) => {
                rewards += amount;
                balance += amount;
                reward(context, &mut state, &mut balance, amount)
            }
            Incident::ConsensusFault => punish(context, &mut state, &mut balance),
        };
        if let Err(error) = happened {
            warn!(miner, ?incident, "an incident is not possible: {error:#}");
        }
        changed = true;
    }
    if !changed {
        return Ok(ends);
    }
    let head = put(store, &state)?;
    let Some(actor) = world.get_mut(miner) else { return Ok(ends) };
    let burnt = &actor.balance + &rewards - &balance;
    (actor.head, actor.balance) = (head, balance);
    credit(world, REWARD, &-rewards);
    credit(world, BURNT_FUNDS, &burnt);
    Ok(ends)
}

/// Locks three quarters of a block reward, which vest, and pays the fee debt, as the actor's ApplyRewards.
fn reward(
    context: &Context<'_>,
    state: &mut State,
    balance: &mut TokenAmount,
    amount: &TokenAmount,
) -> anyhow::Result<()> {
    let (locked, spec) = locked_reward_from_reward(amount.clone());
    state.add_locked_funds(context.store, context.epoch, &locked, spec)?;
    let (burnt, _) = state.repay_partial_debt_in_priority_order(context.store, context.epoch, balance)?;
    *balance -= burnt;
    Ok(())
}

/// Punishes a miner for two blocks of one epoch, as the actor's ReportConsensusFault. Nobody gets the reporter's share.
fn punish(context: &Context<'_>, state: &mut State, balance: &mut TokenAmount) -> anyhow::Result<()> {
    let (store, epoch) = (context.store, context.epoch);
    let reward = TokenAmount::from_atto(context.economics.reward.estimate());
    state.apply_penalty(&consensus_fault_penalty(reward))?;
    let (burnt, _) = state.repay_partial_debt_in_priority_order(store, epoch, balance)?;
    *balance -= burnt;
    let mut info = state.get_info(store)?;
    info.consensus_fault_elapsed = epoch + context.policy.consensus_fault_ineligibility_duration;
    state.save_info(store, &info)
}

/// Marks sectors as faulty.
fn fault(context: &Context<'_>, state: &mut State, numbers: &[u64]) -> anyhow::Result<()> {
    let (store, policy) = (context.store, context.policy);
    let mut declared = DeadlineSectorMap::new();
    for number in numbers {
        let (deadline, partition) = state.find_sector(store, *number)?;
        declared.add(policy, deadline, partition, BitField::try_from_bits([*number])?)?;
    }
    let size = state.get_info(store)?.sector_size;
    let sectors = Sectors::load(store, &state.sectors)?;
    let mut deadlines = state.load_deadlines(store)?;
    for (index, partition_sectors) in declared.iter() {
        let quant = state.quant_spec_for_deadline(policy, index);
        let mut deadline = deadlines.load_deadline(store, index)?;
        let expiration = context.epoch + policy.fault_max_age;
        deadline.record_faults(store, &sectors, size, quant, expiration, partition_sectors)?;
        deadlines.update_deadline(policy, store, index, &deadline)?;
    }
    state.save_deadlines(store, deadlines)?;
    Ok(())
}
