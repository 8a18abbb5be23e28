//! Withdrawing what is available, and repaying a debt.

use fvm_ipld_encoding::RawBytes;
use fvm_shared::{address::Address, econ::TokenAmount};
use sealbus_schema::MinerId;
use serde_json::json;

use super::{Draft, Refusal, Role, encoded, fil::shown};
use crate::{
    chain::{
        params::{METHOD_REPAY_DEBT, METHOD_WITHDRAW_BALANCE, WithdrawBalanceParams},
        types::{Epoch, MinerFunds, MinerInfo},
    },
    drive::address,
};

/// The kind of a withdrawal.
pub const WITHDRAW: &str = "withdraw";

/// How much is withdrawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Amount {
    /// All that is available now.
    All,
    /// So much.
    Some(TokenAmount),
}

/// Withdraws from the miner's available balance to its beneficiary. `available` is the node's answer, which is negative in
/// debt. The owner sends it, or `by` the beneficiary.
pub fn withdraw(
    miner: MinerId,
    info: &MinerInfo,
    funds: &MinerFunds,
    available: &TokenAmount,
    amount: &Amount,
    by: Role,
    head: Epoch,
) -> Result<Draft, Refusal> {
    let beneficiary = info.beneficiary.unwrap_or(info.owner);
    if !funds.early_terminations.is_empty() {
        return Err(Refusal::TerminationsOpen);
    }
    if !available.is_positive() {
        let why = match funds.fee_debt.is_positive() {
            true => format!("it owes {} FIL: `miners repay-debt`", shown(&funds.fee_debt)),
            false => "the rest is pledge, deposits and what vests".to_owned(),
        };
        return Err(Refusal::NothingAvailable { available: available.clone(), why });
    }
    let wanted = match amount {
        Amount::All => available,
        Amount::Some(wanted) if !wanted.is_positive() => return Err(Refusal::NotPositive { field: "--amount" }),
        Amount::Some(wanted) if wanted > available => {
            return Err(Refusal::MoreThanAvailable { wanted: wanted.clone(), available: available.clone() });
        }
        Amount::Some(wanted) => wanted,
    };
    let mut expected = wanted.clone();
    if let Some(term) = info.beneficiary_term.as_ref().filter(|_| beneficiary != info.owner) {
        let left = (term.quota.clone() - &term.used_quota).max(TokenAmount::default());
        if term.expiration <= head || !left.is_positive() {
            let (quota, until) = (term.quota.clone(), term.expiration);
            return Err(Refusal::QuotaUsedUp { beneficiary, quota, until });
        }
        expected = expected.min(left);
    }
    let sender = if by == Role::Beneficiary { beneficiary } else { info.owner };
    Ok(Draft {
        miner: Some(miner),
        kind: WITHDRAW,
        role: by,
        sender,
        receiver: address(miner),
        method: METHOD_WITHDRAW_BALANCE,
        params: encoded(&WithdrawBalanceParams { amount_requested: wanted.clone() })?,
        value: TokenAmount::default(),
        what: format!("withdraw {} FIL of {miner} to {beneficiary}", shown(&expected)),
        follows: format!(
            "{beneficiary} has it once the message lands; the new sectors' pledges must come from their sender"
        ),
        detail: json!({
            "amount_atto": wanted.atto().to_string(), "expected_atto": expected.atto().to_string(),
            "beneficiary": beneficiary.to_string(), "all": *amount == Amount::All,
        }),
    })
}

