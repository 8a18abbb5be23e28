//! A set of sector numbers in the node's encoding: run lengths, beginning with a run of absent numbers.
//!
//! `[0]` is the empty set, `[0,1]` is {0}, `[1,1]` is {1}. A miner may have allocated billions of numbers in a few
//! runs, so the set is never expanded.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The highest sector number plus one (`MAX_SECTOR_NUMBER` of the actors is `i64::MAX`).
const SECTOR_NUMBER_END: u64 = 1 << 63;

/// Sector numbers in ascending, disjoint, non-empty runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SectorSet {
    runs: Vec<std::ops::Range<u64>>,
}

/// The run lengths do not describe a set of sector numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("run lengths end beyond the highest sector number")]
pub struct Error;

impl SectorSet {
    /// The set described by alternating run lengths, beginning with a run of absent numbers.
    pub fn from_run_lengths(lengths: &[u64]) -> Result<Self, Error> {
        let mut runs: Vec<std::ops::Range<u64>> = Vec::new();
        let mut at = 0u64;
        for (index, length) in lengths.iter().enumerate() {
            let end = at.checked_add(*length).filter(|end| *end <= SECTOR_NUMBER_END).ok_or(Error)?;
            if index % 2 == 1 && *length > 0 {
                match runs.last_mut() {
                    Some(last) if last.end == at => last.end = end,
                    _ => runs.push(at..end),
                }
            }
            at = end;
        }
        Ok(Self { runs })
    }

    /// The set of these numbers, in any order. Numbers above the highest sector number are left out.
    pub fn from_numbers(numbers: impl IntoIterator<Item = u64>) -> Self {
        let mut numbers: Vec<u64> = numbers.into_iter().filter(|number| *number < SECTOR_NUMBER_END).collect();
        numbers.sort_unstable();
        let mut runs: Vec<std::ops::Range<u64>> = Vec::new();
        for number in numbers {
            match runs.last_mut() {
                Some(last) if number < last.end => {}
                Some(last) if number == last.end => last.end += 1,
                _ => runs.push(number..number + 1),
            }
        }
        Self { runs }
    }

    /// Whether the number is in the set.
    pub fn contains(&self, number: u64) -> bool {
        let after = self.runs.partition_point(|run| run.start <= number);
        after > 0 && self.runs[after - 1].contains(&number)
    }

    /// How many numbers are in the set.
    pub fn len(&self) -> u64 {
        self.runs.iter().map(|run| run.end - run.start).sum()
    }

    /// Whether no number is in the set.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The highest number in the set.
    pub fn last(&self) -> Option<u64> {
        self.runs.last().map(|run| run.end - 1)
    }

    /// The numbers in ascending order. There may be more than fit into memory.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.runs.iter().cloned().flatten()
    }

    /// The numbers from `from` on that are not in the set, in ascending order: candidates for new sectors.
    pub fn absent_from(&self, from: u64) -> impl Iterator<Item = u64> + '_ {
        let mut next = from;
        std::iter::from_fn(move || {
            let after = self.runs.partition_point(|run| run.start <= next);
            if after > 0 && self.runs[after - 1].contains(&next) {
                next = self.runs[after - 1].end;
            }
            let number = next;
            next = next.checked_add(1)?;
            (number < SECTOR_NUMBER_END).then_some(number)
        })
    }
}

impl Serialize for SectorSet {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut lengths = Vec::with_capacity(2 * self.runs.len());
        let mut at = 0;
        for run in &self.runs {
            lengths.extend([run.start - at, run.end - run.start]);
            at = run.end;
        }
        if lengths.is_empty() { [0].serialize(s) } else { lengths.serialize(s) }
    }
}

impl<'de> Deserialize<'de> for SectorSet {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let lengths = Option::<Vec<u64>>::deserialize(d)?.unwrap_or_default();
        Self::from_run_lengths(&lengths).map_err(de::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn set(lengths: &[u64]) -> SectorSet {
        SectorSet::from_run_lengths(lengths).unwrap()
    }

    #[test]
    fn run_lengths_start_with_the_absent_numbers() {
        assert!(set(&[0]).is_empty() && set(&[]).is_empty());
        assert_eq!(set(&[0, 1]).iter().collect::<Vec<_>>(), [0]);
        assert_eq!(set(&[1, 1]).iter().collect::<Vec<_>>(), [1]);
        assert_eq!(set(&[2, 4, 3, 2]).iter().collect::<Vec<_>>(), [2, 3, 4, 5, 9, 10]);
        assert_eq!(set(&[2, 4, 0, 2, 1, 0]), set(&[2, 6]));
    }

    #[test]
    fn null_is_the_empty_set() {
        assert!(serde_json::from_str::<SectorSet>("null").unwrap().is_empty());
        assert!(serde_json::from_str::<SectorSet>("[18446744073709551615,2]").is_err());
    }

    #[test]
    fn a_set_of_numbers_is_written_as_the_node_reads_it() {
        for (numbers, lengths) in
            [(vec![], "[0]"), (vec![0], "[0,1]"), (vec![1], "[1,1]"), (vec![9, 2, 3, 2], "[2,2,5,1]")]
        {
            let set = SectorSet::from_numbers(numbers);
            assert_eq!(serde_json::to_string(&set).unwrap(), lengths);
            assert_eq!(serde_json::from_str::<SectorSet>(lengths).unwrap(), set);
        }
        assert!(SectorSet::from_numbers([u64::MAX]).is_empty());
    }

    #[test]
    fn membership_agrees_with_iteration() {
        let set = set(&[2, 4, 3, 2]);
        let members: Vec<u64> = (0..20).filter(|n| set.contains(*n)).collect();
        assert_eq!(members, set.iter().collect::<Vec<_>>());
        assert_eq!(set.len(), members.len() as u64);
        assert_eq!(set.last(), Some(10));
    }

    #[test]
    fn absent_numbers_skip_whole_runs() {
        let set = set(&[2, 4, 3, 1 << 40]);
        assert_eq!(set.absent_from(0).take(6).collect::<Vec<_>>(), [0, 1, 6, 7, 8, 9 + (1 << 40)]);
        assert_eq!(set.absent_from(3).next(), Some(6));
        assert_eq!(set.absent_from(u64::MAX).next(), None);
        assert_eq!(SectorSet::from_run_lengths(&[0, 1 << 63]).unwrap().absent_from(0).next(), None);
    }
}
