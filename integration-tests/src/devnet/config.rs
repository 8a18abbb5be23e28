//! The configuration of a devnet, and the policy (network constants) that follows from it.

use fil_actors_shared::v19::runtime::Policy;
use fil_actors_shared::v19::runtime::policy::ProofSet;
use fvm_shared::bigint::BigInt;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::sector::{RegisteredPoStProof, RegisteredSealProof, SectorSize};
use thiserror::Error;

/// The seconds between blocks on a 2k network at normal speed.
pub const LOTUS_2K_BLOCK_DELAY_SECS: u64 = 4;
/// The epochs between a PreCommit and its interactive challenge on a 2k network.
pub const PRE_COMMIT_CHALLENGE_DELAY: ChainEpoch = 10;
/// The highest number of miners that genesis can create.
pub const MINERS_MAX: u64 = 100;

/// The highest network version, to which a devnet can be upgraded.
pub const NETWORK_VERSION_MAX: u32 = 29;

/// The number of deadlines in a proving period on real networks, the highest here.
pub const DEADLINES_MAX: u64 = 48;
/// The least number of deadlines: one that is open, one that opens next, and two that may be changed.
pub const DEADLINES_MIN: u64 = 4;
/// The epochs of a deadline on real networks. All times of proving are scaled from them.
pub const WINDOW_EPOCHS: ChainEpoch = 60;
/// The shortest deadline, in which the scaled times still differ.
pub const WINDOW_EPOCHS_MIN: ChainEpoch = 4;

/// The longest epoch in real milliseconds: a day.
pub const EPOCH_MILLIS_MAX: u64 = 86_400_000;

/// Why a configuration was refused. Each message names the field.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A 2k network does not accept this sector size.
    #[error("sector-size: {0:?} is not accepted, a devnet has 2KiB or 8MiB sectors")]
    SectorSize(String),
    /// There are no miners, or more than genesis has IDs for.
    #[error("miners: {0} is out of range, 1 to {MINERS_MAX}")]
    Miners(u64),
    /// The epoch is too long to be useful.
    #[error("epoch-millis: {0} is more than a day ({EPOCH_MILLIS_MAX})")]
    EpochMillis(u64),
    /// There are too few or too many deadlines.
    #[error("deadlines: {0} is out of range, {DEADLINES_MIN} to {DEADLINES_MAX}")]
    Deadlines(u64),
    /// A deadline is too short or too long.
    #[error("window-epochs: {0} is out of range, {WINDOW_EPOCHS_MIN} to {WINDOW_EPOCHS}")]
    WindowEpochs(ChainEpoch),
    /// The state machine here has no actors for this network version.
    #[error("network-version: {0} is not supported, a devnet runs 28 or 29")]
    NetworkVersion(u32),
}

/// The input of genesis and the clock.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name that `StateNetworkName` returns.
    pub network_name: String,
    /// The network version of genesis: 28 (actors v18) or 29 (actors v19).
    pub network_version: u32,
    /// The last epoch of version 28, if the network is upgraded to 29.
    pub upgrade_epoch: Option<ChainEpoch>,
    /// Whether the base fee follows the demand for gas. Otherwise it is constant.
    pub base_fee_follows: bool,
    /// The sector size of all miners.
    pub sector_size: SectorSize,
    /// The number of miners that genesis creates, from f01000 upwards.
    pub miners: u64,
    /// Whether sectors must be proven: a missed window PoSt makes them faulty, and faults and sectors cost fees.
    /// Otherwise each sector counts as proven when its deadline closes, and nothing is charged.
    pub proving: bool,
    /// The deadlines of a proving period.
    pub deadlines: u64,
    /// The epochs of a deadline.
    pub window_epochs: ChainEpoch,
    /// Whether the miners here have all of the network's power in elections, so that they win nearly every epoch.
    /// Otherwise the rest of the network has an EiB.
    pub elections: bool,
    /// The seed of keys, tickets and beacon entries.
    pub seed: u64,
    /// The real milliseconds of an epoch. With 0 the clock stands still and must be advanced by calls.
    pub epoch_millis: u64,
    /// The Unix time of epoch 0, in seconds.
    pub genesis_timestamp: u64,
    /// The chain seconds of an epoch (block timestamps, `BlockDelaySecs`).
    pub block_delay_secs: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            network_name: "sealbus-devnet".to_owned(),
            network_version: 29,
            upgrade_epoch: None,
            base_fee_follows: false,
            sector_size: SectorSize::_2KiB,
            miners: 1,
            proving: false,
            deadlines: DEADLINES_MAX,
            window_epochs: WINDOW_EPOCHS,
            elections: false,
            seed: 1,
            epoch_millis: 0,
            genesis_timestamp: 1_700_000_000,
            block_delay_secs: LOTUS_2K_BLOCK_DELAY_SECS,
        }
    }
}

