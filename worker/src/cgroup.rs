//! Limits and accounting of processors by control groups (cgroup v2).
//!
//! ```text
//! <given>/                the group that systemd, or a person, has given to the worker
//!   worker/               the worker itself
//!   sealbus-<worker>/     locked while the worker lives
//!     pc1-0/              a processor and all that it starts
//! ```
//!
//! The kernel lets a group either have processes or share out controllers, so the worker steps aside into a group of its
//! own first. What bears the worker's name, and is not locked, was left by a dead worker and is removed with all that
//! still runs in it. Without cgroup v2, or without the right to write there, a worker goes on without limits; why is
//! said once ([`Unavailable`]). Everything here blocks, for a few seconds at most.
//!
//! Order: [`hierarchy`], [`root`], [`group`], [`limits`], [`usage`].

use std::path::{Path, PathBuf};

pub mod group;
pub mod hierarchy;
mod interface;
pub mod limits;
pub mod root;
pub mod usage;

pub use group::Group;
pub use limits::{Limits, Unapplied};
pub use root::{CgroupRoot, Leftover, Unavailable};
pub use usage::{Meter, OutOfMemory, Usage};

/// Something that was asked of a group did not work.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A file or directory of the hierarchy.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A name that would lead elsewhere.
    #[error("{0:?} is no name for a group: it may have a-z, A-Z, 0-9, - and _")]
    Name(String),
    /// What was killed has not ended; it hangs in the kernel, as on a dead network file system.
    #[error("group {} still has processes after {waited_secs} s: {pids:?}; see /proc/<pid>/stack", path.display())]
    Busy {
        /// The group.
        path: PathBuf,
        /// How long they were waited for.
        waited_secs: u64,
        /// The processes.
        pids: Vec<u32>,
    },
}

/// Moves the calling process, with all of its threads, into the group at `path`. For a child between its start and the
/// `exec` of what it is to run: so nothing of that runs outside of the group.
///
/// # Errors
/// [`CgroupError::Io`], among others if the process may not be moved from where it is.
pub fn enter(path: &Path) -> Result<(), CgroupError> {
    interface::write(path, "cgroup.procs", "0")
}