/// Repays the miner's debt. What the miner has unlocked counts; the rest is sent along.
pub fn repay_debt(
    miner: MinerId,
    sender: Address,
    funds: &MinerFunds,
    available: &TokenAmount,
) -> Result<Draft, Refusal> {
    let debt = &funds.fee_debt;
    if !debt.is_positive() {
        return Err(Refusal::NoDebt);
    }
    // The node's answer has the debt taken off.
    let unlocked = (available.clone() + debt).max(TokenAmount::default());
    let value = (debt.clone() - &unlocked).max(TokenAmount::default());
    Ok(Draft {
        miner: Some(miner),
        kind: "repay_debt",
        role: Role::Sender,
        sender,
        receiver: address(miner),
        method: METHOD_REPAY_DEBT,
        params: RawBytes::default(),
        what: format!("repay {} FIL that {miner} owes, {} FIL of it from the sender", shown(debt), shown(&value)),
        follows: "it is burnt; then PreCommits and withdrawals are possible again".to_owned(),
        detail: json!({ "debt_atto": debt.atto().to_string(), "sent_atto": value.atto().to_string() }),
        value,
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{MINER, id, info},
        *,
    };
    use crate::chain::{sector_set::SectorSet, types::BeneficiaryTerm};

    fn fil(whole: i64) -> TokenAmount {
        TokenAmount::from_whole(whole)
    }

    fn amount_of(draft: &Draft) -> TokenAmount {
        let params: WithdrawBalanceParams = fvm_ipld_encoding::from_slice(&draft.params).expect("parameters");
        params.amount_requested
    }

    fn try_withdraw(available: i64, amount: Amount) -> Result<Draft, Refusal> {
        withdraw(MINER, &info(), &MinerFunds::default(), &fil(available), &amount, Role::Owner, 100)
    }

    #[test]
    fn the_owner_withdraws_some_or_all_but_not_more_than_there_is() {
        let some = try_withdraw(10, Amount::Some(fil(3))).expect("a draft");
        assert_eq!((some.sender, some.method, amount_of(&some)), (id(100), 16, fil(3)));
        assert_eq!(amount_of(&try_withdraw(10, Amount::All).expect("a draft")), fil(10));
        assert!(matches!(try_withdraw(10, Amount::Some(fil(11))), Err(Refusal::MoreThanAvailable { .. })));
        assert!(matches!(try_withdraw(10, Amount::Some(fil(0))), Err(Refusal::NotPositive { .. })));
        assert!(matches!(try_withdraw(0, Amount::All), Err(Refusal::NothingAvailable { .. })));
    }

    #[test]
    fn a_debt_or_unsettled_terminations_come_first() {
        let funds = MinerFunds { fee_debt: fil(2), ..MinerFunds::default() };
        let refused = withdraw(MINER, &info(), &funds, &fil(-2), &Amount::All, Role::Owner, 1).expect_err("in debt");
        assert!(refused.to_string().contains("it owes 2 FIL"), "{refused}");
        let funds = MinerFunds { early_terminations: SectorSet::from_numbers([3]), ..MinerFunds::default() };
        let refused = withdraw(MINER, &info(), &funds, &fil(5), &Amount::All, Role::Owner, 1);
        assert_eq!(refused, Err(Refusal::TerminationsOpen));
    }

    #[test]
    fn another_beneficiary_gets_no_more_than_its_quota() {
        let mut info = info();
        info.beneficiary = Some(id(300));
        info.beneficiary_term = Some(BeneficiaryTerm { quota: fil(10), used_quota: fil(6), expiration: 200 });
        let of =
            |info: &MinerInfo, by, head| withdraw(MINER, info, &MinerFunds::default(), &fil(9), &Amount::All, by, head);
        let draft = of(&info, Role::Beneficiary, 100).expect("a draft");
        assert_eq!((draft.sender, draft.role), (id(300), Role::Beneficiary));
        assert!(draft.what.contains("withdraw 4 FIL of f01000 to f0300"), "{}", draft.what);
        assert!(matches!(of(&info, Role::Owner, 200), Err(Refusal::QuotaUsedUp { .. })));
    }

    #[test]
    fn a_debt_is_repaid_from_the_miner_first() {
        let funds = MinerFunds { fee_debt: fil(5), ..MinerFunds::default() };
        let value = |available| repay_debt(MINER, id(101), &funds, &fil(available)).expect("a draft").value;
        assert_eq!((value(-5), value(-3), value(0), value(7)), (fil(5), fil(3), fil(0), fil(0)));
        assert_eq!(repay_debt(MINER, id(101), &MinerFunds::default(), &fil(1)), Err(Refusal::NoDebt));
    }
}
