//! `[chain.fees]`: how much messages may cost, and when they wait for a lower base fee.

use fvm_shared::econ::TokenAmount;
use sealbus_schema::MinerId;
use serde::Deserialize;

use super::{Batches, Chain, Config};
use crate::{
    chain::{fees::FeeLimit, json::parse_tokens},
    store::MessageKind,
};

/// The fields of limits a sector: everybody's, and a miner's own.
const OF_PRECOMMIT: [&str; 2] = ["chain.fees.precommit_sector_atto", "fees.precommit_sector_atto of its [[miner]]"];
const OF_PROVE_COMMIT: [&str; 2] =
    ["chain.fees.prove_commit_sector_atto", "fees.prove_commit_sector_atto of its [[miner]]"];

/// The `[chain.fees]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fees {
    /// The most gas fees that a PreCommit may cost a sector, in attoFIL. `None`: only `chain.max_fee_atto` counts.
    pub precommit_sector_atto: Option<String>,
    /// The same for a ProveCommit.
    pub prove_commit_sector_atto: Option<String>,
    /// While the base fee is above this, nothing is signed for a sector unless it is urgent; in attoFIL per unit of gas.
    pub base_fee_wait_atto: Option<String>,
    /// A message is urgent from this many epochs before the last epoch at which it can land.
    pub urgent_epochs: i64,
    /// To how much of it a limit rises for an urgent message, evenly until its last epoch, in percent.
    pub urgent_percent: u64,
}

impl Default for Fees {
    fn default() -> Fees {
        Fees {
            precommit_sector_atto: None,
            prove_commit_sector_atto: None,
            base_fee_wait_atto: None,
            // Six hours.
            urgent_epochs: 720,
            urgent_percent: 300,
        }
    }
}

impl Config {
    /// A miner's limits, or everybody's.
    pub fn fees(&self, miner: MinerId) -> &Fees {
        self.miner(miner).and_then(|miner| miner.fees.as_ref()).unwrap_or(&self.chain.fees)
    }

    /// A miner's policy for messages that are sent together, or everybody's.
    pub fn batches(&self, miner: MinerId) -> &Batches {
        self.miner(miner).and_then(|miner| miner.batches.as_ref()).unwrap_or(&self.chain.batches)
    }

    /// The most that a miner's message for this many sectors may cost, if this many epochs are left in which it can land.
    pub fn fee_limit(&self, miner: MinerId, kind: MessageKind, sectors: u64, epochs_left: Option<i64>) -> FeeLimit {
        let of_miner = self.miner(miner).and_then(|miner| miner.fees.as_ref());
        self.chain.fee_limit(of_miner, kind, sectors, epochs_left)
    }
}

impl Chain {
    /// With the limits of a miner, if it has its own.
    fn fee_limit(
        &self,
        of_miner: Option<&Fees>,
        kind: MessageKind,
        sectors: u64,
        epochs_left: Option<i64>,
    ) -> FeeLimit {
        let (fees, of_miner) = (of_miner.unwrap_or(&self.fees), usize::from(of_miner.is_some()));
        let percent = fees.percent(epochs_left);
        let whole = FeeLimit { field: "chain.max_fee_atto", configured: tokens(&self.max_fee_atto), percent };
        let (field, of_sector) = match kind {
            MessageKind::PreCommit => (OF_PRECOMMIT[of_miner], &fees.precommit_sector_atto),
            MessageKind::ProveCommit => (OF_PROVE_COMMIT[of_miner], &fees.prove_commit_sector_atto),
            MessageKind::Filler | MessageKind::Errand => return whole,
        };
        let of_sectors = of_sector.as_deref().map(|atto| tokens(atto) * sectors);
        match of_sectors {
            Some(configured) if configured < whole.configured => FeeLimit { field, configured, percent },
            _ => whole,
        }
    }

    /// Checks `chain.max_fee_atto`. An error is a field and what is wrong with it.
    pub(super) fn check_max_fee(&self) -> Result<(), (String, String)> {
        check_amount("chain.max_fee_atto", Some(&self.max_fee_atto))
    }
}

