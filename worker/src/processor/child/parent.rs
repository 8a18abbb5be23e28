//! The process that a child must not outlive.

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use super::ChildError;

/// The environment variable that tells a child which process it must not outlive.
pub const PARENT_PID: &str = "SEALBUS_PARENT_PID";

/// Has the kernel kill this process when its parent dies, if [`PARENT_PID`] is set.
///
/// # Errors
/// [`ChildError::Orphaned`] if the parent is gone already.
pub fn die_with_parent() -> Result<(), ChildError> {
    let Some(parent) = std::env::var(PARENT_PID).ok().and_then(|pid| pid.parse::<i32>().ok()) else {
        return Ok(());
    };
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| ChildError::SetUp(error.into()))?;
    // The parent may have died before the signal was asked for; then somebody else is the parent now.
    if getppid().map(Pid::as_raw_pid) != Some(parent) {
        return Err(ChildError::Orphaned);
    }
    Ok(())
}
