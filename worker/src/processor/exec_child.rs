//! `sealbus-worker exec-child -- <program> …`: becomes another program that dies with the worker.
//!
//! Third-party executables do not ask the kernel for a signal at their parent's death. That setting survives `execve`,
//! so this process sets it before it becomes the executable.

use std::convert::Infallible;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::child::{ChildError, die_with_parent};
use super::orphans;

/// Sent instead of a greeting by a process that could not become another program.
#[derive(Debug, Serialize, Deserialize)]
struct Failed {
    sealbus_exec_failed: String,
}

/// Becomes `program`. Returns only on error, which is also reported to the parent on stdout.
///
/// # Errors
/// [`ChildError`] if the parent is gone or the program cannot be started.
pub fn exec(program: &Path, args: &[String]) -> Result<Infallible, ChildError> {
    die_with_parent()?;
    orphans::adopt_in_whatever_follows().map_err(ChildError::SetUp)?;
    let error = Command::new(program).args(args).exec();
    tell(&error.to_string());
    Err(ChildError::Exec { program: program.to_owned(), error })
}

/// Reports to the parent why the program does not run.
pub fn tell(reason: &str) {
    if let Ok(line) = serde_json::to_string(&Failed { sealbus_exec_failed: reason.to_owned() }) {
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}

/// The reason, if this first line is such a report.
#[must_use]
pub fn reason_in(line: &[u8]) -> Option<String> {
    serde_json::from_slice::<Failed>(line).ok().map(|failed| failed.sealbus_exec_failed)
}
