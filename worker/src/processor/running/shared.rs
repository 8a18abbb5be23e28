//! The state that the handle, the requests and the supervisor of a process share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::table::{Open, Stop, Table};
use super::tail::Tail;
use super::usage::{self, Baseline, Members};
use super::{Answered, Ended, Limits, Outcome};
use crate::processor::error::ProcessFailure;
use crate::processor::protocol::order::Order;
use crate::processor::protocol::{AnswerResult, Features, Progress};

/// The shared state of one process.
#[derive(Debug)]
pub(super) struct Shared {
    pid: Option<u32>,
    features: Features,
    pub(super) tmp_dir: PathBuf,
    pub(super) limits: Limits,
    pub(super) tail: Tail,
    table: Mutex<Table>,
    /// The members of the process group at the last survey.
    members: Mutex<Vec<u32>>,
    last_heard: Mutex<Instant>,
    lines: mpsc::UnboundedSender<Vec<u8>>,
    wakes: mpsc::UnboundedSender<Wake>,
    doomed: AtomicBool,
    state: watch::Sender<u64>,
    gone: watch::Sender<bool>,
}

/// What wakes the supervisor.
#[derive(Debug)]
pub(super) enum Wake {
    /// End the process, for this reason.
    End(ProcessFailure),
    /// Check the deadlines, because one has changed.
    Look,
}

/// The receiving ends of the channels, for the supervisor.
pub(super) struct Orders {
    pub(super) lines: mpsc::UnboundedReceiver<Vec<u8>>,
    pub(super) wakes: mpsc::UnboundedReceiver<Wake>,
}

impl Shared {
    pub(super) fn new(
        pid: Option<u32>,
        features: Features,
        tmp_dir: PathBuf,
        limits: Limits,
        tail: Tail,
    ) -> (Arc<Self>, Orders) {
        let (lines, to_child) = mpsc::unbounded_channel();
        let (wakes, to_supervisor) = mpsc::unbounded_channel();
        let shared = Self {
            pid,
            features,
            tmp_dir,
            limits,
            tail,
            table: Mutex::default(),
            members: Mutex::new(pid.into_iter().collect()),
            last_heard: Mutex::new(Instant::now()),
            lines,
            wakes,
            doomed: AtomicBool::new(false),
            state: watch::Sender::new(0),
            gone: watch::Sender::new(false),
        };
        (Arc::new(shared), Orders { lines: to_child, wakes: to_supervisor })
    }

    /// Opens a request. Returns its id and, if the child reads files, the directory for a large task.
    pub(super) async fn open(
        &self,
        answer: oneshot::Sender<Outcome>,
        progress: Option<watch::Sender<Option<Progress>>>,
    ) -> Result<(u64, Option<PathBuf>), Ended> {
        let baseline = Baseline::at(self.used());
        let since = Instant::now();
        let mut table = lock(&self.table);
        if table.is_empty()
            && let Some(pid) = self.pid
        {
            usage::reset_peak(pid);
        }
        let id = table.open(Open { answer, progress, since, baseline, peak_rss_bytes: 0, stop_by: None })?;
        drop(table);
        // The supervisor surveys the process group some time after a request has begun.
        let _ = self.wakes.send(Wake::Look);
        Ok((id, self.features.files.then(|| self.tmp_dir.clone())))
    }

    /// Removes a request that was never sent to the child.
    pub(super) fn forget(&self, id: u64) {
        let _ = lock(&self.table).close(id);
    }

    pub(super) fn send(&self, line: Vec<u8>) {
        // If the process is gone, the request learns that in another way.
        let _ = self.lines.send(line);
    }

    /// Delivers the child's answer. An error if the request is not open.
    pub(super) fn answered(&self, id: u64, result: AnswerResult) -> Result<(), ProcessFailure> {
        let used = self.used();
        let peak = self.pid.and_then(usage::peak).unwrap_or(0);
        let mut table = lock(&self.table);
        let open = table.close(id).map_err(|asked| ProcessFailure::WrongId { asked, answered: id })?;
        let unwanted = !table.is_wanted() && !table.is_empty() && !self.features.cancel;
        drop(table);
        let usage = open.baseline.until(&used, open.since.elapsed(), open.peak_rss_bytes.max(peak));
        let _ = open.answer.send(Ok(Answered { result, usage }));
        self.changed();
        if unwanted {
            // Only requests that nobody waits for are left, and this child cannot stop them.
            self.doom(ProcessFailure::Unneeded);
        }
        Ok(())
    }

