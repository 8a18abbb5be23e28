//! `sealbus-worker exec-bound`, by which the worker starts processors: see [`sealbus_worker::bind`].

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::ValueEnum;

use sealbus_worker::{
    bind::{Binding, EXEC_BOUND, MemoryBinding, exec},
    out,
    sandbox::Rules,
    topology::CpuSet,
};

/// Arguments of `exec-bound`.
#[derive(Debug, clap::Args)]
pub struct ExecBoundArguments {
    /// Enter the control group in this directory.
    #[arg(long, value_name = "DIR")]
    cgroup: Option<PathBuf>,
    /// Run on these processing units only, such as 0-3,8.
    #[arg(long, value_name = "LIST", required_unless_present_any = ["cgroup", "sandbox"])]
    cpus: Option<CpuSet>,
    /// Take memory from these NUMA nodes only.
    #[arg(long, value_name = "LIST", requires = "cpus")]
    nodes: Option<CpuSet>,
    /// Take memory from other nodes when these are full.
    #[arg(long, requires = "nodes")]
    prefer: bool,
    /// Give up everything but the system's files and what the following options name.
    #[arg(long, value_name = "MODE")]
    sandbox: Option<SandboxMode>,
    /// A file or directory that may be read.
    #[arg(long, value_name = "PATH", requires = "sandbox")]
    read: Vec<PathBuf>,
    /// A directory that may be read, with what links in it lead to.
    #[arg(long, value_name = "DIR", requires = "sandbox")]
    follow: Vec<PathBuf>,
    /// A file or directory that may be changed.
    #[arg(long, value_name = "PATH", requires = "sandbox")]
    write: Vec<PathBuf>,
    /// A directory to which files may be added.
    #[arg(long, value_name = "DIR", requires = "sandbox")]
    add: Vec<PathBuf>,
    /// Allow TCP connections.
    #[arg(long, requires = "sandbox")]
    network: bool,
    /// The executable and its arguments.
    #[arg(last = true, required = true, value_name = "BIN ARGS")]
    command: Vec<OsString>,
}

/// What happens if the kernel cannot confine the process.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum SandboxMode {
    BestEffort,
    Required,
}

impl ExecBoundArguments {
    /// Becomes the executable, or prints the reason why not as the last line on stderr.
    pub fn execute(self) -> ExitCode {
        let Self { cgroup, cpus, nodes, prefer, sandbox, read, follow, write, add, network, command } = self;
        let sandbox = sandbox.map(|mode| {
            let required = matches!(mode, SandboxMode::Required);
            Rules { required, read, follow, write, add, network }
        });
        let memory = nodes.map(|nodes| MemoryBinding { nodes, strict: !prefer });
        let mut command = command.into_iter();
        let binding = cpus.map(|cpus| Binding { cpus, memory });
        let bin = command.next().unwrap_or_default();
        let Err(error) = exec::exec(cgroup.as_deref(), binding.as_ref(), sandbox.as_ref(), bin, command.collect());
        let code = error.exit_code();
        let error = anyhow::Error::new(error);
        // If stderr is closed the message is lost; the exit status is enough.
        out::note(format_args!("sealbus-worker {EXEC_BOUND}: {error:#}"));
        code
    }
}
