//! Binds processors to cpus and memory.
//!
//! A processor is started as `sealbus-worker exec-bound --cpus … -- BIN ARGS…` ([`command`]). That process binds itself
//! through hwloc, reads the binding back to verify it, and becomes the executable by `execve` ([`exec`]). Affinity and
//! memory policy survive `execve`; threads and children inherit them. With `--cgroup` the process first enters a
//! control group, and with `--sandbox` it finally gives up what the executable does not need. For a running process the worker reads the binding from `/proc` ([`read_back`]) and shows it.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::Path,
    process::Command,
};

use serde::{Deserialize, Serialize};

use crate::{sandbox::Rules, topology::CpuSet};

pub mod exec;
pub mod read_back;

pub use read_back::{Bound, BoundPolicy, ReadBackError, read_back};

/// The subcommand by which a process binds itself.
pub const EXEC_BOUND: &str = "exec-bound";

/// The cpus and memory that a process is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The processing units, as OS indexes.
    pub cpus: CpuSet,
    /// Where its memory comes from; `None` leaves that to the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryBinding>,
}

/// Where memory comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryBinding {
    /// The NUMA nodes, as OS indexes.
    pub nodes: CpuSet,
    /// Whether other nodes are forbidden. If so, and the nodes are full, an allocation fails or the process is killed.
    /// If not, memory then comes from other nodes.
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

/// The command that starts `bin` bound. The caller appends the executable's own arguments. Environment, working
/// directory and pipes apply to the executable.
///
/// `own_exe` is the path of `sealbus-worker`. If `bin` is a bare name, it is looked up in the command's `PATH`.
#[must_use]
pub fn command(own_exe: &Path, binding: &Binding, bin: &OsStr) -> Command {
    let mut command = Command::new(own_exe);
    command.args(arguments(binding, bin));
    command
}

/// The arguments of [`command`], for callers that build another kind of command.
#[must_use]
pub fn arguments(binding: &Binding, bin: &OsStr) -> Vec<OsString> {
    arguments_in(None, Some(binding), None, bin)
}

/// The arguments for a process that enters the control group at `cgroup`, is bound, is confined, or all of that.
#[must_use]
pub fn arguments_in(
    cgroup: Option<&Path>,
    binding: Option<&Binding>,
    sandbox: Option<&Rules>,
    bin: &OsStr,
) -> Vec<OsString> {
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
    arguments.extend(sandbox.map(Rules::arguments).unwrap_or_default());
    arguments.extend(["--".into(), bin.to_owned()]);
    arguments
}
