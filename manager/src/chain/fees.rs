//! What a message may cost, decided before it is signed.
//!
//! The node estimates; the operator's limit clamps; then the relations that the message pool insists on are checked. A premium above the fee cap
//! is refused by every node, and clamping one of two related values is how that happens.

use fvm_shared::bigint::BigInt;
use fvm_shared::econ::TokenAmount;

/// Most gas of a block, and thus of a message (`BlockGasLimit`).
pub const GAS_LIMIT_MAX: u64 = 10_000_000_000;

/// The lowest base fee of the network in attoFIL (`MinimumBaseFee`).
const BASE_FEE_MIN_ATTO: u64 = 100;

/// The gas fields of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gas {
    /// Most units of gas that it may use.
    pub limit: u64,
    /// Most that a unit may cost, in attoFIL.
    pub fee_cap: TokenAmount,
    /// What a unit pays to the block's miner on top of the base fee, in attoFIL.
    pub premium: TokenAmount,
}

/// Why gas fields cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The limit is none, or above a block's.
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
    /// Even if all is used, the operator's limit is exceeded.
    #[error("the message could cost {fee_atto} attoFIL, more than the limit of {max_fee_atto} attoFIL")]
    AboveMaxFee {
        /// Limit times cap.
        fee_atto: String,
        /// The operator's limit.
        max_fee_atto: String,
    },
    /// The operator's limit leaves less for a unit of gas than the network ever takes.
    #[error(
        "a limit of {max_fee_atto} attoFIL leaves {fee_cap_atto} attoFIL for each of {gas} units of gas; the network takes at least {BASE_FEE_MIN_ATTO}"
    )]
    MaxFeeTooLow {
        /// The operator's limit.
        max_fee_atto: String,
        /// What it leaves.
        fee_cap_atto: String,
        /// The gas limit.
        gas: u64,
    },
}

impl Gas {
    /// The most that the message can cost: limit times cap.
    pub fn fee_max(&self) -> TokenAmount {
        self.fee_cap.clone() * self.limit
    }

    /// Lowers cap and premium so that the message costs at most `max_fee`, and checks the outcome.
    pub fn clamped(self, max_fee: &TokenAmount) -> Result<Self, Error> {
        if max_fee.is_negative() {
            return Err(negative("max fee", max_fee));
        }
        if self.limit == 0 || self.limit > GAS_LIMIT_MAX {
            return Err(Error::Limit { limit: self.limit });
        }
        let affordable = TokenAmount::from_atto(max_fee.atto() / BigInt::from(self.limit));
        let lowered = self.fee_cap > affordable;
        if lowered && affordable < TokenAmount::from_atto(BASE_FEE_MIN_ATTO) {
            return Err(Error::MaxFeeTooLow {
                max_fee_atto: atto(max_fee),
                fee_cap_atto: atto(&affordable),
                gas: self.limit,
            });
        }
        let fee_cap = if lowered { affordable } else { self.fee_cap };
        let premium = self.premium.min(fee_cap.clone());
        let gas = Self { limit: self.limit, fee_cap, premium };
        gas.check(max_fee)?;
        Ok(gas)
    }

    /// Checks what the message pool and the operator insist on.
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

    /// Whether the cap covers this base fee. A message whose cap does not is valid, but waits.
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

    #[test]
    fn an_affordable_estimate_stays_as_it_is() {
        assert_eq!(gas(10, 1000, 900).clamped(&fee(10_000)), Ok(gas(10, 1000, 900)));
    }

    #[test]
    fn a_lowered_cap_takes_the_premium_with_it() {
        assert_eq!(gas(10, 1000, 900).clamped(&fee(5009)), Ok(gas(10, 500, 500)));
        assert_eq!(gas(10, 1000, 300).clamped(&fee(5000)), Ok(gas(10, 500, 300)));
    }

    #[test]
    fn a_nodes_premium_above_its_cap_is_clipped() {
        assert_eq!(gas(10, 1000, 1001).clamped(&fee(100_000)), Ok(gas(10, 1000, 1000)));
        assert!(matches!(gas(10, 1000, 1001).check(&fee(100_000)), Err(Error::PremiumAboveCap { .. })));
    }

    #[test]
    fn useless_fields_are_refused() {
        assert!(matches!(gas(0, 1, 1).clamped(&fee(1)), Err(Error::Limit { .. })));
        assert!(matches!(gas(GAS_LIMIT_MAX + 1, 1, 1).clamped(&fee(1)), Err(Error::Limit { .. })));
        assert!(matches!(gas(1, -1, 0).clamped(&fee(1)), Err(Error::Negative { .. })));
        assert!(matches!(gas(1, 1, -1).clamped(&fee(1)), Err(Error::Negative { .. })));
        assert!(matches!(gas(1000, 5000, 1).clamped(&fee(99_999)), Err(Error::MaxFeeTooLow { .. })));
        assert!(matches!(gas(10, 1000, 1).check(&fee(9_999)), Err(Error::AboveMaxFee { .. })));
    }

    #[test]
    fn the_clamp_keeps_its_promise_for_all_small_values() {
        for limit in 1..12 {
            for cap in 0..40 {
                for premium in 0..45 {
                    for max in (0..6000).step_by(97) {
                        let clamped = gas(limit, cap * 100, premium * 100).clamped(&fee(max));
                        if let Ok(gas) = clamped {
                            assert_eq!(gas.check(&fee(max)), Ok(()));
                        }
                    }
                }
            }
        }
    }
}