impl Config {
    /// Checks that all values are in range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.miners == 0 || self.miners > MINERS_MAX {
            return Err(ConfigError::Miners(self.miners));
        }
        check_epoch_millis(self.epoch_millis)?;
        if !(DEADLINES_MIN..=DEADLINES_MAX).contains(&self.deadlines) {
            return Err(ConfigError::Deadlines(self.deadlines));
        }
        if !(WINDOW_EPOCHS_MIN..=WINDOW_EPOCHS).contains(&self.window_epochs) {
            return Err(ConfigError::WindowEpochs(self.window_epochs));
        }
        if !matches!(self.network_version, 28 | NETWORK_VERSION_MAX) {
            return Err(ConfigError::NetworkVersion(self.network_version));
        }
        if !matches!(self.sector_size, SectorSize::_2KiB | SectorSize::_8MiB) {
            return Err(ConfigError::SectorSize(format!("{:?}", self.sector_size)));
        }
        Ok(())
    }

    /// The network version that the messages of an epoch run under.
    pub fn network_version_at(&self, epoch: ChainEpoch) -> u32 {
        match self.upgrade_epoch {
            Some(last) if epoch > last => NETWORK_VERSION_MAX,
            _ => self.network_version,
        }
    }

    /// A time on real networks, scaled like the deadlines.
    pub fn scaled(&self, epochs: ChainEpoch) -> ChainEpoch {
        epochs * self.window_epochs / WINDOW_EPOCHS
    }

    /// The constants of a 2k network. Those of proving follow the deadlines.
    pub fn policy(&self) -> Policy {
        let mut seal = ProofSet::default();
        seal.insert(RegisteredSealProof::StackedDRG2KiBV1P1);
        seal.insert(RegisteredSealProof::StackedDRG8MiBV1P1);
        seal.insert(RegisteredSealProof::StackedDRG2KiBV1P1_Feat_SyntheticPoRep);
        seal.insert(RegisteredSealProof::StackedDRG8MiBV1P1_Feat_SyntheticPoRep);
        let mut non_interactive = ProofSet::default();
        non_interactive.insert(RegisteredSealProof::StackedDRG2KiBV1P2_Feat_NiPoRep);
        non_interactive.insert(RegisteredSealProof::StackedDRG8MiBV1P2_Feat_NiPoRep);
        let mut window_post = ProofSet::default();
        window_post.insert(RegisteredPoStProof::StackedDRGWindow2KiBV1P1);
        window_post.insert(RegisteredPoStProof::StackedDRGWindow8MiBV1P1);
        let period = self.deadlines as ChainEpoch * self.window_epochs;
        let lookback = self.scaled(20).max(1);
        Policy {
            wpost_period_deadlines: self.deadlines,
            wpost_challenge_window: self.window_epochs,
            wpost_proving_period: period,
            wpost_max_chain_commit_age: self.window_epochs,
            wpost_challenge_lookback: lookback,
            fault_declaration_cutoff: self.scaled(70).max(lookback + 1),
            // 30 of 48 deadlines.
            wpost_dispute_window: period * 5 / 8,
            fault_max_age: period * 42,
            pre_commit_challenge_delay: PRE_COMMIT_CHALLENGE_DELAY,
            minimum_consensus_power: BigInt::from(2048),
            valid_pre_commit_proof_type: seal,
            valid_prove_commit_ni_proof_type: non_interactive,
            valid_post_proof_type: window_post,
            ..Policy::default()
        }
    }

    /// The window PoSt proof type of the miners.
    pub fn window_post_proof(&self) -> RegisteredPoStProof {
        match self.sector_size {
            SectorSize::_8MiB => RegisteredPoStProof::StackedDRGWindow8MiBV1P1,
            _ => RegisteredPoStProof::StackedDRGWindow2KiBV1P1,
        }
    }

    /// The plain (V1P1) seal proof type of the sector size.
    pub fn seal_proof(&self) -> RegisteredSealProof {
        match self.sector_size {
            SectorSize::_8MiB => RegisteredSealProof::StackedDRG8MiBV1P1,
            _ => RegisteredSealProof::StackedDRG2KiBV1P1,
        }
    }
}

