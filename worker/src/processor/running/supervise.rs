//! The tasks behind a process: one writes to it, one reads from it, and one supervises it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::group::{END_WAIT, Group};
use super::shared::{Orders, Shared, Wake};
use crate::processor::error::ProcessFailure;
use crate::processor::lines::{Line, read_line};
use crate::processor::protocol::said::Said;
use crate::processor::protocol::{AnswerResult, large};

/// Longer lines, in bytes, are parsed on a blocking thread.
const PARSED_HERE_BYTES: usize = 1 << 18;
/// When the process group is surveyed: soon after work has begun, then at a regular interval.
const FIRST_SURVEY: Duration = Duration::from_millis(300);
const NEXT_SURVEY: Duration = Duration::from_secs(5);

/// Starts the tasks. They end with the process.
pub(super) fn begin(
    shared: Arc<Shared>,
    orders: Orders,
    group: Group,
    (stdin, stdout, stderr): (ChildStdin, BufReader<ChildStdout>, JoinHandle<()>),
) {
    let Orders { lines, wakes } = orders;
    let writer = tokio::spawn(write(stdin, lines));
    let reader = tokio::spawn(read(Arc::clone(&shared), stdout));
    let supervisor = Supervisor { shared, wakes, group, writer, reader, stderr, suspected: None, survey_at: None };
    tokio::spawn(supervisor.run());
}

/// Writes the queued lines. A child that is gone or does not read is detected elsewhere.
async fn write(mut stdin: ChildStdin, mut lines: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(line) = lines.recv().await {
        if stdin.write_all(&line).await.is_err() {
            return;
        }
    }
}

async fn read(shared: Arc<Shared>, mut stdout: BufReader<ChildStdout>) {
    let mut line = Vec::new();
    let failure = loop {
        match read_line(&mut stdout, &mut line, shared.limits.line_bytes).await {
            Ok(Line::Whole) => {}
            Ok(Line::TooLong) => break ProcessFailure::TooLarge(shared.limits.line_bytes),
            Ok(Line::End) | Err(_) => break ProcessFailure::Exited,
        }
        shared.heard();
        let taken = take(&shared, &mut line).await;
        shared.heard();
        if let Err(failure) = taken {
            break failure;
        }
    };
    shared.doom(failure);
}

/// Handles one line.
async fn take(shared: &Arc<Shared>, line: &mut Vec<u8>) -> Result<(), ProcessFailure> {
    let said = match line.len() {
        0..=PARSED_HERE_BYTES => Said::read(line),
        _ => {
            let line = std::mem::take(line);
            let read = tokio::task::spawn_blocking(move || Said::read(&line)).await;
            read.unwrap_or_else(|error| Err(error.to_string()))
        }
    };
    match said.map_err(ProcessFailure::Garbage)? {
        Said::Heartbeat => Ok(()),
        Said::Progress { id, progress } => {
            shared.progressed(id, progress);
            Ok(())
        }
        Said::Answer { id, result } => shared.answered(id, result),
        Said::OutputFile { id, path } => {
            shared.check_open(id)?;
            let (dir, bytes) = (shared.tmp_dir.clone(), shared.limits.file_bytes);
            let taken = tokio::task::spawn_blocking(move || large::take(&dir, &path, bytes)).await;
            let output = taken.unwrap_or_else(|error| Err(error.to_string())).map_err(ProcessFailure::BadFile)?;
            shared.answered(id, AnswerResult::Output(output))
        }
    }
}

struct Supervisor {
    shared: Arc<Shared>,
    wakes: mpsc::UnboundedReceiver<Wake>,
    group: Group,
    writer: JoinHandle<()>,
    reader: JoinHandle<()>,
    stderr: JoinHandle<()>,
    /// Since when the child has seemed silent. It is given some more time, so that lines that piled up while this
    /// machine was suspended can be read.
    suspected: Option<Instant>,
    survey_at: Option<Instant>,
}

impl Supervisor {
    async fn run(mut self) {
        let failure = self.watch().await;
        let Self { shared, group, writer, reader, stderr, .. } = self;
        writer.abort();
        reader.abort();
        let ended = group.end(failure, &shared.tail, stderr).await;
        shared.end(ended);
    }

    /// Returns when the process has ended or must end.
    async fn watch(&mut self) -> ProcessFailure {
        loop {
            if let Some(failure) = self.look() {
                return failure;
            }
            let next = self.next_look();
            tokio::select! {
                biased;
                wake = self.wakes.recv() => match wake {
                    Some(Wake::End(failure)) => return failure,
                    Some(Wake::Look) => {}
                    None => return ProcessFailure::Unneeded,
                },
                _ = self.group.wait() => return self.last_words().await,
                () = sleep_until(next) => {}
            }
        }
    }

    /// The process has ended by itself. Its own children may still hold its stdout open, so the end of stdout is
    /// awaited only for a short time. An answer that was left in the pipe counts.
    async fn last_words(&mut self) -> ProcessFailure {
        let _ = timeout(END_WAIT / 4, &mut self.reader).await;
        while let Ok(wake) = self.wakes.try_recv() {
            if let Wake::End(failure) = wake {
                return failure;
            }
        }
        ProcessFailure::Exited
    }

    /// Returns a failure if a limit has passed. Starts whatever is due.
    fn look(&mut self) -> Option<ProcessFailure> {
        let now = Instant::now();
        if self.shared.next_stop().is_some_and(|stop_by| stop_by <= now) {
            return Some(ProcessFailure::Stopped);
        }
        let limit = self.shared.limits.silence;
        // The process gets a quarter of the limit more. After a suspend of this machine its heartbeats may still be
        // unread.
        if self.shared.has_heartbeat() && self.shared.silent_for() >= limit {
            if now >= *self.suspected.get_or_insert(now) + limit / 4 {
                return Some(ProcessFailure::Silent(limit));
            }
        } else {
            self.suspected = None;
        }
        match (self.shared.has_requests(), self.survey_at) {
            (false, _) => self.survey_at = None,
            // Soon after a request has begun, so that children which live only for a short time are seen too.
            (true, None) => self.survey_at = Some(now + FIRST_SURVEY),
            (true, Some(at)) if at <= now => {
                let shared = Arc::clone(&self.shared);
                tokio::task::spawn_blocking(move || shared.survey());
                self.survey_at = Some(now + NEXT_SURVEY);
            }
            (true, Some(_)) => {}
        }
        None
    }

    fn next_look(&self) -> Option<Instant> {
        let limit = self.shared.limits.silence;
        let silence = self.shared.has_heartbeat().then(|| match self.suspected {
            Some(since) => since + limit / 4,
            None => Instant::now() + limit.saturating_sub(self.shared.silent_for()),
        });
        [self.shared.next_stop(), silence, self.survey_at].into_iter().flatten().min()
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
