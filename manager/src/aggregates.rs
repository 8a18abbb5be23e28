//! Aggregates the proofs of several sectors into one (SnarkPack v2), for a ProveCommit of many.
//!
//! That is a computation of seconds which cannot be interrupted, and which first reads the inner-product SRS into
//! memory. So it runs in a separate process ([`crate::child`]) that is killed if it takes too long. The process
//! verifies the aggregate before it answers, as the chain will.

use std::time::Duration;

use sealbus_schema::{ErrorClass, ErrorCode, ErrorReport, MinerId, ProofBytes, SealProof, SectorNumber};
use serde::{Deserialize, Serialize};

use crate::{
    chain::params::{AGGREGATED_SECTORS_MAX, AGGREGATED_SECTORS_MIN},
    child::{self, Program, Running},
    proofs::{Porep, Verifier},
};

/// The hidden command of [`answer`].
pub const COMMAND: &str = "aggregate-proofs";

/// A request to aggregate the proofs of a miner's sectors, in the order of the message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The miner.
    pub miner: MinerId,
    /// The seal proof of all sectors.
    pub proof: SealProof,
    /// The sectors.
    pub sectors: Vec<Member>,
}

/// A sector of an aggregate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The sector.
    pub number: SectorNumber,
    /// Its proof, and what it states.
    pub porep: Porep,
}

/// Makes and verifies an aggregate in a process of its own, which is killed after `limit`, or when the returned future
/// is dropped.
///
/// # Errors
/// Class `temp` if the process was killed or did not end in time. `PARAMS_MISSING` without the SRS. `PROOF_INVALID` if
/// the aggregate does not verify, that is, if one of the proofs is not right.
pub async fn aggregate(program: &Program, request: &Request, limit: Duration) -> Result<ProofBytes, ErrorReport> {
    let count = request.sectors.len();
    if !(AGGREGATED_SECTORS_MIN..=AGGREGATED_SECTORS_MAX).contains(&count) {
        let message = format!(
            "the chain takes aggregates of {AGGREGATED_SECTORS_MIN} to {AGGREGATED_SECTORS_MAX} sectors, not of {count}"
        );
        return Err(ErrorReport::new(ErrorClass::Perm, ErrorCode::REQUEST_INVALID, message));
    }
    let mut running = Running::start(program, "the aggregation of proofs", None, request)?;
    match tokio::time::timeout(limit, running.answer()).await {
        Ok(outcome) => outcome,
        Err(_) => {
            running.kill();
            running.ended().await;
            let message = format!("{count} proofs were not aggregated within {} s", limit.as_secs_f32());
            Err(ErrorReport::new(ErrorClass::Temp, ErrorCode::PROCESSOR_TIMED_OUT, message))
        }
    }
}

/// The process's work: reads a request on stdin, and writes the aggregate to stdout.
///
/// # Errors
/// stdin is not a request.
pub fn answer(verifier: &dyn Verifier) -> anyhow::Result<()> {
    child::respond(|request| make(request, verifier))
}

/// Makes and verifies an aggregate. Blocks.
pub fn make(request: &Request, verifier: &dyn Verifier) -> Result<ProofBytes, ErrorReport> {
    let Request { miner, proof, sectors } = request;
    verifier.aggregates_ready()?;
    let aggregate = verifier.aggregate(*proof, sectors)?;
    verifier.verify_aggregate(*miner, *proof, sectors, &aggregate)?;
    Ok(aggregate)
}
