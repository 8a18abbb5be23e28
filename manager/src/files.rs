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
    identity::{self, KnownStore},
    parts::{StoredFile, StoredSector},
};

use crate::{
    config::Store,
    proofs::{Verifier, blocking},
    stores,
};

/// The permanent stores.
#[derive(Clone, Copy, Debug)]
pub struct Stores<'a> {
    /// As this machine reaches them.
    pub configured: &'a [Store],
    /// By the ids that their directories must have.
    pub known: &'a [KnownStore],
}

/// Checks that a sector's files are as reported and answer a challenge. A store that is away, or does not answer in time,
/// is an error of class `temp`: it is tried again for as long as it takes.
#[allow(clippy::too_many_arguments, reason = "each is one thing that the check is about")]
pub async fn check(
    id: SectorId,
    proof: SealProof,
    comm_r: Commitment,
    stored: StoredSector,
    stores: Stores<'_>,
    randomness: [u8; 32],
    timeout: Duration,
    verifier: Arc<dyn Verifier>,
) -> Result<(), ErrorReport> {
    let Some(store) = stores.configured.iter().find(|store| store.name == stored.store) else {
        let known: Vec<_> = stores.configured.iter().map(|store| store.name.as_str()).collect();
        let message = format!(
            "the worker wrote to the store `{}`, which the manager's configuration does not have ([[store]] name: {})",
            stored.store,
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        );
        return Err(ErrorReport::new(ErrorClass::Crit, ErrorCode::FILES_UNPROVABLE, message));
    };
    let known = identity::known_id(stores.known, &store.name).map(str::to_owned);
    let configured = store.clone();
    let work = blocking(move || -> Result<(), ErrorReport> {
        let root = &configured.path;
        let is_there = || require_store(&configured, known.as_deref(), &stored);
        is_there()?;
        let check = || {
            for file in &stored.files {
                check_file(root, file)?;
            }
            let name = id.file_name();
            let (cache, sealed) = (root.join("cache").join(&name), root.join("sealed").join(&name));
            verifier.challenge_files(id, proof, comm_r, cache, sealed, randomness)
        };
        let checked = check();
        // Whatever was said of files in a store that went away meanwhile, that is the cause.
        is_there().and(checked)
    });
    match tokio::time::timeout(timeout, work).await {
        Ok(outcome) => outcome?,
        Err(_) => {
            let message = format!("the store `{}` did not answer within {} s", store.name, timeout.as_secs());
            Err(ErrorReport::new(ErrorClass::Temp, ErrorCode::STORE_UNAVAILABLE, message))
        }
    }
}

/// Demands that a store's directory is the store, before anything is said of the files in it.
fn require_store(store: &Store, known: Option<&str>, stored: &StoredSector) -> Result<(), ErrorReport> {
    let away = |what: String| {
        let message = format!("the store `{}` at {}: {what}", store.name, store.path.display());
        Err(ErrorReport::new(ErrorClass::Temp, ErrorCode::STORE_UNAVAILABLE, message))
    };
    let found = match stores::read(&store.path) {
        Ok(found) => found,
        Err(problem) => return away(problem),
    };
    match (found, known) {
        (Some(found), Some(known)) if found.id == known && found.name == store.name => {}
        (Some(found), _) => {
            return away(format!(
                "its directory is the store `{}` with the id {}, which is another one: mount the right one",
                found.name, found.id
            ));
        }
        (None, Some(known)) => {
            return away(format!("its directory does not have the store's id {known}: it is probably not mounted"));
        }
        (None, None) => {
            return away(format!(
                "it has no id yet; see `sealbus-manager stores list` and `stores init {}`",
                store.name
            ));
        }
    }
    match &stored.identity {
        Some(written) if Some(written.as_str()) != known && !has_them_all(&store.path, stored) => away(format!(
            "the worker wrote into the store with the id {written}, which is another one under the same name: mount the \
             same store on both machines"
        )),
        _ => Ok(()),
    }
}

/// A store that took another one's place may have its files as well.
fn has_them_all(root: &Path, stored: &StoredSector) -> bool {
    stored.files.iter().all(|file| inside(root, &file.path).is_ok_and(|path| path.is_file()))
}

fn check_file(root: &Path, file: &StoredFile) -> Result<(), ErrorReport> {
    let path = inside(root, &file.path)?;
    let failed = |error: &std::io::Error| {
        use std::io::ErrorKind;
        let (class, code) = match error.kind() {
            ErrorKind::NotFound => (ErrorClass::Perm, ErrorCode::FILES_UNPROVABLE),
            // Rights do not come by waiting.
            ErrorKind::PermissionDenied => (ErrorClass::Crit, ErrorCode::FILES_UNPROVABLE),
            _ => (ErrorClass::Temp, ErrorCode::STORE_UNAVAILABLE),
        };
        ErrorReport::new(class, code, format!("cannot read {}: {error}", path.display()))
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
    fn nothing_is_said_of_files_in_a_directory_that_is_not_the_store() {
        let root = tempfile::tempdir().expect("directory");
        let store = Store { name: "main".to_owned(), path: root.path().to_owned() };
        let written = |id: Option<&str>| StoredSector {
            store: "main".to_owned(),
            files: vec![stored(b"replica")],
            identity: id.map(str::to_owned),
        };
        let put = |id: &str, name: &str| {
            let text = format!(r#"{{"format":1,"kind":"store","id":"{id}","name":"{name}"}}"#);
            std::fs::write(root.path().join(identity::STORE_FILE), text).expect("writes");
        };
        let away = |known: Option<&str>, id: Option<&str>| {
            let error = require_store(&store, known, &written(id)).expect_err("away");
            assert_eq!((error.class, error.code.clone()), (ErrorClass::Temp, ErrorCode::STORE_UNAVAILABLE));
            error.message()
        };
        assert!(away(Some("a"), Some("a")).contains("not mounted"));
        assert!(away(None, None).contains("stores init main"));
        put("a", "main");
        assert_eq!(require_store(&store, Some("a"), &written(Some("a"))), Ok(()));
        assert_eq!(require_store(&store, Some("a"), &written(None)), Ok(()), "of an older worker");
        assert!(away(Some("b"), Some("a")).contains("another one"));
        assert!(away(Some("a"), Some("b")).contains("same name"), "the worker wrote elsewhere");
        std::fs::create_dir(root.path().join("sealed")).expect("directory");
        std::fs::write(root.path().join("sealed/s-t01000-1"), b"replica").expect("writes");
        assert_eq!(require_store(&store, Some("a"), &written(Some("b"))), Ok(()), "it took the other one's place");
        put("a", "second");
        assert!(away(Some("a"), Some("a")).contains("second"));
    }

    #[test]
    fn a_path_never_leaves_the_store() {
        for bad in ["", "../x", "/etc/passwd", "sealed/../../x", "./x"] {
            assert!(inside(Path::new("/store"), bad).is_err(), "{bad}");
        }
        assert_eq!(inside(Path::new("/store"), "sealed/a").expect("inside"), Path::new("/store/sealed/a"));
    }
}
