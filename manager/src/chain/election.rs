//! Who may make a block: VRF inputs, and how often a miner has won an epoch. Pure.
//!
//! The rules are those of Lotus: `chain/types/electionproof.go` for the number of wins, `chain/gen` and `miner` for what
//! is signed. Nodes refuse a block that claims another number of wins, so the arithmetic must agree to the last bit.

use std::sync::LazyLock;

use fvm_shared::bigint::{BigInt, Sign};

use super::{
    randomness::{Domain, blake2b256, draw, masked, miner_entropy},
    types::Epoch,
};

/// How many blocks an epoch has on average (`BlocksPerEpoch`).
const BLOCKS_PER_EPOCH: i64 = 5;
/// The most wins of one block (`MaxWinCount`).
pub const WINS_MAX: i64 = 3 * BLOCKS_PER_EPOCH;
/// The bits after the point in a fixed-point number.
const PRECISION: usize = 256;
/// By how many epochs a ticket's randomness is behind its block (`TicketRandomnessLookback`).
const TICKET_LOOKBACK: Epoch = 1;

/// The coefficients of the rational function that stands for e^-x, in units of 2^-128, the highest order first.
static NUMERATOR: LazyLock<Vec<BigInt>> = LazyLock::new(|| {
    coefficients(&[
        "-648770010757830093818553637600",
        "67469480939593786226847644286976",
        "-3197587544499098424029388939001856",
        "89244641121992890118377641805348864",
        "-1579656163641440567800982336819953664",
        "17685496037279256458459817590917169152",
        "-115682590513835356866803355398940131328",
        "340282366920938463463374607431768211456",
    ])
});
static DENOMINATOR: LazyLock<Vec<BigInt>> = LazyLock::new(|| {
    coefficients(&[
        "1225524182432722209606361",
        "114095592300906098243859450",
        "5665570424063336070530214243",
        "194450132448609991765137938448",
        "5068267641632683791026134915072",
        "104716890604972796896895427629056",
        "1748338658439454459487681798864896",
        "23704654329841312470660182937960448",
        "259380097567996910282699886670381056",
        "2250336698853390384720606936038375424",
        "14978272436876548034486263159246028800",
        "72144088983913131323343765784380833792",
        "224599776407103106596571252037123047424",
        "340282366920938463463374607431768211456",
    ])
});

/// What the worker signs to take part in the election of an epoch. `beacon` is the epoch's last beacon entry.
pub fn election_input(beacon: &[u8], round: Epoch, miner_id: u64) -> [u8; 32] {
    draw(&blake2b256(beacon), Domain::ElectionProofProduction, round, &miner_entropy(miner_id))
}

/// What the worker signs for the ticket of a block. `parent_ticket` is the smallest ticket of its parents.
pub fn ticket_input(beacon: &[u8], round: Epoch, miner_id: u64, parent_ticket: &[u8]) -> [u8; 32] {
    let entropy = [miner_entropy(miner_id).as_slice(), parent_ticket].concat();
    draw(&blake2b256(beacon), Domain::TicketProduction, round - TICKET_LOOKBACK, &entropy)
}

/// The randomness of an epoch's winning PoSt, masked as the proofs want it.
pub fn challenge(beacon: &[u8], round: Epoch, miner_id: u64) -> [u8; 32] {
    masked(draw(&blake2b256(beacon), Domain::WinningPoStChallengeSeed, round, &miner_entropy(miner_id)))
}

/// How good a ticket is: 1 for the smallest one. It tells the node how likely the block's messages come first.
pub fn ticket_quality(ticket: &[u8]) -> f64 {
    // The first 8 of 32 bytes: an f64 has no more digits.
    let [a, b, c, d, e, f, g, h, ..] = blake2b256(ticket);
    1.0 - u64::from_be_bytes([a, b, c, d, e, f, g, h]) as f64 / 2f64.powi(64)
}

/// How often a miner with this share of the network's power has won, by its VRF proof: 0 to [`WINS_MAX`].
///
/// The hash of the proof, as a number below 1, is compared with the probabilities that a Poisson distribution exceeds
/// 0, 1, 2… Its rate is the miner's share of the blocks of an epoch.
pub fn wins(vrf_proof: &[u8], power: &BigInt, network_power: &BigInt) -> i64 {
    if power.sign() != Sign::Plus || network_power.sign() != Sign::Plus {
        return 0;
    }
    let drawn = BigInt::from_bytes_be(Sign::Plus, &blake2b256(vrf_proof));
    let rate = ((power * BLOCKS_PER_EPOCH) << PRECISION) / network_power;
    exceeding(rate).take(WINS_MAX as usize).take_while(|bound| drawn < *bound).count() as i64
}

/// The probabilities that a Poisson distribution with this rate exceeds 0, 1, 2…
fn exceeding(rate: BigInt) -> impl Iterator<Item = BigInt> {
    let mut exactly = exp_of_negative(&rate);
    let mut more = (BigInt::from(1) << PRECISION) - &exactly;
    let mut count = 0_u64;
    std::iter::from_fn(move || {
        let bound = more.clone();
        count += 1;
        // In this order, because each step rounds.
        exactly = ((&exactly / count) * &rate) >> PRECISION;
        more -= &exactly;
        Some(bound)
    })
}

