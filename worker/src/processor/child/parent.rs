//! Ties the life of a child process to that of its parent.

use std::io;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// The environment variable with the process id of the parent that a child must not outlive.
pub const PARENT_PID: &str = "SEALBUS_PARENT_PID";

/// Why a process's life could not be tied to its parent's.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// The parent had already ended.
    #[error("the parent process is gone")]
    Gone,
    /// The kernel refused.
    #[error("cannot bind this process's life to its parent's")]
    NoPromise(#[source] io::Error),
}

/// Makes the kernel kill this process when its parent dies, if [`PARENT_PID`] is set.
///
/// # Errors
/// [`ParentError`].
pub fn die_with_parent() -> Result<(), ParentError> {
    let Some(parent) = std::env::var(PARENT_PID).ok().and_then(|pid| pid.parse::<i32>().ok()) else {
        return Ok(());
    };
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| ParentError::NoPromise(error.into()))?;
    // The parent may have died before the signal was requested. This process then has another parent.
    if getppid().map(Pid::as_raw_pid) != Some(parent) {
        return Err(ParentError::Gone);
    }
    Ok(())
}
