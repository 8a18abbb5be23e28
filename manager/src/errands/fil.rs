//! Amounts in FIL, as people write and read them.

use fvm_shared::{bigint::BigInt, econ::TokenAmount};

/// The digits after the point: an attoFIL is 10^-18 FIL.
const DECIMALS: usize = 18;
/// The most digits before the point: there are 2 billion FIL.
const WHOLE_DIGITS_MAX: usize = 10;

/// Reads an amount in FIL, such as `1.5` or `1.5 FIL`.
pub fn parse(text: &str) -> Result<TokenAmount, String> {
    let wrong = || format!("`{text}` is not an amount in FIL, such as 1.5");
    let number = text.trim();
    let number = number.strip_suffix("FIL").or_else(|| number.strip_suffix("fil")).unwrap_or(number).trim();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !is_number(whole) || !is_number(fraction) {
        return Err(wrong());
    }
    if whole.len() > WHOLE_DIGITS_MAX || fraction.len() > DECIMALS {
        return Err(format!("{}: at most {WHOLE_DIGITS_MAX} digits and {DECIMALS} after the point", wrong()));
    }
    let atto: BigInt = format!("{whole}{fraction:0<DECIMALS$}").parse().map_err(|_| wrong())?;
    Ok(TokenAmount::from_atto(atto))
}

/// An amount in FIL, rounded to what a person reads. Small amounts keep their first digits.
pub fn shown(amount: &TokenAmount) -> String {
    let exact = amount.to_string();
    let Some((whole, fraction)) = exact.split_once('.') else { return exact };
    let leading_zeros =
        if whole.trim_start_matches('-') == "0" { fraction.len() - fraction.trim_start_matches('0').len() } else { 0 };
    let kept = fraction.get(..(leading_zeros + 6).min(fraction.len())).unwrap_or(fraction);
    format!("{whole}.{kept}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_to_the_attofil() {
        let atto = |text| parse(text).map(|amount| amount.atto().to_string());
        for (text, expected) in [
            ("1", "1000000000000000000"),
            ("1.5", "1500000000000000000"),
            (" 0.000000000000000001 FIL", "1"),
            (".25", "250000000000000000"),
            ("2000000000", "2000000000000000000000000000"),
        ] {
            assert_eq!(atto(text), Ok(expected.to_owned()), "{text}");
        }
        for wrong in ["", ".", "-1", "1,5", "1e3", "1.2.3", "0.0000000000000000001", "99999999999", "ten"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn amounts_are_shown_as_short_as_they_are_useful() {
        for (atto, expected) in [
            (0, "0"),
            (1_500_000_000_000_000_000_i64, "1.5"),
            (1_234_567_890_123_456_789, "1.234567"),
            (123, "0.000000000000000123"),
            (4_500_000_000_123, "0.0000045"),
            (-1_500_000_000_000_000_000, "-1.5"),
        ] {
            assert_eq!(shown(&TokenAmount::from_atto(atto)), expected);
        }
    }
}
