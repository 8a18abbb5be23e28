//! The identities of the permanent stores: created, remembered and compared.
//!
//! The root of each store has a file with a random id (`sealbus-store.json`), and the database remembers the id. A
//! directory without the file, or with another one, is not the store, whatever its path: probably the store is not
//! mounted. The file is created at the first use of an empty, unknown directory, or by a person's command.

use std::{
    convert::Infallible,
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
    time::Duration,
};

use sealbus_schema::{
    MinerId, SectorId,
    identity::{self, Identity, KnownStore, MAX_FILE_BYTES, STORE_FILE, StoreIdentity},
    parts::StoredSector,
};

use crate::{
    config::{self, Config},
    store::{Store, StoreError, now_text},
    store_access,
    waits::{Cause, Subject, Waits},
};

/// How often the stores are checked.
const PERIOD: Duration = Duration::from_secs(30);
/// The same while a store is not in order.
const PERIOD_AWAY: Duration = Duration::from_secs(5);
/// How long reading a store's file may take.
const LOOK_LIMIT: Duration = Duration::from_secs(30);
/// How many of a store's sectors are looked for in a directory without an identity file.
const SAMPLE: u32 = 50;

/// The network and miners that the stores belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    /// The chain's network.
    pub network: String,
    /// The miners that are served.
    pub miners: Vec<MinerId>,
}

/// The state of a configured store's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is the right store.
    Ready(String),
    /// A store that was not known yet, and belongs to us according to its file.
    Unknown(StoreIdentity),
    /// An unknown directory that may become the store.
    New,
    /// Something else, or nobody can say what: why, and what to do.
    Away(Cause),
}

