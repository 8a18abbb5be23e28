//! Work in a separate process that can be killed: this program again, with a hidden command.
//!
//! A read from a hanging network file system cannot be interrupted within a process, and neither can a computation of
//! the proofs library. The process gets a request as JSON on stdin, and answers with one line of JSON on stdout.

use std::{
    ffi::OsString,
    io::{self, Read},
    path::PathBuf,
    process::Stdio,
};

use sealbus_schema::{ErrorClass, ErrorCode, ErrorReport};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
};

use crate::out;

/// The most bytes of an answer that are read. Error reports are much smaller; the largest answer is an aggregate of at
/// most 81,960 bytes, in hexadecimal.
const ANSWER_BYTES_MAX: u64 = 1 << 18;

/// The program to start.
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// A running process.
#[derive(Debug)]
pub struct Running {
    child: Child,
    what: &'static str,
    request: Vec<u8>,
}

impl Program {
    /// This same program with a hidden command, even if its file on disk has been replaced.
    pub fn this(command: &str) -> Program {
        Program { program: PathBuf::from("/proc/self/exe"), arguments: vec![command.into()] }
    }
}

impl Running {
    /// Starts the process. It is killed when the returned value is dropped. `what` says in error texts what it does.
    /// `threads` limits the threads of the proofs library.
    pub fn start(
        program: &Program,
        what: &'static str,
        threads: Option<usize>,
        request: &impl Serialize,
    ) -> Result<Running, ErrorReport> {
        let not_started = |error: io::Error| {
            let message = format!("cannot start {} for {what}: {error}", program.program.display());
            ErrorReport::new(ErrorClass::Temp, ErrorCode::PROCESSOR_START_FAILED, message)
        };
        let request = serde_json::to_vec(request).map_err(|error| not_started(error.into()))?;
        let mut command = Command::new(&program.program);
        if let Some(threads) = threads {
            command.env("RAYON_NUM_THREADS", threads.to_string());
        }
        let child = command
            .args(&program.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(not_started)?;
        Ok(Running { child, what, request })
    }

    /// The answer. It takes as long as the process does.
    pub async fn answer<T: DeserializeOwned>(&mut self) -> Result<T, ErrorReport> {
        let what = self.what;
        let died = |how: String| {
            let message = format!("{what} ended without an answer: {how}");
            ErrorReport::new(ErrorClass::Temp, ErrorCode::PROCESSOR_DIED, message)
        };
        let lost = |error: io::Error| died(error.to_string());
        if let Some(mut stdin) = self.child.stdin.take() {
            // If the process ends before it has read everything, its answer or exit status says why.
            let _ = stdin.write_all(&self.request).await;
        }
        let mut answer = Vec::new();
        if let Some(stdout) = self.child.stdout.take() {
            stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.map_err(lost)?;
        }
        let status = self.child.wait().await.map_err(lost)?;
        let last_line = answer.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        match serde_json::from_slice::<Result<T, ErrorReport>>(last_line) {
            Ok(outcome) => outcome.map_err(ErrorReport::bounded),
            // Killed from outside, perhaps for lack of memory.
            Err(_) if status.code().is_none() => Err(died(status.to_string())),
            // The library panicked. Its message is on the manager's stderr.
            Err(_) => {
                let message = format!("{what} ended without an answer: {status}");
                Err(ErrorReport::new(ErrorClass::Perm, ErrorCode::LIBRARY_PANIC, message))
            }
        }
    }

    /// Kills the process. It may end only later, see [`Self::ended`].
    pub fn kill(&mut self) {
        if let Err(error) = self.child.start_kill() {
            tracing::warn!(%error, what = self.what, "a process that takes too long cannot be killed");
        }
    }

    /// The process id, until the process has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until the process has ended. If it was killed during a read from a hanging file system, it ends when that
    /// answers.
    pub async fn ended(mut self) {
        if let Err(error) = self.child.wait().await {
            tracing::warn!(%error, what = self.what, "cannot wait for a process");
        }
    }
}

/// The process's own side: reads a request on stdin, and writes the outcome to stdout.
///
/// # Errors
/// stdin is not a request.
pub fn respond<R: DeserializeOwned, T: Serialize>(
    work: impl FnOnce(&R) -> Result<T, ErrorReport>,
) -> anyhow::Result<()> {
    // If the manager is gone, nobody waits for the answer.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    let request: R = serde_json::from_slice(&bytes)?;
    out::json(&serde_json::to_string(&work(&request))?);
    Ok(())
}