/// Checks the length of an epoch.
pub fn check_epoch_millis(millis: u64) -> Result<(), ConfigError> {
    if millis > EPOCH_MILLIS_MAX {
        return Err(ConfigError::EpochMillis(millis));
    }
    Ok(())
}

/// Parses `2KiB` or `8MiB`.
pub fn parse_sector_size(text: &str) -> Result<SectorSize, ConfigError> {
    match text.to_ascii_lowercase().as_str() {
        "2kib" | "2048" => Ok(SectorSize::_2KiB),
        "8mib" | "8388608" => Ok(SectorSize::_8MiB),
        _ => Err(ConfigError::SectorSize(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accepted_proof_types_are_those_of_a_2k_network() {
        let policy = Config::default().policy();
        let accepted = |proof: i64| policy.valid_pre_commit_proof_type.contains(proof);
        let seal: Vec<i64> = (0..20).filter(|&proof| accepted(proof)).collect();
        assert_eq!(seal, [5, 6, 10, 11]);
        assert_eq!(policy.pre_commit_challenge_delay, 10);
        assert_eq!(policy.max_pre_commit_randomness_lookback, 3780);
    }

    #[test]
    fn the_times_of_proving_are_those_of_real_networks_or_scaled_like_them() {
        let times = |config: Config| {
            let Policy { wpost_proving_period, wpost_challenge_lookback, fault_declaration_cutoff, .. } =
                config.policy();
            (wpost_proving_period, wpost_challenge_lookback, fault_declaration_cutoff)
        };
        let (real, ours) = (Policy::default(), Config::default().policy());
        assert_eq!(times(Config::default()), (2880, 20, 70));
        assert_eq!(ours.wpost_dispute_window, real.wpost_dispute_window);
        assert_eq!(ours.fault_max_age, real.fault_max_age);
        assert_eq!(ours.wpost_max_chain_commit_age, real.wpost_max_chain_commit_age);
        assert_eq!(times(Config { window_epochs: 6, ..Config::default() }), (288, 2, 7));
        assert_eq!(times(Config { window_epochs: 4, deadlines: 4, ..Config::default() }), (16, 1, 4));
    }

    #[test]
    fn a_refused_configuration_names_its_field() {
        let config = Config { miners: 0, ..Config::default() };
        assert_eq!(config.validate(), Err(ConfigError::Miners(0)));
        let config = Config { network_version: 27, ..Config::default() };
        assert_eq!(config.validate(), Err(ConfigError::NetworkVersion(27)));
        let config = Config { deadlines: 3, ..Config::default() };
        assert_eq!(config.validate(), Err(ConfigError::Deadlines(3)));
        let config = Config { window_epochs: 61, ..Config::default() };
        assert_eq!(config.validate(), Err(ConfigError::WindowEpochs(61)));
        let message = parse_sector_size("32GiB").map_err(|e| e.to_string());
        assert!(message.is_err_and(|text| text.starts_with("sector-size")));
    }
}
