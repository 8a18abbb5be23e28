//! Binding processors to processing units and memory.
//!
//! A processor is started as `sealbus-worker exec-bound --cpus … -- BIN ARGS…` ([`command`]). That process binds itself
//! by hwloc, compares what the system then says with what was wanted, and becomes the executable ([`exec`]); affinity
//! and memory policy outlive `execve`, and threads and children inherit them. With `--cgroup` it enters a control group
//! first. The worker reads from `/proc` what a
//! running process is bound to ([`read_back`]), and shows it.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::Path,
    process::Command,
};

use serde::{Deserialize, Serialize};

use crate::topology::CpuSet;

pub mod exec;
pub mod read_back;

pub use read_back::{Bound, BoundPolicy, ReadBackError, read_back};

/// The name of the command by which a process binds itself.
pub const EXEC_BOUND: &str = "exec-bound";

/// What a process is to be bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The processing units, by OS index.
    pub cpus: CpuSet,
    /// Where its memory is to come from; anywhere if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryBinding>,
}

/// Where memory is to come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryBinding {
    /// The NUMA nodes, by OS index.
    pub nodes: CpuSet,
    /// From nowhere else: when the nodes are full, an allocation fails or the process is killed. Otherwise other nodes
    /// help out.
    pub strict: bool,
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cpus {}", self.cpus)?;
        match &self.memory {
            Some(MemoryBinding { nodes, strict: true }) => write!(f, ", memory of nodes {nodes} only"),
            Some(MemoryBinding { nodes, strict: false }) => write!(f, ", memory of nodes {nodes} first"),
            None => Ok(()),
        }
    }
}

/// The command that starts `bin` bound. Its own arguments are added to what this returns; environment, directory and
/// pipes are those of the executable.
///
/// `own_exe` is `sealbus-worker`. A bare name of `bin` is looked up in the `PATH` that the command is given.
#[must_use]
pub fn command(own_exe: &Path, binding: &Binding, bin: &OsStr) -> Command {
    let mut command = Command::new(own_exe);
    command.args(arguments(binding, bin));
    command
}

/// The arguments of [`command`], for who builds a command of another kind.
#[must_use]
pub fn arguments(binding: &Binding, bin: &OsStr) -> Vec<OsString> {
    arguments_in(None, Some(binding), bin)
}

/// The arguments for a process that enters the control group at `cgroup`, is bound, or both.
#[must_use]
pub fn arguments_in(cgroup: Option<&Path>, binding: Option<&Binding>, bin: &OsStr) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec![EXEC_BOUND.into()];
    if let Some(cgroup) = cgroup {
        arguments.extend(["--cgroup".into(), cgroup.into()]);
    }
    if let Some(binding) = binding {
        arguments.extend(["--cpus".into(), binding.cpus.to_string().into()]);
    }
    if let Some(memory) = binding.and_then(|binding| binding.memory.as_ref()) {
        arguments.extend(["--nodes".into(), memory.nodes.to_string().into()]);
        if !memory.strict {
            arguments.push("--prefer".into());
        }
    }
    arguments.extend(["--".into(), bin.to_owned()]);
    arguments
}
