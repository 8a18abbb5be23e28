//! A child that leads a process group, and how the group is ended.

use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::Ended;
use super::descendants::{self, Mark};
use super::tail::Tail;
use crate::processor::error::{ProcessFailure, exit_of};
use crate::processor::orphans::{self, OwnChild};

/// How long to wait for a process that has closed its pipe or has been killed.
pub(super) const END_WAIT: Duration = Duration::from_secs(2);

/// A child that leads a process group. Dropping it kills the group.
#[derive(Debug)]
pub(super) struct Group {
    child: Child,
    /// The process group's id, until the group has been killed. The kernel does not reuse the id while the leader has
    /// not been reaped or the group has members. After the leader has been reaped, the kill follows at once.
    number: Option<Pid>,
    mark: Mark,
    /// Declared after the child: as long as the child can be reaped, it must not count as an orphan.
    _own: OwnChild,
}

impl Group {
    pub(super) fn of(child: Child, own: OwnChild, mark: Mark) -> Self {
        let number = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { child, number, mark, _own: own }
    }

    /// The leader's process id; `None` once it has been reaped.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until the leader has ended. Cancel safe.
    pub(super) async fn wait(&mut self) -> Option<ExitStatus> {
        self.child.wait().await.ok()
    }

    /// Kills whatever is left of the processor, including processes that left its group, and reports how it ended. An
    /// exit status is reported only if the process ended by itself. Takes a few seconds at most.
    pub(super) async fn end(mut self, failure: ProcessFailure, tail: &Tail, stderr: JoinHandle<()>) -> Ended {
        let by_itself = matches!(failure, ProcessFailure::Exited | ProcessFailure::ExitedAtStart);
        let own_end = match by_itself {
            true => timeout(END_WAIT / 4, self.wait()).await.ok().flatten(),
            false => self.child.try_wait().ok().flatten(),
        };
        self.kill();
        if own_end.is_none() {
            let _ = timeout(END_WAIT, self.wait()).await;
        }
        let mark = self.mark.clone();
        let strays = tokio::task::spawn_blocking(move || descendants::kill_marked(&mark) + orphans::kill_orphans());
        if let Ok(Ok(killed @ 1..)) = timeout(2 * END_WAIT, strays).await {
            tracing::info!(killed, "killed what a processor had left behind outside its process group");
        }
        // All processes that could write to stderr are dead by now.
        let _ = timeout(END_WAIT / 4, stderr).await;
        Ended { failure, exit: own_end.map(exit_of), stderr_tail: tail.lines() }
    }

    fn kill(&mut self) {
        if let Some(number) = self.number.take() {
            // An error means that the group is empty: all have ended.
            let _ = kill_process_group(number, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
