//! Checks a sector's files in the permanent store before the sector is proven: they must be readable, and must prove
//! the CommR on chain.
//!
//! Reading a whole sector would take as long as writing it and add little: the worker compares checksums while it
//! copies. Here a challenge is drawn as for window PoSt, and answered from the files with a few hundred small reads.
//!
//! A read from a hanging network file system cannot be interrupted within a process. So a separate process reads the
//! files ([`here`]): this program again, with a hidden command. It gets a [`Request`] on stdin, answers with one line
//! of JSON on stdout, and is killed if that takes too long.

pub mod here;

use std::{ffi::OsString, path::PathBuf, process::Stdio, time::Duration};

use sealbus_schema::{
    Commitment, ErrorClass, ErrorCode, ErrorReport, Randomness, SealProof, SectorId,
    identity::{self, KnownStore},
    parts::StoredSector,
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
};

use crate::config::Store;

/// The hidden command of [`here::answer`].
pub const COMMAND: &str = "check-files";
/// How many threads the proofs library uses for reading.
const THREADS: &str = "4";
/// The most bytes of an answer that are read. An error report is much smaller.
const ANSWER_BYTES_MAX: u64 = 1 << 18;

/// A request to check a sector's files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The sector.
    pub sector: SectorId,
    /// Its seal proof.
    pub proof: SealProof,
    /// Its CommR on chain.
    pub comm_r: Commitment,
    /// The files that the worker wrote.
    pub stored: StoredSector,
    /// The store, as this machine mounts it.
    pub store: Store,
    /// The id that the store's directory must have, if known.
    pub known: Option<String>,
    /// The randomness that the challenges are drawn from.
    pub randomness: Randomness,
}

/// The program that checks files.
#[derive(Clone, Debug)]
pub struct Checker {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// A running check.
#[derive(Debug)]
pub struct Running {
    child: Child,
    request: Request,
}

impl Default for Checker {
    /// This same program, even if its file on disk has been replaced.
    fn default() -> Checker {
        Checker { program: PathBuf::from("/proc/self/exe"), arguments: vec![COMMAND.into()] }
    }
}

impl Request {
    /// Fails if the store that the worker wrote to is not configured.
    pub fn new(
        (sector, proof, comm_r): (SectorId, SealProof, Commitment),
        stored: StoredSector,
        stores: (&[Store], &[KnownStore]),
        randomness: Randomness,
    ) -> Result<Request, ErrorReport> {
        let (configured, known) = stores;
        let Some(store) = configured.iter().find(|store| store.name == stored.store).cloned() else {
            let names: Vec<_> = configured.iter().map(|store| store.name.as_str()).collect();
            let message = format!(
                "the worker wrote to the store `{}`, which the manager's configuration does not have ([[store]] name: {})",
                stored.store,
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            );
            return Err(ErrorReport::new(ErrorClass::Crit, ErrorCode::FILES_UNPROVABLE, message));
        };
        let known = identity::known_id(known, &store.name).map(str::to_owned);
        Ok(Request { sector, proof, comm_r, stored, store, known, randomness })
    }
}

impl Running {
    /// Starts the process. It is killed when the returned value is dropped.
    pub fn start(checker: &Checker, request: Request) -> Result<Running, ErrorReport> {
        let child = Command::new(&checker.program)
            .args(&checker.arguments)
            .env("RAYON_NUM_THREADS", THREADS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                let message = format!("cannot start {} to check files: {error}", checker.program.display());
                ErrorReport::new(ErrorClass::Temp, ErrorCode::PROCESSOR_START_FAILED, message)
            })?;
        Ok(Running { child, request })
    }

    /// The outcome of the check. A store that is unavailable or does not answer in time is an error of class `temp`,
    /// which is retried for as long as it takes. After `limit` the process is killed; it may end only later, see
    /// [`Self::ended`].
    pub async fn outcome(&mut self, limit: Duration) -> Result<(), ErrorReport> {
        match tokio::time::timeout(limit, self.answer()).await {
            Ok(outcome) => outcome,
            Err(_) => {
                if let Err(error) = self.child.start_kill() {
                    tracing::warn!(%error, "a check of files that takes too long cannot be killed");
                }
                let (name, secs) = (&self.request.store.name, limit.as_secs_f32());
                let message = format!("the store `{name}` did not answer within {secs} s");
                Err(ErrorReport::new(ErrorClass::Temp, ErrorCode::STORE_UNAVAILABLE, message))
            }
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
            tracing::warn!(%error, "cannot wait for a check of files");
        }
    }

    async fn answer(&mut self) -> Result<(), ErrorReport> {
        let died = |how: String| {
            let message = format!("the check of files ended without an answer: {how}");
            ErrorReport::new(ErrorClass::Temp, ErrorCode::PROCESSOR_DIED, message)
        };
        let lost = |error: std::io::Error| died(error.to_string());
        let request = serde_json::to_vec(&self.request).map_err(|error| lost(error.into()))?;
        if let Some(mut stdin) = self.child.stdin.take() {
            // If the process ends before it has read everything, its answer or exit status says why.
            let _ = stdin.write_all(&request).await;
        }
        let mut answer = Vec::new();
        if let Some(stdout) = self.child.stdout.take() {
            stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.map_err(lost)?;
        }
        let status = self.child.wait().await.map_err(lost)?;
        let last_line = answer.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        match serde_json::from_slice::<Result<(), ErrorReport>>(last_line) {
            Ok(outcome) => outcome.map_err(ErrorReport::bounded),
            // Killed from outside, perhaps for lack of memory.
            Err(_) if status.code().is_none() => Err(died(status.to_string())),
            // The library panicked. Its message is on the manager's stderr.
            Err(_) => {
                let message = format!("the check of files ended without an answer: {status}");
                Err(ErrorReport::new(ErrorClass::Perm, ErrorCode::LIBRARY_PANIC, message))
            }
        }
    }
}
