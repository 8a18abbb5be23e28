//! The permanent stores as this machine sees them: whether they are mounted, whether we may read them, and whether they
//! already contain something under a sector's name. [`crate::files`] checks a sector's files.

use std::{
    fs::File,
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use sealbus_schema::{ErrorCode, SectorId, parts::StoredSector};

use crate::{config::Store, waits::Cause};

/// How long checking a store may take: an unavailable network file system blocks forever.
const LIMIT: Duration = Duration::from_secs(10);
/// The directories with sectors below a store's root.
const FOLDERS: [&str; 2] = ["sealed", "cache"];

/// Why a store cannot be used now, if it cannot.
pub async fn trouble(store: &Store) -> Option<Cause> {
    let root = store.path.clone();
    within_limit(store, move || look(&root)).await.unwrap_or_else(Some)
}

/// Why a sector's files cannot be read, if permissions are the reason. Waiting does not help then.
pub async fn denied(store: &Store, files: &StoredSector) -> Option<Cause> {
    let paths: Vec<PathBuf> = files.files.iter().map(|file| store.path.join(&file.path)).collect();
    let ask = move || {
        let of_path = |path: PathBuf| match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Some(no_right("read", &path, &error)),
            _ => None,
        };
        paths.into_iter().find_map(of_path)
    };
    within_limit(store, ask).await.ok().flatten()
}

/// Files in the stores under the name of a sector that is not stored yet. A store that does not answer is skipped,
/// because that is reported elsewhere.
pub async fn conflict(stores: &[Store], id: SectorId) -> Option<Cause> {
    for store in stores {
        let paths = FOLDERS.map(|folder| store.path.join(folder).join(id.file_name()));
        let ask = move || paths.into_iter().find(|path| path.symlink_metadata().is_ok());
        if let Some(path) = within_limit(store, ask).await.ok().flatten() {
            let text = format!("{} is there already, before sector {id} is sealed", path.display());
            return Some(Cause::to_mend(ErrorCode::STORE_CONFLICT, text));
        }
    }
    None
}

async fn within_limit<T: Send + 'static>(store: &Store, ask: impl FnOnce() -> T + Send + 'static) -> Result<T, Cause> {
    let name = &store.name;
    match tokio::time::timeout(LIMIT, tokio::task::spawn_blocking(ask)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(away(format!("looking at the store `{name}` ended badly"))),
        Err(_) => Err(away(format!("the store `{name}` did not answer within {} s", LIMIT.as_secs()))),
    }
}

fn look(root: &Path) -> Option<Cause> {
    match root.metadata() {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Some(away(format!("{} is not a directory", root.display()))),
        Err(error) => return Some(trouble_with(root, &error)),
    }
    std::iter::once(root.to_owned()).chain(FOLDERS.map(|folder| root.join(folder))).find_map(|directory| {
        let entries = match directory.read_dir() {
            Ok(entries) => entries,
            // The directory is created with the first sector.
            Err(error) if error.kind() == ErrorKind::NotFound && directory != root => return None,
            Err(error) => return Some(trouble_with(&directory, &error)),
        };
        // One entry is enough, because all have the same writer and permissions.
        match entries.take(1).next()? {
            Ok(entry) => readable(&entry.path()),
            Err(error) => Some(trouble_with(&directory, &error)),
        }
    })
}

fn readable(path: &Path) -> Option<Cause> {
    match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => Some(trouble_with(path, &error)),
        Ok(_) => None,
    }
}

fn trouble_with(path: &Path, error: &std::io::Error) -> Cause {
    match error.kind() {
        ErrorKind::PermissionDenied => no_right("read", path, error),
        _ => away(format!("cannot read {}: {error}", path.display())),
    }
}

/// Why the store's identity file was not created. A read-only mount, on this machine or by our unit, stays read-only
/// until a person changes it.
pub fn not_written(path: &Path, error: &std::io::Error) -> Cause {
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => no_right("write", path, error),
        _ => away(format!("cannot write {}: {error}", path.display())),
    }
}

fn no_right(operation: &str, path: &Path, error: &std::io::Error) -> Cause {
    let user = Path::new("/proc/self").metadata().map(|own| own.uid().to_string()).unwrap_or_default();
    let text = format!("the manager (user {user}) may not {operation} {}: {error}", path.display());
    Cause::to_mend(ErrorCode::STORE_UNREADABLE, text)
}

fn away(text: String) -> Cause {
    Cause::passing(ErrorCode::STORE_UNAVAILABLE, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(path: &Path) -> Store {
        Store { name: "main".to_owned(), path: path.to_owned() }
    }

    async fn code(path: &Path) -> Option<ErrorCode> {
        trouble(&store(path)).await.map(|cause| cause.code)
    }

    #[tokio::test]
    async fn a_store_that_is_away_is_told_from_one_that_is_there() {
        let root = tempfile::tempdir().expect("directory");
        assert_eq!(code(root.path()).await, None, "empty");
        std::fs::create_dir(root.path().join("sealed")).expect("directory");
        std::fs::write(root.path().join("sealed/s-t01000-1"), "replica").expect("writes");
        assert_eq!(code(root.path()).await, None);
        assert_eq!(code(&root.path().join("nothing")).await, Some(ErrorCode::STORE_UNAVAILABLE));
        let file = root.path().join("sealed/s-t01000-1");
        assert_eq!(code(&file).await, Some(ErrorCode::STORE_UNAVAILABLE), "a file");
    }

    #[test]
    fn a_missing_right_is_a_persons_business_and_names_the_path() {
        let error = std::io::Error::from(ErrorKind::PermissionDenied);
        let cause = trouble_with(Path::new("/mnt/store/sealed"), &error);
        assert_eq!(cause.code, ErrorCode::STORE_UNREADABLE);
        assert!(cause.text.contains("/mnt/store/sealed") && cause.text.contains("user "), "{}", cause.text);
        for (kind, code) in [
            (ErrorKind::PermissionDenied, ErrorCode::STORE_UNREADABLE),
            (ErrorKind::ReadOnlyFilesystem, ErrorCode::STORE_UNREADABLE),
            (ErrorKind::StorageFull, ErrorCode::STORE_UNAVAILABLE),
        ] {
            let cause = not_written(Path::new("/mnt/store/sealbus-store.json"), &std::io::Error::from(kind));
            assert_eq!(cause.code, code, "{}", cause.text);
        }
    }

    #[tokio::test]
    async fn an_old_file_under_a_sectors_name_is_found() {
        let root = tempfile::tempdir().expect("directory");
        let id: SectorId = "f01000/7".parse().expect("sector");
        std::fs::create_dir(root.path().join("cache")).expect("directory");
        let stores = [store(root.path())];
        assert_eq!(conflict(&stores, id).await, None);
        std::fs::create_dir(root.path().join("cache").join(id.file_name())).expect("directory");
        let cause = conflict(&stores, id).await.expect("found");
        assert_eq!(cause.code, ErrorCode::STORE_CONFLICT);
        assert!(cause.text.contains(&id.file_name()), "{}", cause.text);
    }
}
