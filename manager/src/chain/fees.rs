//! The gas fields of a message, decided before it is signed.
//!
//! The node estimates them, and the operator's limit clamps them. Then the conditions of the message pool are checked.
//! Every node refuses a premium above the fee cap, which is what happens if only one of the two is clamped.

use fvm_shared::bigint::BigInt;
use fvm_shared::econ::TokenAmount;

/// The most gas of a block, and so of a message (`BlockGasLimit`).
pub const GAS_LIMIT_MAX: u64 = 10_000_000_000;

/// The lowest base fee of the network in attoFIL (`MinimumBaseFee`).
const BASE_FEE_MIN_ATTO: u64 = 100;

/// The gas fields of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gas {
    /// The most gas that it may use, in units.
    pub limit: u64,
    /// The most that a unit of gas may cost, in attoFIL.
    pub fee_cap: TokenAmount,
    /// What a unit of gas pays to the block's miner on top of the base fee, in attoFIL.
    pub premium: TokenAmount,
}

/// The most that a message may cost now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeeLimit {
    /// The field of the configuration that it comes from.
    pub field: &'static str,
    /// What is configured, in attoFIL.
    pub configured: TokenAmount,
    /// How much of that counts now, in percent: more than 100 as the message's last epoch nears.
    pub percent: u64,
}

impl FeeLimit {
    /// The limit in attoFIL.
    pub fn amount(&self) -> TokenAmount {
        (self.configured.clone() * self.percent).div_floor(100u64)
    }
}

impl std::fmt::Display for FeeLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} = {}", self.field, self.configured.atto())?;
        if self.percent == 100 { Ok(()) } else { write!(f, ", raised to {} % near the last epoch,", self.percent) }
    }
}

/// Why gas fields are unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The gas limit is zero, or above a block's.
    #[error("gas limit {limit} is not between 1 and {GAS_LIMIT_MAX}")]
    Limit {
        /// The limit.
        limit: u64,
    },
    /// An amount is negative.
    #[error("gas {field} {amount_atto} attoFIL is negative")]
    Negative {
        /// `fee cap`, `premium` or `max fee`.
        field: &'static str,
        /// The amount.
        amount_atto: String,
    },
    /// The premium exceeds the cap.
    #[error("gas premium {premium_atto} attoFIL exceeds the fee cap {fee_cap_atto} attoFIL")]
    PremiumAboveCap {
        /// The premium.
        premium_atto: String,
        /// The cap.
        fee_cap_atto: String,
    },
    /// The most that the message could cost exceeds the operator's limit.
    #[error("the message could cost {fee_atto} attoFIL, more than the limit of {max_fee_atto} attoFIL")]
    AboveMaxFee {
        /// Limit times cap.
        fee_atto: String,
        /// The operator's limit.
        max_fee_atto: String,
    },
    /// The operator's limit allows less per unit of gas than the network's minimum, so no pool accepts the message.
    #[error(
        "{limit} leaves {fee_cap_atto} attoFIL for each of {gas} units of gas, and the network's minimum is {BASE_FEE_MIN_ATTO}; set it to at least {needed_atto}"
    )]
    MaxFeeTooLow {
        /// The operator's limit.
        limit: FeeLimit,
        /// What it allows per unit of gas.
        fee_cap_atto: String,
        /// The gas limit.
        gas: u64,
        /// The node's estimate of the most that the message costs.
        needed_atto: String,
    },
    /// The operator's limit allows less per unit of gas than the present base fee.
    #[error(
        "the base fee is {base_fee_atto} attoFIL, and {limit} leaves {fee_cap_atto} for each of {gas} units of gas; wait until the base fee falls, or set it to {needed_atto}"
    )]
    BaseFeeAboveCap {
        /// The present base fee.
        base_fee_atto: String,
        /// The operator's limit.
        limit: FeeLimit,
        /// What it allows per unit of gas.
        fee_cap_atto: String,
        /// The gas limit.
        gas: u64,
        /// The node's estimate of the most that the message costs.
        needed_atto: String,
    },
}

impl Gas {
    /// The most that the message can cost: gas limit times fee cap, in attoFIL.
    pub fn fee_max(&self) -> TokenAmount {
        self.fee_cap.clone() * self.limit
    }

