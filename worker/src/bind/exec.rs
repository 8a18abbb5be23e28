//! Binding oneself and becoming an executable.

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
    topology::{
        CpuSet,
        hwloc::{HwlocError, MemoryPolicy, Topology},
        system::{System, SystemError},
    },
};

/// The exit status of a process that could not bind itself. The worker shows it as `crit`.
pub const EXIT_NOT_BOUND: u8 = 78;
/// The exit status where the executable was not found, as a shell says it.
pub const EXIT_NOT_FOUND: u8 = 127;
/// The exit status where the executable could not be started, as a shell says it.
pub const EXIT_NOT_STARTED: u8 = 126;

/// Why a process did not become the executable.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// Nothing to be bound to.
    #[error("cannot bind to no {0} at all")]
    Nothing(&'static str),
    /// Something else than what this process was given.
    #[error("cannot bind to {what} {missing}: not there, or not allowed; this process may use {allowed}")]
    NotAllowed {
        /// Of what.
        what: &'static str,
        /// Those.
        missing: CpuSet,
        /// What there is instead.
        allowed: CpuSet,
    },
    /// The system took the binding and did another one.
    #[error("bound to {what} {set} instead of {wanted}")]
    Differs {
        /// Of what.
        what: &'static str,
        /// What it says.
        set: CpuSet,
        /// What it was told.
        wanted: CpuSet,
    },
    /// What this process was given is not known.
    #[error("cannot bind")]
    System(#[from] SystemError),
    /// hwloc fails.
    #[error("cannot bind")]
    Hwloc(#[from] HwlocError),
    /// Its control group is gone, or it may not enter it.
    #[error("cannot enter its control group")]
    Cgroup(#[from] CgroupError),
    /// This process's life is not bound to the worker's.
    #[error(transparent)]
    Parent(#[from] ParentError),
    /// The kernel does not give it the orphans among its offspring.
    #[error("cannot have orphans given to this process")]
    Orphans(#[source] io::Error),
    /// The executable cannot be started.
    #[error("cannot start {}", bin.display())]
    Start {
        /// Which.
        bin: OsString,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl ExecError {
    /// The exit status that tells the worker.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => EXIT_NOT_FOUND.into(),
            Self::Start { .. } => EXIT_NOT_STARTED.into(),
            _ => EXIT_NOT_BOUND.into(),
        }
    }
}

/// Enters the control group at `cgroup` and binds this process, which has one thread, each if it is to, and becomes
/// `bin`. It dies with the worker that `SEALBUS_PARENT_PID` names, and so does the executable, unless that changes its
/// user.
///
/// # Errors
/// [`ExecError`]; it returns for nothing else.
pub fn exec(
    cgroup: Option<&Path>,
    binding: Option<&Binding>,
    bin: OsString,
    arguments: Vec<OsString>,
) -> Result<Infallible, ExecError> {
    die_with_parent()?;
    orphans::adopt_in_whatever_follows().map_err(ExecError::Orphans)?;
    // First: what the group may use is what there is to be bound to.
    cgroup.map_or(Ok(()), cgroup::enter)?;
    binding.map_or(Ok(()), bind)?;
    let source = Command::new(&bin).args(arguments).exec();
    Err(ExecError::Start { bin, source })
}

/// Binds this process, and compares what the system then says.
///
/// # Errors
/// [`ExecError`]; what was bound by then stays so.
pub fn bind(binding: &Binding) -> Result<(), ExecError> {
    let given = System::default().given()?;
    demand("cpus", &binding.cpus, &given.units)?;
    if let Some(memory) = &binding.memory {
        demand("nodes", &memory.nodes, &given.nodes)?;
    }
    let topology = Topology::this_machine_to_bind()?;
    // Memory first: what is allocated on the way already comes from there.
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
