//! What an ended processor leaves behind, found by descent.
//!
//! The mark in the environment (`running::descendants`) is lost where a process clears its environment, and the process
//! group where it begins a session of its own. Its descent is not: the kernel gives a process whose parent has ended to
//! the nearest ancestor that adopts orphans. Every processor adopts those of its own offspring, so what it has started
//! hangs below it as long as it lives; and the worker adopts what is left when a processor ends. So whoever is a child of
//! the worker, and was not started by it, is left over from a processor that is gone. The processor that stands between
//! the worker and somebody else's executable does the same with what that executable leaves.
//!
//! That holds only in a process that starts all its children through [`start`], so nothing is done before [`adopt`], which
//! also notes the children that are there already: a script may have become this process.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid};

use super::running::usage;

/// How long a killed process may take to end.
const END_WAIT: Duration = Duration::from_secs(2);
const LOOK_PERIOD: Duration = Duration::from_millis(2);

/// The children that somebody answers for; none before [`adopt`].
static CHILDREN: Mutex<Option<Known>> = Mutex::new(None);

#[derive(Debug)]
struct Known {
    /// Those that were started here and are not waited for yet.
    own: BTreeSet<u32>,
    /// Those of the script that became this process.
    before: BTreeSet<u32>,
}

/// A child of this process. When it is dropped, the child counts as one that nobody knows.
#[derive(Debug)]
pub struct OwnChild(Option<u32>);

/// Has orphans among the offspring of this process given to it, also after it has become another program. That one may
/// have children then that it has not started.
///
/// # Errors
/// Of the kernel.
pub fn adopt_in_whatever_follows() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Has orphans among the offspring of this process given to it, for [`kill_orphans`].
///
/// # Errors
/// Of the kernel.
pub fn adopt() -> io::Result<()> {
    adopt_in_whatever_follows()?;
    lock().get_or_insert_with(|| Known { own: BTreeSet::new(), before: children().collect() });
    Ok(())
}

/// Starts a child that is not to be taken for an orphan.
///
/// # Errors
/// As `spawn`.
pub fn start<C>(
    spawn: impl FnOnce() -> io::Result<C>,
    pid: impl FnOnce(&C) -> Option<u32>,
) -> io::Result<(C, OwnChild)> {
    // Held over the start: nobody looks at the children between it and the note.
    let mut children = lock();
    let child = spawn()?;
    let pid = pid(&child);
    if let (Some(known), Some(pid)) = (&mut *children, pid) {
        known.own.insert(pid);
    }
    Ok((child, OwnChild(pid)))
}

/// Kills the children that were not started here, with all that comes out of them; says how many. Takes a few seconds at
/// most.
pub fn kill_orphans() -> usize {
    kill_until(Instant::now() + END_WAIT, &|known, pid| known.own.contains(&pid) || known.before.contains(&pid))
}

/// Kills all children, at the end of a process that has [adopted](adopt). Takes a few seconds at most.
pub fn kill_all() -> usize {
    kill_until(Instant::now() + END_WAIT, &|known, pid| known.before.contains(&pid))
}

fn kill_until(deadline: Instant, spared: &dyn Fn(&Known, u32) -> bool) -> usize {
    let mut killed = BTreeSet::new();
    loop {
        let orphans = children_but(spared);
        for orphan in &orphans {
            // Its own children come here when it has ended; they are seen the next time.
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
            tracing::warn!(left = orphans.len(), "what an ended processor left behind does not end");
            return killed.len();
        }
        std::thread::sleep(LOOK_PERIOD);
    }
}

/// Our children but some, also those that have ended and were not waited for; none before [`adopt`].
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
