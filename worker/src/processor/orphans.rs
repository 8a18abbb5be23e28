//! Finds the processes that an ended processor has left behind, by their ancestry.
//!
//! The mark in the environment (`running::descendants`) is lost when a process clears its environment. The process
//! group is lost when a process starts its own session. Ancestry cannot be shed: when a parent ends, the kernel
//! reparents its children to the nearest ancestor that is a subreaper. Every processor is a subreaper, so what it
//! starts stays below it as long as it lives. The worker is one too, and inherits what remains when a processor ends.
//! So a child of the worker that the worker did not start is left over from an ended processor. The processor that runs
//! a third-party executable does the same with what that executable leaves behind.
//!
//! This works only if the process starts all its children through [`start`]. So nothing is done before [`adopt`]. That
//! call also records the children that exist already: a script may have become this process by `exec`.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid};

use super::running::usage;

/// How long to wait for killed processes to end.
const END_WAIT: Duration = Duration::from_secs(2);
const LOOK_PERIOD: Duration = Duration::from_millis(2);

/// The children that are accounted for; `None` before [`adopt`].
static CHILDREN: Mutex<Option<Known>> = Mutex::new(None);

#[derive(Debug)]
struct Known {
    /// Children started here that have not been reaped yet.
    own: BTreeSet<u32>,
    /// Children that existed at [`adopt`], such as those of a script that became this process.
    before: BTreeSet<u32>,
}

/// A registered child of this process. When this is dropped, the child counts as an orphan.
#[derive(Debug)]
pub struct OwnChild(Option<u32>);

/// Makes this process a subreaper, also after it has become another program by `exec`. That program may then get
/// children that it has not started.
///
/// # Errors
/// [`io::Error`] from the kernel.
pub fn adopt_in_whatever_follows() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Makes this process a subreaper, so that [`kill_orphans`] finds the orphans.
///
/// # Errors
/// [`io::Error`] from the kernel.
pub fn adopt() -> io::Result<()> {
    adopt_in_whatever_follows()?;
    lock().get_or_insert_with(|| Known { own: BTreeSet::new(), before: children().collect() });
    Ok(())
}

/// Starts a child and registers it, so that it is not taken for an orphan.
///
/// # Errors
/// The error of `spawn`.
pub fn start<C>(
    spawn: impl FnOnce() -> io::Result<C>,
    pid: impl FnOnce(&C) -> Option<u32>,
) -> io::Result<(C, OwnChild)> {
    // The lock is held during the start, so that nobody lists the children before the new one is registered.
    let mut children = lock();
    let child = spawn()?;
    let pid = pid(&child);
    if let (Some(known), Some(pid)) = (&mut *children, pid) {
        known.own.insert(pid);
    }
    Ok((child, OwnChild(pid)))
}

/// Kills the children that were not started here, and all their descendants. Returns how many. Takes a few seconds at
/// most.
pub fn kill_orphans() -> usize {
    kill_until(Instant::now() + END_WAIT, &|known, pid| known.own.contains(&pid) || known.before.contains(&pid))
}

/// Kills all children. Called at the end of a process that has called [`adopt`]. Takes a few seconds at most.
pub fn kill_all() -> usize {
    kill_until(Instant::now() + END_WAIT, &|known, pid| known.before.contains(&pid))
}

fn kill_until(deadline: Instant, spared: &dyn Fn(&Known, u32) -> bool) -> usize {
    let mut killed = BTreeSet::new();
    loop {
        let orphans = children_but(spared);
        for orphan in &orphans {
            // When the orphan has ended, its own children become ours, and the next round finds them.
            let pid = orphan.as_raw_nonzero();
            if pid.get().try_into().is_ok_and(usage::is_alive)
                && kill_process(*orphan, Signal::KILL).is_ok()
                && killed.insert(pid)
            {
                tracing::debug!(pid, "killed what an ended processor had left behind");
            }
            let _ = waitpid(Some(*orphan), WaitOptions::NOHANG);
        }
        if orphans.is_empty() {
            return killed.len();
        }
        if Instant::now() >= deadline {
            tracing::warn!(left = orphans.len(), "killed processes of an ended processor have not ended");
            return killed.len();
        }
        std::thread::sleep(LOOK_PERIOD);
    }
}

/// Our children except the spared ones, zombies included. Empty before [`adopt`].
fn children_but(spared: &dyn Fn(&Known, u32) -> bool) -> Vec<Pid> {
    match &*lock() {
        Some(known) => children().filter(|pid| !spared(known, *pid)).filter_map(number).collect(),
        None => Vec::new(),
    }
}

fn children() -> impl Iterator<Item = u32> {
    let own = u64::from(std::process::id());
    usage::processes().filter(move |pid| usage::stat(*pid).is_some_and(|found| found.parent == own))
}

fn number(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

impl Drop for OwnChild {
    fn drop(&mut self) {
        if let (Some(known), Some(pid)) = (&mut *lock(), self.0) {
            known.own.remove(&pid);
        }
    }
}

fn lock() -> MutexGuard<'static, Option<Known>> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}