    /// Whether a request is open. One that nobody waits for any more still counts.
    pub(super) fn check_open(&self, id: u64) -> Result<(), ProcessFailure> {
        let table = lock(&self.table);
        match table.get(id) {
            Some(_) => Ok(()),
            None => Err(ProcessFailure::WrongId { asked: table.oldest(), answered: id }),
        }
    }

    /// Delivers progress. Progress of a request that has already been answered is ignored.
    pub(super) fn progressed(&self, id: u64, progress: Progress) {
        if let Some(sender) = lock(&self.table).get(id).and_then(|open| open.progress.as_ref()) {
            sender.send_replace(Some(progress));
        }
    }

    /// Gives up on a request. If nothing else is open, the process ends, with `failure` as the reason.
    pub(super) fn stop(&self, id: u64, alone_may_go_on: bool, failure: ProcessFailure) {
        let stop = lock(&self.table).stop(id, Instant::now(), self.limits.stop, alone_may_go_on);
        match stop {
            Stop::Nothing => {}
            Stop::Kill => self.doom(failure),
            Stop::Wait(_) => {
                if self.features.cancel {
                    self.send(Order::cancel_line(id));
                }
                let _ = self.wakes.send(Wake::Look);
            }
        }
    }

    /// Asks the supervisor to end the process.
    pub(super) fn doom(&self, failure: ProcessFailure) {
        self.doomed.store(true, Ordering::Relaxed);
        let _ = self.wakes.send(Wake::End(failure));
    }

    /// Records that the process has ended.
    pub(super) fn end(&self, ended: Ended) {
        lock(&self.table).end(ended);
        self.changed();
        self.gone.send_replace(true);
    }

    /// Whether the process has ended, is being ended, or is waiting to be ended.
    pub(super) fn is_over(&self) -> bool {
        self.doomed.load(Ordering::Relaxed)
            || lock(&self.table).over().is_some()
            || !self.pid.is_some_and(usage::is_alive)
    }

    /// Waits until no request is being stopped.
    pub(super) async fn settled(&self) {
        let mut state = self.state.subscribe();
        loop {
            if self.next_stop().is_none() {
                return;
            }
            if state.changed().await.is_err() {
                return;
            }
        }
    }

    pub(super) fn gone(&self) -> watch::Receiver<bool> {
        self.gone.subscribe()
    }

    /// A failure of one request. The process may live on.
    pub(super) fn failed(&self, failure: ProcessFailure) -> Ended {
        Ended { failure, exit: None, stderr_tail: self.tail.lines() }
    }

    pub(super) fn next_stop(&self) -> Option<Instant> {
        lock(&self.table).next_stop()
    }

    pub(super) fn has_requests(&self) -> bool {
        !lock(&self.table).is_empty()
    }

    /// Records that the child has sent something.
    pub(super) fn heard(&self) {
        *lock(&self.last_heard) = Instant::now();
    }

    pub(super) fn silent_for(&self) -> Duration {
        lock(&self.last_heard).elapsed()
    }

    /// Whether the child must send heartbeats.
    pub(super) fn has_heartbeat(&self) -> bool {
        self.features.heartbeat
    }

    /// Reads the members of the process group and their memory use. Blocks.
    pub(super) fn survey(&self) {
        let Some(group) = self.pid else { return };
        let (members, bytes) = usage::survey(group);
        *lock(&self.members) = members.into_keys().collect();
        lock(&self.table).saw_memory(bytes);
    }

    fn used(&self) -> Members {
        usage::used(lock(&self.members).iter())
    }

    fn changed(&self) {
        self.state.send_modify(|version| *version += 1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
