//! A sector's power. The rules of `policy.rs` in the miner actor (v18, v19).

use fvm_shared::bigint::BigInt;

use crate::chain::types::SectorOnChainInfo;

/// `SectorOnChainInfoFlags`: tenfold quality, whatever the sector holds.
pub const FULL_QUALITY: u32 = 2;
/// The fixed point of a quality (`SECTOR_QUALITY_PRECISION`), in bits.
const PRECISION: u32 = 20;

/// The power of a sector with tenfold quality, in bytes.
pub fn power_max(sector_bytes: u64) -> BigInt {
    BigInt::from(sector_bytes) * 10
}

/// The quality-adjusted power of a sector, in bytes (`qa_power_for_sector`).
pub fn power(sector: &SectorOnChainInfo, sector_bytes: u64) -> BigInt {
    let space_time = BigInt::from(sector_bytes) * (sector.expiration - sector.power_base_epoch).max(1);
    if sector.flags & FULL_QUALITY != 0 {
        return power_max(sector_bytes);
    }
    let weighted = (&space_time - &sector.verified_deal_weight) * 10 + &sector.verified_deal_weight * 100;
    let quality = (weighted << PRECISION) / space_time / 10;
    (quality * sector_bytes) >> PRECISION
}

#[cfg(test)]
mod tests {
    use fil_actor_miner_state::v19 as actor;
    use fvm_shared::sector::SectorSize;

    use super::*;
    use crate::care::tests::{SECTOR_BYTES, sector};

    #[test]
    fn the_power_is_the_actors() {
        for (flags, verified_bytes) in
            [(1, 0), (1, SECTOR_BYTES), (1, 3_000_000_000), (0, 7), (3, 0), (2, SECTOR_BYTES)]
        {
            let mut ours = sector(1, 0, 0).info;
            ours.flags = flags;
            ours.verified_deal_weight = BigInt::from(verified_bytes) * (ours.expiration - ours.power_base_epoch);
            let theirs = actor::SectorOnChainInfo {
                expiration: ours.expiration,
                power_base_epoch: ours.power_base_epoch,
                verified_deal_weight: ours.verified_deal_weight.clone(),
                flags: actor::SectorOnChainInfoFlags::from_bits_truncate(flags),
                ..Default::default()
            };
            let theirs = actor::qa_power_for_sector(SectorSize::_32GiB, &theirs);
            assert_eq!(power(&ours, SECTOR_BYTES), theirs, "{flags} {verified_bytes}");
        }
    }
}
