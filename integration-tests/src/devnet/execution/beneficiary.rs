//! ChangeBeneficiary (method 30): who receives what a miner's owner withdraws (FIP-0029).

use fil_actor_miner_state::v19::{ChangeBeneficiaryParams, PendingBeneficiaryChange};
use fil_actors_shared::actor_error_v19 as actor_error;
use fil_actors_shared::v19::ActorError;
use fvm_ipld_encoding::RawBytes;
use fvm_shared::address::Address;
use fvm_shared::econ::TokenAmount;

use super::miner::Call;

/// The owner proposes a beneficiary. It takes effect when the nominee approves with the same message, and the present
/// one too if it still has time and quota.
pub fn change_beneficiary(call: &mut Call<'_>, params: ChangeBeneficiaryParams) -> Result<RawBytes, ActorError> {
    let caller = Address::new_id(call.caller);
    let nominee = call.resolve(&params.new_beneficiary)?;
    if caller == call.info.owner {
        propose(call, nominee, params)?;
    } else {
        check_approval(call, caller, nominee, &params)?;
    }
    approve(call, caller, nominee);
    call.save_info()
}

fn propose(call: &mut Call<'_>, nominee: Address, params: ChangeBeneficiaryParams) -> Result<(), ActorError> {
    if nominee != call.info.owner {
        if !params.new_quota.is_positive() {
            return Err(actor_error!(illegal_argument, "beneficial quota {} must bigger than zero", params.new_quota));
        }
    } else if !params.new_quota.is_zero() {
        return Err(actor_error!(illegal_argument, "owner beneficial quota {} must be zero", params.new_quota));
    } else if params.new_expiration != 0 {
        return Err(actor_error!(
            illegal_argument,
            "owner beneficial expiration {} must be zero",
            params.new_expiration
        ));
    }
    let mut change = PendingBeneficiaryChange::new(nominee, params.new_quota, params.new_expiration);
    change.approved_by_beneficiary = call.info.beneficiary_term.available(call.context.epoch).is_zero();
    call.info.pending_beneficiary_term = Some(change);
    Ok(())
}

fn check_approval(
    call: &Call<'_>,
    caller: Address,
    nominee: Address,
    params: &ChangeBeneficiaryParams,
) -> Result<(), ActorError> {
    let Some(pending) = &call.info.pending_beneficiary_term else {
        return Err(actor_error!(forbidden, "No changeBeneficiary proposal exists"));
    };
    if caller != call.info.beneficiary && caller != pending.new_beneficiary {
        return Err(actor_error!(
            forbidden,
            "message caller {} is neither proposal beneficiary{} nor current beneficiary{}",
            caller,
            pending.new_beneficiary,
            call.info.beneficiary
        ));
    }
    if pending.new_beneficiary != nominee {
        return Err(actor_error!(
            illegal_argument,
            "new beneficiary address must be equal expect {}, but got {}",
            pending.new_beneficiary,
            nominee
        ));
    }
    if pending.new_quota != params.new_quota {
        return Err(actor_error!(
            illegal_argument,
            "new beneficiary quota must be equal expect {}, but got {}",
            pending.new_quota,
            params.new_quota
        ));
    }
    if pending.new_expiration != params.new_expiration {
        return Err(actor_error!(
            illegal_argument,
            "new beneficiary expire date must be equal expect {}, but got {}",
            pending.new_expiration,
            params.new_expiration
        ));
    }
    Ok(())
}

/// Notes the caller's approval, and carries out a change that everybody has approved.
fn approve(call: &mut Call<'_>, caller: Address, nominee: Address) {
    let info = &mut call.info;
    let Some(mut pending) = info.pending_beneficiary_term.take() else { return };
    pending.approved_by_beneficiary |= caller == info.beneficiary;
    pending.approved_by_nominee |= caller == nominee;
    if !(pending.approved_by_beneficiary && pending.approved_by_nominee) {
        info.pending_beneficiary_term = Some(pending);
        return;
    }
    if nominee != info.beneficiary {
        info.beneficiary_term.used_quota = TokenAmount::default();
    }
    info.beneficiary = nominee;
    info.beneficiary_term.quota = pending.new_quota;
    info.beneficiary_term.expiration = pending.new_expiration;
}
