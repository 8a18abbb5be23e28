//! Which sectors are extended until when.

use super::{Now, OnChain, Plan, Reason};
use crate::chain::{
    expiry::{DAY, EXPIRATION_AHEAD_MAX, EXPIRATION_MARGIN, LIFETIME_MAX, LIFETIME_MIN},
    network::NV_SOLSTICE,
    types::Epoch,
};

/// The most days from now until which a sector can be extended.
pub const DAYS_MAX: u32 = (EXPIRATION_AHEAD_MAX / DAY) as u32;
/// `SectorOnChainInfoFlags`: sectors since network version 17.
const SIMPLE_POWER: u32 = 1;
/// The first proof type whose sectors can be extended (`StackedDRG2KiBV1P1`).
const FIRST_PROOF: i64 = 5;

/// Until when sectors are extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Until an epoch.
    Epoch(Epoch),
    /// For so many days from now.
    Days(u32),
    /// For so many days more than each has.
    More(u32),
}

/// The wanted expiration is not one that any sector can get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("epoch {wanted} is not between {earliest} and {latest}, which is {DAYS_MAX} days from now")]
pub struct OutOfRange {
    /// What was wanted.
    pub wanted: Epoch,
    /// The first epoch that is possible.
    pub earliest: Epoch,
    /// The last one.
    pub latest: Epoch,
}

impl Until {
    /// Refuses what no sector can get.
    pub fn check(self, now: &Now) -> Result<(), OutOfRange> {
        let (earliest, latest) = (now.head + super::INCLUSION_EPOCHS + 1, now.head + EXPIRATION_AHEAD_MAX);
        let wanted = match self {
            Until::Epoch(wanted) => wanted,
            Until::Days(days) => now.head + Epoch::from(days) * DAY,
            Until::More(_) => return Ok(()),
        };
        if (earliest..=latest).contains(&wanted) { Ok(()) } else { Err(OutOfRange { wanted, earliest, latest }) }
    }
}

/// Extends the sectors as far as wanted, within what the chain allows.
pub fn plan<'s>(sectors: impl IntoIterator<Item = &'s OnChain>, until: Until, now: &Now) -> Plan {
    Plan::of(sectors, |sector| {
        now.must_outlast(sector)?;
        sector.standing.must_be_active()?;
        let info = &sector.info;
        if info.seal_proof < FIRST_PROOF {
            return Err(Reason::OldProof { proof: info.seal_proof });
        }
        let has_verified_data = info.verified_deal_weight.bits() > 0;
        if now.version < NV_SOLSTICE && info.flags & SIMPLE_POWER != 0 && has_verified_data {
            return Err(Reason::VerifiedData);
        }
        let wanted = match until {
            Until::Epoch(epoch) => epoch,
            Until::Days(days) => now.head + Epoch::from(days) * DAY,
            Until::More(days) => info.expiration + Epoch::from(days) * DAY,
        };
        let wanted =
            wanted.max(info.activation + LIFETIME_MIN).min(now.head + EXPIRATION_AHEAD_MAX - EXPIRATION_MARGIN);
        // Sectors that end with their lifetime would each end at another epoch. With whole days they share declarations.
        let end_of_life = info.activation + LIFETIME_MAX;
        let wanted = if wanted > end_of_life { end_of_life / DAY * DAY } else { wanted };
        if wanted > info.expiration {
            Ok(Some(wanted))
        } else {
            Err(Reason::ExpiresLater { at: info.expiration, wanted })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::care::{
        Standing,
        tests::{now, reasons, sector},
    };

    #[test]
    fn sectors_of_a_partition_with_the_same_expiration_are_declared_together() {
        let sectors = [sector(4, 1, 0), sector(2, 1, 0), sector(9, 1, 1), sector(1, 30, 0)];
        let plan = plan(&sectors, Until::Days(540), &now());
        let groups: Vec<_> =
            plan.declared.iter().map(|d| ((d.at.deadline, d.at.partition), d.sectors.clone(), d.expiration)).collect();
        let until = Some(now().head + 540 * 2880);
        assert_eq!(groups, [((1, 0), vec![2, 4], until), ((1, 1), vec![9], until), ((30, 0), vec![1], until)]);
        assert_eq!((plan.count(), plan.left_out.len()), (4, 0));
    }

    #[test]
    fn a_sector_that_the_actor_would_not_take_is_left_out_with_its_reason() {
        let with = |number, change: &dyn Fn(&mut OnChain)| {
            let mut sector = sector(number, 1, 0);
            change(&mut sector);
            sector
        };
        let head = now().head;
        let sectors = [
            with(1, &|s| s.standing = Standing::Faulty),
            with(2, &|s| s.standing = Standing::Unproven),
            with(3, &|s| s.info.expiration = head + 20),
            with(4, &|s| s.info.expiration = head + 1_000_000),
            with(5, &|s| s.info.seal_proof = 3),
            with(6, &|s| s.info.verified_deal_weight = 1.into()),
            with(7, &|_| {}),
        ];
        let wanted = head + 600_000;
        let expected = [
            (1, Reason::Faulty),
            (2, Reason::Unproven),
            (3, Reason::Expires { at: head + 20 }),
            (4, Reason::ExpiresLater { at: head + 1_000_000, wanted }),
            (5, Reason::OldProof { proof: 3 }),
        ];
        let later = plan(&sectors, Until::Epoch(wanted), &now());
        assert_eq!(reasons(&later), expected);
        assert_eq!(later.declared[0].sectors, [6, 7], "nv29 asks for no claims");
        let earlier = plan(&sectors, Until::Epoch(wanted), &Now { version: 28, ..now() });
        assert_eq!(reasons(&earlier)[5], (6, Reason::VerifiedData));
    }

    #[test]
    fn nothing_is_extended_beyond_what_the_actor_takes() {
        let now = now();
        let mut old = sector(1, 0, 0);
        old.info.activation = now.head - LIFETIME_MAX + 100_000;
        old.info.expiration = now.head + 10_000;
        let young = sector(2, 0, 0);
        let plan = plan([&old, &young], Until::Days(DAYS_MAX), &now);
        let of = |number| plan.declared.iter().find(|d| d.sectors == [number]).and_then(|d| d.expiration);
        let end_of_life = old.info.activation + LIFETIME_MAX;
        assert!(of(1).is_some_and(|at| at <= end_of_life && at > end_of_life - DAY), "{:?}", of(1));
        assert_eq!(of(2), Some(now.head + EXPIRATION_AHEAD_MAX - EXPIRATION_MARGIN));
    }

    #[test]
    fn more_days_count_from_each_expiration_and_others_from_now() {
        let more = plan([&sector(1, 0, 0)], Until::More(10), &now());
        assert_eq!(more.declared[0].expiration, Some(2_000_000 + 28_800));
        let head = now().head;
        assert_eq!(Until::Days(DAYS_MAX).check(&now()), Ok(()));
        assert_eq!(Until::More(5000).check(&now()), Ok(()));
        for wrong in [Until::Epoch(head), Until::Epoch(-1), Until::Days(DAYS_MAX + 1), Until::Epoch(i64::MAX)] {
            assert!(wrong.check(&now()).is_err(), "{wrong:?}");
        }
    }
}
