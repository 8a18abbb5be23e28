//! A processor's process on the cores and the memory that it was given: started there, and looked at afterwards.

use std::path::Path;

use sealbus_schema::error::Exit;
use tokio::process::Command;

use crate::{
    bind::{self, Binding, MemoryBinding, exec},
    causes::in_words,
    processor::{
        command::Program,
        config::{MemoryPolicy, Placement},
        error::ProcessFailure,
        running::Ended,
    },
    topology::system::{System, SystemError},
};

/// What a processor of this placement is bound to; nothing if it may run anywhere.
///
/// # Errors
/// Where the system does not say what the worker itself may use.
pub(super) fn binding(placement: &Placement) -> Result<Option<Binding>, SystemError> {
    let memory = placement.memory.map(|(node, policy)| MemoryBinding {
        nodes: [node].into_iter().collect(),
        strict: policy == MemoryPolicy::Bind,
    });
    let cpus = match (&placement.cpus, &memory) {
        (None, None) => return Ok(None),
        (Some(cpus), _) => cpus.clone(),
        // Of memory alone: its cores stay those of the worker.
        (None, Some(_)) => System::default().given()?.units,
    };
    Ok(Some(Binding { cpus, memory }))
}

/// The command that starts a program, in a control group and bound if it is to be. `own` is the worker's executable.
pub(super) fn command(program: &Program, cgroup: Option<&Path>, binding: Option<&Binding>, own: &Path) -> Command {
    let mut command = match (cgroup, binding) {
        (None, None) => Command::new(&program.bin),
        _ => {
            let mut command = Command::new(own);
            command.args(bind::arguments_in(cgroup, binding, program.bin.as_os_str()));
            command
        }
    };
    command.args(&program.args);
    command
}

/// What a process that has greeted is bound to, in words, if that is what was wanted.
pub(super) async fn verified(pid: Option<u32>, wanted: Binding) -> Result<String, String> {
    let Some(pid) = pid else { return Err("it ended before its binding could be read back".to_owned()) };
    let looking = tokio::task::spawn_blocking(move || {
        let bound = bind::read_back(pid).map_err(|error| in_words(&error))?;
        bound.check(&wanted).map_err(|error| error.to_string())?;
        Ok(bound.to_string())
    });
    looking.await.unwrap_or_else(|error| Err(error.to_string()))
}

/// A process that could not be bound says so by its exit status, and why in its last line.
pub(super) fn explained(ended: Ended, bin: &str) -> Ended {
    let (ProcessFailure::ExitedAtStart, Some(Exit::Status(status))) = (&ended.failure, ended.exit) else {
        return ended;
    };
    let own = [exec::EXIT_NOT_BOUND, exec::EXIT_NOT_FOUND, exec::EXIT_NOT_STARTED];
    if !own.iter().any(|code| i32::from(*code) == status) {
        return ended;
    }
    let reason = ended.stderr_tail.last().cloned().unwrap_or_else(|| format!("exit status {status}"));
    Ended { failure: ProcessFailure::Start { bin: bin.to_owned(), reason }, ..ended }
}
