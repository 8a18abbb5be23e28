//! What both stages of proofs of spacetime need.

use std::io;
use std::path::Path;

use filecoin_hashers::{Domain, HashFunction, Hasher};
use filecoin_proofs::constants::DefaultTreeHasher;
use filecoin_proofs_api::RegisteredPoStProof;
use sealbus_schema::post::PostKind;
use sealbus_schema::{Commitment, SealProof};

use super::{StageCode, StageError};

type Root = <DefaultTreeHasher as Hasher>::Domain;

/// The library's proof type. Its window type `V1_2` is called `V1_1` on chain.
///
/// # Errors
/// [`StageCode::RequestInvalid`] for a kind of a newer version.
pub fn registered(proof: SealProof, kind: PostKind) -> Result<RegisteredPoStProof, StageError> {
    use RegisteredPoStProof as Post;
    Ok(match (kind, proof) {
        (PostKind::Window, SealProof::StackedDrg2KiBV1_1) => Post::StackedDrgWindow2KiBV1_2,
        (PostKind::Window, SealProof::StackedDrg8MiBV1_1) => Post::StackedDrgWindow8MiBV1_2,
        (PostKind::Window, SealProof::StackedDrg512MiBV1_1) => Post::StackedDrgWindow512MiBV1_2,
        (PostKind::Window, SealProof::StackedDrg32GiBV1_1) => Post::StackedDrgWindow32GiBV1_2,
        (PostKind::Window, SealProof::StackedDrg64GiBV1_1) => Post::StackedDrgWindow64GiBV1_2,
        (PostKind::Winning, SealProof::StackedDrg2KiBV1_1) => Post::StackedDrgWinning2KiBV1,
        (PostKind::Winning, SealProof::StackedDrg8MiBV1_1) => Post::StackedDrgWinning8MiBV1,
        (PostKind::Winning, SealProof::StackedDrg512MiBV1_1) => Post::StackedDrgWinning512MiBV1,
        (PostKind::Winning, SealProof::StackedDrg32GiBV1_1) => Post::StackedDrgWinning32GiBV1,
        (PostKind::Winning, SealProof::StackedDrg64GiBV1_1) => Post::StackedDrgWinning64GiBV1,
        (PostKind::Unknown, _) => {
            return Err(StageError::new(StageCode::RequestInvalid, "a kind of proof of a newer version"));
        }
    })
}

/// The CommR that a sector's cache stands for: the hash of the two roots in `p_aux`, CommC and that of tree R-last, 32
/// bytes each (`PersistentAux` of storage-proofs-porep).
pub(super) fn comm_r_of(cache: &Path) -> Result<Commitment, StageError> {
    let path = cache.join("p_aux");
    let bad = |problem: String| StageError::new(StageCode::FilesUnprovable, format!("{}: {problem}", path.display()));
    let bytes = std::fs::read(&path).map_err(|error| unreadable("read", &path, &error))?;
    let Some((comm_c, comm_r_last)) = bytes.split_at_checked(32).filter(|_| bytes.len() == 64) else {
        return Err(bad(format!("{} bytes instead of 64", bytes.len())));
    };
    match (Root::try_from_bytes(comm_c), Root::try_from_bytes(comm_r_last)) {
        (Ok(comm_c), Ok(comm_r_last)) => {
            Ok(Commitment(<DefaultTreeHasher as Hasher>::Function::hash2(&comm_c, &comm_r_last).into()))
        }
        _ => Err(bad("what is in it are not two roots".to_owned())),
    }
}

/// A failed read of one of a sector's files: the file is at fault, or the store.
pub(super) fn unreadable(operation: &str, path: &Path, error: &io::Error) -> StageError {
    StageError::new(code_of(error), format!("cannot {operation} {}: {error}", path.display()))
}

/// A failed answer to challenges. Everything that is not an error of the store is the files' fault.
pub(super) fn unprovable(operation: &str, error: &anyhow::Error) -> StageError {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    StageError::new(io.map_or(StageCode::FilesUnprovable, code_of), format!("{operation}: {error:#}"))
}

fn code_of(error: &io::Error) -> StageCode {
    use io::ErrorKind::{InvalidData, InvalidInput, IsADirectory, NotADirectory, NotFound, UnexpectedEof};
    match error.kind() {
        NotFound | NotADirectory | IsADirectory | UnexpectedEof | InvalidData | InvalidInput => {
            StageCode::FilesUnprovable
        }
        // Without an errno the error is the library's own.
        _ if error.raw_os_error().is_none() => StageCode::FilesUnprovable,
        _ => StageCode::StoreUnavailable,
    }
}

#[cfg(test)]
mod tests {
    use sealbus_schema::{ErrorClass, SectorSize};

    use super::*;

    #[test]
    fn types_are_those_of_the_sectors_size() {
        for proof in SectorSize::ALL.map(SectorSize::seal_proof) {
            for kind in [PostKind::Window, PostKind::Winning] {
                let post = registered(proof, kind).expect("known");
                assert_eq!(u64::from(post.sector_size()), proof.sector_size().bytes());
            }
            assert_eq!(registered(proof, PostKind::Unknown).expect_err("newer").code, StageCode::RequestInvalid);
        }
    }

    #[test]
    fn an_errno_decides_whether_the_store_or_the_file_is_at_fault() {
        // ENOENT, ENOTDIR; EIO, ESTALE, EACCES, ENOTCONN, ETIMEDOUT.
        for errno in [2, 20] {
            let error = unreadable("read", Path::new("/x"), &io::Error::from_raw_os_error(errno));
            assert_eq!((error.code, error.class()), (StageCode::FilesUnprovable, ErrorClass::Perm), "{errno}");
        }
        for errno in [5, 116, 13, 107, 110] {
            let error = anyhow::Error::from(io::Error::from_raw_os_error(errno)).context("tree");
            let error = unprovable("open", &error);
            assert_eq!((error.code, error.class()), (StageCode::StoreUnavailable, ErrorClass::Temp), "{errno}");
        }
        assert_eq!(unprovable("open", &anyhow::anyhow!("invalid")).code, StageCode::FilesUnprovable);
    }
}
