//! Checks a sector's files in the permanent store before the sector is proven: they must be readable, and must prove
//! the CommR on chain.
//!
//! Reading a whole sector would take as long as writing it and add little: the worker compares checksums while it
//! copies. Here a challenge is drawn as for window PoSt, and answered from the files with a few hundred small reads.
//!
//! A separate process reads the files ([`here`], [`crate::child`]), because a read from a hanging network file system
//! cannot be interrupted. It gets a [`Request`], and is killed if it takes too long.

pub mod here;

use std::time::Duration;

use sealbus_schema::{
    Commitment, ErrorClass, ErrorCode, ErrorReport, Randomness, SealProof, SectorId,
    identity::{self, KnownStore},
    parts::StoredSector,
};
use serde::{Deserialize, Serialize};

use crate::{
    child::{self, Program},
    config::Store,
};

/// The hidden command of [`here::answer`].
pub const COMMAND: &str = "check-files";
/// How many threads the proofs library uses for reading.
const THREADS: usize = 4;

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

/// A running check.
#[derive(Debug)]
pub struct Running {
    child: child::Running,
    /// The name of the store that is read.
    store: String,
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
    pub fn start(checker: &Program, request: Request) -> Result<Running, ErrorReport> {
        let child = child::Running::start(checker, "the check of files", Some(THREADS), &request)?;
        Ok(Running { child, store: request.store.name })
    }

    /// The outcome of the check. A store that is unavailable or does not answer in time is an error of class `temp`,
    /// which is retried for as long as it takes. After `limit` the process is killed; it may end only later, see
    /// [`Self::ended`].
    pub async fn outcome(&mut self, limit: Duration) -> Result<(), ErrorReport> {
        match tokio::time::timeout(limit, self.child.answer()).await {
            Ok(outcome) => outcome,
            Err(_) => {
                self.child.kill();
                let message = format!("the store `{}` did not answer within {} s", self.store, limit.as_secs_f32());
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
    pub async fn ended(self) {
        self.child.ended().await;
    }
}
