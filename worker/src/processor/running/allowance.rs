//! Limits how much of a child's stderr goes into the log. Nothing here waits or reads a clock.
//!
//! A library that complains in a loop writes hundreds of megabytes in seconds. So each process has an allowance that
//! refills with time. When it is used up, nothing is logged until part of it is back. Then a line says how much was
//! left out.

use std::time::{Duration, Instant};

/// How many bytes may be logged at once.
pub(super) const BURST_BYTES: u64 = 256 << 10;
/// How many bytes may be logged in the long run: 340 MiB a day.
const BYTES_PER_SEC: u64 = 4 << 10;
/// How many bytes must be back before anything is logged again.
const REOPENED_AT_BYTES: u64 = BURST_BYTES / 4;
/// The bytes that the log adds to each line.
const LINE_COST: u64 = 128;

/// The allowance of one process.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u64,
    since: Instant,
    left_out: LeftOut,
}

/// The lines and bytes that were left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) lines: u64,
    pub(super) bytes: u64,
}

/// What to do with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Log it.
    Log,
    /// Log how much was left out, then log the line.
    LogAgain(LeftOut),
    /// Log that lines are left out from here on. This line is the first of them.
    StopLogging,
    /// Leave it out, as the one before.
    LeaveOut,
}

impl Allowance {
    pub(super) fn full(now: Instant) -> Self {
        Self { left: BURST_BYTES, since: now, left_out: LeftOut::default() }
    }

    /// Decides about a line of `bytes` bytes that arrived at `now`.
    pub(super) fn judge(&mut self, bytes: usize, now: Instant) -> Verdict {
        self.fill(now);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let cost = bytes.saturating_add(LINE_COST);
        let closed = self.left_out != LeftOut::default();
        let needed = if closed { REOPENED_AT_BYTES.max(cost) } else { cost };
        if self.left < needed {
            self.left_out.lines += 1;
            self.left_out.bytes = self.left_out.bytes.saturating_add(bytes);
            return if closed { Verdict::LeaveOut } else { Verdict::StopLogging };
        }
        self.left -= cost;
        match closed {
            true => Verdict::LogAgain(std::mem::take(&mut self.left_out)),
            false => Verdict::Log,
        }
    }

    /// What has been left out and not been reported yet.
    pub(super) fn left_out(&self) -> Option<LeftOut> {
        Some(self.left_out).filter(|left_out| *left_out != LeftOut::default())
    }

    fn fill(&mut self, now: Instant) {
        let millis = u64::try_from(now.saturating_duration_since(self.since).as_millis()).unwrap_or(u64::MAX);
        let more = millis.saturating_mul(BYTES_PER_SEC) / 1000;
        if more > 0 {
            self.left = self.left.saturating_add(more).min(BURST_BYTES);
            // The remainder that does not refill a whole byte is kept for the next time.
            let used = Duration::from_millis(more.saturating_mul(1000).div_ceil(BYTES_PER_SEC));
            self.since = self.since.checked_add(used).unwrap_or(now).min(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_left_out_and_counted_and_what_comes_later_is_logged_again() {
        let begin = Instant::now();
        let mut allowance = Allowance::full(begin);
        let mut logged = 0;
        while allowance.judge(872, begin) == Verdict::Log {
            logged += 1;
        }
        assert_eq!((logged, allowance.left_out()), (BURST_BYTES / 1000, Some(LeftOut { lines: 1, bytes: 872 })));
        for _ in 0..1_000_000 {
            assert_eq!(allowance.judge(1000, begin), Verdict::LeaveOut);
        }
        // One line would fit, but logging it would alternate lines with notes about omissions.
        assert_eq!(allowance.judge(10, begin + Duration::from_secs(3)), Verdict::LeaveOut);
        let left_out = LeftOut { lines: 1_000_002, bytes: 1_000_000_882 };
        assert_eq!(allowance.judge(10, begin + Duration::from_secs(17)), Verdict::LogAgain(left_out));
        assert_eq!((allowance.judge(10, begin + Duration::from_secs(17)), allowance.left_out()), (Verdict::Log, None));
    }

    #[test]
    fn in_the_long_run_no_more_is_logged_than_is_allowed_however_the_lines_come() {
        for (bytes, apart) in [(0, 1), (10, 7), (4096, 100)] {
            let begin = Instant::now();
            let (mut allowance, mut logged, mut millis) = (Allowance::full(begin), 0, 0);
            while millis < 600_000 {
                let verdict = allowance.judge(bytes, begin + Duration::from_millis(millis));
                if matches!(verdict, Verdict::Log | Verdict::LogAgain(_)) {
                    logged += bytes as u64 + LINE_COST;
                }
                millis += apart;
            }
            assert!(logged <= BURST_BYTES + 600 * BYTES_PER_SEC, "{bytes} bytes every {apart} ms: {logged}");
            assert!(logged >= 600 * BYTES_PER_SEC / 2, "{bytes} bytes every {apart} ms: {logged}");
        }
    }
}
