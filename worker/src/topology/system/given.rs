//! The processing units and nodes that a process may use, from its affinity and its cpuset.

use std::path::{Path, PathBuf};

use super::{System, SystemError};
use crate::topology::CpuSet;

/// What the kernel allows a process to use. This includes the effects of cgroups of both versions and of `taskset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Processing units.
    pub units: CpuSet,
    /// NUMA nodes.
    pub nodes: CpuSet,
}

impl System {
    /// What this process may use.
    ///
    /// # Errors
    /// [`SystemError`] if `/proc/self/status` cannot be read or parsed.
    pub fn given(&self) -> Result<Given, SystemError> {
        let path = self.path("proc/self/status");
        match std::fs::read_to_string(&path) {
            Ok(text) => Given::of_status(&path, &text),
            Err(source) => Err(SystemError::Read { path, source }),
        }
    }
}

impl Given {
    /// Parses the text of a file `/proc/<pid>/status`.
    ///
    /// # Errors
    /// [`SystemError`] if a line is missing. `path` is used only in the error.
    pub fn of_status(path: &Path, status: &str) -> Result<Self, SystemError> {
        let list = |field: &'static str| {
            let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
            let value = value.ok_or_else(|| SystemError::Missing { path: PathBuf::from(path), field })?;
            value.parse().map_err(|source| SystemError::List { path: PathBuf::from(path), field, source })
        };
        // A kernel without NUMA does not list nodes. It has a single one.
        let nodes = match list("Mems_allowed_list") {
            Err(SystemError::Missing { .. }) => CpuSet::from_iter([0]),
            nodes => nodes?,
        };
        Ok(Self { units: list("Cpus_allowed_list")?, nodes })
    }
}
