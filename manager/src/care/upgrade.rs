//! Which sectors get tenfold quality (FIP-0118), and what it takes.

use fvm_shared::econ::TokenAmount;

use super::{Now, OnChain, Plan, Reason, quality::FULL_QUALITY};
use crate::chain::{network::NV_SOLSTICE, types::SectorOnChainInfo};

/// The network has no method for it yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the network has version {version}; the quality of sectors can be raised from version {NV_SOLSTICE} on")]
pub struct TooEarly {
    /// The network version.
    pub version: u32,
}

/// Refuses a network without the method.
pub fn check(now: &Now) -> Result<(), TooEarly> {
    if now.version >= NV_SOLSTICE { Ok(()) } else { Err(TooEarly { version: now.version }) }
}

/// Upgrades the sectors that are active and not at the highest quality yet.
pub fn plan<'s>(sectors: impl IntoIterator<Item = &'s OnChain>, now: &Now) -> Plan {
    Plan::of(sectors, |sector| {
        now.must_outlast(sector)?;
        sector.standing.must_be_active()?;
        if sector.info.flags & FULL_QUALITY != 0 { Err(Reason::FullQuality) } else { Ok(None) }
    })
}

/// What a sector's pledge rises by, if `full` is the pledge of a sector with tenfold quality; in attoFIL.
pub fn top_up(sector: &SectorOnChainInfo, full: &TokenAmount) -> TokenAmount {
    (full.clone() - &sector.initial_pledge).max(TokenAmount::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::care::{
        Standing,
        tests::{now, reasons, sector},
    };

    #[test]
    fn only_active_sectors_of_lower_quality_are_upgraded() {
        let mut sectors = [sector(1, 0, 0), sector(2, 0, 0), sector(3, 10, 0), sector(4, 0, 0)];
        sectors[0].standing = Standing::Faulty;
        sectors[1].info.flags = 3;
        sectors[3].info.expiration = now().head;
        let plan = plan(&sectors, &now());
        let expected = [(1, Reason::Faulty), (2, Reason::FullQuality), (4, Reason::Expires { at: now().head })];
        assert_eq!(reasons(&plan), expected);
        assert_eq!(plan.declared.iter().map(|d| &d.sectors[..]).collect::<Vec<_>>(), [[3]], "also in an open deadline");
    }

    #[test]
    fn a_pledge_never_falls_and_an_older_network_has_no_such_method() {
        let full = TokenAmount::from_atto(1_500_000_000_000_000_000_i64);
        let mut sector = sector(1, 0, 0).info;
        assert_eq!(top_up(&sector, &full), TokenAmount::from_atto(500_000_000_000_000_000_i64));
        sector.initial_pledge = TokenAmount::from_whole(2);
        assert_eq!(top_up(&sector, &full), TokenAmount::default());
        assert_eq!(check(&now()), Ok(()));
        assert_eq!(check(&Now { version: 28, ..now() }), Err(TooEarly { version: 28 }));
    }
}
