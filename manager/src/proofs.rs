//! The manager's checks with the proofs library before it spends funds.
//!
//! The library keeps its verifying keys in `FIL_PROOFS_PARAMETER_CACHE`. The manager needs those files, not the
//! parameters themselves, and for aggregates also the inner-product SRS.

use std::{
    collections::BTreeMap,
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use filecoin_hashers::{
    Domain, HashFunction, Hasher,
    poseidon::{PoseidonDomain, PoseidonHasher},
};
use filecoin_proofs_api::{
    PrivateReplicaInfo, PublicReplicaInfo, RegisteredAggregationProof, RegisteredPoStProof, RegisteredSealProof,
    SectorId as ApiSectorId, post,
    seal::{self, SealCommitPhase2Output},
};
use sealbus_schema::{
    Commitment, ErrorClass, ErrorCode, ErrorReport, MinerId, ProofBytes, Randomness, SealProof, SectorId, SectorNumber,
};
use serde::{Deserialize, Serialize};
use storage_proofs_core::parameter_cache::parameter_cache_srs_key_path;

use crate::{
    aggregates::{self, Member},
    chain::randomness::{masked, prover_id},
    child::Program,
    files,
};

/// The only aggregation that the chain takes.
const AGGREGATION: RegisteredAggregationProof = RegisteredAggregationProof::SnarkPackV2;

/// A proof of replication, and what it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Porep {
    /// The replica.
    pub comm_r: Commitment,
    /// Its data.
    pub comm_d: Commitment,
    /// The ticket's randomness.
    pub ticket: Randomness,
    /// The seed's randomness.
    pub seed: Randomness,
    /// The proof.
    pub proof: ProofBytes,
}

/// The proofs library's name of a seal proof.
pub const fn api_proof(proof: SealProof) -> RegisteredSealProof {
    match proof {
        SealProof::StackedDrg2KiBV1_1 => RegisteredSealProof::StackedDrg2KiBV1_1,
        SealProof::StackedDrg8MiBV1_1 => RegisteredSealProof::StackedDrg8MiBV1_1,
        SealProof::StackedDrg512MiBV1_1 => RegisteredSealProof::StackedDrg512MiBV1_1,
        SealProof::StackedDrg32GiBV1_1 => RegisteredSealProof::StackedDrg32GiBV1_1,
        SealProof::StackedDrg64GiBV1_1 => RegisteredSealProof::StackedDrg64GiBV1_1,
    }
}

/// The checks that need the proofs library. Production uses [`Library`]; tests whose sectors have no real replica
/// substitute another implementation.
pub trait Verifier: Send + Sync + 'static {
    /// Checks that proofs of this type can be verified now. Cheap: it notices missing files, but not damaged ones.
    fn ready(&self, _: SealProof) -> Result<(), ErrorReport> {
        Ok(())
    }

    /// Verifies a sector's proof as the chain will. Blocks.
    fn verify_seal(&self, id: SectorId, proof: SealProof, porep: &Porep) -> Result<(), ErrorReport>;

    /// Verifies the window PoSt of one partition as the chain will: of these sectors with their CommR, by rising number.
    /// `randomness` is masked. Blocks for up to some seconds.
    fn verify_window_post(
        &self,
        _: MinerId,
        _: SealProof,
        _: Randomness,
        _: &[(SectorNumber, Commitment)],
        _: &ProofBytes,
    ) -> Result<(), ErrorReport> {
        Err(ErrorReport::new(ErrorClass::Perm, ErrorCode::PROOFS_FAILED, "window PoSts cannot be verified here"))
    }

    /// Verifies the winning PoSt of a block as the chain will: of these sectors with their CommR. `randomness` is masked.
    /// Blocks for some milliseconds.
    fn verify_winning_post(
        &self,
        _: MinerId,
        _: SealProof,
        _: Randomness,
        _: &[(SectorNumber, Commitment)],
        _: &ProofBytes,
    ) -> Result<(), ErrorReport> {
        Err(ErrorReport::new(ErrorClass::Perm, ErrorCode::PROOFS_FAILED, "winning PoSts cannot be verified here"))
    }

    /// Checks that aggregates can be made and verified now. Cheap, like [`Self::ready`].
    fn aggregates_ready(&self) -> Result<(), ErrorReport> {
        Err(no_aggregates())
    }

    /// Aggregates the proofs of sectors, in this order. Blocks for seconds, so it is called in a separate process, see
    /// [`crate::aggregates`].
    fn aggregate(&self, _: SealProof, _: &[Member]) -> Result<ProofBytes, ErrorReport> {
        Err(no_aggregates())
    }

    /// Verifies an aggregate of these sectors as the chain will. Blocks like [`Self::aggregate`].
    fn verify_aggregate(&self, _: MinerId, _: SealProof, _: &[Member], _: &ProofBytes) -> Result<(), ErrorReport> {
        Err(no_aggregates())
    }

    /// The program that aggregates proofs by [`Self::aggregate`].
    fn aggregator(&self) -> Program {
        Program::this(aggregates::COMMAND)
    }

    /// The program that checks a sector's files by [`Self::challenge_files`].
    fn file_checker(&self) -> Program {
        Program::this(files::COMMAND)
    }

    /// Challenges a sector's files, in the directory `cache` and the file `sealed`. Blocks, and on a hanging file
    /// system forever, so it is called in a separate process, see [`crate::files`].
    fn challenge_files(
        &self,
        id: SectorId,
        proof: SealProof,
        comm_r: Commitment,
        cache: PathBuf,
        sealed: PathBuf,
        randomness: [u8; 32],
    ) -> Result<(), ErrorReport>;
}

