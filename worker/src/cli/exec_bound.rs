//! `sealbus-worker exec-bound`, by which the worker starts processors: see [`sealbus_worker::bind`].

use std::{ffi::OsString, io::Write, process::ExitCode};

use sealbus_worker::{
    bind::{Binding, EXEC_BOUND, MemoryBinding, exec},
    topology::CpuSet,
};

/// Arguments of `exec-bound`.
#[derive(Debug, clap::Args)]
pub struct ExecBoundArguments {
    /// Run on these processing units only, such as 0-3,8.
    #[arg(long, value_name = "LIST")]
    cpus: CpuSet,
    /// Take memory from these NUMA nodes only.
    #[arg(long, value_name = "LIST")]
    nodes: Option<CpuSet>,
    /// From other nodes as well, when these are full.
    #[arg(long, requires = "nodes")]
    prefer: bool,
    /// The executable and its arguments.
    #[arg(last = true, required = true, value_name = "BIN ARGS")]
    command: Vec<OsString>,
}

impl ExecBoundArguments {
    /// Becomes the executable, or says on the last line of stderr why not.
    pub fn execute(self) -> ExitCode {
        let Self { cpus, nodes, prefer, command } = self;
        let memory = nodes.map(|nodes| MemoryBinding { nodes, strict: !prefer });
        let mut command = command.into_iter();
        let Err(error) = exec::exec(&Binding { cpus, memory }, command.next().unwrap_or_default(), command.collect());
        let code = error.exit_code();
        let error = anyhow::Error::new(error);
        // Stderr may be closed; the exit status says enough.
        let _ = writeln!(std::io::stderr().lock(), "sealbus-worker {EXEC_BOUND}: {error:#}");
        code
    }
}
