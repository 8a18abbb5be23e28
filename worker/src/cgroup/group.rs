//! One control group: it holds a processor and everything that the processor starts.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{CgroupError, Meter, Unapplied, Usage, interface};

/// How long killed processes are waited for.
const END_MAX: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// An existing group. Dropping this does not remove the group: that is done by [`Group::kill_and_remove`], or at the
/// next start ([`super::CgroupRoot::remove_leftovers`]).
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    unapplied: Vec<Unapplied>,
}

impl Group {
    pub(super) fn new(path: PathBuf, unapplied: Vec<Unapplied>) -> Self {
        Self { path, unapplied }
    }

    /// The group's directory, for [`super::enter`].
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The limits that could not be applied.
    #[must_use]
    pub fn unapplied(&self) -> &[Unapplied] {
        &self.unapplied
    }

    /// Moves a process into the group. Children that it has already started stay where they are, so it is better if a
    /// child enters by itself ([`super::enter`]).
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    pub fn add(&self, pid: u32) -> Result<(), CgroupError> {
        interface::write(&self.path, "cgroup.procs", &pid.to_string())
    }

    /// The processes directly in the group, without those of its subgroups.
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        interface::pids(&self.path)
    }

    /// What the group uses now and has used.
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    pub fn usage(&self) -> Result<Usage, CgroupError> {
        Usage::read(&self.path)
    }

    /// Begins to measure one request.
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    pub fn meter(&self) -> Result<Meter, CgroupError> {
        Meter::start(&self.path)
    }

    /// Kills everything in the group, waits until it has ended, and removes the group.
    ///
    /// # Errors
    /// [`CgroupError::Busy`] if something does not end; [`CgroupError::Io`].
    pub fn kill_and_remove(self) -> Result<(), CgroupError> {
        kill_and_remove(&self.path).map(drop)
    }
}

/// Like [`Group::kill_and_remove`], for the group at `path`. Returns how many processes were killed. The group may be
/// gone already.
pub(super) fn kill_and_remove(path: &Path) -> Result<usize, CgroupError> {
    let killed = all_pids(path)?.len();
    let begun = Instant::now();
    loop {
        kill(path)?;
        match remove(path) {
            Ok(()) => return Ok(killed),
            // A killed process stays in its group until the kernel has torn it down.
            Err(CgroupError::Io { source, .. })
                if source.kind() == io::ErrorKind::ResourceBusy && begun.elapsed() < END_MAX =>
            {
                thread::sleep(PAUSE);
            }
            Err(CgroupError::Io { source, path, .. }) if source.kind() == io::ErrorKind::ResourceBusy => {
                let pids = all_pids(&path)?;
                return Err(CgroupError::Busy { path, waited_secs: END_MAX.as_secs(), pids });
            }
            Err(error) => return Err(error),
        }
    }
}

fn kill(path: &Path) -> Result<(), CgroupError> {
    match interface::write(path, "cgroup.kill", "1") {
        // Kernels before 5.14 have no `cgroup.kill`. A process forked meanwhile is killed in the next round.
        Err(CgroupError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            for pid in all_pids(path)? {
                if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                    // The process may have ended already.
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            Ok(())
        }
        written => written,
    }
}

/// The processes of a group and of all its subgroups.
fn all_pids(path: &Path) -> Result<Vec<u32>, CgroupError> {
    let mut pids = interface::pids(path)?;
    for child in interface::children(path)? {
        pids.extend(all_pids(&child)?);
    }
    Ok(pids)
}

/// Removes a group and all its subgroups.
fn remove(path: &Path) -> Result<(), CgroupError> {
    for child in interface::children(path)? {
        remove(&child)?;
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|source| CgroupError::Io { operation: "remove", path: path.to_owned(), source }),
    }
}