/// `filecoin-proofs-api`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Library;

impl Verifier for Library {
    fn ready(&self, proof: SealProof) -> Result<(), ErrorReport> {
        let missing = |what: String| ErrorReport::new(ErrorClass::Crit, ErrorCode::PARAMS_MISSING, what);
        let path = api_proof(proof).cache_verifying_key_path().map_err(|error| missing(format!("{error:#}")))?;
        require_file(&path, &format!("the verifying key of {proof} is needed to check proofs"))
    }

    fn aggregates_ready(&self) -> Result<(), ErrorReport> {
        // One SRS serves all sector sizes and all numbers of proofs.
        let path = parameter_cache_srs_key_path("", 0);
        require_file(&path, "the inner-product SRS is needed to aggregate proofs")
    }

    fn verify_seal(&self, id: SectorId, proof: SealProof, porep: &Porep) -> Result<(), ErrorReport> {
        let verified = seal::verify_seal(
            api_proof(proof),
            porep.comm_r.0,
            porep.comm_d.0,
            prover_id(id.miner.0),
            ApiSectorId::from(id.number.0),
            porep.ticket.0,
            porep.seed.0,
            &porep.proof.0,
        );
        verdict(verified, "the proof", "it was not sent")
    }

    fn verify_window_post(
        &self,
        miner: MinerId,
        proof: SealProof,
        randomness: Randomness,
        sectors: &[(SectorNumber, Commitment)],
        made: &ProofBytes,
    ) -> Result<(), ErrorReport> {
        let post_proof = window_post(proof);
        let replicas = replicas(post_proof, "window PoSt", sectors)?;
        let verified = post::verify_window_post(&randomness.0, &[(post_proof, &made.0)], &replicas, prover_id(miner.0));
        verdict(verified, "the window PoSt", "it was not sent")
    }

    fn verify_winning_post(
        &self,
        miner: MinerId,
        proof: SealProof,
        randomness: Randomness,
        sectors: &[(SectorNumber, Commitment)],
        made: &ProofBytes,
    ) -> Result<(), ErrorReport> {
        let post_proof = winning_post(proof);
        let replicas = replicas(post_proof, "winning PoSt", sectors)?;
        let verified = post::verify_winning_post(&randomness.0, &made.0, &replicas, prover_id(miner.0));
        verdict(verified, "the winning PoSt", "no block was made with it")
    }

    fn aggregate(&self, proof: SealProof, sectors: &[Member]) -> Result<ProofBytes, ErrorReport> {
        let (comm_rs, seeds) = comm_rs_and_seeds(sectors);
        let output = |sector: &Member| SealCommitPhase2Output { proof: sector.porep.proof.0.clone() };
        let proofs: Vec<_> = sectors.iter().map(output).collect();
        seal::aggregate_seal_commit_proofs(api_proof(proof), AGGREGATION, &comm_rs, &seeds, &proofs)
            .map(ProofBytes)
            .map_err(|error| report(ErrorCode::PROOFS_FAILED, "aggregate proofs", &error))
    }

    fn verify_aggregate(
        &self,
        miner: MinerId,
        proof: SealProof,
        sectors: &[Member],
        aggregate: &ProofBytes,
    ) -> Result<(), ErrorReport> {
        let failed = |error: anyhow::Error| report(ErrorCode::PROOFS_FAILED, "verify the aggregate", &error);
        let api_proof = api_proof(proof);
        let prover = prover_id(miner.0);
        let inputs = sectors.iter().map(|Member { number, porep }| {
            let (comm_r, comm_d) = (porep.comm_r.0, porep.comm_d.0);
            let number = ApiSectorId::from(number.0);
            seal::get_seal_inputs(api_proof, comm_r, comm_d, prover, number, porep.ticket.0, porep.seed.0)
        });
        let inputs = inputs.collect::<Result<Vec<_>, _>>().map_err(failed)?.concat();
        let (comm_rs, seeds) = comm_rs_and_seeds(sectors);
        let aggregate = aggregate.0.clone();
        match seal::verify_aggregate_seal_commit_proofs(api_proof, AGGREGATION, aggregate, &comm_rs, &seeds, inputs) {
            Ok(true) => Ok(()),
            Ok(false) => Err(ErrorReport::new(
                ErrorClass::Perm,
                ErrorCode::PROOF_INVALID,
                format!("the aggregate of {} proofs does not verify; it was not sent", sectors.len()),
            )),
            Err(error) => Err(failed(error)),
        }
    }

