//! What happens to miners at the end of a tipset, without a message.
//!
//! Nobody has to send window PoSts here: at the end of each deadline its new sectors count as proven.

use fil_actor_miner_state::v19::{Deadline, DeadlineSectorMap, Partition, Sectors, State};
use fvm_ipld_bitfield::BitField;
use fvm_ipld_encoding::CborStore;
use fvm_shared::ActorID;
use fvm_shared::clock::ChainEpoch;
use tracing::warn;

use super::Context;
use crate::devnet::faults::Incident;
use crate::devnet::world::{World, WorldError, failed, put};

/// Closes the deadlines that end in the epochs after `parent` up to the context's, and carries out incidents. New
/// sectors become active when their deadline closes for the first time.
pub fn close_windows(
    context: &Context<'_>,
    world: &mut World,
    parent: ChainEpoch,
    incidents: &[(ActorID, Incident)],
) -> Result<(), WorldError> {
    let store = context.store;
    for miner in world.miners() {
        let Some(actor) = world.get_mut(miner) else { continue };
        let state: Option<State> = store.get_cbor(&actor.head).map_err(failed("read a miner"))?;
        let mut state = state.ok_or(WorldError::NotFound(actor.head))?;
        for epoch in parent + 1..=context.epoch {
            let info = state.deadline_info(context.policy, epoch);
            if state.deadline_cron_active && epoch == info.last() {
                prove(context, &mut state, info.index).map_err(failed("prove a deadline"))?;
            }
        }
        for (_, incident) in incidents.iter().filter(|(id, _)| *id == miner) {
            let happened = match incident {
                Incident::Faulty(sectors) => fault(context, &mut state, sectors),
                Incident::Debt(amount) => state.apply_penalty(amount),
            };
            if let Err(error) = happened {
                warn!(miner, ?incident, "an incident is not possible: {error:#}");
            }
        }
        actor.head = put(store, &state)?;
    }
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
