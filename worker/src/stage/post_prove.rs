//! Makes the SNARK of a proof of spacetime from its sectors' vanilla proofs, and verifies it as the chain will.
//!
//! The chain takes a window PoSt without verifying it, and punishes a wrong one later. So a proof that does not verify
//! is not a result.
//!
//! The vanilla proofs of a full partition are some 56 MB. They come in one file, one behind the other, in the order of
//! the request's sectors. The library keeps the parameters that it has loaded, so a process serves many requests.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bincode::deserialize;
use filecoin_proofs::types::{FallbackPoStSectorProof, MerkleTreeTrait};
use filecoin_proofs::with_shape;
use filecoin_proofs_api::{PublicReplicaInfo, RegisteredPoStProof, post as library};
use sealbus_schema::post::PostKind;
use sealbus_schema::{Commitment, MinerId, ProofBytes, Randomness, SealProof, SectorNumber};
use serde::{Deserialize, Serialize};
use storage_proofs_core::proof::ProofScheme;
use storage_proofs_post::fallback::{FallbackPoSt, PublicInputs, PublicParams, PublicSector};

use super::{Stage, StageCode, StageError, StageRequest, files, post, sector};

/// What to prove.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The file with the vanilla proofs.
    pub vanillas: PathBuf,
    /// The miner.
    pub miner: MinerId,
    /// The sectors' seal proof.
    pub proof: SealProof,
    /// The kind of proof.
    pub post: PostKind,
    /// The randomness that the challenges were drawn from, with its last byte masked.
    pub randomness: Randomness,
    /// The sectors, by rising number.
    pub sectors: Vec<Sector>,
}

/// A sector of the proof.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Sector {
    /// Its number.
    pub number: SectorNumber,
    /// Its CommR on chain.
    pub comm_r: Commitment,
    /// The length of its vanilla proof, in bytes.
    pub bytes: usize,
}

/// The outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// The proof: 192 bytes. It has been verified.
    Proved {
        /// The bytes.
        proof: ProofBytes,
    },
    /// There is no proof, because of some vanilla proofs.
    Unfit {
        /// The sectors.
        culprits: Vec<SectorNumber>,
        /// What is wrong.
        problem: String,
    },
}

impl StageRequest for Request {
    const STAGE: Stage = Stage::POST[1];
    type Response = Response;

    fn run(&self) -> Result<Response, StageError> {
        run(self)
    }
}

/// Makes and verifies the proof.
///
/// # Errors
/// [`StageCode::RequestInvalid`] if the sectors do not rise or the file has another length;
/// [`StageCode::ParamsMissing`]; [`StageCode::ProofsFailed`] if the library makes no proof;
/// [`StageCode::ProofInvalid`] if the proof does not verify.
pub fn run(request: &Request) -> Result<Response, StageError> {
    let kind = post::registered(request.proof, request.post)?;
    // Checked before the computation: without the key the proof could not be verified, and minutes would be lost.
    for path in [kind.cache_params_path(), kind.cache_verifying_key_path()] {
        let path = path.map_err(|error| StageError::library("name the parameters", &error))?;
        if files::size_of(&path)?.is_none() {
            return Err(StageError::new(StageCode::ParamsMissing, format!("{} is not there", path.display())));
        }
    }
    let vanillas = vanillas(request)?;
    let others = with_shape!(request.proof.sector_size().bytes(), of_others, &request.sectors, &vanillas);
    if !others.is_empty() {
        let problem = "vanilla proofs that are unreadable, or of another sector or replica".to_owned();
        return Ok(Response::Unfit { culprits: others, problem });
    }
    let proof = match prove(request, kind, &vanillas) {
        Ok(proof) => proof,
        Err(error) => return blame(request, kind, &vanillas, StageError::library("make the SNARK", &error)),
    };
    if !verify(request, kind, &proof)? {
        let message = format!("the SNARK was made, but does not verify ({} sectors)", request.sectors.len());
        return Err(StageError::new(StageCode::ProofInvalid, message));
    }
    Ok(Response::Proved { proof: ProofBytes(proof) })
}

/// The vanilla proofs, in the order of the sectors.
fn vanillas(request: &Request) -> Result<Vec<Vec<u8>>, StageError> {
    let invalid = |problem: String| StageError::new(StageCode::RequestInvalid, problem);
    if request.sectors.is_empty() || !request.sectors.is_sorted_by(|one, next| one.number < next.number) {
        return Err(invalid("a proof needs sectors, by rising number".to_owned()));
    }
    let path = &request.vanillas;
    let all = std::fs::read(path).map_err(|error| StageError::io("read", path, &error))?;
    let mut rest = all.as_slice();
    let mut vanillas = Vec::with_capacity(request.sectors.len());
    for sector in &request.sectors {
        let Some((vanilla, behind)) = rest.split_at_checked(sector.bytes) else {
            return Err(invalid(format!("{} ends before sector {}", path.display(), sector.number)));
        };
        vanillas.push(vanilla.to_vec());
        rest = behind;
    }
    match rest.len() {
        0 => Ok(vanillas),
        bytes => Err(invalid(format!("{} has {bytes} bytes behind the last sector", path.display()))),
    }
}

