//! What a miner needs in the next seven days: for sectors on their way, and for its proven ones; and when its locked funds are
//! unlocked.

use std::collections::BTreeMap;

use fvm_shared::econ::TokenAmount;
use sealbus_schema::SealProof;

use crate::chain::{
    cost::Batch,
    expiry::DAY,
    types::{Epoch, SectorOnChainInfo},
};

/// Epochs in a week.
pub const WEEK: Epoch = 7 * DAY;
/// How many weeks are shown one by one.
pub const WEEKS: usize = 8;

/// The state of a sector that no worker has taken yet. From then on it takes hours until its PreCommit.
const QUEUED: &str = "queued";
/// The states of a sector before its PreCommit has landed: deposit and pledge are still to come.
const BEFORE_PRE_COMMIT: [&str; 5] = [QUEUED, "packing", "drawing_ticket", "sealing", "pre_committing"];
/// The states between PreCommit and ProveCommit: the pledge is still to come, less the deposit. A sector that is sealed
/// again counts here too, because its PreCommit is at least signed.
const BEFORE_PROVE_COMMIT: [&str; 8] = [
    "persisting",
    "checking_files",
    "awaiting_seed",
    "committing",
    "verifying_proof",
    "prove_committing",
    "requeued",
    "rebuilding",
];

/// What one sector costs at today's rules, in attoFIL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// The deposit of its PreCommit.
    pub deposit: TokenAmount,
    /// Its pledge.
    pub pledge: TokenAmount,
    /// The base fee, per unit of gas.
    pub base_fee: TokenAmount,
}

/// How many sectors are on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnTheirWay {
    /// Those whose PreCommit is still to land.
    pub before_pre_commit: u64,
    /// Those whose ProveCommit is still to land, without the others.
    pub before_prove_commit: u64,
}

/// What sectors on their way need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// What they lock: pledges less the deposits that are locked already.
    pub locks: TokenAmount,
    /// What their messages' gas costs, sent one by one.
    pub gas: TokenAmount,
}

impl Needs {
    /// Both together.
    pub fn sum(&self) -> TokenAmount {
        self.locks.clone() + &self.gas
    }
}

/// What a week costs a miner for the sectors that are proven at its beginning, and gives back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proven {
    /// The daily fees (FIP-0100), in attoFIL. The chain takes at most half of the expected reward instead, if that is less.
    pub fees: TokenAmount,
    /// How many sectors expire.
    pub expiring: u64,
    /// Their pledges, which become available.
    pub unlocked: TokenAmount,
}

/// A miner's sectors in these states that are on their way.
pub fn on_their_way(states: &BTreeMap<String, u64>) -> OnTheirWay {
    let count = |names: &[&str]| names.iter().filter_map(|name| states.get(*name)).sum::<u64>();
    OnTheirWay { before_pre_commit: count(&BEFORE_PRE_COMMIT), before_prove_commit: count(&BEFORE_PROVE_COMMIT) }
}

/// Those of them whose messages land within a week, if it goes on at the pace of the last one: `pace` PreCommits. What workers
/// have taken lands, because sealing takes hours. What is queued lands as far as the pace allows; all of it, if there is no
/// pace yet.
pub fn within_a_week(states: &BTreeMap<String, u64>, pace: u64) -> OnTheirWay {
    let all = on_their_way(states);
    let queued = states.get(QUEUED).copied().unwrap_or_default();
    let taken = all.before_pre_commit - queued;
    let queued = if pace == 0 { queued } else { queued.min(pace.saturating_sub(taken)) };
    OnTheirWay { before_pre_commit: taken + queued, ..all }
}

/// What sectors need that become active.
pub fn needs(sectors: OnTheirWay, proof: SealProof, price: &Price) -> Needs {
    let OnTheirWay { before_pre_commit, before_prove_commit } = sectors;
    let rest = (price.pledge.clone() - &price.deposit).max(TokenAmount::default());
    // A deposit above the pledge is locked in full until the ProveCommit.
    let whole = price.pledge.clone().max(price.deposit.clone());
    let fee = |batch: Batch| batch.message(1, proof).fee(&price.base_fee, &TokenAmount::default());
    let gas =
        fee(Batch::PreCommits) * before_pre_commit + fee(Batch::Singles) * (before_pre_commit + before_prove_commit);
    Needs { locks: whole * before_pre_commit + rest * before_prove_commit, gas }
}

