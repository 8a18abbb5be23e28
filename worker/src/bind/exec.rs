//! Binds and confines the calling process, and turns it into an executable.

use std::{
    convert::Infallible,
    ffi::OsString,
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, ExitCode},
};

use super::{Binding, MemoryBinding};
use crate::{
    cgroup::{self, CgroupError},
    processor::{
        child::{ParentError, die_with_parent},
        orphans,
    },
    sandbox::{self, Refused, Rules},
    topology::{
        CpuSet,
        hwloc::{HwlocError, MemoryPolicy, Topology},
        system::{System, SystemError},
    },
};

/// The exit status of a process that could not bind itself. The worker reports it as class `crit`.
pub const EXIT_NOT_BOUND: u8 = 78;
/// The exit status if the executable was not found, as in a shell.
pub const EXIT_NOT_FOUND: u8 = 127;
/// The exit status if the executable could not be started, as in a shell.
pub const EXIT_NOT_STARTED: u8 = 126;

/// Why a process did not become the executable.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The set of cpus or nodes to bind to is empty.
    #[error("cannot bind to no {0} at all")]
    Nothing(&'static str),
    /// The binding is not within what this process may use.
    #[error("cannot bind to {what} {missing}: not there, or not allowed; this process may use {allowed}")]
    NotAllowed {
        /// `cpus` or `nodes`.
        what: &'static str,
        /// The requested ones that are not available.
        missing: CpuSet,
        /// The ones that are available.
        allowed: CpuSet,
    },
    /// The kernel accepted the binding, but reports a different one.
    #[error("bound to {what} {set} instead of {wanted}")]
    Differs {
        /// `cpus` or `nodes`.
        what: &'static str,
        /// The binding that the kernel reports.
        set: CpuSet,
        /// The binding that was requested.
        wanted: CpuSet,
    },
    /// What this process may use cannot be read.
    #[error("cannot bind")]
    System(#[from] SystemError),
    /// hwloc returned an error.
    #[error("cannot bind")]
    Hwloc(#[from] HwlocError),
    /// The control group is gone, or this process may not enter it.
    #[error("cannot enter its control group")]
    Cgroup(#[from] CgroupError),
    /// It must be confined, and cannot be.
    #[error(transparent)]
    Sandbox(#[from] Refused),
    /// The kernel could not be told to kill this process when the worker dies.
    #[error(transparent)]
    Parent(#[from] ParentError),
    /// This process could not be made the reaper of orphans among its descendants.
    #[error("cannot become the reaper of orphaned descendants")]
    Orphans(#[source] io::Error),
    /// The executable cannot be started.
    #[error("cannot start {}", bin.display())]
    Start {
        /// The executable.
        bin: OsString,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

impl ExecError {
    /// The exit status by which the worker recognises the error.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => EXIT_NOT_FOUND.into(),
            Self::Start { .. } => EXIT_NOT_STARTED.into(),
            _ => EXIT_NOT_BOUND.into(),
        }
    }
}

/// Enters the control group at `cgroup`, binds this process as `binding` says, confines it to what `sandbox` allows, each
/// if given, and becomes `bin`. The process must have a single thread. It dies with the worker that `SEALBUS_PARENT_PID` names. The executable does too,
/// unless it changes its user.
///
/// # Errors
/// [`ExecError`]. On success this never returns.
pub fn exec(
    cgroup: Option<&Path>,
    binding: Option<&Binding>,
    sandbox: Option<&Rules>,
    bin: OsString,
    arguments: Vec<OsString>,
) -> Result<Infallible, ExecError> {
    die_with_parent()?;
    orphans::adopt_in_whatever_follows().map_err(ExecError::Orphans)?;
    // The control group comes first, because it limits what can be bound to.
    cgroup.map_or(Ok(()), cgroup::enter)?;
    binding.map_or(Ok(()), bind)?;
    // Last, because the steps before need more than the executable does.
    sandbox.map_or(Ok(()), |rules| sandbox::enforce(rules).map(drop))?;
    let source = Command::new(&bin).args(arguments).exec();
    Err(ExecError::Start { bin, source })
}

/// Binds this process and verifies what the kernel then reports.
///
/// # Errors
/// [`ExecError`]. What was bound before the error stays bound.
pub fn bind(binding: &Binding) -> Result<(), ExecError> {
    let given = System::default().given()?;
    demand("cpus", &binding.cpus, &given.units)?;
    if let Some(memory) = &binding.memory {
        demand("nodes", &memory.nodes, &given.nodes)?;
    }
    let topology = Topology::this_machine_to_bind()?;
    // Memory first, so that allocations made while binding already follow the policy.
    if let Some(MemoryBinding { nodes, strict }) = &binding.memory {
        let policy = if *strict { MemoryPolicy::Bind } else { MemoryPolicy::Prefer };
        topology.bind_memory(nodes, policy)?;
        compare("nodes", topology.bound_memory()?.unwrap_or_default(), nodes)?;
    }
    topology.bind_units(&binding.cpus)?;
    compare("cpus", topology.bound_units()?, &binding.cpus)
}

fn demand(what: &'static str, wanted: &CpuSet, allowed: &CpuSet) -> Result<(), ExecError> {
    let missing = wanted.difference(allowed);
    match (wanted.is_empty(), missing.is_empty()) {
        (true, _) => Err(ExecError::Nothing(what)),
        (_, false) => Err(ExecError::NotAllowed { what, missing, allowed: allowed.clone() }),
        _ => Ok(()),
    }
}

fn compare(what: &'static str, set: CpuSet, wanted: &CpuSet) -> Result<(), ExecError> {
    if set == *wanted { Ok(()) } else { Err(ExecError::Differs { what, set, wanted: wanted.clone() }) }
}
