//! The identity files of directories. The manager creates that of a permanent store, and the worker checks it. The
//! worker creates that of a slot.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use sealbus_schema::{
    WorkerName,
    identity::{self, Identity, MAX_FILE_BYTES, SLOT_FILE, STORE_FILE, SlotIdentity, StoreIdentity},
};

use crate::stage::{StageCode, StageError, files};

/// Checks that the directory at `root` is the store called `name`, and returns its id if it has one.
///
/// `known` is the id that the manager knows. If there is one, the identity file must exist and match. If there is none,
/// a store without an identity file is accepted.
///
/// # Errors
/// [`StageCode::StoreUnavailable`], which is retried: the right store may be mounted later.
pub fn check_store(root: &Path, name: &str, known: Option<&str>) -> Result<Option<String>, StageError> {
    let away = |what: String| {
        let message = format!("store `{name}` at {}: {what}", root.display());
        StageError::new(StageCode::StoreUnavailable, message)
    };
    if !root.is_dir() {
        return Err(away("the directory is not there; is it mounted?".to_owned()));
    }
    let found = match read::<StoreIdentity>(root) {
        Ok(found) => found,
        Err(problem) => return Err(away(problem)),
    };
    match (found, known) {
        (Some(found), _) if found.name != name => Err(away(format!(
            "{STORE_FILE} says that this is the store `{}`: it is mounted in the place of another one, or store.name in \
             worker.toml is wrong",
            found.name
        ))),
        (Some(found), Some(known)) if found.id != known => Err(away(format!(
            "its id is {}, the manager knows `{name}` as {known}: another store is mounted here. Mount the right one; if \
             this one takes its place for good: `sealbus-manager stores init {name} --replace`",
            found.id
        ))),
        (None, Some(known)) => Err(away(format!(
            "there is no {STORE_FILE} in it, and the manager knows the store by its id {known}: it is probably not mounted"
        ))),
        (Some(found), _) => Ok(Some(found.id)),
        (None, None) => Ok(None),
    }
}

/// Reads a slot's identity file; `None` if there is none.
///
/// # Errors
/// [`StageCode::SlotUnusable`] if the file cannot be read.
pub fn read_slot(slot: &Path) -> Result<Option<SlotIdentity>, StageError> {
    read::<SlotIdentity>(slot)
        .map_err(|problem| StageError::new(StageCode::SlotUnusable, format!("slot {}: {problem}", slot.display())))
}

/// Creates a slot's identity file, with a new id.
///
/// # Errors
/// [`io::Error`] from the file system.
pub fn make_slot(slot: &Path, worker: &WorkerName, replaces: Option<String>) -> Result<SlotIdentity, StageError> {
    let identity = SlotIdentity {
        id: identity::id_of(rand::random()),
        worker: worker.clone(),
        path: slot.display().to_string(),
        replaces,
        made_at_unix_secs: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
    };
    let bytes = identity::render(&identity)
        .map_err(|error| StageError::new(StageCode::IoFailed, format!("{SLOT_FILE} {error}")))?;
    files::write_atomic(&slot.join(SLOT_FILE), &bytes)?;
    Ok(identity)
}

/// Whether a directory holds nothing of ours. It may be a new disk, or a mount point whose disk is not mounted.
///
/// # Errors
/// [`io::Error`] from the file system.
pub fn is_unused(slot: &Path) -> Result<bool, StageError> {
    // What every start creates by itself, and what a new file system contains.
    const NOTHING: [&str; 4] = ["slot.lock", "lost+found", "tmp", ".probe"];
    Ok(files::list(slot)?.iter().all(|entry| NOTHING.contains(&files::name_of(entry).as_str())))
}

/// The identity in a directory, `None` if there is no file. The error says why it cannot be read.
fn read<T: Identity>(dir: &Path) -> Result<Option<T>, String> {
    let path = dir.join(T::FILE);
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(&path)?.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = match read() {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    identity::parse(&bytes).map(Some).map_err(|error| format!("{} {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn store(dir: &Path, id: &str, name: &str) {
        let identity = StoreIdentity {
            id: id.to_owned(),
            name: name.to_owned(),
            network: String::new(),
            miners: Vec::new(),
            made_at: String::new(),
        };
        fs::write(dir.join(STORE_FILE), identity::render(&identity).expect("renders")).expect("writes");
    }

    #[test]
    fn a_store_is_the_one_that_its_file_names_and_the_manager_knows() {
        let dir = tempfile::tempdir().expect("directory");
        let root = dir.path();
        let refused = |name: &str, known: Option<&str>| {
            let error = check_store(root, name, known).expect_err("refused");
            assert_eq!(error.code, StageCode::StoreUnavailable);
            error.message
        };
        assert_eq!(check_store(root, "main", None), Ok(None), "nobody knows of an id");
        assert!(refused("main", Some("a")).contains("probably not mounted"));
        store(root, "a", "main");
        assert_eq!(check_store(root, "main", None), Ok(Some("a".to_owned())));
        assert_eq!(check_store(root, "main", Some("a")), Ok(Some("a".to_owned())));
        assert!(refused("main", Some("b")).contains("--replace"));
        assert!(refused("second", None).contains("`main`"), "mounted in the place of another");
        fs::write(root.join(STORE_FILE), "{").expect("writes");
        assert!(refused("main", None).contains("damaged"));
        fs::remove_file(root.join(STORE_FILE)).expect("removes");
        fs::create_dir(root.join(STORE_FILE)).expect("a directory in its place");
        assert!(refused("main", None).contains("cannot read"));
        fs::remove_dir_all(root).expect("removes");
        assert!(refused("main", None).contains("not there"));
    }

    #[test]
    fn a_slot_is_made_once_and_read_again() {
        let dir = tempfile::tempdir().expect("directory");
        assert_eq!(read_slot(dir.path()).expect("reads"), None);
        for nothing in ["slot.lock", "lost+found"] {
            fs::create_dir(dir.path().join(nothing)).expect("directory");
        }
        assert!(is_unused(dir.path()).expect("lists"));
        let worker = "w1".parse().expect("name");
        let made = make_slot(dir.path(), &worker, None).expect("makes");
        assert_eq!(read_slot(dir.path()).expect("reads"), Some(made.clone()));
        assert!(!is_unused(dir.path()).expect("lists"));
        assert_ne!(make_slot(dir.path(), &worker, Some(made.id.clone())).expect("makes").id, made.id);
    }
}
