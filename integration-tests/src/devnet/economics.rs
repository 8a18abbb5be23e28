//! The economics of the network that a devnet pretends to be part of: rewards, power and supply. Deposits and pledges
//! follow from them.
//!
//! A devnet's own power is a few kilobytes. With that, the formulas would demand the rewards of 20 days for a single
//! sector. So the inputs of `monies` are constants of a made-up network. They are chosen so that the deposit is below
//! the pledge, and the pledge below its cap, as on mainnet. The formulas are the real ones.

use fil_actor_miner_state::v19 as miner;
use fil_actors_shared::v19::reward::FilterEstimate;
use fil_actors_shared::v19::runtime::Policy;
use fvm_shared::bigint::BigInt;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::econ::TokenAmount;
use fvm_shared::sector::{SectorSize, StoragePower};

/// The inputs of the formulas.
#[derive(Debug, Clone)]
pub struct Economics {
    /// The reward of an epoch in attoFIL, smoothed.
    pub reward: FilterEstimate,
    /// The quality-adjusted power of the network in bytes, smoothed.
    pub network_qa_power: FilterEstimate,
    /// The baseline power in bytes.
    pub baseline_power: StoragePower,
    /// FIL in circulation.
    pub circulating_supply: TokenAmount,
    /// The epoch at which the pledge formula of FIP-0081 begins to ramp up. The devnet is past the ramp.
    pub ramp_start_epoch: ChainEpoch,
    /// The length of the ramp in epochs; 0 means fully ramped up.
    pub ramp_duration_epochs: u64,
}

impl Default for Economics {
    fn default() -> Self {
        Self {
            reward: FilterEstimate::new(BigInt::from(36_266_260_308_195_979_333_u128), BigInt::default()),
            network_qa_power: FilterEstimate::new(BigInt::from(1_u128 << 60), BigInt::default()),
            baseline_power: BigInt::from(2_888_888_880_000_000_000_u128),
            circulating_supply: TokenAmount::from_whole(100_000_000),
            ramp_start_epoch: 0,
            ramp_duration_epochs: 0,
        }
    }
}

impl Economics {
    /// The deposit that a PreCommit locks: always that of a sector with ten times its size.
    pub fn pre_commit_deposit(&self, size: SectorSize) -> TokenAmount {
        miner::pre_commit_deposit_for_power(&self.reward, &self.network_qa_power, &miner::qa_power_max(size))
    }

    /// What a new miner locks: the pledge for a tenth of the power that a miner needs to win blocks (FIP-0077).
    pub fn create_miner_deposit(&self, policy: &Policy, epoch: ChainEpoch) -> TokenAmount {
        self.initial_pledge(&(&policy.minimum_consensus_power / 10), epoch)
    }

    /// The pledge that a sector of this power locks when it is activated at `epoch`.
    pub fn initial_pledge(&self, qa_power: &StoragePower, epoch: ChainEpoch) -> TokenAmount {
        miner::initial_pledge_for_power(
            qa_power,
            &self.baseline_power,
            &self.reward,
            &self.network_qa_power,
            &self.circulating_supply,
            epoch - self.ramp_start_epoch,
            self.ramp_duration_epochs,
        )
    }
}

/// Adds ten per cent, by which a node's answers about deposits and pledges exceed what the actor demands.
pub fn with_margin(amount: &TokenAmount) -> TokenAmount {
    (amount * 110).div_floor(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deposit_is_positive_below_the_pledge_and_the_pledge_below_its_cap() {
        let economics = Economics::default();
        let size = SectorSize::_2KiB;
        let deposit = economics.pre_commit_deposit(size);
        let power = miner::qa_power_max(size);
        let pledge = economics.initial_pledge(&power, 100);
        let cap = TokenAmount::from_atto(TokenAmount::from_whole(1).div_floor(32_i64 << 30).atto() * &power);
        assert!(deposit.is_positive());
        assert!(deposit < pledge, "{deposit} {pledge}");
        assert!(pledge < cap, "{pledge} {cap}");
    }
}
