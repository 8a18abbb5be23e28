//! What a miner's sectors on their way will need, and when its locked funds are unlocked.

use std::collections::BTreeMap;

use fvm_shared::econ::TokenAmount;
use sealbus_schema::SealProof;

use crate::chain::{cost::Batch, expiry::DAY, types::Epoch};

/// Epochs in a week.
const WEEK: Epoch = 7 * DAY;
/// How many weeks are shown one by one.
pub const WEEKS: usize = 8;

/// The states of a sector before its PreCommit has landed: deposit and pledge are still to come.
const BEFORE_PRE_COMMIT: [&str; 5] = ["queued", "packing", "drawing_ticket", "sealing", "pre_committing"];
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

/// What the sectors on their way need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Sectors whose PreCommit is still to land.
    pub before_pre_commit: u64,
    /// Sectors whose ProveCommit is still to land, without the others.
    pub before_prove_commit: u64,
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

/// What sectors in these states need, if all of them become active.
pub fn needs(states: &BTreeMap<String, u64>, proof: SealProof, price: &Price) -> Needs {
    let count = |names: &[&str]| names.iter().filter_map(|name| states.get(*name)).sum::<u64>();
    let (before_pre_commit, before_prove_commit) = (count(&BEFORE_PRE_COMMIT), count(&BEFORE_PROVE_COMMIT));
    let rest = (price.pledge.clone() - &price.deposit).max(TokenAmount::default());
    // A deposit above the pledge is locked in full until the ProveCommit.
    let whole = price.pledge.clone().max(price.deposit.clone());
    let fee = |batch: Batch| batch.message(1, proof).fee(&price.base_fee, &TokenAmount::default());
    let gas =
        fee(Batch::PreCommits) * before_pre_commit + fee(Batch::Singles) * (before_pre_commit + before_prove_commit);
    Needs { before_pre_commit, before_prove_commit, locks: whole * before_pre_commit + rest * before_prove_commit, gas }
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
        let found = needs(&states, SealProof::StackedDrg32GiBV1_1, &price);
        assert_eq!((found.before_pre_commit, found.before_prove_commit), (3, 2));
        assert_eq!((found.locks.clone(), found.gas.clone()), (atto(3 * 100 + 2 * 60), atto(0)));
        let dear = needs(&states, SealProof::StackedDrg32GiBV1_1, &Price { base_fee: atto(1000), ..price });
        // Some 17 million gas for 3 PreCommits, 270 million for 5 ProveCommits.
        assert!(dear.gas > atto(1_300_000_000_000) && dear.gas < atto(1_600_000_000_000), "{}", dear.gas.atto());
        assert_eq!(dear.sum(), dear.locks.clone() + dear.gas.clone());
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
