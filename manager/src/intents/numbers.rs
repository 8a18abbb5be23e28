//! The numbers that a miner's new sectors may have, because other systems may allocate numbers of the same miner.

use std::{ops::RangeInclusive, str::FromStr};

use serde::{Deserialize, Deserializer, de};

use crate::chain::sector_set::SectorSet;

/// The first number that is allocated; Lotus reserves 0 for genesis sectors.
const FIRST_NUMBER: u64 = 1;
/// The chain's highest sector number.
const LAST_NUMBER: u64 = i64::MAX as u64;

/// Ranges of numbers, in the order in which they are used: `1000-1999,5000-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    ranges: Vec<RangeInclusive<u64>>,
}

/// A place in a miner's ranges. Used numbers stay used, so a search never needs to go back before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    range: usize,
    next: u64,
}

/// The text is not a list of ranges.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{part}` is not a range of sector numbers, such as 1000-1999 or 5000-")]
pub struct NotNumbers {
    part: String,
}

impl Default for Numbers {
    /// All numbers except 0.
    fn default() -> Numbers {
        Numbers { ranges: vec![FIRST_NUMBER..=LAST_NUMBER] }
    }
}

impl Numbers {
    /// The numbers from a place on that are not allocated on chain, in their order of use, each with the place after
    /// it.
    pub fn unallocated(&self, allocated: &SectorSet, from: Place) -> impl Iterator<Item = (u64, Place)> {
        self.ranges.iter().enumerate().skip(from.range).flat_map(move |(index, range)| {
            let first = if index == from.range { from.next.max(*range.start()) } else { *range.start() };
            let in_range = allocated.absent_from(first).take_while(|number| number <= range.end());
            // A number in two ranges belongs to the first one.
            let new = in_range.filter(move |number| !self.ranges[..index].iter().any(|range| range.contains(number)));
            new.map(move |number| (number, Place { range: index, next: number + 1 }))
        })
    }

    /// Whether the ranges contain a number.
    pub fn contains(&self, number: u64) -> bool {
        self.ranges.iter().any(|range| range.contains(&number))
    }
}

impl FromStr for Numbers {
    type Err = NotNumbers;

    fn from_str(text: &str) -> Result<Numbers, NotNumbers> {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: u64 = first.trim().parse().ok()?;
            let last = match last.trim() {
                "" => LAST_NUMBER,
                last => last.parse().ok()?,
            };
            (first <= last && last <= LAST_NUMBER).then_some(first..=last)
        };
        let of_part = |part: &str| range(part.trim()).ok_or_else(|| NotNumbers { part: part.trim().to_owned() });
        Ok(Numbers { ranges: text.split(',').map(of_part).collect::<Result<_, _>>()? })
    }
}

impl std::fmt::Display for Numbers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.ranges.iter().map(|range| match (*range.start(), *range.end()) {
            (first, LAST_NUMBER) => format!("{first}-"),
            (first, last) => format!("{first}-{last}"),
        });
        f.write_str(&text.collect::<Vec<_>>().join(","))
    }
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Numbers, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(text: &str) -> Numbers {
        text.parse().expect("ranges")
    }

    #[test]
    fn numbers_are_taken_from_the_ranges_in_order_and_never_twice() {
        let allocated = SectorSet::from_run_lengths(&[10, 3, 0]).expect("10 to 12");
        let free = |text: &str, count| {
            let numbers = numbers(text);
            let free = numbers.unallocated(&allocated, Place::default()).map(|(number, _)| number);
            free.filter(|number| *number != 14).take(count).collect::<Vec<u64>>()
        };
        assert_eq!(free("10-16", 10), [13, 15, 16], "fewer than wanted: the range is used up");
        assert_eq!(free("11-13,100-", 4), [13, 100, 101, 102]);
        assert_eq!(free("15-16,14-17", 5), [15, 16, 17]);
        let first = |numbers: &Numbers, from| numbers.unallocated(&allocated, from).next();
        assert_eq!(first(&Numbers::default(), Place::default()).map(|(number, _)| number), Some(1));
        assert_eq!(free("12", 1), [0; 0]);
    }

    #[test]
    fn a_search_goes_on_behind_the_last_number_that_was_given_out() {
        let allocated = SectorSet::from_run_lengths(&[10, 3, 0]).expect("10 to 12");
        let numbers = numbers("9-13,5-6,5-9,20-");
        let mut from = Place::default();
        let mut given = Vec::new();
        for _ in 0..6 {
            let (number, behind) = numbers.unallocated(&allocated, from).next().expect("a number");
            given.push(number);
            from = behind;
        }
        assert_eq!(given, [9, 13, 5, 6, 7, 8]);
        assert_eq!(numbers.unallocated(&allocated, from).next().map(|(number, _)| number), Some(20));
    }

    #[test]
    fn what_is_no_range_is_named() {
        for (text, part) in
            [("", ""), ("5-3", "5-3"), ("1-2,x", "x"), ("-7", "-7"), ("9223372036854775808", "9223372036854775808")]
        {
            assert_eq!(text.parse::<Numbers>(), Err(NotNumbers { part: part.to_owned() }), "{text}");
        }
        assert_eq!(numbers(" 1 - 9 , 20- ").to_string(), "1-9,20-");
        assert!(numbers("5-9").contains(9) && !numbers("5-9").contains(10));
    }
}
