//! TerminateSectors (method 9) and CompactPartitions (method 19).

use fil_actor_miner_state::v19::{
    CompactPartitionsParams, DeadlineSectorMap, Sectors, State, TerminateSectorsParams, TerminateSectorsReturn,
    deadline_available_for_compaction, deadline_is_mutable, load_partitions_sectors_max,
    pledge_penalty_for_continued_fault, pledge_penalty_for_termination, qa_power_for_sector,
};
use fil_actors_shared::actor_error_v19 as actor_error;
use fil_actors_shared::v19::ActorError;
use fvm_ipld_encoding::RawBytes;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::econ::TokenAmount;

use super::Context;
use super::miner::{Call, encode_return, illegal_state};

/// Ends sectors early. Their pledge is released, and the fee for it is burnt or becomes debt.
pub fn terminate_sectors(call: &mut Call<'_>, params: TerminateSectorsParams) -> Result<RawBytes, ActorError> {
    let (store, policy, epoch) = (call.context.store, call.context.policy, call.context.epoch);
    let mut declared = DeadlineSectorMap::new();
    for term in params.terminations {
        let (deadline, partition) = (term.deadline, term.partition);
        declared.add(policy, deadline, partition, term.sectors).map_err(|error| {
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
    call.require_controlling_caller()?;

    let mut deadlines = call.state.load_deadlines(store)?;
    let sectors = Sectors::load(store, &call.state.sectors)
        .map_err(|error| actor_error!(illegal_state, "failed to load sectors: {}", error))?;
    for (index, partition_sectors) in declared.iter() {
        let start = call.state.current_proving_period_start(policy, epoch);
        if !deadline_is_mutable(policy, start, index, epoch) {
            return Err(actor_error!(illegal_argument, "cannot terminate sectors in immutable deadline {}", index));
        }
        let quant = call.state.quant_spec_for_deadline(policy, index);
        let mut deadline = deadlines.load_deadline(store, index)?;
        deadline
            .terminate_sectors(policy, store, &sectors, epoch, partition_sectors, call.info.sector_size, quant)
            .map_err(illegal_state("failed to terminate sectors"))?;
        call.state.early_terminations.set(index);
        deadlines
            .update_deadline(policy, store, index, &deadline)
            .map_err(illegal_state("failed to update a deadline"))?;
    }
    call.state.save_deadlines(store, deadlines).map_err(illegal_state("failed to save deadlines"))?;

    let settled = settle_terminations(call.context, &mut call.state, &mut call.balance, epoch);
    let (_, more) = settled.map_err(illegal_state("failed to process early terminations"))?;
    call.check_balance()?;
    encode_return(&TerminateSectorsReturn { done: !more })
}

/// Charges the fees of terminated sectors and releases their pledges. `balance` is the miner's. Returns the fees, and
/// whether some sectors are left for later.
pub fn settle_terminations(
    context: &Context<'_>,
    state: &mut State,
    balance: &mut TokenAmount,
    epoch: ChainEpoch,
) -> anyhow::Result<(TokenAmount, bool)> {
    let (store, policy, economics) = (context.store, context.policy, context.economics);
    let size = state.get_info(store)?.sector_size;
    let (result, more) =
        state.pop_early_terminations(policy, store, policy.addressed_partitions_max, policy.addressed_sectors_max)?;
    let sectors = Sectors::load(store, &state.sectors)?;
    let (mut pledges, mut fees) = (TokenAmount::default(), TokenAmount::default());
    for (ended, numbers) in result.iter() {
        for sector in sectors.load_sectors(numbers)? {
            let power = qa_power_for_sector(size, &sector);
            let fault_fee = pledge_penalty_for_continued_fault(&economics.reward, &economics.network_qa_power, &power);
            let age = ended - sector.activation;
            fees += pledge_penalty_for_termination(&sector.initial_pledge, age, &fault_fee);
            pledges += &sector.initial_pledge;
        }
    }
    state.apply_penalty(&fees)?;
    state.add_initial_pledge(&-pledges)?;
    let (burnt, _) = state.repay_partial_debt_in_priority_order(store, epoch, balance)?;
    *balance -= burnt;
    Ok((fees, more))
}

/// Removes the dead sectors of partitions, and moves the live ones together.
pub fn compact_partitions(call: &mut Call<'_>, params: &CompactPartitionsParams) -> Result<RawBytes, ActorError> {
    let (store, policy, epoch) = (call.context.store, call.context.policy, call.context.epoch);
    let index = params.deadline;
    if index >= policy.wpost_period_deadlines {
        return Err(actor_error!(illegal_argument, "invalid deadline {}", index));
    }
    call.require_controlling_caller()?;
    let start = call.state.current_proving_period_start(policy, epoch);
    if !deadline_available_for_compaction(policy, start, index, epoch) {
        return Err(actor_error!(
            forbidden,
            "cannot compact deadline {} during its challenge window, or the prior challenge window, or before {} epochs have passed since its last challenge window ended",
            index,
            policy.wpost_dispute_window
        ));
    }
    let (wanted, limit) =
        (params.partitions.len(), load_partitions_sectors_max(policy, call.info.window_post_partition_sectors));
    if wanted > limit {
        return Err(actor_error!(illegal_argument, "too many partitions {}, limit {}", wanted, limit));
    }
    let quant = call.state.quant_spec_for_deadline(policy, index);
    let mut deadlines = call.state.load_deadlines(store)?;
    let mut deadline = deadlines.load_deadline(store, index)?;
    let mut sectors = Sectors::load(store, &call.state.sectors)
        .map_err(|error| actor_error!(illegal_state, "failed to load sectors: {}", error))?;
    let dead = deadline
        .compact_partitions(
            store,
            &mut sectors,
            call.info.sector_size,
            call.info.window_post_partition_sectors,
            &params.partitions,
            quant,
        )
        .map_err(illegal_state("failed to remove partitions from the deadline"))?;
    sectors.delete_sectors(&dead)?;
    call.state.sectors = sectors
        .amt
        .flush()
        .map_err(|error| actor_error!(illegal_state, "failed to save sectors after compaction: {}", error))?;
    deadlines.update_deadline(policy, store, index, &deadline).map_err(illegal_state("failed to update a deadline"))?;
    call.state.save_deadlines(store, deadlines).map_err(illegal_state("failed to save deadlines"))?;
    Ok(RawBytes::default())
}
