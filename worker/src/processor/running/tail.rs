//! The last lines of a child's stderr.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::BufReader;
use tokio::process::ChildStderr;

use crate::processor::lines::{Line, read_line};

const LINE_BYTES_MAX: usize = 4096;
const LINES_KEPT: usize = 50;

/// The lines that are kept. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    /// The lines, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Logs and keeps what comes out of the pipe, until it ends.
    pub(super) async fn follow(self, stderr: ChildStderr, processor: String) {
        let mut from = BufReader::new(stderr);
        let mut line = Vec::new();
        loop {
            let end = match read_line(&mut from, &mut line, LINE_BYTES_MAX).await {
                Ok(end) => end,
                Err(_) => return,
            };
            if end != Line::End || !line.is_empty() {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                tracing::info!(target: "sealbus_worker::processor::stderr", processor, "{text}");
                self.push(text);
            }
            if end == Line::End {
                return;
            }
        }
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES_KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}