/// e^-x for x from 0 to 5.
fn exp_of_negative(x: &BigInt) -> BigInt {
    (polynomial(&NUMERATOR, x) << PRECISION) / polynomial(&DENOMINATOR, x)
}

/// A polynomial's value, by Horner's rule.
fn polynomial(coefficients: &[BigInt], x: &BigInt) -> BigInt {
    coefficients.iter().fold(BigInt::default(), |value, coefficient| ((value * x) >> PRECISION) + coefficient)
}

fn coefficients(texts: &[&str]) -> Vec<BigInt> {
    texts.iter().filter_map(|text| text.parse::<BigInt>().ok()).map(|number| number << (PRECISION - 128)).collect()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn digest(text: &str) -> String {
        hex::encode(blake2b256(text.as_bytes()))
    }

    /// The table of 256 values that Lotus tests its own function with (`TestExpFunction`).
    #[test]
    fn the_exponential_function_agrees_with_lotus_to_the_last_bit() {
        let step: BigInt = (BigInt::from(5) << PRECISION) / 255;
        let mut table = "x, y\n".to_owned();
        for n in 0..256 {
            let x = &step * n;
            writeln!(table, "{x},{}", exp_of_negative(&x)).expect("writes");
        }
        assert_eq!(digest(&table), "84c9e86f10cf6ee87b0deaf06a5c77011ebaf9925b0f6903be8e34d364fcabeb");
    }

    /// The tables that Lotus tests its own function with (`TestPoissonFunction`), for rates of `base` / 2^`shift`.
    #[test]
    fn the_distribution_agrees_with_lotus_to_the_last_bit() {
        for (base, shift, expected) in [
            (10_u64, 10, "ef7272767982bcd7bc7b60eb518fa2d845de0e238ee176c3cbdc53361ce24c71"),
            (209_714, 20, "b9779cbec9c46bc335d1b1dd0ed838edf3754907242355a1b84db84b490e3dd8"),
            (1_036_915, 20, "5b20f73d84fad5662ebe0102c389fb02d45c0d67255e526cffed1140c46c7715"),
            (1706, 10, "b2bf155c995a305c7631f95d9d6e86156a9bae8042b4d281556628e6af76d8fa"),
            (2, 0, "8cc815da5cddaf8fce72193a387c3953620e05b4b087d9bb05513f1c74e50023"),
            (5_242_879, 20, "3f0bb7e32fd36b59cc9798c871e8e0fe20a86e832cd832baa62f9f2438c2db07"),
            (5, 0, "76f3b7024592a51596a40bafc70b0e8105a0718c2a390a4ef0843b7aaf41ffc8"),
        ] {
            let rate = BigInt::from(base) << (PRECISION - shift);
            let mut table = "icdf\n".to_owned();
            for bound in exceeding(rate).take(16) {
                writeln!(table, "{bound}").expect("writes");
            }
            assert_eq!(digest(&table), expected, "{base} / 2^{shift}");
        }
    }

    #[test]
    fn a_fifth_of_the_power_wins_a_block_in_an_epoch_on_average() {
        let won: i64 = (0..2000_u32).map(|n| wins(&n.to_be_bytes(), &20.into(), &100.into())).sum();
        assert!((1900..2100).contains(&won), "{won}");
    }

    #[test]
    fn who_has_no_power_wins_nothing_and_nobody_wins_more_than_the_limit() {
        let all = |power: i64| (0..500_u32).map(move |n| wins(&n.to_be_bytes(), &power.into(), &100.into()));
        assert!(all(0).all(|wins| wins == 0));
        assert!(all(100).all(|wins| (0..=WINS_MAX).contains(&wins)));
        assert_eq!(wins(&[1], &1.into(), &0.into()), 0);
    }

    #[test]
    fn what_is_signed_depends_on_epoch_miner_and_parents() {
        let beacon = [7; 96];
        assert_ne!(election_input(&beacon, 10, 1000), election_input(&beacon, 11, 1000));
        assert_ne!(election_input(&beacon, 10, 1000), election_input(&beacon, 10, 1001));
        assert_ne!(ticket_input(&beacon, 10, 1000, &[1]), ticket_input(&beacon, 10, 1000, &[2]));
        let entropy = [miner_entropy(1000), vec![1]].concat();
        let drawn = draw(&blake2b256(&beacon), Domain::TicketProduction, 9, &entropy);
        assert_eq!(ticket_input(&beacon, 10, 1000, &[1]), drawn, "from the epoch before");
        assert!(challenge(&beacon, 10, 1000)[31] <= 0x3f);
    }

    #[test]
    fn a_smaller_ticket_is_better() {
        let mut tickets: Vec<[u8; 1]> = (0..50).map(|n| [n]).collect();
        tickets.sort_by_key(|ticket| blake2b256(ticket));
        assert!(tickets.is_sorted_by(|a, b| ticket_quality(a) > ticket_quality(b)));
        assert!(tickets.iter().all(|ticket| (0.0..=1.0).contains(&ticket_quality(ticket))));
    }
}
