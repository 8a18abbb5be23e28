//! What happens to miners at the end of a tipset, without a message.
//!
//! Nobody has to send window PoSts here: at the end of each deadline its new sectors count as proven.

use fil_actor_miner_state::v19::{Deadline, DeadlineSectorMap, Partition, Sectors, State, locked_reward_from_reward};
use fvm_ipld_bitfield::BitField;
use fvm_ipld_encoding::CborStore;
use fvm_shared::ActorID;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::econ::TokenAmount;
use tracing::warn;

use super::{Context, credit};
use crate::devnet::faults::Incident;
use crate::devnet::world::{BURNT_FUNDS, REWARD, World, WorldError, failed, put};

/// Closes the deadlines that end in the epochs after `parent` up to the context's, and carries out incidents. New
/// sectors become active when their deadline closes for the first time.
pub fn close_windows(
    context: &Context<'_>,
    world: &mut World,
    parent: ChainEpoch,
    incidents: &[(ActorID, Incident)],
) -> Result<(), WorldError> {
    for miner in world.miners() {
        let own = incidents.iter().filter(|(id, _)| *id == miner).map(|(_, incident)| incident);
        close_windows_of(context, world, miner, parent, own)?;
    }
    Ok(())
}

fn close_windows_of<'a>(
    context: &Context<'_>,
    world: &mut World,
    miner: ActorID,
    parent: ChainEpoch,
    incidents: impl Iterator<Item = &'a Incident>,
) -> Result<(), WorldError> {
    let (store, policy) = (context.store, context.policy);
    let Some(actor) = world.get(miner) else { return Ok(()) };
    let state: Option<State> = store.get_cbor(&actor.head).map_err(failed("read a miner"))?;
    let mut state = state.ok_or(WorldError::NotFound(actor.head))?;
    let mut balance = actor.balance.clone();
    let mut rewards = TokenAmount::default();
    let mut changed = false;
    for epoch in parent + 1..=context.epoch {
        let info = state.deadline_info(policy, epoch);
        if state.deadline_cron_active && epoch == info.last() {
            prove(context, &mut state, info.index).map_err(failed("prove a deadline"))?;
            changed = true;
        }
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
        };
        if let Err(error) = happened {
            warn!(miner, ?incident, "an incident is not possible: {error:#}");
        }
        changed = true;
    }
    if !changed {
        return Ok(());
    }
    let head = put(store, &state)?;
    let Some(actor) = world.get_mut(miner) else { return Ok(()) };
    let burnt = &actor.balance + &rewards - &balance;
    (actor.head, actor.balance) = (head, balance);
    credit(world, REWARD, &-rewards);
    credit(world, BURNT_FUNDS, &burnt);
    Ok(())
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

/// Marks the unproven sectors of a deadline as proven.
fn prove(context: &Context<'_>, state: &mut State, index: u64) -> anyhow::Result<()> {
    let (store, policy) = (context.store, context.policy);
    let mut deadlines = state.load_deadlines(store)?;
    let mut deadline: Deadline = deadlines.load_deadline(store, index)?;
    let mut partitions = deadline.partitions_amt(store)?;
    let mut unproven: Vec<(u64, Partition)> = Vec::new();
    partitions.for_each(|number, partition| {
        if !partition.unproven.is_empty() {
            unproven.push((number, partition.clone()));
        }
        Ok(())
    })?;
    for (number, mut partition) in unproven {
        partition.activate_unproven();
        partitions.set(number, partition)?;
    }
    deadline.partitions = partitions.flush()?;
    deadlines.update_deadline(policy, store, index, &deadline)?;
    state.save_deadlines(store, deadlines)?;
    Ok(())
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
