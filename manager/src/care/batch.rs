//! Packs what is declared into as few messages as fit.

use fvm_ipld_bitfield::BitField;
use fvm_ipld_encoding::{RawBytes, to_vec};
use fvm_shared::econ::TokenAmount;

use super::{Declared, count};
use crate::chain::{
    fees::GAS_LIMIT_MAX,
    message::SIGNED_BYTES_MAX,
    params::{
        ADDRESSED_PARTITIONS_MAX, ADDRESSED_SECTORS_MAX, ExpirationExtension2, ExtendSectorExpiration2Params,
        METHOD_EXTEND_SECTOR_EXPIRATION2, METHOD_TERMINATE_SECTORS, METHOD_UPGRADE_SECTOR_QUALITY, QualityUpgrade,
        TerminateSectorsParams, TerminationDeclaration, UpgradeSectorQualityParams,
    },
};

/// What a signed message has besides its declarations, in bytes: more than the most.
const ENVELOPE_BYTES: usize = 512;

/// What is done with sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// They are extended.
    Extend,
    /// They are ended.
    Terminate,
    /// They get tenfold quality.
    Upgrade,
}

/// One message about sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// What is declared.
    pub declared: Vec<Declared>,
    /// What it used on trial, in units of gas; 0 before.
    pub gas_used: u64,
}