/// Why an identity was not created.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The configuration has no such store.
    #[error("there is no [[store]] `{name}` in manager.toml; it has {has}")]
    NoStore {
        /// The requested name.
        name: String,
        /// The configured names.
        has: String,
    },
    /// The directory already has an identity.
    #[error("store `{name}`: {problem}")]
    Refused {
        /// The store.
        name: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The directory cannot be written to.
    #[error("store `{name}`: cannot write {STORE_FILE}")]
    Write {
        /// The store.
        name: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Creates identities where allowed, and reports stores that are unavailable or unreadable. Runs forever, for the
/// manager that took over with this epoch.
pub async fn watch(
    store: &Store,
    config: &Config,
    users: &Users,
    epoch: i64,
    waits: &Waits,
) -> Result<Infallible, StoreError> {
    loop {
        let mut all_ready = true;
        for configured in &config.stores {
            // If another store is mounted here, its files say nothing about ours.
            let cause = match settle(store, configured, users, epoch).await? {
                None => store_access::trouble(configured).await,
                cause => cause,
            };
            all_ready &= cause.is_none();
            let subject = Subject::Store(configured.name.clone());
            match cause {
                Some(cause) => drop(waits.waits(&subject, cause, PERIOD_AWAY)),
                None => waits.goes_on(&subject),
            }
        }
        tokio::time::sleep(if all_ready { PERIOD } else { PERIOD_AWAY }).await;
    }
}

/// Creates or adopts a store's identity if needed. Returns what is wrong with the store.
async fn settle(
    store: &Store,
    configured: &config::Store,
    users: &Users,
    epoch: i64,
) -> Result<Option<Cause>, StoreError> {
    let id = match look(store, configured, users).await? {
        Look::Ready(_) => return Ok(None),
        Look::Away(cause) => return Ok(Some(cause)),
        Look::Unknown(found) => found.id,
        Look::New => match make(configured, users).await {
            Ok(made) => made.id,
            Err(error) => return Ok(Some(store_access::not_written(&configured.path.join(STORE_FILE), &error))),
        },
    };
    let mut tx = store.begin_as(epoch).await?;
    tx.know_store(&KnownStore { name: configured.name.clone(), id: id.clone() }, "manager").await?;
    tx.commit().await?;
    tracing::info!(store = configured.name, path = %configured.path.display(), id, "the directory is the store from now on");
    Ok(None)
}

/// Determines the state of a configured store's directory, from its file, the database, and its contents.
pub async fn look(store: &Store, configured: &config::Store, users: &Users) -> Result<Look, StoreError> {
    let known = store.known_stores().await?;
    let stored = match identity::known_id(&known, &configured.name) {
        Some(_) => Vec::new(),
        None => store.some_stored_in(&configured.name, SAMPLE).await?,
    };
    let (configured, users) = (configured.clone(), users.clone());
    let root = configured.path.clone();
    let looked = store_access::answer(&root, LOOK_LIMIT, move || judge(&configured, &known, &users, &stored));
    Ok(looked.await.unwrap_or_else(Look::Away))
}

/// Compares a directory with what is known about it.
pub fn judge(
    configured: &config::Store,
    known: &[KnownStore],
    users: &Users,
    stored: &[(SectorId, StoredSector)],
) -> Look {
    let config::Store { name, path } = configured;
    let away = |what: String| Look::Away(store_access::away(format!("{}: {what}", path.display())));
    let init = format!("`sealbus-manager stores init {name}`");
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return away("it is not a directory".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return away("the directory is not there; is it mounted?".to_owned());
        }
        Err(error) => return Look::Away(store_access::trouble_with(path, &error)),
    }
    let found = match read(path) {
        Ok(found) => found,
        Err(cause) => return Look::Away(cause),
    };
    let lies_here = match stored.iter().find_map(|(_, files)| has_files(path, files).transpose()) {
        // What may not be read is not missing.
        Some(Err(cause)) if found.is_none() => return Look::Away(cause),
        found => found.is_some(),
    };
    match (found, identity::known_id(known, name)) {
        (Some(found), _) if found.name != *name => away(format!(
            "{STORE_FILE} says that this is the store `{}`: it is mounted in the place of another one, or the names in \
             manager.toml are mixed up",
            found.name
        )),
        (Some(found), Some(id)) if found.id == id => Look::Ready(found.id),
        (Some(found), Some(id)) => away(format!(
            "its id is {}, and `{name}` is known as {id}: another store is mounted here. If this one takes its place for \
             good: {init} --replace",
            found.id
        )),
        (None, Some(id)) => away(format!(
            "there is no {STORE_FILE} in it, and `{name}` is known as {id}: it is probably not mounted. If the file was \
             lost: {init} --replace"
        )),
        (Some(found), None) if known.iter().any(|store| store.id == found.id) => {
            away(format!("its id {} is that of another store of this manager: it is a copy", found.id))
        }
        (Some(found), None) if is_foreign(&found, users) => away(format!(
            "{STORE_FILE} says that it was made for miners {} on network `{}`. If it is to be used here as well: {init}",
            names(&found.miners),
            found.network
        )),
        (Some(found), None) => Look::Unknown(found),
        (None, None) if lies_here => Look::New,
        (None, None) if !stored.is_empty() => away(format!(
            "none of the sectors that were written to `{name}` lies in it: it is probably not mounted. If they are lost: \
             {init}"
        )),
        (None, None) => match is_empty(path) {
            Ok(true) => Look::New,
            Ok(false) => {
                away(format!("there is no {STORE_FILE} in it, and it is not empty. If it is the right one: {init}"))
            }
            Err(error) => Look::Away(store_access::trouble_with(path, &error)),
        },
    }
}

/// Creates a store's identity by a person's order. A known or existing identity is kept unless it is to be replaced.
pub async fn init(
    store: &Store,
    config: &Config,
    name: &str,
    replace: bool,
    by: &str,
) -> Result<KnownStore, InitError> {
    let Some(configured) = config.stores.iter().find(|store| store.name == name) else {
        let has: Vec<_> = config.stores.iter().map(|store| store.name.as_str()).collect();
        return Err(InitError::NoStore { name: name.to_owned(), has: has.join(", ") });
    };
    let refused = |problem: String| InitError::Refused { name: name.to_owned(), problem };
    let known = store.known_stores().await?;
    let present = identity::known_id(&known, name);
    let found = read(&configured.path).map_err(|cause| refused(cause.text))?;
    let id = match (found, present) {
        (Some(found), Some(id)) if found.id == id && found.name == name => {
            return Ok(KnownStore { name: name.to_owned(), id: id.to_owned() });
        }
        (_, Some(id)) if !replace => {
            return Err(refused(format!(
                "it is known as {id}, and its directory {} does not say so. Mount the right one; if this directory takes \
                 its place for good, repeat with --replace",
                configured.path.display()
            )));
        }
        (Some(found), _) if found.name != name => {
            return Err(refused(format!(
                "its directory {} is the store `{}`; if that store is not used any more, remove {STORE_FILE} from it",
                configured.path.display(),
                found.name
            )));
        }
        // The directory has an identity with this name. Adopt its id: the database knows none, or a person replaces the
        // known one.
        (Some(found), _) => found.id,
        (None, _) => {
            let users = Users { network: String::new(), miners: config.miners.iter().map(|miner| miner.id).collect() };
            let made = make(configured, &users).await;
            made.map_err(|source| InitError::Write { name: name.to_owned(), source })?.id
        }
    };
    let made = KnownStore { name: name.to_owned(), id };
    let mut tx = store.begin().await?;
    tx.know_store(&made, by).await?;
    tx.commit().await?;
    Ok(made)
}

/// The identity in a store's root, `None` if there is none; or why it cannot be told.
pub fn read(root: &Path) -> Result<Option<StoreIdentity>, Cause> {
    let path = root.join(STORE_FILE);
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(&path)?.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => {
            identity::parse(&bytes).map(Some).map_err(|error| store_access::away(format!("{} {error}", path.display())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(store_access::trouble_with(&path, &error)),
    }
}

async fn make(configured: &config::Store, users: &Users) -> io::Result<StoreIdentity> {
    let mut random = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let identity = StoreIdentity {
        id: identity::id_of(random),
        name: configured.name.clone(),
        network: users.network.clone(),
        miners: users.miners.clone(),
        made_at: now_text(),
    };
    let (root, bytes) = (configured.path.clone(), identity::render(&identity).map_err(io::Error::other)?);
    tokio::task::spawn_blocking(move || write(&root, &bytes)).await.map_err(io::Error::other)??;
    Ok(identity)
}

/// Writes under a temporary name, syncs, and links to the final name unless that exists already.
fn write(root: &Path, bytes: &[u8]) -> io::Result<()> {
    let (temporary, path) = (root.join(format!(".{STORE_FILE}.tmp")), root.join(StoreIdentity::FILE));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    let linked = match fs::hard_link(&temporary, &path) {
        // Some file systems do not support hard links.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !path.exists() => fs::rename(&temporary, &path),
        // Another manager may have been faster.
        linked => fs::remove_file(&temporary).and(linked),
    };
    linked?;
    File::open(root)?.sync_all()
}

fn is_foreign(found: &StoreIdentity, users: &Users) -> bool {
    let other_network = !found.network.is_empty() && !users.network.is_empty() && found.network != users.network;
    let other_miners = !found.miners.is_empty() && !found.miners.iter().any(|miner| users.miners.contains(miner));
    other_network || other_miners
}

/// Whether all files of a sector are there, `None` if not; or why that cannot be told.
fn has_files(root: &Path, stored: &StoredSector) -> Result<Option<()>, Cause> {
    // What a worker reported is followed only below the root.
    let inside = |path: &str| Path::new(path).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if stored.files.is_empty() || !stored.files.iter().all(|file| inside(&file.path)) {
        return Ok(None);
    }
    for file in &stored.files {
        let path = root.join(&file.path);
        match path.metadata() {
            Ok(metadata) if metadata.is_file() => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(store_access::trouble_with(&path, &error));
            }
            _ => return Ok(None),
        }
    }
    Ok(Some(()))
}

/// Whether a directory is empty, apart from `lost+found` and hidden files.
fn is_empty(root: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name != "lost+found" && !name.starts_with('.') {
            return Ok(false);
        }
    }
    Ok(true)
}

fn names(miners: &[MinerId]) -> String {
    let names: Vec<_> = miners.iter().map(ToString::to_string).collect();
    if names.is_empty() { "unknown".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use sealbus_schema::{Commitment, parts::StoredFile};

    use super::*;

    fn users() -> Users {
        Users { network: "calibrationnet".to_owned(), miners: vec![MinerId(1000)] }
    }

    fn configured(path: &Path) -> config::Store {
        config::Store { name: "main".to_owned(), path: path.to_owned() }
    }

    fn put(root: &Path, change: impl FnOnce(&mut StoreIdentity)) {
        let mut identity = StoreIdentity {
            id: "a".to_owned(),
            name: "main".to_owned(),
            network: "calibrationnet".to_owned(),
            miners: vec![MinerId(1000)],
            made_at: String::new(),
        };
        change(&mut identity);
        fs::write(root.join(STORE_FILE), identity::render(&identity).expect("renders")).expect("writes");
    }

    fn known(name: &str, id: &str) -> Vec<KnownStore> {
        vec![KnownStore { name: name.to_owned(), id: id.to_owned() }]
    }

    fn problem(root: &Path, known: &[KnownStore]) -> String {
        match judge(&configured(root), known, &users(), &[]) {
            Look::Away(cause) => cause.text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_empty_directory_becomes_the_store_only_while_nobody_knows_of_one() {
        let dir = tempfile::tempdir().expect("directory");
        fs::create_dir(dir.path().join("lost+found")).expect("directory");
        assert_eq!(judge(&configured(dir.path()), &[], &users(), &[]), Look::New);
        assert!(problem(dir.path(), &known("main", "a")).contains("probably not mounted"));
        fs::create_dir(dir.path().join("sealed")).expect("directory");
        assert!(problem(dir.path(), &[]).contains("stores init main"), "it may be somebody else's");
        assert!(problem(&dir.path().join("gone"), &[]).contains("not there"));
    }

    #[test]
    fn a_store_of_before_the_files_is_known_by_what_lies_in_it() {
        let dir = tempfile::tempdir().expect("directory");
        let file = StoredFile { path: "sealed/s-t01000-1".to_owned(), bytes: 1, blake2b: Commitment([0; 32]) };
        let stored = StoredSector { store: "main".to_owned(), files: vec![file], identity: None };
        let stored = [("f01000/1".parse().expect("sector"), stored)];
        let look = judge(&configured(dir.path()), &[], &users(), &stored);
        assert!(matches!(&look, Look::Away(cause) if cause.text.contains("not mounted")), "{look:?}");
        fs::create_dir(dir.path().join("sealed")).expect("directory");
        fs::write(dir.path().join("sealed/s-t01000-1"), "x").expect("writes");
        assert_eq!(judge(&configured(dir.path()), &[], &users(), &stored), Look::New);
    }

    #[test]
    fn a_store_is_the_one_that_its_file_names_and_the_database_knows() {
        let dir = tempfile::tempdir().expect("directory");
        let root = dir.path();
        put(root, |_| {});
        assert_eq!(judge(&configured(root), &known("main", "a"), &users(), &[]), Look::Ready("a".to_owned()));
        assert!(matches!(judge(&configured(root), &[], &users(), &[]), Look::Unknown(_)));
        assert!(problem(root, &known("main", "b")).contains("--replace"));
        assert!(problem(root, &known("other", "a")).contains("copy"));
        put(root, |store| store.name = "second".to_owned());
        assert!(problem(root, &known("main", "a")).contains("`second`"), "two stores are mixed up");
        put(root, |store| store.network = "mainnet".to_owned());
        assert!(problem(root, &[]).contains("`mainnet`"));
        put(root, |store| store.miners = vec![MinerId(7)]);
        assert!(problem(root, &[]).contains("f07"));
        fs::write(root.join(STORE_FILE), "rubbish").expect("writes");
        assert!(problem(root, &known("main", "a")).contains("damaged"));
    }

    #[tokio::test]
    async fn an_identity_is_made_once() {
        let dir = tempfile::tempdir().expect("directory");
        let made = make(&configured(dir.path()), &users()).await.expect("makes");
        assert_eq!(read(dir.path()), Ok(Some(made.clone())));
        make(&configured(dir.path()), &users()).await.expect_err("it is there");
        assert_eq!(read(dir.path()), Ok(Some(made)), "and stays");
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 1, "no temporary file stays");
    }
}
