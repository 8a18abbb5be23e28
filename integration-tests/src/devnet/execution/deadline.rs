//! What happens to a miner in the last epoch of a deadline: the actor's cron.
//!
//! If sectors need not be proven, all of them count as proven and nothing is charged.

use std::collections::BTreeSet;

use fil_actor_miner_state::v19::{
    Deadline, Partition, QuantSpec, Sectors, State, daily_proof_fee_payable, expected_reward_for_power,
    pledge_penalty_for_continued_fault,
};
use fil_actors_shared::v19::builtin::EPOCHS_IN_DAY;
use fvm_ipld_bitfield::BitField;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::econ::TokenAmount;
use serde::{Serialize, Serializer};

use super::Context;
use super::terminate::settle_terminations;

/// What a miner lost when a deadline closed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DeadlineEnd {
    /// The deadline's last epoch.
    pub epoch: ChainEpoch,
    /// The deadline.
    pub deadline: u64,
    /// The sectors that became faulty, because nobody proved them.
    pub faulty: Vec<u64>,
    /// The sectors whose declared recovery failed.
    pub not_recovered: Vec<u64>,
    /// The sectors that expired on time.
    pub expired: Vec<u64>,
    /// The sectors that were terminated, because they were faulty for too long.
    pub terminated: Vec<u64>,
    /// The fee in attoFIL for sectors that were faulty before.
    #[serde(serialize_with = "atto")]
    pub fault_fee: TokenAmount,
    /// The daily fee in attoFIL.
    #[serde(serialize_with = "atto")]
    pub daily_fee: TokenAmount,
    /// The fees in attoFIL for terminations.
    #[serde(serialize_with = "atto")]
    pub termination_fee: TokenAmount,
    /// The deposits in attoFIL of pre-commits that were never proven.
    #[serde(serialize_with = "atto")]
    pub lost_deposits: TokenAmount,
    /// The attoFIL that were burnt. The rest became debt.
    #[serde(serialize_with = "atto")]
    pub burnt: TokenAmount,
}

fn atto<S: Serializer>(amount: &TokenAmount, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(amount.atto())
}

impl DeadlineEnd {
    /// Whether anything has happened.
    pub fn is_eventful(&self) -> bool {
        let quiet = Self { epoch: self.epoch, deadline: self.deadline, ..Self::default() };
        *self != quiet
    }
}

/// The sectors of a deadline by their states.
struct Sorted {
    live: BTreeSet<u64>,
    faulty: BTreeSet<u64>,
    recovering: BTreeSet<u64>,
}

impl Sorted {
    fn read(context: &Context<'_>, state: &State, index: u64) -> anyhow::Result<Self> {
        let deadline = state.load_deadlines(context.store)?.load_deadline(context.store, index)?;
        let (mut live, mut faulty, mut recovering) = (BitField::new(), BitField::new(), BitField::new());
        deadline.for_each(context.store, |_, partition| {
            live |= &partition.live_sectors();
            faulty |= &partition.faults;
            recovering |= &partition.recoveries;
            Ok(())
        })?;
        let set = |bits: BitField| bits.iter().collect();
        Ok(Self { live: set(live), faulty: set(faulty), recovering: set(recovering) })
    }
}