    /// Raises the gas limit to at least `limit_min`, but not above a block's.
    pub fn with_limit_of(mut self, limit_min: Option<u64>) -> Self {
        self.limit = self.limit.max(limit_min.unwrap_or(0)).min(GAS_LIMIT_MAX);
        self
    }

    /// Raises the premium so that it replaces a message with the same nonce, and the fee cap to make room for it.
    pub fn with_premium_of(mut self, premium_min: TokenAmount) -> Self {
        if self.premium < premium_min {
            self.fee_cap += &premium_min - &self.premium;
            self.premium = premium_min;
        }
        self
    }

    /// Lowers the fee cap and the premium so that the message costs at most the limit, and checks that it can land at
    /// all, and at the present base fee.
    ///
    /// The estimate must have been made without a limit: a node that is given one lowers the cap itself, below what any
    /// pool accepts.
    pub fn clamped(self, limit: &FeeLimit, base_fee: &TokenAmount) -> Result<Self, Error> {
        let max_fee = &limit.amount();
        if max_fee.is_negative() {
            return Err(negative("max fee", max_fee));
        }
        if self.limit == 0 || self.limit > GAS_LIMIT_MAX {
            return Err(Error::Limit { limit: self.limit });
        }
        let gas = self.limit;
        let needed_atto = atto(&self.fee_max());
        let affordable = TokenAmount::from_atto(max_fee.atto() / BigInt::from(gas));
        let fee_cap = self.fee_cap.min(affordable);
        let (limit, fee_cap_atto) = (limit.clone(), atto(&fee_cap));
        if fee_cap.is_negative() {
            return Err(negative("fee cap", &fee_cap));
        }
        if fee_cap < TokenAmount::from_atto(BASE_FEE_MIN_ATTO) {
            return Err(Error::MaxFeeTooLow { limit, fee_cap_atto, gas, needed_atto });
        }
        if fee_cap < *base_fee {
            let base_fee_atto = atto(base_fee);
            return Err(Error::BaseFeeAboveCap { base_fee_atto, limit, fee_cap_atto, gas, needed_atto });
        }
        let premium = self.premium.min(fee_cap.clone());
        let gas = Self { limit: self.limit, fee_cap, premium };
        gas.check(max_fee)?;
        Ok(gas)
    }

    /// Checks the conditions of the message pool and of the operator.
    pub fn check(&self, max_fee: &TokenAmount) -> Result<(), Error> {
        if self.limit == 0 || self.limit > GAS_LIMIT_MAX {
            return Err(Error::Limit { limit: self.limit });
        }
        if self.fee_cap.is_negative() {
            return Err(negative("fee cap", &self.fee_cap));
        }
        if self.premium.is_negative() {
            return Err(negative("premium", &self.premium));
        }
        if self.premium > self.fee_cap {
            return Err(Error::PremiumAboveCap {
                premium_atto: atto(&self.premium),
                fee_cap_atto: atto(&self.fee_cap),
            });
        }
        if self.fee_max() > *max_fee {
            return Err(Error::AboveMaxFee { fee_atto: atto(&self.fee_max()), max_fee_atto: atto(max_fee) });
        }
        Ok(())
    }

    /// Whether the fee cap covers a base fee. If not, the message is valid but waits.
    pub fn covers(&self, base_fee: &TokenAmount) -> bool {
        self.fee_cap >= *base_fee
    }
}

fn negative(field: &'static str, amount: &TokenAmount) -> Error {
    Error::Negative { field, amount_atto: atto(amount) }
}

