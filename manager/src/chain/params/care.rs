//! Parameters of the methods that change proven sectors: extend, terminate, raise their quality, compact.

use fvm_ipld_bitfield::BitField;
use fvm_ipld_encoding::tuple::{Deserialize_tuple, Serialize_tuple, serde_tuple};

use crate::chain::types::{Epoch, Index};

/// Method of the miner actor: `TerminateSectors`.
pub const METHOD_TERMINATE_SECTORS: u64 = 9;
/// Method of the miner actor: `CompactPartitions`.
pub const METHOD_COMPACT_PARTITIONS: u64 = 19;
/// Method of the miner actor: `ExtendSectorExpiration2`.
pub const METHOD_EXTEND_SECTOR_EXPIRATION2: u64 = 32;
/// Method of the miner actor: `UpgradeSectorQuality`, since network version 29 (FIP-0118).
pub const METHOD_UPGRADE_SECTOR_QUALITY: u64 = 37;

/// The most sectors that a message may name (`ADDRESSED_SECTORS_MAX` in `fil_actors_shared`).
pub const ADDRESSED_SECTORS_MAX: u64 = 25_000;
/// The most partitions that a message may name (`ADDRESSED_PARTITIONS_MAX`).
pub const ADDRESSED_PARTITIONS_MAX: u64 = 3_000;

/// Parameters of `ExtendSectorExpiration2`.
#[derive(Debug, Clone, PartialEq, Serialize_tuple, Deserialize_tuple)]
pub struct ExtendSectorExpiration2Params {
    /// What is extended, by partition.
    pub extensions: Vec<ExpirationExtension2>,
}

/// The extension of sectors of one partition to the same epoch.
#[derive(Debug, Clone, PartialEq, Serialize_tuple, Deserialize_tuple)]
pub struct ExpirationExtension2 {
    /// The deadline.
    pub deadline: Index,
    /// The partition in it.
    pub partition: Index,
    /// The sectors.
    pub sectors: BitField,
    /// Sectors whose claims were given. Since actors v19 they are extended like the others.
    pub sectors_with_claims: Vec<SectorClaim>,
    /// The new expiration.
    pub new_expiration: Epoch,
}

/// A sector with its claims of verified data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct SectorClaim {
    /// The sector.
    pub sector_number: Index,
    /// The claims that go on.
    pub maintain_claims: Vec<u64>,
    /// The claims that are dropped.
    pub drop_claims: Vec<u64>,
}

/// Parameters of `TerminateSectors`.
#[derive(Debug, Clone, PartialEq, Serialize_tuple, Deserialize_tuple)]
pub struct TerminateSectorsParams {
    /// What is terminated, by partition.
    pub terminations: Vec<TerminationDeclaration>,
}

/// The termination of sectors of one partition.
#[derive(Debug, Clone, PartialEq, Serialize_tuple, Deserialize_tuple)]
pub struct TerminationDeclaration {
    /// The deadline.
    pub deadline: Index,
    /// The partition in it.
    pub partition: Index,
    /// The sectors.
    pub sectors: BitField,
}

/// The return value of `TerminateSectors`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct TerminateSectorsReturn {
    /// Whether all fees are settled. Until they are, nothing can be withdrawn.
    pub done: bool,
}

/// Parameters of `UpgradeSectorQuality`.
#[derive(Debug, Clone, PartialEq, Serialize_tuple, Deserialize_tuple)]
pub struct UpgradeSectorQualityParams {
    /// What is upgraded, by partition.
    pub upgrades: Vec<QualityUpgrade>,
}

/// The upgrade of sectors of one partition.
#[derive(Debug, Clone, PartialEq, Serialize_tuple, Deserialize_tuple)]
pub struct QualityUpgrade {
    /// The deadline.
    pub deadline: Index,
    /// The partition in it.
    pub partition: Index,
    /// The sectors. All of them must be active.
    pub sectors: BitField,
    /// Their new expiration. `None`: it stays.
    pub new_expiration: Option<Epoch>,
}

/// Parameters of `CompactPartitions`.
#[derive(Debug, Clone, PartialEq, Serialize_tuple, Deserialize_tuple)]
pub struct CompactPartitionsParams {
    /// The deadline.
    pub deadline: Index,
    /// The partitions that are packed anew, without their dead sectors.
    pub partitions: BitField,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use fil_actor_miner_state::v19 as actor;
    use fvm_ipld_encoding::{from_slice, to_vec};