    /// Draws a window PoSt challenge from `randomness` and answers it from the files. The library compares each leaf's
    /// path with the root in `p_aux`; we check that the root belongs to the sector's CommR.
    fn challenge_files(
        &self,
        id: SectorId,
        proof: SealProof,
        comm_r: Commitment,
        cache: PathBuf,
        sealed: PathBuf,
        randomness: [u8; 32],
    ) -> Result<(), ErrorReport> {
        let found = comm_r_of(&cache)?;
        if found != comm_r {
            let message = format!("the files are another sector's: they prove the CommR {found}, on chain is {comm_r}");
            return Err(ErrorReport::new(ErrorClass::Perm, ErrorCode::FILES_UNPROVABLE, message));
        }
        let post_proof = window_post(proof);
        let randomness = masked(randomness);
        let api_id = ApiSectorId::from(id.number.0);
        let challenges =
            post::generate_fallback_sector_challenges(post_proof, &randomness, &[api_id], prover_id(id.miner.0))
                .map_err(|error| report(ErrorCode::PROOFS_FAILED, "draw challenges", &error))?;
        let Some(challenges) = challenges.get(&api_id) else {
            return Err(ErrorReport::new(ErrorClass::Perm, ErrorCode::PROOFS_FAILED, "no challenges were drawn"));
        };
        let replica = PrivateReplicaInfo::new(post_proof, comm_r.0, cache, sealed);
        let answer = || post::generate_single_vanilla_proof(post_proof, api_id, &replica, challenges).map(drop);
        match catch_unwind(AssertUnwindSafe(answer)) {
            Ok(outcome) => outcome.map_err(|error| unprovable(&error)),
            // The library asserts that the leaves that it reads lead to the root.
            Err(panic) => {
                let words = panic.downcast_ref::<String>().map(String::as_str);
                let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words");
                let message = format!("the files do not answer a challenge: {words}");
                Err(ErrorReport::new(ErrorClass::Perm, ErrorCode::FILES_UNPROVABLE, message).bounded())
            }
        }
    }
}

/// What follows from the library's verdict on a proof. `consequence` says what was not done with a wrong one.
fn verdict(verified: anyhow::Result<bool>, what: &str, consequence: &str) -> Result<(), ErrorReport> {
    match verified {
        Ok(true) => Ok(()),
        Ok(false) => {
            let message = format!("{what} does not verify; {consequence}");
            Err(ErrorReport::new(ErrorClass::Perm, ErrorCode::PROOF_INVALID, message))
        }
        Err(error) => Err(report(ErrorCode::PROOFS_FAILED, &format!("verify {what}"), &error)),
    }
}

/// The sectors of a proof of spacetime as the library wants them, if there is the key with which it is verified.
fn replicas(
    post_proof: RegisteredPoStProof,
    name: &str,
    sectors: &[(SectorNumber, Commitment)],
) -> Result<BTreeMap<ApiSectorId, PublicReplicaInfo>, ErrorReport> {
    let key = post_proof
        .cache_verifying_key_path()
        .map_err(|error| ErrorReport::new(ErrorClass::Crit, ErrorCode::PARAMS_MISSING, format!("{error:#}")))?;
    require_file(&key, &format!("the verifying key of {name} is needed to check proofs"))?;
    let replica = |(number, comm_r): &(SectorNumber, Commitment)| {
        (ApiSectorId::from(number.0), PublicReplicaInfo::new(post_proof, comm_r.0))
    };
    Ok(sectors.iter().map(replica).collect())
}

fn comm_rs_and_seeds(sectors: &[Member]) -> (Vec<[u8; 32]>, Vec<[u8; 32]>) {
    sectors.iter().map(|sector| (sector.porep.comm_r.0, sector.porep.seed.0)).unzip()
}

/// Fails if a parameter file is not there, or empty.
fn require_file(path: &Path, needed: &str) -> Result<(), ErrorReport> {
    let problem = match File::open(path).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.len() > 0 => return Ok(()),
        Ok(_) => "is empty".to_owned(),
        Err(error) => format!("cannot be read: {error}"),
    };
    let message = format!("{needed}: {} {problem}", path.display());
    Err(ErrorReport::new(ErrorClass::Crit, ErrorCode::PARAMS_MISSING, message))
}