/// What the week from `head` on costs for proven sectors, and gives back.
pub fn of_proven<'a>(sectors: impl Iterator<Item = &'a SectorOnChainInfo>, head: Epoch) -> Proven {
    let mut sum = Proven::default();
    for sector in sectors {
        let left = (sector.expiration - head).max(0);
        // It is charged once a day, also for the last day that has begun.
        sum.fees += sector.daily_fee.clone() * ((left.min(WEEK) + DAY - 1) / DAY);
        if left < WEEK {
            sum.expiring += 1;
            sum.unlocked += &sector.initial_pledge;
        }
    }
    sum
}

/// What is unlocked in each of the next weeks, and after them. What should have been unlocked already counts in the first.
pub fn weeks(vesting: &[(Epoch, TokenAmount)], head: Epoch) -> (Vec<TokenAmount>, TokenAmount) {
    let mut weeks = vec![TokenAmount::default(); WEEKS];
    let mut later = TokenAmount::default();
    for (epoch, amount) in vesting {
        let week = usize::try_from((epoch - head).max(0) / WEEK).unwrap_or(usize::MAX);
        *weeks.get_mut(week).unwrap_or(&mut later) += amount;
    }
    (weeks, later)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn atto(amount: i64) -> TokenAmount {
        TokenAmount::from_atto(amount)
    }

    #[test]
    fn each_sector_needs_what_is_not_locked_yet() {
        let states = BTreeMap::from([
            ("sealing".to_owned(), 3),
            ("awaiting_seed".to_owned(), 2),
            ("cleaning".to_owned(), 9),
            ("aborting".to_owned(), 1),
        ]);
        let price = Price { deposit: atto(40), pledge: atto(100), base_fee: atto(0) };
        let sectors = on_their_way(&states);
        assert_eq!((sectors.before_pre_commit, sectors.before_prove_commit), (3, 2));
        let found = needs(sectors, SealProof::StackedDrg32GiBV1_1, &price);
        assert_eq!((found.locks.clone(), found.gas.clone()), (atto(3 * 100 + 2 * 60), atto(0)));
        let dear = needs(sectors, SealProof::StackedDrg32GiBV1_1, &Price { base_fee: atto(1000), ..price });
        // Some 17 million gas for 3 PreCommits, 270 million for 5 ProveCommits.
        assert!(dear.gas > atto(1_300_000_000_000) && dear.gas < atto(1_600_000_000_000), "{}", dear.gas.atto());
        assert_eq!(dear.sum(), dear.locks.clone() + dear.gas.clone());
    }

    #[test]
    fn what_is_queued_counts_in_the_week_as_far_as_the_pace_of_the_last_one_allows() {
        let states =
            BTreeMap::from([("queued".to_owned(), 100), ("sealing".to_owned(), 5), ("persisting".to_owned(), 2)]);
        let in_a_week = |pace| within_a_week(&states, pace).before_pre_commit;
        assert_eq!([0, 3, 5, 30, 1000].map(in_a_week), [105, 5, 5, 30, 105]);
        assert_eq!(within_a_week(&states, 3).before_prove_commit, 2);
    }

    #[test]
    fn proven_sectors_cost_their_fee_each_day_until_they_expire_and_then_give_their_pledge_back() {
        let sector = |days: i64, fee: i64| -> SectorOnChainInfo {
            serde_json::from_value(serde_json::json!({
                "SectorNumber": 1, "SealProof": 8, "Activation": 0, "Expiration": 1000 + days * DAY,
                "SealedCID": { "/": "bagboea4b5abcatlxechwbp7kjpjguna6r6q7ejrhe6mdp3lf34pmswn27pkkiekz" },
                "InitialPledge": "70", "DailyFee": fee.to_string(),
            }))
            .expect("a sector")
        };
        let sectors = [sector(500, 3), sector(7, 10), sector(2, 100), sector(-1, 1000), sector(300, 0)];
        let week = of_proven(sectors.iter(), 1000);
        assert_eq!((week.fees, week.expiring, week.unlocked), (atto(7 * 3 + 7 * 10 + 2 * 100), 2, atto(140)));
    }

    #[test]
    fn every_state_before_its_activation_is_counted_once() {
        let all = sealbus_schema::workflows::State::names();
        for name in BEFORE_PRE_COMMIT.iter().chain(&BEFORE_PROVE_COMMIT) {
            assert!(all.contains(name), "{name}");
        }
        assert!(BEFORE_PRE_COMMIT.iter().all(|name| !BEFORE_PROVE_COMMIT.contains(name)));
    }

    #[test]
    fn what_vests_is_summed_by_week() {
        let vesting = [(90, atto(1)), (100, atto(2)), (100 + WEEK, atto(4)), (100 + 100 * WEEK, atto(8))];
        let (weeks, later) = weeks(&vesting, 100);
        assert_eq!((weeks[0].clone(), weeks[1].clone(), weeks[2].clone(), later), (atto(3), atto(4), atto(0), atto(8)));
    }
}
