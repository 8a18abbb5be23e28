//! Limits and accounting for processors through control groups (cgroup v2).
//!
//! ```text
//! <given>/                the group delegated to the worker by systemd or a person
//!   worker/               the worker itself
//!   sealbus-<worker>/     locked while the worker runs
//!     pc1-0/              a processor and everything that it starts
//! ```
//!
//! A group can either hold processes or delegate controllers to its children. So the worker first moves itself into a
//! child group. A group with the worker's name that is not locked was left by a dead worker; it is removed, and what
//! still runs in it is killed. Without cgroup v2, or without permission to write there, a worker runs without limits
//! and logs the reason once ([`Unavailable`]). Everything here blocks, for a few seconds at most.
//!
//! Reading order: [`hierarchy`], [`root`], [`group`], [`limits`], [`usage`].

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

/// An operation on a group failed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A file or directory of the hierarchy could not be read or written.
    #[error("{operation} {}", path.display())]
    Io {
        /// The operation, as a verb.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A name that cannot be one directory's name.
    #[error("{0:?} is no name for a group: allowed are a-z, A-Z, 0-9, - and _")]
    Name(String),
    /// Killed processes have not ended. They hang in the kernel, on a dead network file system for example.
    #[error("group {} still has processes after {waited_secs} s: {pids:?}; see /proc/<pid>/stack", path.display())]
    Busy {
        /// The group.
        path: PathBuf,
        /// How long they were waited for, in seconds.
        waited_secs: u64,
        /// The process ids.
        pids: Vec<u32>,
    },
}

/// Moves the calling process, with all of its threads, into the group at `path`. A child calls this between its start
/// and `exec`, so that nothing of the executable runs outside the group.
///
/// # Errors
/// [`CgroupError::Io`], also if the process may not be moved out of its present group.
pub fn enter(path: &Path) -> Result<(), CgroupError> {
    interface::write(path, "cgroup.procs", "0")
}
