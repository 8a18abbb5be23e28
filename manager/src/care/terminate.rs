//! Which sectors are terminated, and what that costs.

use fvm_shared::{bigint::BigInt, econ::TokenAmount};

use super::{Now, OnChain, Plan, Reason, deadlines::mutable_from, quality};
use crate::chain::{expiry::DAY, types::Epoch};

/// The part of the pledge that is lost, in thousandths (FIP-0098).
const PLEDGE_PER_MILLE: u64 = 85;
/// After how many days that part is lost in full.
const FULL_AFTER_DAYS: Epoch = 140;
/// The least that is lost of the pledge, in percent.
const PLEDGE_PERCENT_MIN: u64 = 2;
/// The least that is lost compared with the fee for a faulty day, in percent.
const FAULT_PERCENT: u64 = 105;
/// The fee for a faulty day, in hundredths of the reward that is expected in a day.
const FAULT_HUNDREDTHS: u64 = 351;
/// How many days of expected reward a PreCommit's deposit is, for a sector with tenfold quality.
const DEPOSIT_DAYS: u64 = 20;

/// Terminates the sectors whose deadline can be changed now.
pub fn plan<'s>(sectors: impl IntoIterator<Item = &'s OnChain>, now: &Now) -> Plan {
    Plan::of(sectors, |sector| {
        now.must_outlast(sector)?;
        let deadline = sector.at.deadline;
        match mutable_from(&now.deadline, deadline, now.head) {
            from if from > now.head => Err(Reason::Immutable { deadline, from }),
            _ => Ok(None),
        }
    })
}

/// What terminating a sector costs in attoFIL (`pledge_penalty_for_termination`). `deposit` is what the node asks for a
/// PreCommit: a tenth more than the reward that is expected in 20 days at tenfold quality.
pub fn fee(sector: &OnChain, now: &Now, deposit: &TokenAmount) -> TokenAmount {
    let pledge = &sector.info.initial_pledge;
    let age = (now.head - sector.info.activation).max(0);
    let full = (pledge.clone() * PLEDGE_PER_MILLE).div_floor(1000u64);
    let by_age = (full.clone() * age).div_floor(FULL_AFTER_DAYS * DAY);
    let least_of_pledge = (pledge.clone() * PLEDGE_PERCENT_MIN).div_floor(100u64);
    let least_of_fault = (fault_fee(sector, now, deposit) * FAULT_PERCENT).div_floor(100u64);
    full.min(by_age).max(least_of_pledge.max(least_of_fault))
}

/// What a day of fault costs, in attoFIL, estimated from the deposit.
fn fault_fee(sector: &OnChain, now: &Now, deposit: &TokenAmount) -> TokenAmount {
    let power = quality::power(&sector.info, now.sector_bytes);
    let reward = deposit.atto() * 10 / 11 * power / quality::power_max(now.sector_bytes);
    TokenAmount::from_atto(reward * BigInt::from(FAULT_HUNDREDTHS) / BigInt::from(DEPOSIT_DAYS * 100))
}

#[cfg(test)]
mod tests {
    use fil_actor_miner_state::v19 as actor;
    use fil_actors_shared::v19::reward::FilterEstimate;
    use fvm_shared::sector::SectorSize;

    use super::*;
    use crate::care::tests::{SECTOR_BYTES, now, reasons, sector};

    #[test]
    fn sectors_of_the_open_deadline_and_the_next_wait_and_name_their_epoch() {
        let now = now();
        let sectors = [sector(1, 9, 0), sector(2, 10, 0), sector(3, 11, 0), sector(4, 40, 2)];
        let plan = plan(&sectors, &now);
        let immutable = |deadline, from| Reason::Immutable { deadline, from };
        let expected = [(2, immutable(10, now.deadline.close)), (3, immutable(11, now.deadline.close + 60))];
        assert_eq!(reasons(&plan), expected);
        assert_eq!(plan.declared.iter().map(|d| d.sectors[0]).collect::<Vec<_>>(), [1, 4]);
    }

    #[test]
    fn the_fee_is_the_actors_at_each_age_and_quality() {
        let reward = FilterEstimate::new(BigInt::from(36_266_260_308_195_979_333_u128), BigInt::default());
        let network = FilterEstimate::new(BigInt::from(1_u128 << 64), BigInt::default());
        let full = actor::qa_power_max(SectorSize::_32GiB);
        let deposit = actor::pre_commit_deposit_for_power(&reward, &network, &full);
        let deposit = (deposit * 110u64).div_floor(100u64);
        for age_days in [0, 1, 20, 70, 139, 140, 141, 500] {
            for flags in [1, 3] {
                for pledge in [1, 1_000_000_000_000_000, 150_000_000_000_000_000_i64] {
                    let mut sector = sector(1, 0, 0);
                    let now = now();
                    sector.info.activation = now.head - age_days * DAY;
                    sector.info.flags = flags;
                    sector.info.initial_pledge = TokenAmount::from_atto(pledge);
                    let power = quality::power(&sector.info, SECTOR_BYTES);
                    let fault = actor::pledge_penalty_for_continued_fault(&reward, &network, &power);
                    let theirs =
                        actor::pledge_penalty_for_termination(&sector.info.initial_pledge, age_days * DAY, &fault);
                    let ours = fee(&sector, &now, &deposit);
                    // The estimate of the reward has a rounding of its own.
                    let off = (ours.atto() - theirs.atto()).magnitude().clone();
                    let most = theirs.atto().magnitude() / 1000u32 + 1u32;
                    assert!(off <= most, "{age_days} {flags} {pledge}: {ours} for {theirs}");
                }
            }
        }
    }
}
