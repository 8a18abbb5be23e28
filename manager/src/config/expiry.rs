//! `expiry` in a `[[miner]]` table: what happens to sectors that are about to expire.

use serde::Deserialize;

use crate::care::extend::DAYS_MAX;

/// Extends sectors before they expire. Without it they end then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expiry {
    /// Sectors that expire within so many days are extended.
    pub extend_below_days: u32,
    /// For so many days from then.
    pub extend_to_days: u32,
}

impl Expiry {
    /// Checks the policy. An error is a field and what is wrong with it.
    pub(super) fn check(self) -> Result<(), (&'static str, String)> {
        let Expiry { extend_below_days, extend_to_days } = self;
        if extend_below_days < 2 {
            return Err((
                "expiry.extend_below_days",
                "must be at least 2: a message may take a day to land".to_owned(),
            ));
        }
        if extend_to_days > DAYS_MAX {
            return Err((
                "expiry.extend_to_days",
                format!("must be at most {DAYS_MAX}, the most that the chain allows"),
            ));
        }
        // Otherwise the same sectors would be extended again and again.
        if extend_to_days < 2 * extend_below_days {
            let least = 2 * extend_below_days;
            return Err(("expiry.extend_to_days", format!("must be at least {least}, twice extend_below_days")));
        }
        Ok(())
    }
}
