//! The limits of a group, and which of them the kernel does not apply.

use std::{collections::BTreeSet, path::Path};

use super::{CgroupError, interface};
use crate::topology::CpuSet;

/// The controllers that a worker enables for its groups, if they are available.
pub(super) const WANTED: [&str; 4] = ["cpuset", "memory", "pids", "hugetlb"];

const PAGE_MAX: u64 = 1 << 16;

/// The limits of one group. Nothing is limited by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The processing units that may be used (`cpuset.cpus`). A process cannot leave them.
    pub cpus: Option<CpuSet>,
    /// The NUMA nodes whose memory may be used (`cpuset.mems`).
    pub nodes: Option<CpuSet>,
    /// Above this many bytes the group is slowed down and its memory is reclaimed (`memory.high`).
    pub memory_high_bytes: Option<u64>,
    /// Above this many bytes all processes of the group are killed (`memory.max`). The page cache counts too, but is
    /// reclaimed first.
    pub memory_max_bytes: Option<u64>,
    /// The number of processes and threads that there may be (`pids.max`).
    pub pids_max: Option<u64>,
}

/// A limit that is not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unapplied {
    /// The kernel's name of the limit.
    pub limit: &'static str,
    /// The reason.
    pub reason: String,
}

impl std::fmt::Display for Unapplied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.limit, self.reason)
    }
}

impl Limits {
    /// Sets the limits on a group and reads them back.
    pub(super) fn apply(&self, group: &Path, controllers: &BTreeSet<String>) -> Vec<Unapplied> {
        let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes.to_string());
        let set = |set: &Option<CpuSet>| set.as_ref().map(ToString::to_string);
        let wanted = [
            ("cpuset.mems", set(&self.nodes)),
            ("cpuset.cpus", set(&self.cpus)),
            ("memory.high", bytes(self.memory_high_bytes)),
            ("memory.max", bytes(self.memory_max_bytes)),
            ("pids.max", bytes(self.pids_max)),
        ];
        let mut unapplied = Vec::new();
        for (limit, value) in wanted {
            let Some(value) = value else { continue };
            if let Err(reason) = set_one(group, controllers, limit, &value) {
                unapplied.push(Unapplied { limit, reason });
            }
        }
        if controllers.contains("memory") {
            // Out of memory, the kernel kills the whole group: a processor that lost only some of its processes would
            // hang. Kernels before 4.19 do not have this file.
            let _ = interface::write(group, "memory.oom.group", "1");
        }
        unapplied
    }
}

fn set_one(group: &Path, controllers: &BTreeSet<String>, limit: &str, value: &str) -> Result<(), String> {
    let controller = limit.split('.').next().unwrap_or_default();
    if !controllers.contains(controller) {
        return Err(format!("the controller {controller} is not available here"));
    }
    interface::write(group, limit, value).map_err(|error| with_cause(&error))?;
    let is_set = controller == "cpuset";
    let holds = format!("{limit}{}", if is_set { ".effective" } else { "" });
    let found = interface::read(group, &holds).map_err(|error| with_cause(&error))?.unwrap_or_default();
    let found = found.trim();
    let agrees = match is_set {
        true => found.parse::<CpuSet>().ok() == value.parse::<CpuSet>().ok(),
        false => found.parse::<u64>().ok().zip(value.parse::<u64>().ok()).is_some_and(|(is, asked)| {
            // The kernel rounds byte limits down to whole pages.
            let rounding = if controller == "memory" { PAGE_MAX } else { 1 };
            is <= asked && asked - is < rounding
        }),
    };
    if agrees { Ok(()) } else { Err(format!("{value} was asked for, {holds} is {found}")) }
}

fn with_cause(error: &CgroupError) -> String {
    match error {
        CgroupError::Io { source, .. } => format!("{error}: {source}"),
        other => other.to_string(),
    }
}
