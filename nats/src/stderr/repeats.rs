//! Which lines of the log are repetitions. Without IO; time is an argument.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    time::{Duration, Instant},
};

/// How often the same line is written in [`WINDOW`].
const ALLOWED: u32 = 4;
const WINDOW: Duration = Duration::from_secs(60);
/// How many lines are remembered. More different ones in a minute are all written.
const REMEMBERED: usize = 10_000;

/// The lines since the beginning of a window, by their hashes, and how often there was each.
#[derive(Debug)]
pub struct Repeats {
    since: Option<Instant>,
    seen: BTreeMap<u64, u32>,
}

impl Repeats {
    /// No lines yet.
    pub const fn new() -> Repeats {
        Repeats { since: None, seen: BTreeMap::new() }
    }

    /// Whether a line is written. Its time does not count.
    pub fn admit(&mut self, line: &str, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            self.since = Some(now);
            self.seen.clear();
        }
        let mut hasher = DefaultHasher::new();
        without_time(line).hash(&mut hasher);
        let key = hasher.finish();
        if self.seen.len() == REMEMBERED && !self.seen.contains_key(&key) {
            return true;
        }
        let times = self.seen.entry(key).or_insert(0);
        *times = times.saturating_add(1);
        *times <= ALLOWED
    }
}

/// An event's text begins with its time and a space, its JSON with the field `timestamp`.
fn without_time(line: &str) -> &str {
    let end = if line.starts_with('{') { line.find(',') } else { line.find(' ') };
    end.map_or(line, |end| &line[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_line_is_written_a_few_times_a_minute_whatever_its_time_and_format() {
        let (mut repeats, start) = (Repeats::new(), Instant::now());
        let mut written = |line: &dyn Fn(u64) -> String, from: u64| -> usize {
            let at = |second| start + Duration::from_secs(second);
            (from..from + 50).filter(|second| repeats.admit(&line(*second), at(*second))).count()
        };
        assert_eq!(written(&|second| format!("00:00:{second}Z  WARN away node=1"), 0), 4);
        assert_eq!(written(&|second| format!("{{\"timestamp\":\"{second}\",\"level\":\"WARN\"}}"), 5), 4);
        assert_eq!(written(&|second| format!("00:00:{second}Z  WARN sector={second}"), 9), 50, "they differ");
        assert_eq!(written(&|second| format!("00:01:{second}Z  WARN away node=1"), 200), 4, "a minute later");
    }
}
