//! `[chain.batches]`: which messages are sent together, and how long they wait for each other.

use fvm_shared::econ::TokenAmount;
use serde::Deserialize;

use crate::chain::{json::parse_tokens, params::AGGREGATED_SECTORS_MAX};

/// The longest wait, in epochs: 10 days. Tickets and PreCommits live for 30.
const WAIT_MAX: i64 = 28_800;
/// The least slack, in epochs. A message must still be included, and may have to be signed again.
const SLACK_MIN: i64 = 60;

/// The `[chain.batches]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Batches {
    /// The most sectors in a PreCommit. With 1 each has its own.
    pub precommit_max: u32,
    /// How many epochs a PreCommit waits for others.
    pub precommit_wait_epochs: i64,
    /// The most sectors in a ProveCommit. With 1 each has its own.
    pub prove_commit_max: u32,
    /// How many epochs a ProveCommit waits for others.
    pub prove_commit_wait_epochs: i64,
    /// A message waits no longer when it has only so many epochs left in which it can land.
    pub slack_epochs: i64,
    /// While the base fee is at most this, nothing waits; in attoFIL per unit of gas.
    pub at_once_base_fee_atto: Option<String>,
    /// Whether the proofs of 4 sectors or more are aggregated where that is cheaper. Needs the inner-product SRS. `None`: if
    /// that is there.
    pub aggregate: Option<bool>,
    /// Aggregates only if that saves at least so much in all, in attoFIL.
    pub aggregate_saving_atto: String,
}

impl Default for Batches {
    fn default() -> Batches {
        Batches {
            precommit_max: 256,
            precommit_wait_epochs: 0,
            prove_commit_max: 256,
            prove_commit_wait_epochs: 0,
            // Six hours.
            slack_epochs: 720,
            at_once_base_fee_atto: None,
            aggregate: None,
            aggregate_saving_atto: "0".to_owned(),
        }
    }
}

impl Batches {
    /// At most at which base fee nothing waits, in attoFIL per unit of gas.
    pub fn at_once_base_fee(&self) -> Option<TokenAmount> {
        self.at_once_base_fee_atto.as_deref().map(super::fees::tokens)
    }

    /// How much an aggregate must save.
    pub fn aggregate_saving(&self) -> TokenAmount {
        super::fees::tokens(&self.aggregate_saving_atto)
    }

    /// Checks the table with this name. An error is a field and what is wrong with it.
    pub(super) fn check(&self, table: &str) -> Result<(), (String, String)> {
        let refuse = |field: &str, problem: String| Err((format!("{table}.{field}"), problem));
        for (field, most) in [("precommit_max", self.precommit_max), ("prove_commit_max", self.prove_commit_max)] {
            if !(1..=AGGREGATED_SECTORS_MAX as u32).contains(&most) {
                return refuse(field, format!("must be 1 to {AGGREGATED_SECTORS_MAX}"));
            }
        }
        for (field, epochs) in [
            ("precommit_wait_epochs", self.precommit_wait_epochs),
            ("prove_commit_wait_epochs", self.prove_commit_wait_epochs),
        ] {
            if !(0..=WAIT_MAX).contains(&epochs) {
                return refuse(field, format!("must be 0 to {WAIT_MAX}, ten days: what waits longer might expire"));
            }
        }
        if !(SLACK_MIN..=WAIT_MAX).contains(&self.slack_epochs) {
            let problem =
                format!("must be {SLACK_MIN} to {WAIT_MAX}: with less, a batch might be sent too late to land");
            return refuse("slack_epochs", problem);
        }
        let amounts = [
            ("at_once_base_fee_atto", self.at_once_base_fee_atto.as_ref()),
            ("aggregate_saving_atto", Some(&self.aggregate_saving_atto)),
        ];
        for (field, amount) in amounts {
            match amount.map(|text| parse_tokens(text)) {
                Some(Err(problem)) => return refuse(field, problem),
                Some(Ok(amount)) if amount.is_negative() => return refuse(field, "must not be negative".to_owned()),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_could_let_a_sector_expire_is_refused_with_its_field() {
        let refused = |text: &str| {
            let batches: Batches = toml::from_str(text).expect("reads");
            batches.check("chain.batches").expect_err(text).0
        };
        for (text, field) in [
            ("precommit_max = 0", "precommit_max"),
            ("prove_commit_max = 820", "prove_commit_max"),
            ("precommit_wait_epochs = 28801", "precommit_wait_epochs"),
            ("prove_commit_wait_epochs = -1", "prove_commit_wait_epochs"),
            ("slack_epochs = 59", "slack_epochs"),
            ("at_once_base_fee_atto = \"1 FIL\"", "at_once_base_fee_atto"),
            ("aggregate_saving_atto = \"-1\"", "aggregate_saving_atto"),
        ] {
            assert_eq!(refused(text), format!("chain.batches.{field}"));
        }
        Batches::default().check("chain.batches").expect("the defaults are right");
    }
}
