//! DeclareFaults (method 10) and DeclareFaultsRecovered (method 11).

use fil_actor_miner_state::v19::{
    DeadlineInfo, DeadlineSectorMap, DeclareFaultsParams, DeclareFaultsRecoveredParams, Sectors, new_deadline_info,
};
use fil_actors_shared::actor_error_v19 as actor_error;
use fil_actors_shared::v19::ActorError;
use fvm_ipld_bitfield::BitField;
use fvm_ipld_encoding::RawBytes;

use super::Store;
use super::miner::{Call, illegal_state};

/// Makes sectors faulty. Their fee is charged when their deadline closes.
pub fn declare_faults(call: &mut Call<'_>, params: DeclareFaultsParams) -> Result<RawBytes, ActorError> {
    let faults = params.faults.into_iter().map(|fault| (fault.deadline, fault.partition, fault.sectors));
    let mut declared = declared(call, faults)?;
    call.require_controlling_caller()?;
    let (store, policy, size) = (call.context.store, call.context.policy, call.info.sector_size);
    let mut deadlines = call.state.load_deadlines(store)?;
    let sectors = load_sectors(call)?;
    for (index, partitions) in declared.iter() {
        let target = target_deadline(call, index, "fault")?;
        let mut deadline = deadlines.load_deadline(store, index)?;
        let expiration = target.last() + policy.fault_max_age;
        deadline
            .record_faults(store, &sectors, size, target.quant_spec(), expiration, partitions)
            .map_err(illegal_state("failed to declare faults"))?;
        deadlines
            .update_deadline(policy, store, index, &deadline)
            .map_err(illegal_state("failed to store a deadline"))?;
    }
    call.state.save_deadlines(store, deadlines).map_err(illegal_state("failed to save deadlines"))?;
    Ok(RawBytes::default())
}

/// Announces that faulty sectors will be proven again. The whole fee debt is paid first.
pub fn declare_faults_recovered(
    call: &mut Call<'_>,
    params: DeclareFaultsRecoveredParams,
) -> Result<RawBytes, ActorError> {
    let recoveries = params.recoveries.into_iter();
    let mut declared =
        declared(call, recoveries.map(|recovery| (recovery.deadline, recovery.partition, recovery.sectors)))?;
    call.repay_debts()?;
    call.require_controlling_caller()?;
    if call.context.epoch <= call.info.consensus_fault_elapsed {
        return Err(actor_error!(forbidden, "recovery not allowed during active consensus fault"));
    }
    let (store, policy, size) = (call.context.store, call.context.policy, call.info.sector_size);
    let mut deadlines = call.state.load_deadlines(store)?;
    let sectors = load_sectors(call)?;
    for (index, partitions) in declared.iter() {
        target_deadline(call, index, "recovery")?;
        let mut deadline = deadlines.load_deadline(store, index)?;
        deadline
            .declare_faults_recovered(store, &sectors, size, partitions)
            .map_err(illegal_state("failed to declare recoveries"))?;
        deadlines
            .update_deadline(policy, store, index, &deadline)
            .map_err(illegal_state("failed to store a deadline"))?;
    }
    call.state.save_deadlines(store, deadlines).map_err(illegal_state("failed to save deadlines"))?;
    call.check_balance()?;
    Ok(RawBytes::default())
}

/// The declared sectors by deadline and partition.
fn declared(
    call: &Call<'_>,
    declarations: impl Iterator<Item = (u64, u64, BitField)>,
) -> Result<DeadlineSectorMap, ActorError> {
    let policy = call.context.policy;
    let mut declared = DeadlineSectorMap::new();
    for (deadline, partition, sectors) in declarations {
        declared.add(policy, deadline, partition, sectors).map_err(|error| {
            actor_error!(
                illegal_argument,
                "failed to process deadline {}, partition {}: {}",
                deadline,
                partition,
                error
            )
        })?;
    }
    declared
        .check(policy.addressed_partitions_max, policy.addressed_sectors_max)
        .map_err(|error| actor_error!(illegal_argument, "cannot process requested parameters: {}", error))?;
    Ok(declared)
}

/// The next time that a deadline closes, if it is not too late for a declaration.
fn target_deadline(call: &Call<'_>, index: u64, kind: &str) -> Result<DeadlineInfo, ActorError> {
    let (policy, epoch) = (call.context.policy, call.context.epoch);
    let start = call.state.current_proving_period_start(policy, epoch);
    let target = new_deadline_info(policy, start, index, epoch).next_not_elapsed();
    match target.fault_cutoff_passed() {
        false => Ok(target),
        true => Err(actor_error!(
            illegal_argument,
            "failed {} declaration at deadline {}: late fault or recovery declaration",
            kind,
            index
        )),
    }
}

fn load_sectors<'a>(call: &Call<'a>) -> Result<Sectors<'a, Store>, ActorError> {
    Sectors::load(call.context.store, &call.state.sectors)
        .map_err(|error| actor_error!(illegal_state, "failed to load sectors array: {}", error))
}