fn atto(amount: &TokenAmount) -> String {
    amount.atto().to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn gas(limit: u64, fee_cap: i64, premium: i64) -> Gas {
        Gas { limit, fee_cap: TokenAmount::from_atto(fee_cap), premium: TokenAmount::from_atto(premium) }
    }

    fn fee(atto: u64) -> TokenAmount {
        TokenAmount::from_atto(atto)
    }

    fn clamped(gas: Gas, max_fee: u64) -> Result<Gas, Error> {
        gas.clamped(&limit(max_fee), &fee(100))
    }

    fn limit(atto: u64) -> FeeLimit {
        FeeLimit { field: "chain.max_fee_atto", configured: fee(atto), percent: 100 }
    }

    #[test]
    fn an_affordable_estimate_stays_as_it_is() {
        assert_eq!(clamped(gas(10, 1000, 900), 10_000), Ok(gas(10, 1000, 900)));
    }

    #[test]
    fn a_lowered_cap_takes_the_premium_with_it() {
        assert_eq!(clamped(gas(10, 1000, 900), 5009), Ok(gas(10, 500, 500)));
        assert_eq!(clamped(gas(10, 1000, 300), 5000), Ok(gas(10, 500, 300)));
    }

    #[test]
    fn a_nodes_premium_above_its_cap_is_clipped() {
        assert_eq!(clamped(gas(10, 1000, 1001), 100_000), Ok(gas(10, 1000, 1000)));
        assert!(matches!(gas(10, 1000, 1001).check(&fee(100_000)), Err(Error::PremiumAboveCap { .. })));
    }

    #[test]
    fn useless_fields_are_refused() {
        assert!(matches!(clamped(gas(0, 1, 1), 1), Err(Error::Limit { .. })));
        assert!(matches!(clamped(gas(GAS_LIMIT_MAX + 1, 1, 1), 1), Err(Error::Limit { .. })));
        assert!(matches!(clamped(gas(1, -1, 0), 1), Err(Error::Negative { .. })));
        assert!(matches!(clamped(gas(1, 100, -1), 100), Err(Error::Negative { .. })));
        assert!(matches!(gas(10, 1000, 1).check(&fee(9_999)), Err(Error::AboveMaxFee { .. })));
    }

    #[test]
    fn a_cap_that_nothing_takes_is_refused_whoever_lowered_it() {
        let refused = clamped(gas(1000, 5000, 1), 99_999).unwrap_err();
        assert!(matches!(&refused, Error::MaxFeeTooLow { .. }));
        let text = refused.to_string();
        assert!(
            text.contains("chain.max_fee_atto = 99999 leaves 99 attoFIL") && text.contains("at least 5000000"),
            "{text}"
        );
        // The answer of a node that has lowered the cap itself.
        assert!(matches!(clamped(gas(1000, 58, 58), 100_000_000), Err(Error::MaxFeeTooLow { .. })));
    }

    #[test]
    fn a_cap_below_the_base_fee_waits() {
        let estimate = gas(1000, 5000, 1);
        let waits = estimate.clone().clamped(&limit(1_000_000), &fee(1001));
        assert!(matches!(waits, Err(Error::BaseFeeAboveCap { .. })), "{waits:?}");
        assert_eq!(estimate.clone().clamped(&limit(1_000_000), &fee(1000)), Ok(gas(1000, 1000, 1)));
        let raised = FeeLimit { percent: 150, ..limit(1_000_000) };
        assert_eq!(estimate.clone().clamped(&raised, &fee(1001)), Ok(gas(1000, 1500, 1)));
        let text = estimate.clamped(&raised, &fee(1501)).unwrap_err().to_string();
        assert!(text.contains("chain.max_fee_atto = 1000000, raised to 150 %"), "{text}");
    }

    #[test]
    fn more_gas_and_a_premium_that_replaces_are_asked_for_as_a_least() {
        assert_eq!(gas(10, 1000, 9).with_limit_of(Some(15)), gas(15, 1000, 9));
        assert_eq!(gas(10, 1000, 9).with_limit_of(Some(9)), gas(10, 1000, 9));
        assert_eq!(gas(10, 1000, 9).with_limit_of(Some(u64::MAX)).limit, GAS_LIMIT_MAX);
        assert_eq!(gas(10, 1000, 9).with_premium_of(fee(20)), gas(10, 1011, 20));
        assert_eq!(gas(10, 1000, 9).with_premium_of(fee(5)), gas(10, 1000, 9));
    }

    #[test]
    fn the_clamp_keeps_its_promise_for_all_small_values() {
        for limit in 1..12 {
            for cap in 0..40 {
                for premium in 0..45 {
                    for max in (0..6000).step_by(97) {
                        if let Ok(gas) = clamped(gas(limit, cap * 100, premium * 100), max) {
                            assert_eq!(gas.check(&fee(max)), Ok(()));
                            assert!(gas.covers(&fee(100)));
                        }
                    }
                }
            }
        }
    }
}
