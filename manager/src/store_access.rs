//! The permanent stores as this machine sees them: whether they are mounted, whether we may read them, and whether they
//! already contain something under a sector's name. [`crate::files`] checks a sector's files.

use std::{
    collections::HashMap,
    fs::File,
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use sealbus_schema::{ErrorCode, SectorId, parts::StoredSector};
use tokio::sync::Semaphore;

use crate::{config::Store, waits::Cause};

/// How long checking a store may take: an unavailable network file system blocks forever.
const LIMIT: Duration = Duration::from_secs(10);
/// How many threads may wait for one store. They are threads that all else needs as well.
const THREADS_A_STORE: usize = 4;
/// Those of each store, by its root.
static THREADS: LazyLock<Mutex<HashMap<PathBuf, Arc<Semaphore>>>> = LazyLock::new(Mutex::default);
/// Where sectors lie below a store's root.
const FOLDERS: [&str; 2] = ["sealed", "cache"];

/// Why a store cannot be used now, if it cannot.
pub async fn trouble(store: &Store) -> Option<Cause> {
    let root = store.path.clone();
    answer(&store.path, LIMIT, move || look(&root)).await.unwrap_or_else(Some)
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
    answer(&store.path, LIMIT, ask).await.ok().flatten()
}

/// Files in the stores under the name of a sector that is not stored yet. A store that does not answer is skipped,
/// because that is reported elsewhere.
pub async fn conflict(stores: &[Store], id: SectorId) -> Option<Cause> {
    for store in stores {
        let paths = FOLDERS.map(|folder| store.path.join(folder).join(id.file_name()));
        let ask = move || paths.into_iter().find(|path| path.symlink_metadata().is_ok());
        if let Some(path) = answer(&store.path, LIMIT, ask).await.ok().flatten() {
            let text = format!("{} is there already, before sector {id} is sealed", path.display());
            return Some(Cause::to_mend(ErrorCode::STORE_CONFLICT, text));
        }
    }
    None
}

/// Asks something of a store, by its root, on a thread. A store that does not answer keeps the thread; the next ones then wait
/// without one.
pub async fn answer<T: Send + 'static>(
    root: &Path,
    limit: Duration,
    ask: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Cause> {
    let threads = {
        let mut all = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(root.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(THREADS_A_STORE))).clone()
    };
    let asking = async {
        let permit = threads.acquire_owned().await;
        tokio::task::spawn_blocking(move || {
            let _until_the_answer = permit;
            ask()
        })
        .await
    };
    match tokio::time::timeout(limit, asking).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(away(format!("{} could not be looked at: {error}", root.display()))),
        Err(_) => Err(away(format!("{} does not answer within {} s", root.display(), limit.as_secs()))),
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

/// Why something in a store could not be looked at. Rights do not come by waiting.
pub fn trouble_with(path: &Path, error: &std::io::Error) -> Cause {
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

/// A store that is not there, for now.
pub fn away(text: String) -> Cause {
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

    #[tokio::test]
    async fn a_store_that_does_not_answer_keeps_a_few_threads_and_no_other_store_waiting() {
        let (silent, other) = (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
        let (answers, answered) = std::sync::mpsc::channel::<()>();
        let (answered, begun) = (Arc::new(Mutex::new(answered)), Arc::new(Mutex::new(0)));
        for _ in 0..10 {
            let (answered, begun) = (answered.clone(), begun.clone());
            let hang = move || {
                *begun.lock().expect("locks") += 1;
                answered.lock().expect("locks").recv().expect_err("nothing is sent");
            };
            let cause = answer(silent.path(), Duration::from_millis(20), hang).await.expect_err("no answer");
            assert_eq!(cause.code, ErrorCode::STORE_UNAVAILABLE);
        }
        assert!(*begun.lock().expect("locks") <= THREADS_A_STORE);
        assert_eq!(answer(other.path(), LIMIT, || 7).await, Ok(7));
        drop(answers);
        assert_eq!(answer(silent.path(), LIMIT, || 7).await, Ok(7), "it answers again");
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