fn check_amount(field: &str, value: Option<&String>) -> Result<(), (String, String)> {
    match value.map(|text| parse_tokens(text)) {
        Some(Err(problem)) => Err((field.to_owned(), problem)),
        Some(Ok(amount)) if !amount.is_positive() => Err((field.to_owned(), "must be above 0".to_owned())),
        _ => Ok(()),
    }
}

impl Fees {
    /// Checks the table with this name. An error is a field and what is wrong with it.
    pub(super) fn check(&self, table: &str) -> Result<(), (String, String)> {
        let Fees { precommit_sector_atto, prove_commit_sector_atto, base_fee_wait_atto, urgent_epochs, urgent_percent } =
            self;
        for (field, value) in [
            ("precommit_sector_atto", precommit_sector_atto.as_ref()),
            ("prove_commit_sector_atto", prove_commit_sector_atto.as_ref()),
            ("base_fee_wait_atto", base_fee_wait_atto.as_ref()),
        ] {
            check_amount(&format!("{table}.{field}"), value)?;
        }
        let refuse = |field: &str, problem: &str| Err((format!("{table}.{field}"), problem.to_owned()));
        if !(0..=86_400).contains(urgent_epochs) {
            return refuse("urgent_epochs", "must be 0 to 86400, thirty days");
        }
        if !(100..=10_000).contains(urgent_percent) {
            return refuse("urgent_percent", "must be 100 to 10000");
        }
        Ok(())
    }

    /// Above which base fee a message that is not urgent waits, in attoFIL per unit of gas.
    pub fn base_fee_wait(&self) -> Option<TokenAmount> {
        self.base_fee_wait_atto.as_deref().map(tokens)
    }

    /// Whether a message must be sent soon.
    pub fn is_urgent(&self, epochs_left: Option<i64>) -> bool {
        epochs_left.is_some_and(|left| left <= self.urgent_epochs)
    }

    /// How much of a limit counts, in percent.
    fn percent(&self, epochs_left: Option<i64>) -> u64 {
        let Some(left) = epochs_left.filter(|left| *left < self.urgent_epochs) else { return 100 };
        let passed = (self.urgent_epochs - left.max(0)) as u64;
        100 + (self.urgent_percent - 100) * passed / self.urgent_epochs as u64
    }
}

/// An amount that was checked when the configuration was loaded.
pub(super) fn tokens(text: &str) -> TokenAmount {
    parse_tokens(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(fees: &str) -> Chain {
        toml::from_str(&format!("url = \"http://n/rpc/v1\"\nmax_fee_atto = \"1000\"\n[fees]\n{fees}")).expect("reads")
    }

    fn limit(chain: &Chain, kind: MessageKind, sectors: u64, left: Option<i64>) -> (u64, &'static str, u64) {
        let limit = chain.fee_limit(None, kind, sectors, left);
        (u64::try_from(limit.amount().atto().clone()).expect("small"), limit.field, limit.percent)
    }

    #[test]
    fn the_lower_of_the_sectors_and_the_whole_messages_limit_counts() {
        let chain = chain("precommit_sector_atto = \"300\"");
        let whole = "chain.max_fee_atto";
        assert_eq!(limit(&chain, MessageKind::PreCommit, 1, None), (300, "chain.fees.precommit_sector_atto", 100));
        assert_eq!(limit(&chain, MessageKind::PreCommit, 3, None), (900, "chain.fees.precommit_sector_atto", 100));
        assert_eq!(limit(&chain, MessageKind::PreCommit, 4, None), (1000, whole, 100));
        assert_eq!(limit(&chain, MessageKind::ProveCommit, 1, None), (1000, whole, 100));
        assert_eq!(limit(&chain, MessageKind::Filler, 1, Some(1)), (2990, whole, 299));
    }

    #[test]
    fn a_limit_rises_evenly_from_where_a_message_is_urgent_to_its_last_epoch() {
        let chain = chain("urgent_epochs = 100\nurgent_percent = 200");
        let percent = |left| chain.fee_limit(None, MessageKind::ProveCommit, 1, left).percent;
        assert_eq!([None, Some(5000), Some(100)].map(percent), [100; 3]);
        assert_eq!([Some(75), Some(50), Some(0), Some(-7)].map(percent), [125, 150, 200, 200]);
        assert_eq!([None, Some(101), Some(100)].map(|left| chain.fees.is_urgent(left)), [false, false, true]);
    }
}
