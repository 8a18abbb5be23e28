//! The network that a devnet pretends to be part of: rewards, power and supply that deposits and pledges follow from.
//!
//! A devnet's own power is a few kilobytes. With it the formulas would ask for all the rewards of 20 days for one sector. So the
//! inputs of `monies` are constants of a made-up network, chosen so that the deposit is smaller than the pledge and the
//! pledge is below its cap, as on mainnet. The formulas are the real ones.

use fil_actor_miner_state::v19 as miner;
use fil_actors_shared::v19::reward::FilterEstimate;
use fvm_shared::bigint::BigInt;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::econ::TokenAmount;
use fvm_shared::sector::{SectorSize, StoragePower};

/// Inputs of the money formulas.
#[derive(Debug, Clone)]
pub struct Economics {
    /// Reward of an epoch, attoFIL, smoothed.
    pub reward: FilterEstimate,
    /// Quality-adjusted power of the network, bytes, smoothed.
    pub network_qa_power: FilterEstimate,
    /// Baseline power, bytes.
    pub baseline_power: StoragePower,
    /// FIL in circulation.
    pub circulating_supply: TokenAmount,
    /// Epoch from which the pledge formula of FIP-0081 is ramped; the devnet stands after the ramp.
    pub ramp_start_epoch: ChainEpoch,
    /// Epochs of the ramp; 0 = fully ramped.
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
    /// Deposit that one PreCommit locks: always that of a sector at ten times its size.
    pub fn pre_commit_deposit(&self, size: SectorSize) -> TokenAmount {
        miner::pre_commit_deposit_for_power(&self.reward, &self.network_qa_power, &miner::qa_power_max(size))
    }

    /// Pledge that a sector of this power locks when it is activated at `epoch`.
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

/// Adds the ten per cent that a node's answers about deposits and pledges hold over what the actor asks.
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
