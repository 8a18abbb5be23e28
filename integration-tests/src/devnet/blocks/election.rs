//! Who wins an epoch: sortition by power (Expected Consensus).
//!
//! The number of wins is drawn from a Poisson distribution. The random number is the hash of the miner's VRF proof.
//! All numbers are fixed-point with 256 fractional bits, as in every implementation of the chain.

use fvm_shared::bigint::{BigInt, Sign, Zero};

use crate::devnet::randomness::blake2b256;

/// The blocks that are won in an epoch on average.
pub const BLOCKS_PER_EPOCH: i64 = 5;
/// The most wins of a miner in an epoch.
const WINS_MAX: i64 = 3 * BLOCKS_PER_EPOCH;
/// Fractional bits.
const PRECISION: u32 = 256;
/// More fractional bits for the exponential, whose series adds and subtracts terms larger than its sum.
const GUARD: u32 = 64;

/// How often a miner with this power has won an epoch, by the VRF proof of its election. 0 if it has not.
pub fn wins(vrf_proof: &[u8], power: &BigInt, network_power: &BigInt) -> i64 {
    if !power_is_positive(power) || !power_is_positive(network_power) {
        return 0;
    }
    let drawn = BigInt::from_bytes_be(Sign::Plus, &blake2b256(vrf_proof));
    let expected: BigInt = ((power * BLOCKS_PER_EPOCH) << PRECISION) / network_power;
    // The probability of exactly `wins` wins, and that of more.
    let mut exactly = exp_negative(&expected);
    let mut more = (BigInt::from(1) << PRECISION) - &exactly;
    let mut wins = 0;
    while drawn < more && wins < WINS_MAX {
        wins += 1;
        exactly = (exactly * &expected / wins) >> PRECISION;
        more -= &exactly;
    }
    wins
}

fn power_is_positive(power: &BigInt) -> bool {
    power.sign() == Sign::Plus
}

/// `e^-x` of a number that is not negative.
fn exp_negative(x: &BigInt) -> BigInt {
    let precision = PRECISION + GUARD;
    let x = x << GUARD;
    let mut term = BigInt::from(1) << precision;
    let mut sum = term.clone();
    for n in 1_u32.. {
        term = -((term * &x / n) >> precision);
        if term.is_zero() || term == BigInt::from(-1) {
            break;
        }
        sum += &term;
    }
    sum >> GUARD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float(x: &BigInt) -> f64 {
        // The upper 64 of the 256 fractional bits.
        let upper: BigInt = x >> 192;
        u128::try_from(upper).expect("not negative") as f64 / 2_f64.powi(64)
    }

    #[test]
    fn the_exponential_agrees_with_the_machines() {
        for x in [0.0, 0.001, 0.5, 1.0, 2.5, 5.0] {
            let fixed = BigInt::from((x * 2_f64.powi(60)) as i64) << 196;
            assert!((float(&exp_negative(&fixed)) - f64::exp(-x)).abs() < 1e-12, "e^-{x}");
        }
    }

    #[test]
    fn a_miner_wins_as_often_as_its_share_of_the_power_says() {
        let mean = |power: i64| {
            let all = (0_u32..2000).map(|draw| wins(&draw.to_be_bytes(), &BigInt::from(power), &BigInt::from(100)));
            all.sum::<i64>() as f64 / 2000.0
        };
        for (power, expected) in [(100, 5.0), (50, 2.5), (10, 0.5), (2, 0.1)] {
            let mean = mean(power);
            assert!((mean - expected).abs() < 0.15 * expected, "{power} %: {mean}");
        }
    }

    #[test]
    fn nobody_wins_without_power_and_nobody_more_than_15_times() {
        assert_eq!(wins(b"a", &BigInt::from(0), &BigInt::from(100)), 0);
        assert_eq!(wins(b"a", &BigInt::from(1), &BigInt::from(0)), 0);
        let most = (0_u32..2000).map(|draw| wins(&draw.to_be_bytes(), &BigInt::from(100), &BigInt::from(100))).max();
        assert!(most <= Some(15), "{most:?}");
    }
}
