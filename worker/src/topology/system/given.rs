//! The processing units and nodes that a process may use, by its affinity and its cpuset.

use std::path::{Path, PathBuf};

use super::{System, SystemError};
use crate::topology::CpuSet;

/// What a process may use, as the kernel says: cgroups of either version and `taskset` are in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Processing units.
    pub units: CpuSet,
    /// NUMA nodes.
    pub nodes: CpuSet,
}

impl System {
    /// What this process was given.
    ///
    /// # Errors
    /// Where `/proc/self/status` cannot be read or understood.
    pub fn given(&self) -> Result<Given, SystemError> {
        let path = self.path("proc/self/status");
        match std::fs::read_to_string(&path) {
            Ok(text) => Given::of_status(&path, &text),
            Err(source) => Err(SystemError::Read { path, source }),
        }
    }
}

impl Given {
    /// What the text of a file `/proc/<pid>/status` says.
    ///
    /// # Errors
    /// For a text that lacks it. The path is for the error.
    pub fn of_status(path: &Path, status: &str) -> Result<Self, SystemError> {
        let list = |field: &'static str| {
            let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
            let value = value.ok_or_else(|| SystemError::Missing { path: PathBuf::from(path), field })?;
            value.parse().map_err(|source| SystemError::List { path: PathBuf::from(path), field, source })
        };
        // A kernel without NUMA says nothing of nodes, and has one.
        let nodes = match list("Mems_allowed_list") {
            Err(SystemError::Missing { .. }) => CpuSet::from_iter([0]),
            nodes => nodes?,
        };
        Ok(Self { units: list("Cpus_allowed_list")?, nodes })
    }
}
