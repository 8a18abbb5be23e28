//! Tries descriptions in a forked process first.
//!
//! libhwloc trusts its input. A damaged XML document can crash it, make it loop, or make it complain on stderr and
//! continue with something else. So a forked process takes that risk.

use std::{
    fs::File,
    io::{self, Read, Seek},
};

use rustix::{
    fs::{MemfdFlags, memfd_create},
    process::{Resource, Rlimit, WaitOptions, setrlimit, waitpid},
};

use super::{
    hwloc::{HwlocError, forked},
    load::Opened,
};

/// More CPU seconds than the largest machine's description takes.
const CPU_SECS: u64 = 5;
/// The memory in bytes that a description may take beyond what this process already has.
const MEMORY_BYTES: u64 = 512 << 20;
/// How many bytes of the library's complaint are reported.
const COMPLAINT_BYTES_MAX: u64 = 4096;

/// The exit statuses of the forked process.
const FINE: u8 = 0;
const REFUSED: u8 = 1;

/// Why a description was not loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrialError {
    #[error("hwloc cannot understand it")]
    Refused,
    #[error("hwloc complains: {0}")]
    Complaint(String),
    #[error("hwloc crashes with it, does not come to an end in {CPU_SECS} s, or takes more than 512 MiB")]
    Crash,
    #[error("no process can be started to try it: {0}")]
    Process(#[source] io::Error),
}

/// Runs `open` in a forked process.
pub(super) fn of(open: impl FnOnce() -> Result<Opened, HwlocError>) -> Result<(), TrialError> {
    let stderr =
        memfd_create("hwloc-stderr", MemfdFlags::CLOEXEC).map_err(|error| TrialError::Process(error.into()))?;
    let memory = address_space_bytes().map(|bytes| bytes.saturating_add(MEMORY_BYTES));
    let child = forked(|| {
        let limit = |most| Rlimit { current: Some(most), maximum: Some(most) };
        // If the limits cannot be set, the trial takes place without them.
        let _ = (setrlimit(Resource::Cpu, limit(CPU_SECS)), setrlimit(Resource::Core, limit(0)));
        let _ = memory.map(|most| setrlimit(Resource::As, limit(most)));
        let _ = rustix::stdio::dup2_stderr(&stderr);
        // Copying all objects is part of the trial, because a loaded topology may still be damaged.
        let outcome = open().and_then(|opened| opened.read());
        if outcome.is_ok() { FINE } else { REFUSED }
    });
    let child = child.map_err(TrialError::Process)?;
    let ended = loop {
        match waitpid(Some(child), WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(TrialError::Process(error.into())),
            Ok(ended) => break ended.and_then(|(_, status)| status.exit_status()),
        }
    };
    match ended.and_then(|status| u8::try_from(status).ok()) {
        Some(FINE) => complaint(stderr.into()),
        Some(REFUSED) => Err(TrialError::Refused),
        _ => Err(TrialError::Crash),
    }
}

/// The address space of this process in bytes. The forked process starts with the same.
fn address_space_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What the library wrote to stderr, without its decoration.
fn complaint(mut stderr: File) -> Result<(), TrialError> {
    let mut text = Vec::new();
    stderr
        .rewind()
        .and_then(|()| stderr.take(COMPLAINT_BYTES_MAX).read_to_end(&mut text))
        .map_err(TrialError::Process)?;
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().map(|line| line.trim_matches(['*', ' '])).filter(|line| !line.is_empty());
    match lines.take(3).collect::<Vec<_>>().join(" ") {
        nothing if nothing.is_empty() => Ok(()),
        lines => Err(TrialError::Complaint(lines)),
    }
}
