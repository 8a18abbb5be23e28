//! The check itself, which runs in a separate process.

use std::{
    fs::File,
    io::Read,
    path::{Component, Path, PathBuf},
};

use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport,
    parts::{StoredFile, StoredSector},
};

use super::Request;
use crate::{child, config::Store, proofs::Verifier, stores};

/// Files up to this size in bytes are read completely: `p_aux` and `t_aux`, which challenges do not cover byte by byte.
const SMALL_FILE_BYTES_MAX: u64 = 1 << 16;

/// The process's work: reads a request on stdin, checks, and writes the outcome to stdout.
///
/// # Errors
/// stdin is not a request.
pub fn answer(verifier: &dyn Verifier) -> anyhow::Result<()> {
    child::respond(|request| check(request, verifier))
}

/// Checks that a sector's files exist with the lengths that were written, and answer a challenge for the sector's
/// CommR.
pub fn check(request: &Request, verifier: &dyn Verifier) -> Result<(), ErrorReport> {
    let Request { sector, proof, comm_r, stored, store, known, randomness } = request;
    let root = &store.path;
    let is_there = || require_store(store, known.as_deref(), stored);
    is_there()?;
    let checked = || {
        stored.files.iter().try_for_each(|file| check_file(root, file))?;
        let name = sector.file_name();
        let (cache, sealed) = (root.join("cache").join(&name), root.join("sealed").join(&name));
        verifier.challenge_files(*sector, *proof, *comm_r, cache, sealed, randomness.0)
    };
    let checked = checked();
    // If the store has become unavailable meanwhile, that is the cause, whatever the check found.
    is_there().and(checked)
}

/// Fails if the directory is not the store. Checked before anything is concluded from its files.
fn require_store(store: &Store, known: Option<&str>, stored: &StoredSector) -> Result<(), ErrorReport> {
    let away = |what: String| {
        let message = format!("the store `{}` at {}: {what}", store.name, store.path.display());
        Err(ErrorReport::new(ErrorClass::Temp, ErrorCode::STORE_UNAVAILABLE, message))
    };
    let found = match stores::read(&store.path) {
        Ok(found) => found,
        Err(cause) => return away(cause.text),
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

/// Whether all files exist, as in a store that replaced another one and got its files.
fn has_them_all(root: &Path, stored: &StoredSector) -> bool {
    stored.files.iter().all(|file| inside(root, &file.path).is_ok_and(|path| path.is_file()))
}

/// Checks that a file exists with the length that was written. A small file is also hashed.
fn check_file(root: &Path, file: &StoredFile) -> Result<(), ErrorReport> {
    let path = inside(root, &file.path)?;
    let failed = |error: &std::io::Error| {
        use std::io::ErrorKind;
        let (class, code) = match error.kind() {
            ErrorKind::NotFound => (ErrorClass::Perm, ErrorCode::FILES_UNPROVABLE),
            // Waiting does not change permissions.
            ErrorKind::PermissionDenied => (ErrorClass::Crit, ErrorCode::FILES_UNPROVABLE),
            _ => (ErrorClass::Temp, ErrorCode::STORE_UNAVAILABLE),
        };
        ErrorReport::new(class, code, format!("cannot read {}: {error}", path.display()))
    };
    let mut opened = File::open(&path).map_err(|e| failed(&e))?;
    let bytes = opened.metadata().map_err(|e| failed(&e))?.len();
    let is_small = bytes <= SMALL_FILE_BYTES_MAX;
    let mut content = Vec::new();
    if is_small {
        opened.read_to_end(&mut content).map_err(|e| failed(&e))?;
    }
    let hash = || blake2b_simd::Params::new().hash_length(32).hash(&content);
    if bytes != file.bytes || (is_small && hash().as_bytes() != file.blake2b.0) {
        let message = format!("{} is not what the worker wrote ({bytes} of {} bytes)", path.display(), file.bytes);
        return Err(ErrorReport::new(ErrorClass::Perm, ErrorCode::CHECKSUM_MISMATCH, message));
    }
    Ok(())
}

/// A path from a message, which is only followed below the store's own directory.
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
    use sealbus_schema::{Commitment, identity};

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
    fn a_small_file_is_taken_only_if_it_is_what_was_written() {
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
    fn of_a_large_file_only_the_length_is_compared() {
        let root = tempfile::tempdir().expect("directory");
        std::fs::create_dir(root.path().join("sealed")).expect("directory");
        let file = stored(&vec![7; 1 << 17]);
        std::fs::write(root.path().join(&file.path), vec![8; 1 << 17]).expect("writes");
        assert_eq!(check_file(root.path(), &file), Ok(()));
        std::fs::write(root.path().join(&file.path), vec![7; (1 << 17) - 1]).expect("writes");
        let error = check_file(root.path(), &file).expect_err("short");
        assert_eq!(error.code, ErrorCode::CHECKSUM_MISMATCH);
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
