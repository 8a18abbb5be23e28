//! Binds a processor's process to its cores and memory, and confines it: it is started bound, and the binding is verified
//! afterwards.

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
    sandbox::Rules,
    topology::system::{System, SystemError},
};

/// The binding for a placement; `None` if the process may run anywhere.
///
/// # Errors
/// [`SystemError`] if the system does not tell what the worker itself may use.
pub(super) fn binding(placement: &Placement) -> Result<Option<Binding>, SystemError> {
    let memory = placement.memory.map(|(node, policy)| MemoryBinding {
        nodes: [node].into_iter().collect(),
        strict: policy == MemoryPolicy::Bind,
    });
    let cpus = match (&placement.cpus, &memory) {
        (None, None) => return Ok(None),
        (Some(cpus), _) => cpus.clone(),
        // Only memory is bound. The cpus are all those of the worker.
        (None, Some(_)) => System::default().given()?.units,
    };
    Ok(Some(Binding { cpus, memory }))
}

/// The command that starts a program, in a control group, bound and confined if these are given. `own` is the worker's
/// executable.
pub(super) fn command(
    program: &Program,
    cgroup: Option<&Path>,
    binding: Option<&Binding>,
    sandbox: Option<&Rules>,
    own: &Path,
) -> Command {
    let mut command = match (cgroup, binding, sandbox) {
        (None, None, None) => Command::new(&program.bin),
        _ => {
            let mut command = Command::new(own);
            command.args(bind::arguments_in(cgroup, binding, sandbox, program.bin.as_os_str()));
            command
        }
    };
    command.args(&program.args);
    command
}

/// Reads back the binding of a started process. Returns it as text if it is the wanted one, otherwise the problem.
pub(super) async fn verified(pid: Option<u32>, wanted: Binding) -> Result<String, String> {
    let Some(pid) = pid else { return Err("it ended before its binding could be read back".to_owned()) };
    let looking = tokio::task::spawn_blocking(move || {
        let bound = bind::read_back(pid).map_err(|error| in_words(&error))?;
        bound.check(&wanted).map_err(|error| error.to_string())?;
        Ok(bound.to_string())
    });
    looking.await.unwrap_or_else(|error| Err(error.to_string()))
}

/// Turns an exit status that means a failed binding into an error, with the reason from the last line of stderr.
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
