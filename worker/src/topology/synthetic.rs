//! What a synthetic description may ask for. hwloc would make as many objects as it says.

/// More characters than a description needs.
const BYTES_MAX: usize = 4096;
/// More units than a machine has.
const UNITS_MAX: u64 = 65_536;

/// Why a description is not even shown to hwloc.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SyntheticProblem {
    #[error("it is empty")]
    Empty,
    #[error("it has more than {BYTES_MAX} bytes")]
    TooLong,
    #[error("{0:?} is no printable ASCII character")]
    Character(char),
    #[error("{0:?} is no number of objects")]
    Count(String),
    #[error("its counts multiply to more than {UNITS_MAX}")]
    TooMany,
}

/// Bounds the objects that a description asks for.
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
    let mut product = 1_u64;
    for level in without_attributes(text).split_ascii_whitespace() {
        // `numa:2`, or `2` alone; `[numa]` is one for each object around it.
        let count = match level.rsplit_once(':') {
            Some((_, count)) => count,
            None if level.starts_with(|first: char| first.is_ascii_digit()) => level,
            None => continue,
        };
        let count = count.trim_end_matches(']');
        // The library also takes signs, octal and hexadecimal numbers, and what follows a number.
        let number =
            count.parse::<u64>().ok().filter(|_| count.starts_with(|first: char| ('1'..='9').contains(&first)));
        product = product.saturating_mul(number.ok_or_else(|| SyntheticProblem::Count(level.to_owned()))?);
    }
    if product > UNITS_MAX { Err(SyntheticProblem::TooMany) } else { Ok(()) }
}

/// What stands outside parentheses.
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
        assert_eq!(check("  "), Err(SyntheticProblem::Empty));
        assert_eq!(check("core:1\n"), Err(SyntheticProblem::Character('\n')));
        assert_eq!(check(&"pu:1 ".repeat(1000)), Err(SyntheticProblem::TooLong));
    }
}
