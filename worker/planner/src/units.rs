//! Times and sizes as people write them.

/// A text that is not a time or not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a time.
    #[error("{0:?} is not a time: write such as 3h, 10m, 1h30m, 45s or 7ms")]
    Time(String),
    /// Not a size.
    #[error("{0:?} is not a size: write such as 32GiB, 1.9TB or a number of bytes")]
    Size(String),
}

const TIMES: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: [(&str, u64); 10] = [
    ("b", 1),
    ("", 1),
    ("kb", 1000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];
/// The longest accepted time: far more than any phase takes, and small enough for sums.
const TIME_MS_MAX: u64 = 10_000 * 86_400_000;

/// Parses a time and returns milliseconds. It consists of numbers with `d`, `h`, `m`, `s` or `ms`, largest unit first.
/// A number without a unit means seconds.
pub fn parse_time_ms(text: &str) -> Result<u64, UnitError> {
    let failed = || UnitError::Time(text.to_owned());
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(failed());
    }
    let mut total = 0_u64;
    let mut last = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        rest = after.trim_start();
        let unit = if unit.is_empty() && last == u64::MAX && rest.is_empty() { "s" } else { unit };
        let each = TIMES.iter().find(|(name, _)| *name == unit).map(|(_, each)| *each).ok_or_else(failed)?;
        let number: f64 = number.parse().map_err(|_| failed())?;
        let sum = total as f64 + number * each as f64;
        if each >= last || sum > TIME_MS_MAX as f64 {
            return Err(failed());
        }
        total = sum.round() as u64;
        last = each;
    }
    Ok(total)
}

/// Parses a size with a binary (`GiB`) or decimal (`GB`) unit and returns bytes.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    let failed = || UnitError::Size(text.to_owned());
    let trimmed = text.trim();
    let digits = trimmed.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let each = SIZES.iter().find(|(name, _)| *name == unit).map(|(_, each)| *each).ok_or_else(failed)?;
    let number: f64 = number.parse().map_err(|_| failed())?;
    let bytes = number * each as f64;
    if bytes > (1_u64 << 60) as f64 { Err(failed()) } else { Ok(bytes as u64) }
}

/// A time for people, in its two largest units.
#[must_use]
pub fn time(ms: u64) -> String {
    if ms < 1000 {
        return format!("{ms} ms");
    }
    let secs = (ms + 500) / 1000;
    let (hours, minutes, seconds) = (secs / 3600, secs / 60 % 60, secs % 60);
    match (hours, minutes, seconds) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, 0, _) => format!("{hours} h"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// A size for people, with a binary unit.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    let (unit, each) = match bytes {
        0..0x400 => return format!("{bytes} bytes"),
        0x400..0x10_0000 => ("KiB", 1_u64 << 10),
        0x10_0000..0x4000_0000 => ("MiB", 1 << 20),
        0x4000_0000..0x200_0000_0000 => ("GiB", 1 << 30),
        _ => ("TiB", 1 << 40),
    };
    let value = bytes as f64 / each as f64;
    if bytes.is_multiple_of(each) || value >= 99.5 {
        format!("{value:.0} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// A rate for people. Small rates have more digits.
#[must_use]
pub fn rate(per_day: f64) -> String {
    match per_day {
        value if value >= 1000.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}