/// One SNARK: a request has at most one partition of sectors, or the library refuses it.
fn prove(request: &Request, kind: RegisteredPoStProof, vanillas: &[Vec<u8>]) -> Result<Vec<u8>, anyhow::Error> {
    let (prover, randomness) = (sector::prover_id(request.miner), &request.randomness.0);
    if request.post == PostKind::Winning {
        let made = library::generate_winning_post_with_vanilla(kind, randomness, prover, vanillas)?;
        return Ok(made.into_iter().flat_map(|(_, proof)| proof).collect());
    }
    // The partition's index is that within this proof, whichever partition it is on chain. The call for all partitions
    // would check the vanilla proofs twice.
    let made = library::generate_single_window_post_with_vanilla(kind, randomness, prover, vanillas, 0)?;
    library::merge_window_post_partition_proofs(kind, vec![made])
}

fn verify(request: &Request, kind: RegisteredPoStProof, proof: &[u8]) -> Result<bool, StageError> {
    let replica = |sector: &Sector| (sector::api_number(sector.number), PublicReplicaInfo::new(kind, sector.comm_r.0));
    let replicas: BTreeMap<_, _> = request.sectors.iter().map(replica).collect();
    let (prover, randomness) = (sector::prover_id(request.miner), &request.randomness.0);
    let verified = match request.post {
        PostKind::Winning => library::verify_winning_post(randomness, proof, &replicas, prover),
        PostKind::Window | PostKind::Unknown => {
            library::verify_window_post(randomness, &[(kind, proof)], &replicas, prover)
        }
    };
    verified.map_err(|error| StageError::library("verify the SNARK", &error))
}

/// The sectors whose vanilla proofs say that they are of another sector or replica. The library takes both from there.
fn of_others<Tree: 'static + MerkleTreeTrait>(sectors: &[Sector], vanillas: &[Vec<u8>]) -> Vec<SectorNumber> {
    let is_of = |sector: &Sector, vanilla: &[u8]| {
        deserialize::<FallbackPoStSectorProof<Tree>>(vanilla).is_ok_and(|vanilla| {
            let comm_r: &[u8] = vanilla.comm_r.as_ref();
            u64::from(vanilla.sector_id) == sector.number.0 && comm_r == sector.comm_r.0
        })
    };
    let others = sectors.iter().zip(vanillas).filter(|(sector, vanilla)| !is_of(sector, vanilla));
    others.map(|(sector, _)| sector.number).collect()
}

/// The library refuses all vanilla proofs for one that is wrong, and does not say which. Finds those that are; if there
/// are none, `error` had another cause.
fn blame(
    request: &Request,
    kind: RegisteredPoStProof,
    vanillas: &[Vec<u8>],
    error: StageError,
) -> Result<Response, StageError> {
    let culprits =
        with_shape!(request.proof.sector_size().bytes(), wrong, request, kind, vanillas).map_err(|_| error.clone())?;
    match culprits.is_empty() {
        true => Err(error),
        false => {
            let problem = "vanilla proofs that do not answer the challenges".to_owned();
            Ok(Response::Unfit { culprits, problem })
        }
    }
}

/// The sectors whose vanilla proofs do not answer the challenges. A sector's challenges do not depend on the others, so
/// each is checked as if it were alone.
fn wrong<Tree: 'static + MerkleTreeTrait>(
    request: &Request,
    kind: RegisteredPoStProof,
    vanillas: &[Vec<u8>],
) -> Result<Vec<SectorNumber>, anyhow::Error> {
    let config = kind.as_v1_config();
    let params = PublicParams {
        sector_size: u64::from(config.sector_size),
        challenge_count: config.challenge_count,
        sector_count: 1,
        api_version: config.api_version,
    };
    let randomness = filecoin_hashers::Domain::try_from_bytes(&request.randomness.0)?;
    let prover_id = filecoin_hashers::Domain::try_from_bytes(&sector::prover_id(request.miner))?;
    let is_right = |vanilla: &[u8]| {
        let Ok(FallbackPoStSectorProof::<Tree> { sector_id, comm_r, vanilla_proof }) = deserialize(vanilla) else {
            return false;
        };
        let is_whole =
            matches!(&vanilla_proof.sectors[..], [one] if one.inclusion_proofs.len() == params.challenge_count);
        let sectors = vec![PublicSector { id: sector_id, comm_r }];
        let inputs = PublicInputs { randomness, prover_id, sectors, k: Some(0) };
        is_whole && FallbackPoSt::<Tree>::verify(&params, &inputs, &vanilla_proof).unwrap_or(false)
    };
    let wrong = request.sectors.iter().zip(vanillas).filter(|(_, vanilla)| !is_right(vanilla));
    Ok(wrong.map(|(sector, _)| sector.number).collect())
}
