//! Limits what a synthetic description may ask for. hwloc itself would create as many objects as it says.

/// More bytes than a description needs.
const BYTES_MAX: usize = 4096;
/// More processing units than any machine has.
const UNITS_MAX: u64 = 65_536;
/// More bytes than any cache or memory has.
const SIZE_MAX: u64 = 1 << 50;

/// Why a description is not passed to hwloc.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SyntheticProblem {
    #[error("it is empty")]
    Empty,
    #[error("it has more than {BYTES_MAX} bytes")]
    TooLong,
    #[error("{0:?} is not a printable ASCII character")]
    Character(char),
    #[error("{0:?} is no number of objects")]
    Count(String),
    #[error("its counts multiply to more than {UNITS_MAX}")]
    TooMany,
    #[error("{0:?} is not a size such as 512GiB, at most 1024TiB")]
    Size(String),
}

/// Checks that a description asks for a reasonable number of objects.
pub(super) fn check(text: &str) -> Result<(), SyntheticProblem> {
    if text.trim().is_empty() {
        return Err(SyntheticProblem::Empty);
    }
    if text.len() > BYTES_MAX {
        return Err(SyntheticProblem::TooLong);
    }
    if let Some(other) = text.chars().find(|it| !it.is_ascii_graphic() && *it != ' ') {
        return Err(SyntheticProblem::Character(other));
    }
    if let Some(attribute) = attributes(text).find(|attribute| !is_size(attribute)) {
        return Err(SyntheticProblem::Size(attribute.to_owned()));
    }
    let mut product = 1_u64;
    for level in without_attributes(text).split_ascii_whitespace() {
        // A level is written `numa:2`, or just `2`; `[numa]` means one for each object around it.
        let count = match level.rsplit_once(':') {
            Some((_, count)) => count,
            None if level.starts_with(|first: char| first.is_ascii_digit()) => level,
            None => continue,
        };
        let count = count.trim_end_matches(']');
        // hwloc also accepts signs, octal and hexadecimal numbers, and trailing text.
        let number =
            count.parse::<u64>().ok().filter(|_| count.starts_with(|first: char| ('1'..='9').contains(&first)));
        product = product.saturating_mul(number.ok_or_else(|| SyntheticProblem::Count(level.to_owned()))?);
    }
    if product > UNITS_MAX { Err(SyntheticProblem::TooMany) } else { Ok(()) }
}

/// The attributes inside parentheses, such as `memory=64GiB`.
fn attributes(text: &str) -> impl Iterator<Item = &str> {
    let inside = text.split('(').skip(1).filter_map(|part| part.split(')').next());
    inside.flat_map(|part| part.split_ascii_whitespace())
}

/// Whether an attribute is either not a size, or a size that hwloc reads as intended. hwloc accepts signs, and misreads
/// sizes that are too large.
fn is_size(attribute: &str) -> bool {
    let Some(("memory" | "size" | "memorysidecachesize", size)) = attribute.split_once('=') else { return true };
    let (number, unit) = size.split_at(size.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(size.len()));
    let each = match unit.to_ascii_lowercase().as_str() {
        "" => 1_u64,
        "kb" | "kib" => 1 << 10,
        "mb" | "mib" => 1 << 20,
        "gb" | "gib" => 1 << 30,
        "tb" | "tib" => 1 << 40,
        _ => return false,
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(each)).is_some_and(|bytes| bytes <= SIZE_MAX)
}

/// The text outside parentheses.
fn without_attributes(text: &str) -> String {
    let mut rest = String::with_capacity(text.len());
    let mut inside = false;
    for character in text.chars() {
        match character {
            '(' => inside = true,
            ')' => {
                inside = false;
                rest.push(' ');
            }
            _ if !inside => rest.push(character),
            _ => {}
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_bounded_and_must_be_plain() {
        for text in ["package:2 [numa(memory=64GB)] l3:8(size=32MB) core:8 pu:2", "2 4 2", "numa:2 core:32768"] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for text in ["numa:2 core:32769", "core:4294967296 pu:4294967296", "pu:99999999999999999999"] {
            assert!(check(text).is_err(), "{text}");
        }
        for text in ["core:-1", "core:0x10000", "core:0200000", "core:", "core:+5", "core:5x", "9x", "core:0"] {
            assert!(matches!(check(text), Err(SyntheticProblem::Count(_))), "{text}");
        }
        for text in
            ["numa:1(memory=-1) pu:1", "numa:1(memory=9999999TB) pu:1", "l3:1(size=18446744073709551615GB) pu:1"]
        {
            assert!(matches!(check(text), Err(SyntheticProblem::Size(_))), "{text}");
        }
        assert_eq!(check("numa:1(indexes=0 memory=1TiB) pu:1"), Ok(()));
        assert_eq!(check("  "), Err(SyntheticProblem::Empty));
        assert_eq!(check("core:1\n"), Err(SyntheticProblem::Character('\n')));
        assert_eq!(check(&"pu:1 ".repeat(1000)), Err(SyntheticProblem::TooLong));
    }
}
