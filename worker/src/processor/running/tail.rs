//! The last lines of a child's stderr, and how much of them is logged.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, BufReader};

use super::allowance::{Allowance, LeftOut, Verdict};
use crate::processor::lines::{Line, read_line};

const LINE_BYTES_MAX: usize = 4096;
const LINES_KEPT: usize = 50;
/// The pipe may still hold what the child wrote before its answer. This is how often we check whether more has arrived.
const SETTLE_PERIOD: Duration = Duration::from_millis(20);
const SETTLE_LOOKS: usize = 10;

/// The lines that are kept. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Tail(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<String>,
    /// The number of all lines that ever arrived.
    count: u64,
}

impl Tail {
    /// The lines, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.iter().cloned().collect()
    }

    /// The lines, once no more arrive, or after a moment.
    pub(super) async fn settled(&self) -> Vec<String> {
        let mut count = self.lock().count;
        for _ in 0..SETTLE_LOOKS {
            tokio::time::sleep(SETTLE_PERIOD).await;
            let now = self.lock().count;
            if now == count {
                break;
            }
            count = now;
        }
        self.lines()
    }

    /// Keeps the last lines from the pipe until it ends. Logs as many lines as the [`Allowance`] permits.
    pub(super) async fn follow(self, stderr: impl AsyncRead + Unpin, processor: String) {
        let mut from = BufReader::new(stderr);
        let mut line = Vec::new();
        let mut allowance = Allowance::full(Instant::now());
        while let Ok(end) = read_line(&mut from, &mut line, LINE_BYTES_MAX).await {
            if end != Line::End || !line.is_empty() {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                log(&processor, &text, allowance.judge(text.len(), Instant::now()));
                self.push(text);
            }
            if end == Line::End {
                break;
            }
        }
        if let Some(left_out) = allowance.left_out() {
            tell(&processor, left_out);
        }
    }

    fn push(&self, line: String) {
        let mut kept = self.lock();
        kept.count += 1;
        if kept.lines.len() == LINES_KEPT {
            kept.lines.pop_front();
        }
        kept.lines.push_back(line);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log(processor: &str, text: &str, verdict: Verdict) {
    match verdict {
        Verdict::Log => {}
        Verdict::LogAgain(left_out) => tell(processor, left_out),
        Verdict::StopLogging => {
            tracing::warn!(processor, "it writes more to stderr than may be logged: lines are left out from here on");
            return;
        }
        Verdict::LeaveOut => return,
    }
    tracing::info!(target: "sealbus_worker::processor::stderr", processor, "{text}");
}

fn tell(processor: &str, LeftOut { lines, bytes }: LeftOut) {
    tracing::warn!(processor, lines, bytes, "this much of its stderr was left out of the log");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_lines_are_kept_also_of_a_flood() {
        let flood: String = (0..100_000).map(|number| format!("line {number}\n")).collect();
        let tail = Tail::default();
        tail.clone().follow(flood.as_bytes(), "c2-0".to_owned()).await;
        let lines = tail.settled().await;
        assert_eq!((lines.len(), lines[0].as_str(), lines[49].as_str()), (50, "line 99950", "line 99999"));
    }
}
