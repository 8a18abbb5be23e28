//! WithdrawBalance (method 16) and RepayDebt (method 22).

use fil_actor_miner_state::v19::{WithdrawBalanceParams, WithdrawBalanceReturn};
use fil_actors_shared::actor_error_v19 as actor_error;
use fil_actors_shared::v19::ActorError;
use fvm_ipld_encoding::RawBytes;

use super::miner::{Call, encode_return, illegal_state};

/// Pays the beneficiary at most what was asked for, of what is neither locked nor owed.
pub fn withdraw_balance(call: &mut Call<'_>, params: &WithdrawBalanceParams) -> Result<RawBytes, ActorError> {
    let epoch = call.context.epoch;
    if params.amount_requested.is_negative() {
        return Err(actor_error!(
            illegal_argument,
            "negative fund requested for withdrawal: {}",
            params.amount_requested
        ));
    }
    let (owner, beneficiary) = (call.info.owner, call.info.beneficiary);
    call.require_caller(&[owner, beneficiary])?;
    if !call.state.early_terminations.is_empty() {
        return Err(actor_error!(
            forbidden,
            "cannot withdraw funds while {} deadlines have terminated sectors with outstanding fees",
            call.state.early_terminations.len()
        ));
    }
    call.state.unlock_vested_funds(call.context.store, epoch).map_err(illegal_state("Failed to vest fund"))?;
    let available = call
        .state
        .get_available_balance(&call.balance)
        .map_err(illegal_state("failed to calculate available balance"))?;
    call.repay_debts()?;
    let mut amount = available.min(params.amount_requested.clone());
    if amount.is_negative() {
        return Err(actor_error!(illegal_state, "negative amount to withdraw: {}", amount));
    }
    if beneficiary != owner {
        let term = &call.info.beneficiary_term;
        let quota = term.available(epoch);
        if quota.is_zero() {
            return Err(actor_error!(
                forbidden,
                "beneficiary expiration of epoch {} passed or quota of {} depleted with {} used",
                term.expiration,
                term.quota,
                term.used_quota
            ));
        }
        amount = amount.min(quota);
        call.info.beneficiary_term.used_quota += &amount;
        call.save_info()?;
    }
    call.pay(beneficiary, &amount)?;
    call.check_balance()?;
    encode_return(&WithdrawBalanceReturn { amount_withdrawn: amount })
}

/// Burns as much of the fee debt as vesting and unlocked funds cover.
pub fn repay_debt(call: &mut Call<'_>) -> Result<RawBytes, ActorError> {
    call.require_controlling_caller()?;
    call.repay_partial_debt()?;
    call.check_balance()?;
    Ok(RawBytes::default())
}