/// Closes the deadline that ends in this epoch. `balance` is the miner's, from which fees are burnt.
pub fn close(
    context: &Context<'_>,
    state: &mut State,
    balance: &mut TokenAmount,
    epoch: ChainEpoch,
) -> anyhow::Result<DeadlineEnd> {
    let (store, policy, economics) = (context.store, context.policy, context.economics);
    let info = state.deadline_info(policy, epoch);
    let mut end = DeadlineEnd { epoch, deadline: info.index, ..DeadlineEnd::default() };
    let had = balance.clone();
    replace_worker(context, state, epoch)?;
    end.lost_deposits = state.cleanup_expired_pre_commits(policy, store, epoch)?;
    state.apply_penalty(&end.lost_deposits)?;

    let before = Sorted::read(context, state, info.index)?;
    let result = state.advance_deadline(policy, store, epoch)?;
    compare(context, state, &before, &mut end)?;
    let previously_faulty = &result.previously_faulty_power.qa;
    end.fault_fee =
        pledge_penalty_for_continued_fault(&economics.reward, &economics.network_qa_power, previously_faulty);
    state.apply_penalty(&end.fault_fee)?;
    if result.daily_fee.is_positive() {
        let power = &result.live_power.qa;
        let reward = expected_reward_for_power(&economics.reward, &economics.network_qa_power, power, EPOCHS_IN_DAY);
        end.daily_fee = daily_proof_fee_payable(policy, &result.daily_fee, &reward);
        state.apply_penalty(&end.daily_fee)?;
    }
    let (burnt, _) = state.repay_partial_debt_in_priority_order(store, epoch, balance)?;
    *balance -= burnt;
    state.unlock_vested_funds(store, epoch)?;
    state.deadline_cron_active = state.continue_deadline_cron();
    if !state.early_terminations.is_empty() {
        (end.termination_fee, _) = settle_terminations(context, state, balance, epoch)?;
    }
    end.burnt = had - &*balance;
    Ok(end)
}

/// A proposed worker takes over when its time has come.
fn replace_worker(context: &Context<'_>, state: &mut State, epoch: ChainEpoch) -> anyhow::Result<()> {
    let mut info = state.get_info(context.store)?;
    let due = info.pending_worker_key.as_ref().filter(|pending| epoch >= pending.effective_at);
    if let Some(new_worker) = due.map(|pending| pending.new_worker) {
        info.worker = new_worker;
        info.pending_worker_key = None;
        state.save_info(context.store, &info)?;
    }
    Ok(())
}

/// Tells what has become of the deadline's sectors.
fn compare(context: &Context<'_>, state: &State, before: &Sorted, end: &mut DeadlineEnd) -> anyhow::Result<()> {
    let after = Sorted::read(context, state, end.deadline)?;
    let ended = before.live.difference(&after.live);
    let sectors = Sectors::load(context.store, &state.sectors)?;
    let quant = state.quant_spec_for_deadline(context.policy, end.deadline);
    for number in ended {
        let on_time = expires_by(quant, sectors.must_get(*number)?.expiration, end.epoch);
        if on_time { &mut end.expired } else { &mut end.terminated }.push(*number);
    }
    end.faulty = after.faulty.difference(&before.faulty).copied().collect();
    end.not_recovered = before.recovering.difference(&after.recovering).copied().collect();
    end.not_recovered.retain(|number| after.faulty.contains(number));
    Ok(())
}

fn expires_by(quant: QuantSpec, expiration: ChainEpoch, epoch: ChainEpoch) -> bool {
    quant.quantize_up(expiration) <= epoch
}

/// Lets all sectors of the deadline that ends in this epoch count as proven.
pub fn close_unproven(context: &Context<'_>, state: &mut State, epoch: ChainEpoch) -> anyhow::Result<()> {
    let (store, policy) = (context.store, context.policy);
    let info = state.deadline_info(policy, epoch);
    let mut deadlines = state.load_deadlines(store)?;
    let mut deadline: Deadline = deadlines.load_deadline(store, info.index)?;
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
    if !deadline.partitions_posted.is_empty() {
        // Somebody has proven partitions all the same. The next time they can be proven again.
        deadline.partitions_posted = BitField::try_from_bits(0..partitions.count())?;
        deadline.partitions = partitions.flush()?;
        let expiration = info.last() + policy.fault_max_age;
        deadline.process_deadline_end(store, info.quant_spec(), expiration, state.sectors)?;
    } else {
        deadline.partitions = partitions.flush()?;
    }
    deadlines.update_deadline(policy, store, info.index, &deadline)?;
    state.save_deadlines(store, deadlines)?;
    Ok(())
}
