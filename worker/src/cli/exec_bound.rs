//! `sealbus-worker exec-bound`, by which the worker starts processors: see [`sealbus_worker::bind`].

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use sealbus_worker::{
    bind::{Binding, EXEC_BOUND, MemoryBinding, exec},
    out,
    topology::CpuSet,
};

/// Arguments of `exec-bound`.
#[derive(Debug, clap::Args)]
pub struct ExecBoundArguments {
    /// Enter the control group in this directory.
    #[arg(long, value_name = "DIR")]
    cgroup: Option<PathBuf>,
    /// Run on these processing units only, such as 0-3,8.
    #[arg(long, value_name = "LIST", required_unless_present = "cgroup")]
    cpus: Option<CpuSet>,
    /// Take memory from these NUMA nodes only.
    #[arg(long, value_name = "LIST", requires = "cpus")]
    nodes: Option<CpuSet>,
    /// Take memory from other nodes when these are full.
    #[arg(long, requires = "nodes")]
    prefer: bool,
    /// The executable and its arguments.
    #[arg(last = true, required = true, value_name = "BIN ARGS")]
    command: Vec<OsString>,
}

impl ExecBoundArguments {
    /// Becomes the executable, or prints the reason why not as the last line on stderr.
    pub fn execute(self) -> ExitCode {
        let Self { cgroup, cpus, nodes, prefer, command } = self;
        let memory = nodes.map(|nodes| MemoryBinding { nodes, strict: !prefer });
        let mut command = command.into_iter();
        let binding = cpus.map(|cpus| Binding { cpus, memory });
        let bin = command.next().unwrap_or_default();
        let Err(error) = exec::exec(cgroup.as_deref(), binding.as_ref(), bin, command.collect());
        let code = error.exit_code();
        let error = anyhow::Error::new(error);
        // If stderr is closed the message is lost; the exit status is enough.
        out::note(format_args!("sealbus-worker {EXEC_BOUND}: {error:#}"));
        code
    }
}
