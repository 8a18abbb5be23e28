//! How the base fee follows the demand for gas (FIP-0115, since network version 28).

use fvm_shared::bigint::BigInt;
use fvm_shared::econ::TokenAmount;
use fvm_shared::message::Message;

use super::execution::{BASE_FEE_MIN_ATTO, BLOCK_GAS_LIMIT};

/// The gas of a block that must be asked for with a premium before the base fee rises: more than 80 per cent of it.
const TARGET_GAS: u64 = BLOCK_GAS_LIMIT / 100 * 80;
/// The base fee changes by at most this part of itself in an epoch.
const CHANGE_DENOMINATOR: u64 = 8;

/// The base fee after a tipset with this base fee and these messages.
pub fn next<'a>(base_fee: u64, messages: impl Iterator<Item = &'a Message>) -> u64 {
    let demand = messages.map(|message| (effective_premium(base_fee, message), message.gas_limit));
    after(base_fee, decisive_premium(demand.collect()))
}

/// The base fee after one epoch in which all gas is asked for at any price.
pub fn risen(base_fee: u64) -> u64 {
    after(base_fee, u64::MAX)
}

fn after(base_fee: u64, premium: u64) -> u64 {
    let most = base_fee.div_ceil(CHANGE_DENOMINATOR);
    (base_fee - most).saturating_add(premium.min(2 * most)).max(BASE_FEE_MIN_ATTO)
}

/// What a message pays for each unit of gas on top of the base fee.
fn effective_premium(base_fee: u64, message: &Message) -> u64 {
    let left = &message.gas_fee_cap - TokenAmount::from_atto(base_fee);
    let premium = message.gas_premium.clone().min(left).max(TokenAmount::default());
    u64::try_from(premium.atto() as &BigInt).unwrap_or(u64::MAX)
}

/// The premium that 80 per cent of a block's gas are worth at least, or 0 if less gas is asked for.
fn decisive_premium(mut demand: Vec<(u64, u64)>) -> u64 {
    demand.sort_unstable_by(|left, right| right.cmp(left));
    let mut gas = 0_u64;
    for (premium, limit) in demand {
        gas = gas.saturating_add(limit);
        if gas >= TARGET_GAS {
            return premium;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use fvm_ipld_encoding::RawBytes;
    use fvm_shared::address::Address;

    use super::*;

    #[test]
    fn the_cases_of_the_fip_hold() {
        let premiums = [(8, 8, 8, 0), (8, 16, 7, 7), (8, 19, 10, 10), (123_456, 123_455, 123_455, 0)];
        for (base_fee, cap, premium, effective) in premiums {
            let message = Message {
                version: 0,
                from: Address::new_id(100),
                to: Address::new_id(100),
                sequence: 0,
                value: TokenAmount::default(),
                method_num: 0,
                params: RawBytes::default(),
                gas_limit: 0,
                gas_fee_cap: TokenAmount::from_atto(cap),
                gas_premium: TokenAmount::from_atto(premium),
            };
            assert_eq!(effective_premium(base_fee, &message), effective, "{base_fee} {cap} {premium}");
        }
        let demands = [
            (5_999_999_999, 100, 2_000_000_000, 0),
            (5_999_999_999, 0, 2_000_000_001, 0),
            (5_999_999_999, 100, 2_000_000_001, 100),
            (7_999_999_999, 100, 2_000_000_001, 100),
            (8_000_000_000, 100, 2_000_000_000, 123),
            (8_000_000_000, 100, 9_000_000_000, 123),
        ];
        for (limit, premium, other, decisive) in demands {
            assert_eq!(decisive_premium(vec![(123, limit), (premium, other)]), decisive, "{limit} {premium} {other}");
        }
        let fees = [
            (100, 0, 100),
            (100, 13, 100),
            (100, 14, 101),
            (100, 26, 113),
            (801, 0, 700),
            (801, 100, 800),
            (801, 200, 900),
            (801, 201, 901),
            (808, 1, 708),
            (808, 201, 908),
            (808, 202, 909),
            (808, 203, 909),
        ];
        for (base_fee, premium, next) in fees {
            assert_eq!(after(base_fee, premium), next, "{base_fee} {premium}");
        }
        assert_eq!(risen(808), 909);
    }
}
