//! Reads a sector for a proof of spacetime: draws its challenges and answers them from its files in the permanent
//! store, with some hundred small reads.
//!
//! The library compares each path with the root in `p_aux`, but not `p_aux` with the CommR on chain. A stale one, such
//! as from before an upgrade, would spoil the proof of the whole partition, so that is done here.
//!
//! A read from a file system that hangs never returns. So the store's identity, too, is only looked at here, in a
//! process that can be killed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use filecoin_proofs_api::{PrivateReplicaInfo, post as library};
use sealbus_schema::post::PostKind;
use sealbus_schema::{Commitment, ProofBytes, Randomness, SealProof, SectorId};
use serde::{Deserialize, Serialize};

use super::{Stage, StageCode, StageError, StageRequest, post, sector};
use crate::identity::check_store;

/// How many challenges are read at the same time. They wait for the store, not for a core.
const THREADS: usize = 16;

/// The sector, and what to prove of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The permanent store's root.
    pub store_dir: PathBuf,
    /// The store's name.
    pub store_name: String,
    /// The id that the store must have, if it is known.
    pub store_id: Option<String>,
    /// The sector.
    pub sector: SectorId,
    /// Its seal proof.
    pub proof: SealProof,
    /// Its CommR on chain.
    pub comm_r: Commitment,
    /// The kind of proof.
    pub post: PostKind,
    /// The randomness that the challenges are drawn from, with its last byte masked.
    pub randomness: Randomness,
}

/// The vanilla proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// The library's bytes.
    pub vanilla: ProofBytes,
}

impl StageRequest for Request {
    const STAGE: Stage = Stage::POST[0];
    type Response = Response;

    fn run(&self) -> Result<Response, StageError> {
        run(self)
    }
}

/// Makes the vanilla proof.
///
/// # Errors
/// [`StageCode::FilesUnprovable`] if a file is missing, is another sector's, or does not answer;
/// [`StageCode::StoreUnavailable`] if the store is away, is another one, or fails to read.
pub fn run(request: &Request) -> Result<Response, StageError> {
    let is_there = || check_store(&request.store_dir, &request.store_name, request.store_id.as_deref());
    is_there()?;
    let read = read(request);
    // If the store went away meanwhile, that is the cause, whatever was found in its place.
    is_there().and(read)
}

fn read(request: &Request) -> Result<Response, StageError> {
    let Request { store_dir, sector: id, comm_r, randomness, .. } = request;
    let name = id.file_name();
    let (cache, sealed) = (store_dir.join("cache").join(&name), store_dir.join("sealed").join(&name));
    let found = post::comm_r_of(&cache)?;
    if found != *comm_r {
        let message = format!("{}: p_aux stands for the CommR {found}, on chain is {comm_r}", cache.display());
        return Err(StageError::new(StageCode::FilesUnprovable, message));
    }
    // The library's own error would have no errno, which tells a missing file from a store that is away.
    sealed.metadata().map_err(|error| post::unreadable("look at", &sealed, &error))?;
    let kind = post::registered(request.proof, request.post)?;
    let (number, prover) = (sector::api_number(id.number), sector::prover_id(id.miner));
    let challenges = library::generate_fallback_sector_challenges(kind, &randomness.0, &[number], prover)
        .map_err(|error| StageError::library("draw the challenges", &error))?
        .remove(&number)
        .ok_or_else(|| StageError::new(StageCode::ProofsFailed, "no challenges were drawn"))?;
    let operation = format!("{} with {} does not answer the challenges", sealed.display(), cache.display());
    let replica = PrivateReplicaInfo::new(kind, comm_r.0, cache, sealed);
    let threads = rayon::ThreadPoolBuilder::new().num_threads(THREADS).build();
    let threads = threads.map_err(|error| StageError::new(StageCode::IoTimedOut, format!("start threads: {error}")))?;
    let answer = || threads.install(|| library::generate_single_vanilla_proof(kind, number, &replica, &challenges));
    match catch_unwind(AssertUnwindSafe(answer)) {
        Ok(Ok(vanilla)) => Ok(Response { vanilla: ProofBytes(vanilla) }),
        Ok(Err(error)) => Err(post::unprovable(&operation, &error)),
        // The library asserts that what it reads leads to a root.
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message");
            Err(StageError::new(StageCode::FilesUnprovable, format!("{operation}: {text}")))
        }
    }
}
