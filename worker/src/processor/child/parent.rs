//! The process that a child must not outlive.

use std::io;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// The environment variable that tells a child which process it must not outlive.
pub const PARENT_PID: &str = "SEALBUS_PARENT_PID";

/// Why a process's life is not bound to its parent's.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// The parent was gone before that.
    #[error("the parent process is gone")]
    Gone,
    /// The kernel does not promise it.
    #[error("cannot bind this process's life to its parent's")]
    NoPromise(#[source] io::Error),
}

/// Has the kernel kill this process when its parent dies, if [`PARENT_PID`] is set.
///
/// # Errors
/// [`ParentError`].
pub fn die_with_parent() -> Result<(), ParentError> {
    let Some(parent) = std::env::var(PARENT_PID).ok().and_then(|pid| pid.parse::<i32>().ok()) else {
        return Ok(());
    };
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| ParentError::NoPromise(error.into()))?;
    // The parent may have died before the signal was asked for; then somebody else is the parent now.
    if getppid().map(Pid::as_raw_pid) != Some(parent) {
        return Err(ParentError::Gone);
    }
    Ok(())
}