fn no_aggregates() -> ErrorReport {
    ErrorReport::new(ErrorClass::Perm, ErrorCode::PROOFS_FAILED, "proofs cannot be aggregated here")
}

/// The CommR that a sector's files prove: the hash of the two roots in `p_aux`, CommC and the root of tree R-last, 32
/// bytes each (`PersistentAux` of storage-proofs-porep).
fn comm_r_of(cache: &Path) -> Result<Commitment, ErrorReport> {
    let path = cache.join("p_aux");
    let bad = |class, problem: String| {
        Err(ErrorReport::new(class, ErrorCode::FILES_UNPROVABLE, format!("{}: {problem}", path.display())))
    };
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if is_of_the_store(&error) => {
            let message = format!("cannot read {}: {error}", path.display());
            return Err(ErrorReport::new(ErrorClass::Temp, ErrorCode::STORE_UNAVAILABLE, message));
        }
        Err(error) => return bad(ErrorClass::Perm, error.to_string()),
    };
    let Some((comm_c, comm_r_last)) = bytes.split_at_checked(32).filter(|_| bytes.len() == 64) else {
        return bad(ErrorClass::Perm, format!("{} bytes instead of 64", bytes.len()));
    };
    let roots = (PoseidonDomain::try_from_bytes(comm_c), PoseidonDomain::try_from_bytes(comm_r_last));
    let (Ok(comm_c), Ok(comm_r_last)) = roots else {
        return bad(ErrorClass::Perm, "what is in it are not two roots".to_owned());
    };
    Ok(Commitment(<PoseidonHasher as Hasher>::Function::hash2(&comm_c, &comm_r_last).into()))
}

/// Why a challenge was not answered: the files are wrong, or the store failed while they were read.
fn unprovable(error: &anyhow::Error) -> ErrorReport {
    const OPERATION: &str = "read the files for a challenge";
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    match io.is_some_and(is_of_the_store) {
        true => ErrorReport { class: ErrorClass::Temp, ..report(ErrorCode::STORE_UNAVAILABLE, OPERATION, error) },
        false => report(ErrorCode::FILES_UNPROVABLE, OPERATION, error),
    }
}

/// Whether a read failed because of the store, and not because of the file.
fn is_of_the_store(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput, NotFound, PermissionDenied, UnexpectedEof};
    error.raw_os_error().is_some()
        && !matches!(error.kind(), NotFound | PermissionDenied | UnexpectedEof | InvalidData | InvalidInput)
}

/// Runs a function that calls the library, and turns panics into errors.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ErrorReport> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        let message = format!("the proofs library ended badly: {error}");
        ErrorReport::new(ErrorClass::Perm, ErrorCode::LIBRARY_PANIC, message)
    })
}

/// The proofs library's window PoSt type for a sector. The library's `V1_2` is `V1_1` on chain.
const fn window_post(proof: SealProof) -> RegisteredPoStProof {
    match proof {
        SealProof::StackedDrg2KiBV1_1 => RegisteredPoStProof::StackedDrgWindow2KiBV1_2,
        SealProof::StackedDrg8MiBV1_1 => RegisteredPoStProof::StackedDrgWindow8MiBV1_2,
        SealProof::StackedDrg512MiBV1_1 => RegisteredPoStProof::StackedDrgWindow512MiBV1_2,
        SealProof::StackedDrg32GiBV1_1 => RegisteredPoStProof::StackedDrgWindow32GiBV1_2,
        SealProof::StackedDrg64GiBV1_1 => RegisteredPoStProof::StackedDrgWindow64GiBV1_2,
    }
}

/// The proofs library's winning PoSt type for a sector. On chain its number is the place in this list.
const fn winning_post(proof: SealProof) -> RegisteredPoStProof {
    match proof {
        SealProof::StackedDrg2KiBV1_1 => RegisteredPoStProof::StackedDrgWinning2KiBV1,
        SealProof::StackedDrg8MiBV1_1 => RegisteredPoStProof::StackedDrgWinning8MiBV1,
        SealProof::StackedDrg512MiBV1_1 => RegisteredPoStProof::StackedDrgWinning512MiBV1,
        SealProof::StackedDrg32GiBV1_1 => RegisteredPoStProof::StackedDrgWinning32GiBV1,
        SealProof::StackedDrg64GiBV1_1 => RegisteredPoStProof::StackedDrgWinning64GiBV1,
    }
}

fn report(code: ErrorCode, operation: &str, error: &anyhow::Error) -> ErrorReport {
    let mut report = ErrorReport::new(ErrorClass::Perm, code, format!("cannot {operation}"));
    report.causes.extend(error.chain().map(ToString::to_string));
    report.bounded()
}
