//! A child that leads a process group, and its end.

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

/// How long a process that closed its pipe, or was killed, is waited for.
pub(super) const END_WAIT: Duration = Duration::from_secs(2);

/// A child that leads a process group. Dropping it kills the group.
#[derive(Debug)]
pub(super) struct Group {
    child: Child,
    /// The group's number, until it has been killed. While the leader has not been waited for, or the group has
    /// members, nobody else can get the number; after a wait the kill follows at once.
    number: Option<Pid>,
    mark: Mark,
    /// After the child: it is nobody's orphan as long as it can be waited for.
    _own: OwnChild,
}

impl Group {
    pub(super) fn of(child: Child, own: OwnChild, mark: Mark) -> Self {
        let number = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { child, number, mark, _own: own }
    }

    /// The leader's process id, unless it has been waited for.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until the leader has ended. Can be dropped and called again.
    pub(super) async fn wait(&mut self) -> Option<ExitStatus> {
        self.child.wait().await.ok()
    }

    /// Kills whatever of the process still lives, also what left its group, and collects how it ended. Only an end of
    /// its own accord is told as such. Takes a few seconds at most.
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
        // All writers are dead by now.
        let _ = timeout(END_WAIT / 4, stderr).await;
        Ended { failure, exit: own_end.map(exit_of), stderr_tail: tail.lines() }
    }

    fn kill(&mut self) {
        if let Some(number) = self.number.take() {
            // No such group: all have ended.
            let _ = kill_process_group(number, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
