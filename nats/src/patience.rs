//! Waiting for something unavailable, with growing pauses and few log lines.

use std::time::{Duration, Instant};

use crate::publish::Backoff;

/// Waits for one thing. Logs once that it is unavailable and why, again for each new cause, and once when it is back.
#[derive(Debug)]
pub struct Patience {
    first: Duration,
    max: Duration,
    backoff: Backoff,
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    tries: u64,
    /// The causes that were logged, without the parts that change from try to try.
    said: Vec<String>,
}

/// How many logged causes of one wait are remembered. Older ones are logged again.
const CAUSES: usize = 8;

impl Patience {
    /// Pauses start at `first` and double up to `max`.
    pub const fn new(first: Duration, max: Duration) -> Patience {
        Patience { first, max, backoff: Backoff::new(first, max), waiting: None }
    }

    /// A try failed. Logs a new cause, and returns how long to pause.
    pub fn failed(&mut self, what: &str, cause: &str) -> Duration {
        let pause = self.backoff.next_pause();
        let retry_in_ms = pause.as_millis() as u64;
        if self.is_news(cause) {
            tracing::warn!(cause, retry_in_ms, "{what}; trying again");
        } else {
            tracing::debug!(cause, retry_in_ms, "{what}; trying again");
        }
        pause
    }

    /// A try succeeded. Logs that if there was a wait.
    pub fn mended(&mut self, what: &str) {
        self.backoff = Backoff::new(self.first, self.max);
        if let Some(Waiting { since, tries, .. }) = self.waiting.take() {
            tracing::info!(waited_secs = since.elapsed().as_secs(), tries, "{what}");
        }
    }

    /// Whether there is a wait.
    pub const fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Counts a try, and returns whether its cause is new.
    fn is_news(&mut self, cause: &str) -> bool {
        let cause = without_numbers(cause);
        let waiting = self.waiting.get_or_insert_with(|| Waiting { since: Instant::now(), tries: 0, said: Vec::new() });
        waiting.tries += 1;
        if waiting.said.contains(&cause) {
            return false;
        }
        if waiting.said.len() == CAUSES {
            waiting.said.remove(0);
        }
        waiting.said.push(cause);
        true
    }
}

/// The cause without numbers that change from try to try: ports, times, heights. Names with digits stay, such as a
/// miner's.
fn without_numbers(cause: &str) -> String {
    let words = cause.split_inclusive(|c: char| !c.is_alphanumeric() && c != '_');
    words.filter(|word| !word.starts_with(|c: char| c.is_ascii_digit())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_news_once_whatever_numbers_it_names() {
        let mut patience = Patience::new(Duration::from_millis(1), Duration::from_millis(4));
        assert!(patience.is_news("no answer within 5 s") && patience.is_waiting());
        assert!(!patience.is_news("no answer within 31 s"));
        assert!(patience.is_news("no queue f01000_seal") && patience.is_news("no queue f02000_seal"), "two things");
        assert!(patience.is_news("read-only"));
        assert!(!patience.is_news("no answer within 7 s"), "causes that take turns are not said at each turn");
        patience.mended("it answers");
        assert!(!patience.is_waiting() && patience.is_news("no answer within 5 s"), "the next wait is another one");
    }

    #[test]
    fn pauses_grow_up_to_their_limit_and_begin_anew_when_it_is_there() {
        let (first, max) = (Duration::from_secs(1), Duration::from_secs(8));
        let mut patience = Patience::new(first, max);
        assert!(patience.failed("x", "y") <= first);
        let last = (0..9).map(|_| patience.failed("x", "y")).last().expect("a pause");
        assert!(last >= max / 2 && last <= max, "{last:?}");
        patience.mended("x");
        assert!(patience.failed("x", "y") <= first);
    }
}
