//! Checks PC2's result before it is used. A wrong CommR costs a deposit once it is on chain.
//!
//! 1. CommD is the one that PC1 bound into the replica id.
//! 2. CommR is the hash of the two roots in `p_aux`.
//! 3. The root in the files of tree R-last, as a prover will read them, is the one in `p_aux`.
//! 4. The proof type's full number of challenges opens: labels, columns, tree D, tree R-last and the encoding, verified
//!    by the library against CommR, CommD and the replica id. The challenges follow from CommR, so they are the same at
//!    each run.

use std::fs;
use std::path::Path;

use filecoin_hashers::{HashFunction, Hasher};
use filecoin_proofs::constants::{DefaultPieceHasher, DefaultTreeHasher};
use filecoin_proofs::types::MerkleTreeTrait;
use filecoin_proofs::with_shape;
use filecoin_proofs_api::seal::{self, SealPreCommitPhase2Output};
use storage_proofs_porep::stacked::{PersistentAux, TemporaryAux, TemporaryAuxCache};

use sealbus_schema::SealProof;
use sealbus_schema::parts::PieceInfo;

use super::pc1::ReplicaKey;
use super::{StageCode, StageError, sector};

type Root = <DefaultTreeHasher as Hasher>::Domain;

/// Checks the result in `cache` and `sealed`.
pub(super) fn check(
    key: &ReplicaKey,
    result: &SealPreCommitPhase2Output,
    pieces: &[PieceInfo],
    cache: &Path,
    sealed: &Path,
) -> Result<(), StageError> {
    if result.comm_d != key.comm_d.0 {
        let message = format!("PC2 answered CommD {}, PC1 had {}", hex::encode(result.comm_d), key.comm_d);
        return Err(StageError::new(StageCode::CommDMismatch, message));
    }
    let p_aux = read_p_aux(cache)?;
    let comm_r: [u8; 32] = <DefaultTreeHasher as Hasher>::Function::hash2(&p_aux.comm_c, &p_aux.comm_r_last).into();
    if comm_r != result.comm_r {
        let message = format!("p_aux gives CommR {}, PC2 answered {}", hex::encode(comm_r), hex::encode(result.comm_r));
        return Err(StageError::new(StageCode::CommRMismatch, message));
    }
    let root = with_shape!(key.proof.sector_size().bytes(), tree_r_last_root, cache, sealed)?;
    let expected: [u8; 32] = p_aux.comm_r_last.into();
    if root != expected {
        let message = format!("tree R-last has the root {}, p_aux {}", hex::encode(root), hex::encode(expected));
        return Err(StageError::new(StageCode::CommRMismatch, message));
    }
    open_challenges(key, result, pieces, cache, sealed)
}

fn open_challenges(
    key: &ReplicaKey,
    result: &SealPreCommitPhase2Output,
    pieces: &[PieceInfo],
    cache: &Path,
    sealed: &Path,
) -> Result<(), StageError> {
    let mut challenges = [0; 32];
    challenges.copy_from_slice(
        blake2b_simd::Params::new().hash_length(32).personal(b"sealbus pc2check").hash(&result.comm_r).as_bytes(),
    );
    seal::seal_commit_phase1(
        cache,
        sealed,
        sector::prover_id(key.sector.miner),
        sector::api_number(key.sector.number),
        key.ticket.0,
        challenges,
        result.clone(),
        &sector::api_pieces(pieces)?,
    )
    .map(drop)
    .map_err(|error| match StageError::library("open challenges", &error) {
        error if error.code == StageCode::ProofsFailed => StageError { code: StageCode::CommRMismatch, ..error },
        of_the_disk => of_the_disk,
    })
}

fn read_p_aux(cache: &Path) -> Result<PersistentAux<Root>, StageError> {
    let path = cache.join("p_aux");
    let bytes = fs::read(&path).map_err(|error| StageError::io("read", &path, &error))?;
    bincode::deserialize(&bytes)
        .map_err(|error| StageError::new(StageCode::CommRMismatch, format!("{}: {error}", path.display())))
}

fn read_t_aux<Tree: 'static + MerkleTreeTrait>(
    cache: &Path,
) -> Result<TemporaryAux<Tree, DefaultPieceHasher>, StageError> {
    let path = cache.join("t_aux");
    let bytes = fs::read(&path).map_err(|error| StageError::io("read", &path, &error))?;
    bincode::deserialize(&bytes)
        .map_err(|error| StageError::new(StageCode::CommRMismatch, format!("{}: {error}", path.display())))
}

fn tree_r_last_root<Tree: 'static + MerkleTreeTrait>(cache: &Path, sealed: &Path) -> Result<[u8; 32], StageError> {
    let mut t_aux = read_t_aux::<Tree>(cache)?;
    t_aux.set_cache_path(cache);
    let trees = TemporaryAuxCache::new(&t_aux, sealed.to_owned(), true)
        .map_err(|error| StageError::library("open tree R-last", &error))?;
    let mut root = [0; 32];
    filecoin_hashers::Domain::write_bytes(&trees.tree_r_last.root(), &mut root)
        .map_err(|error| StageError::library("root of tree R-last", &error))?;
    Ok(root)
}

/// Removes the scratch directory's path from `t_aux`. Every reader sets its own path. Without one, the file is
/// identical wherever the sector is sealed.
pub(super) fn normalise_t_aux(proof: SealProof, cache: &Path) -> Result<(), StageError> {
    fn normalise<Tree: 'static + MerkleTreeTrait>(cache: &Path) -> Result<(), StageError> {
        let mut t_aux = read_t_aux::<Tree>(cache)?;
        t_aux.set_cache_path(".");
        let path = cache.join("t_aux");
        let bytes = bincode::serialize(&t_aux)
            .map_err(|error| StageError::new(StageCode::ProofsFailed, format!("encode {}: {error}", path.display())))?;
        fs::write(&path, bytes).map_err(|error| StageError::io("write", &path, &error))
    }
    with_shape!(proof.sector_size().bytes(), normalise, cache)
}
