//! Which sectors a policy extends, and which of them it has asked for already. Pure.

use serde_json::Value;

use super::OnChain;
use crate::{
    chain::{
        expiry::DAY,
        types::{Epoch, Index},
    },
    config::Expiry,
    intents::numbers::Numbers,
};

/// The sectors of errands that are still open.
#[derive(Clone, Debug, Default)]
pub struct Asked(Vec<Numbers>);

impl Asked {
    /// The sectors in the details of these errands (see [`crate::errands::sectors`]).
    pub fn of<'d>(details: impl IntoIterator<Item = &'d Value>) -> Asked {
        let declared = details.into_iter().filter_map(|detail| detail["declared"].as_array()).flatten();
        Asked(declared.filter_map(|declared| declared["sectors"].as_str()?.parse().ok()).collect())
    }

    /// Whether a sector is among them.
    pub fn contains(&self, sector: Index) -> bool {
        self.0.iter().any(|numbers| numbers.contains(sector))
    }
}

/// The sectors that the policy extends now.
pub fn due(sectors: Vec<OnChain>, policy: Expiry, head: Epoch) -> Vec<OnChain> {
    let before = head + Epoch::from(policy.extend_below_days) * DAY;
    sectors.into_iter().filter(|sector| sector.info.expiration < before).collect()
}

#[cfg(test)]
mod tests {
    use sealbus_schema::MinerId;

    use super::*;
    use crate::{
        care::{
            batch::{Verb, batches},
            extend::{Until, plan},
            tests::{now, sector},
        },
        errands::sectors::of_batch,
    };

    #[test]
    fn what_was_asked_for_is_found_in_the_errands_details() {
        let sectors = [sector(4, 1, 0), sector(5, 1, 0), sector(900, 30, 2)];
        let declared = plan(&sectors, Until::Days(540), &now()).declared;
        let batch = batches(Verb::Extend, declared).expect("encodes").remove(0);
        let sender = fvm_shared::address::Address::new_id(101);
        let draft = of_batch(MinerId(1000), sender, Verb::Extend, &batch, Default::default(), None).expect("a draft");
        let asked = Asked::of([&draft.detail, &Value::Null]);
        let found: Vec<u64> = [3, 4, 5, 6, 900, 901].into_iter().filter(|number| asked.contains(*number)).collect();
        assert_eq!(found, [4, 5, 900]);
        assert!(!Asked::default().contains(4));
    }

    #[test]
    fn only_sectors_that_expire_within_the_days_are_due() {
        let head = now().head;
        let expires = |number, days: i64| {
            let mut sector = sector(number, 0, 0);
            sector.info.expiration = head + days * DAY;
            sector
        };
        let policy = Expiry { extend_below_days: 30, extend_to_days: 540 };
        let found = due(vec![expires(1, 29), expires(2, 30), expires(3, 500)], policy, head);
        assert_eq!(found.iter().map(|sector| sector.info.sector_number).collect::<Vec<_>>(), [1]);
    }
}
