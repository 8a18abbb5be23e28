//! Reads a sector's files in the permanent store before the sector is proven: every checksum, and a real challenge.

use std::{
    fs::File,
    io::Read,
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sealbus_schema::{
    Commitment, ErrorClass, ErrorCode, ErrorReport, SealProof, SectorId,
    message::{StoredFile, StoredSector},
};

use crate::{
    config::Store,
    proofs::{Verifier, blocking},
};

/// Checks that a sector's files are as reported and answer a challenge. A store that does not answer in time is an
/// error of class `temp`: it is tried again.
#[allow(clippy::too_many_arguments, reason = "each is one thing that the check is about")]
pub async fn check(
    id: SectorId,
    proof: SealProof,
    comm_r: Commitment,
    stored: StoredSector,
    stores: &[Store],
    randomness: [u8; 32],
    timeout: Duration,
    verifier: Arc<dyn Verifier>,
) -> Result<(), ErrorReport> {
    let Some(store) = stores.iter().find(|store| store.name == stored.store) else {
        let known: Vec<_> = stores.iter().map(|store| store.name.as_str()).collect();
        let message = format!(
            "the worker wrote to the store `{}`, which the manager's configuration does not have ([[store]] name: {})",
            stored.store,
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        );
        return Err(ErrorReport::new(ErrorClass::Crit, ErrorCode::FILES_UNPROVABLE, message));
    };
    let root = store.path.clone();
    let work = blocking(move || -> Result<(), ErrorReport> {
        for file in &stored.files {
            check_file(&root, file)?;
        }
        let name = id.file_name();
        let (cache, sealed) = (root.join("cache").join(&name), root.join("sealed").join(&name));
        verifier.challenge_files(id, proof, comm_r, cache, sealed, randomness)
    });
    match tokio::time::timeout(timeout, work).await {
        Ok(outcome) => outcome?,
        Err(_) => {
            let message = format!("the store `{}` did not answer within {} s", store.name, timeout.as_secs());
            Err(ErrorReport::new(ErrorClass::Temp, ErrorCode::STORE_UNAVAILABLE, message))
        }
    }
}

fn check_file(root: &Path, file: &StoredFile) -> Result<(), ErrorReport> {
    let path = inside(root, &file.path)?;
    let failed = |error: &std::io::Error| {
        let class = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorClass::Perm,
            _ => ErrorClass::Temp,
        };
        ErrorReport::new(class, ErrorCode::FILES_UNPROVABLE, format!("cannot read {}: {error}", path.display()))
    };
    let mut reader = File::open(&path).map_err(|e| failed(&e))?;
    let mut hasher = blake2b_simd::Params::new().hash_length(32).to_state();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let read = reader.read(&mut buffer).map_err(|e| failed(&e))?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        hasher.update(&buffer[..read]);
    }
    if bytes != file.bytes || hasher.finalize().as_bytes() != file.blake2b.0 {
        let message = format!("{} is not what the worker wrote ({bytes} of {} bytes)", path.display(), file.bytes);
        return Err(ErrorReport::new(ErrorClass::Perm, ErrorCode::CHECKSUM_MISMATCH, message));
    }
    Ok(())
}

/// A path from a message is only followed below the store's own directory.
fn inside(root: &Path, relative: &str) -> Result<PathBuf, ErrorReport> {
    let path = Path::new(relative);
    if relative.is_empty() || !path.components().all(|part| matches!(part, Component::Normal(_))) {
        let message = format!("`{relative}` is not a path within the store");
        return Err(ErrorReport::new(ErrorClass::Perm, ErrorCode::PROTOCOL_VIOLATED, message));
    }
    Ok(root.join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(bytes: &[u8]) -> StoredFile {
        let digest = blake2b_simd::Params::new().hash_length(32).hash(bytes);
        StoredFile {
            path: "sealed/s-t01000-1".into(),
            bytes: bytes.len() as u64,
            blake2b: Commitment::try_from(digest.as_bytes()).expect("32 bytes"),
        }
    }

    #[test]
    fn a_file_is_taken_only_if_it_is_what_was_written() {
        let root = tempfile::tempdir().expect("directory");
        std::fs::create_dir(root.path().join("sealed")).expect("directory");
        let file = stored(b"replica");
        let code = |outcome: Result<(), ErrorReport>| outcome.err().map(|e| e.code);
        assert_eq!(code(check_file(root.path(), &file)), Some(ErrorCode::FILES_UNPROVABLE), "missing");
        std::fs::write(root.path().join(&file.path), b"replicA").expect("writes");
        assert_eq!(code(check_file(root.path(), &file)), Some(ErrorCode::CHECKSUM_MISMATCH), "one flipped bit");
        std::fs::write(root.path().join(&file.path), b"repli").expect("writes");
        assert_eq!(code(check_file(root.path(), &file)), Some(ErrorCode::CHECKSUM_MISMATCH), "short");
        std::fs::write(root.path().join(&file.path), b"replica").expect("writes");
        assert_eq!(code(check_file(root.path(), &file)), None);
    }

    #[test]
    fn a_path_never_leaves_the_store() {
        for bad in ["", "../x", "/etc/passwd", "sealed/../../x", "./x"] {
            assert!(inside(Path::new("/store"), bad).is_err(), "{bad}");
        }
        assert_eq!(inside(Path::new("/store"), "sealed/a").expect("inside"), Path::new("/store/sealed/a"));
    }
}