/// The parameters cannot be encoded: a sector's number is higher than the chain's highest.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A number is out of range.
    #[error("a sector's number is too high")]
    Number(#[from] fvm_ipld_bitfield::OutOfRangeError),
    /// CBOR could not be written.
    #[error("cannot encode the parameters")]
    Encode(#[from] fvm_ipld_encoding::Error),
}

impl Verb {
    /// The actor's method.
    pub const fn method(self) -> u64 {
        match self {
            Verb::Extend => METHOD_EXTEND_SECTOR_EXPIRATION2,
            Verb::Terminate => METHOD_TERMINATE_SECTORS,
            Verb::Upgrade => METHOD_UPGRADE_SECTOR_QUALITY,
        }
    }

    /// The method's parameters.
    pub fn params(self, declared: &[Declared]) -> Result<RawBytes, Error> {
        let bits = |declared: &Declared| BitField::try_from_bits(declared.sectors.iter().copied());
        let bytes = match self {
            Verb::Extend => {
                let extension = |declared: &Declared| {
                    Ok::<_, Error>(ExpirationExtension2 {
                        deadline: declared.at.deadline,
                        partition: declared.at.partition,
                        sectors: bits(declared)?,
                        sectors_with_claims: Vec::new(),
                        new_expiration: declared.expiration.unwrap_or_default(),
                    })
                };
                let extensions = declared.iter().map(extension).collect::<Result<_, _>>()?;
                to_vec(&ExtendSectorExpiration2Params { extensions })?
            }
            Verb::Terminate => {
                let termination = |declared: &Declared| {
                    Ok::<_, Error>(TerminationDeclaration {
                        deadline: declared.at.deadline,
                        partition: declared.at.partition,
                        sectors: bits(declared)?,
                    })
                };
                let terminations = declared.iter().map(termination).collect::<Result<_, _>>()?;
                to_vec(&TerminateSectorsParams { terminations })?
            }
            Verb::Upgrade => {
                let upgrade = |declared: &Declared| {
                    Ok::<_, Error>(QualityUpgrade {
                        deadline: declared.at.deadline,
                        partition: declared.at.partition,
                        sectors: bits(declared)?,
                        new_expiration: declared.expiration,
                    })
                };
                let upgrades = declared.iter().map(upgrade).collect::<Result<_, _>>()?;
                to_vec(&UpgradeSectorQualityParams { upgrades })?
            }
        };
        Ok(RawBytes::new(bytes))
    }
}

impl Batch {
    /// How many sectors it is about.
    pub fn count(&self) -> usize {
        count(&self.declared)
    }

    /// Whether its gas, with the quarter that a node adds, fits into a block.
    pub const fn fits_a_block(&self) -> bool {
        self.gas_used.saturating_add(self.gas_used / 4) <= GAS_LIMIT_MAX
    }

    /// Two batches of half the sectors each. `None` if it is about a single one.
    pub fn halves(self) -> Option<(Batch, Batch)> {
        let half = self.count() / 2;
        if half == 0 {
            return None;
        }
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for declared in self.declared {
            let room = half - count(&first);
            if declared.sectors.len() <= room {
                first.push(declared);
                continue;
            }
            let (before, after) = declared.sectors.split_at(room);
            if !before.is_empty() {
                first.push(Declared { sectors: before.to_vec(), ..declared.clone() });
            }
            second.push(Declared { sectors: after.to_vec(), ..declared });
        }
        let batch = |declared| Batch { declared, gas_used: 0 };
        Some((batch(first), batch(second)))
    }
}

/// Packs declarations into messages within the actor's limits and the message pool's.
pub fn batches(verb: Verb, declared: Vec<Declared>) -> Result<Vec<Batch>, Error> {
    let mut batches: Vec<Batch> = Vec::new();
    let (mut bytes, mut sectors) = (0, 0);
    for declared in declared {
        // The headers around a single one are counted for each.
        let its_bytes = verb.params(std::slice::from_ref(&declared))?.bytes().len();
        let its_sectors = declared.sectors.len() as u64;
        match batches.last_mut() {
            Some(last)
                if bytes + its_bytes + ENVELOPE_BYTES <= SIGNED_BYTES_MAX
                    && sectors + its_sectors <= ADDRESSED_SECTORS_MAX
                    && (last.declared.len() as u64) < ADDRESSED_PARTITIONS_MAX =>
            {
                last.declared.push(declared);
            }
            _ => {
                batches.push(Batch { declared: vec![declared], gas_used: 0 });
                (bytes, sectors) = (0, 0);
            }
        }
        bytes += its_bytes;
        sectors += its_sectors;
    }
    Ok(batches)
}

/// What a message of the miner's sectors must carry, if each sector adds this much.
pub fn value(declared: &[Declared], of: impl Fn(u64) -> TokenAmount) -> TokenAmount {
    declared.iter().flat_map(|declared| &declared.sectors).map(|sector| of(*sector)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::types::SectorLocation;

    const VERBS: [Verb; 3] = [Verb::Extend, Verb::Terminate, Verb::Upgrade];

    fn declared(partition: u64, sectors: impl IntoIterator<Item = u64>) -> Declared {
        let at = SectorLocation { deadline: partition % 48, partition };
        Declared { at, expiration: Some(5_000_000), sectors: sectors.into_iter().collect() }
    }

    fn numbers(batches: &[Batch]) -> Vec<u64> {
        batches.iter().flat_map(|batch| &batch.declared).flat_map(|declared| declared.sectors.clone()).collect()
    }

    #[test]
    fn what_fits_goes_into_one_message_in_order() {
        let all: Vec<_> = (0..10).map(|p| declared(p, p * 100..p * 100 + 20)).collect();
        for verb in VERBS {
            let batches = batches(verb, all.clone()).expect("encodes");
            assert_eq!((batches.len(), batches[0].count()), (1, 200));
            assert_eq!(batches[0].declared, all);
        }
        assert_eq!(batches(Verb::Extend, vec![]).expect("encodes"), []);
    }

    #[test]
    fn no_message_exceeds_the_actors_limits_or_the_pools() {
        let full = (0..30).map(|p| declared(p, p * 2349..(p + 1) * 2349));
        let many = (0..7000).map(|p| declared(p, [p]));
        // Every second number, spread widely: the longest bit fields.
        let sparse = (0..200).map(|p| declared(p, (0..2000).map(move |n| (p << 40) + 1000 * n * (n % 7 + 1))));
        for all in [full.collect::<Vec<_>>(), many.collect(), sparse.collect()] {
            for verb in VERBS {
                let batches = batches(verb, all.clone()).expect("encodes");
                assert!(batches.len() > 1);
                for batch in &batches {
                    let bytes = verb.params(&batch.declared).expect("encodes").bytes().len();
                    assert!(bytes + 300 < SIGNED_BYTES_MAX && batch.count() <= 25_000 && batch.declared.len() <= 3000);
                }
                let together: Vec<_> = batches.iter().flat_map(|batch| batch.declared.clone()).collect();
                assert_eq!(together, all);
            }
        }
    }

    #[test]
    fn halves_have_all_sectors_once_down_to_a_single_one() {
        let batch =
            Batch { declared: vec![declared(0, [1, 2, 3]), declared(1, [4]), declared(2, [5, 6, 7])], gas_used: 9 };
        let mut open = vec![batch];
        let mut alone = Vec::new();
        while let Some(batch) = open.pop() {
            let all = numbers(std::slice::from_ref(&batch));
            assert!(batch.declared.iter().all(|declared| !declared.sectors.is_empty()));
            match batch.clone().halves() {
                Some((first, second)) => {
                    assert_eq!(numbers(&[first.clone(), second.clone()]), all);
                    assert!(first.count().abs_diff(second.count()) <= 1);
                    open.extend([second, first]);
                }
                None => alone.extend(all),
            }
        }
        assert_eq!(alone, [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_message_carries_what_its_sectors_add() {
        let all = [declared(0, [1, 2]), declared(1, [10])];
        assert_eq!(value(&all, TokenAmount::from_atto), TokenAmount::from_atto(13));
    }
}