    const SETS: [&[u64]; 4] = [&[7], &[0, 1, 2, 3], &[5, 9, 1 << 40], &[1, 3, 5, 7, 9, 1000]];

    fn bits(numbers: &[u64]) -> BitField {
        BitField::try_from_bits(numbers.iter().copied()).unwrap()
    }

    #[test]
    fn a_termination_has_the_golden_bytes() {
        let terminations = vec![TerminationDeclaration { deadline: 1, partition: 0, sectors: bits(&[7]) }];
        let bytes = to_vec(&TerminateSectorsParams { terminations }).unwrap();
        assert_eq!(hex::encode(bytes), "818183010042f002");
    }

    #[test]
    fn what_is_declared_of_partitions_encodes_as_the_actor_does() {
        for (at, numbers) in SETS.into_iter().enumerate() {
            let (deadline, partition, expiration) = (at as u64 * 15, at as u64 * 300, 5_000_000 + at as i64);
            let extension = ExpirationExtension2 {
                deadline,
                partition,
                sectors: bits(numbers),
                sectors_with_claims: vec![SectorClaim {
                    sector_number: 3,
                    maintain_claims: vec![1, 2],
                    drop_claims: vec![],
                }],
                new_expiration: expiration,
            };
            let ours = to_vec(&ExtendSectorExpiration2Params { extensions: vec![extension; 2] }).unwrap();
            let theirs = actor::ExpirationExtension2 {
                deadline,
                partition,
                sectors: bits(numbers),
                sectors_with_claims: vec![actor::SectorClaim {
                    sector_number: 3,
                    maintain_claims: vec![1, 2],
                    drop_claims: vec![],
                }],
                new_expiration: expiration,
            };
            let theirs = to_vec(&actor::ExtendSectorExpiration2Params { extensions: vec![theirs; 2] }).unwrap();
            assert_eq!(ours, theirs);
            from_slice::<ExtendSectorExpiration2Params>(&ours).unwrap();

            let ours = TerminationDeclaration { deadline, partition, sectors: bits(numbers) };
            let theirs = actor::TerminationDeclaration { deadline, partition, sectors: bits(numbers) };
            assert_eq!(
                to_vec(&TerminateSectorsParams { terminations: vec![ours] }).unwrap(),
                to_vec(&actor::TerminateSectorsParams { terminations: vec![theirs] }).unwrap()
            );

            let new_expiration = (at % 2 == 0).then_some(expiration);
            let ours = QualityUpgrade { deadline, partition, sectors: bits(numbers), new_expiration };
            let theirs = actor::UpgradeSectorQuality { deadline, partition, sectors: bits(numbers), new_expiration };
            assert_eq!(
                to_vec(&UpgradeSectorQualityParams { upgrades: vec![ours] }).unwrap(),
                to_vec(&actor::UpgradeSectorQualityParams { upgrades: vec![theirs] }).unwrap()
            );

            assert_eq!(
                to_vec(&CompactPartitionsParams { deadline, partitions: bits(numbers) }).unwrap(),
                to_vec(&actor::CompactPartitionsParams { deadline, partitions: bits(numbers) }).unwrap()
            );
        }
    }

    #[test]
    fn the_method_numbers_are_the_actors() {
        let theirs = [
            actor::Method::TerminateSectors,
            actor::Method::CompactPartitions,
            actor::Method::ExtendSectorExpiration2,
            actor::Method::UpgradeSectorQuality,
        ];
        let ours = [
            METHOD_TERMINATE_SECTORS,
            METHOD_COMPACT_PARTITIONS,
            METHOD_EXTEND_SECTOR_EXPIRATION2,
            METHOD_UPGRADE_SECTOR_QUALITY,
        ];
        assert_eq!(theirs.map(|method| method as u64), ours);
    }

    #[test]
    fn the_return_value_of_a_termination_is_read() {
        let bytes = to_vec(&actor::TerminateSectorsReturn { done: true }).unwrap();
        assert!(from_slice::<TerminateSectorsReturn>(&bytes).unwrap().done);
    }
}
