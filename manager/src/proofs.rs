//! What the manager checks with the proofs library before it spends money.
//!
//! The library keeps its verifying keys in `FIL_PROOFS_PARAMETER_CACHE`; the manager needs those files, not the
//! parameters themselves.

use std::{fs::File, path::PathBuf};

use filecoin_proofs_api::{
    PrivateReplicaInfo, RegisteredPoStProof, RegisteredSealProof, SectorId as ApiSectorId, post, seal,
};
use sealbus_schema::{
    Commitment, ErrorClass, ErrorCode, ErrorReport, SealProof, SectorId, workflows::seal::manager::Proven,
};

use crate::chain::randomness::prover_id;

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

/// What only a proofs library can tell. [`Library`] is what runs; tests whose sectors hold no real replica put another
/// one in its place.
pub trait Verifier: Send + Sync + 'static {
    /// Whether proofs of this kind can be verified here and now. Cheap: what is missing is told, not what is damaged.
    fn ready(&self, _: SealProof) -> Result<(), ErrorReport> {
        Ok(())
    }

    /// Verifies a sector's proof as the chain will. Blocks.
    fn verify_seal(&self, id: SectorId, proof: SealProof, proven: &Proven) -> Result<(), ErrorReport>;

    /// Proves that a sector's files, in the directory `cache` and the file `sealed`, are there and whole enough. Blocks.
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
        let words = |problem: String| {
            missing(format!("the verifying key of {proof} is needed to check proofs: {} {problem}", path.display()))
        };
        match File::open(&path).and_then(|file| file.metadata()) {
            Ok(metadata) if metadata.len() > 0 => Ok(()),
            Ok(_) => Err(words("is empty".to_owned())),
            Err(error) => Err(words(format!("cannot be read: {error}"))),
        }
    }

    fn verify_seal(&self, id: SectorId, proof: SealProof, proven: &Proven) -> Result<(), ErrorReport> {
        let sealed = &proven.seeded.stored.precommitted.sealed;
        let verified = seal::verify_seal(
            api_proof(proof),
            sealed.comm_r.0,
            sealed.comm_d.0,
            prover_id(id.miner.0),
            ApiSectorId::from(id.number.0),
            sealed.ticket.randomness.0,
            proven.seeded.seed.randomness.0,
            &proven.proof.0,
        );
        match verified {
            Ok(true) => Ok(()),
            Ok(false) => Err(ErrorReport::new(
                ErrorClass::Perm,
                ErrorCode::PROOF_INVALID,
                "the proof does not verify; it was not sent",
            )),
            Err(error) => Err(report(ErrorCode::PROOFS_FAILED, "verify the proof", &error)),
        }
    }

    /// A real window PoSt challenge is drawn from `randomness`, and its vanilla proof read from the files and made to yield
    /// the sector's CommR.
    fn challenge_files(
        &self,
        id: SectorId,
        proof: SealProof,
        comm_r: Commitment,
        cache: PathBuf,
        sealed: PathBuf,
        randomness: [u8; 32],
    ) -> Result<(), ErrorReport> {
        let post_proof = window_post(proof);
        let mut randomness = randomness;
        randomness[31] &= 0x3f;
        let api_id = ApiSectorId::from(id.number.0);
        let challenges =
            post::generate_fallback_sector_challenges(post_proof, &randomness, &[api_id], prover_id(id.miner.0))
                .map_err(|error| report(ErrorCode::PROOFS_FAILED, "draw challenges", &error))?;
        let Some(challenges) = challenges.get(&api_id) else {
            return Err(ErrorReport::new(ErrorClass::Perm, ErrorCode::PROOFS_FAILED, "no challenges were drawn"));
        };
        let replica = PrivateReplicaInfo::new(post_proof, comm_r.0, cache, sealed);
        post::generate_single_vanilla_proof(post_proof, api_id, &replica, challenges)
            .map(drop)
            .map_err(|error| report(ErrorCode::FILES_UNPROVABLE, "read the files for a challenge", &error))
    }
}

/// Runs something that calls the library; its panics become errors.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ErrorReport> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        let message = format!("the proofs library ended badly: {error}");
        ErrorReport::new(ErrorClass::Perm, ErrorCode::LIBRARY_PANIC, message)
    })
}

/// The proofs library's name of the window PoSt of a sector. What is `V1_2` there is `V1_1` on chain.
const fn window_post(proof: SealProof) -> RegisteredPoStProof {
    match proof {
        SealProof::StackedDrg2KiBV1_1 => RegisteredPoStProof::StackedDrgWindow2KiBV1_2,
        SealProof::StackedDrg8MiBV1_1 => RegisteredPoStProof::StackedDrgWindow8MiBV1_2,
        SealProof::StackedDrg512MiBV1_1 => RegisteredPoStProof::StackedDrgWindow512MiBV1_2,
        SealProof::StackedDrg32GiBV1_1 => RegisteredPoStProof::StackedDrgWindow32GiBV1_2,
        SealProof::StackedDrg64GiBV1_1 => RegisteredPoStProof::StackedDrgWindow64GiBV1_2,
    }
}

fn report(code: ErrorCode, operation: &str, error: &anyhow::Error) -> ErrorReport {
    let mut report = ErrorReport::new(ErrorClass::Perm, code, format!("cannot {operation}"));
    report.causes.extend(error.chain().map(ToString::to_string));
    report.bounded()
}
