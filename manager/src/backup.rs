//! Backups of the SQLite database, and their restoration.
//!
//! A backup is a directory with the copy and its manifest. It gets its name only when all of it is on disk.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use sealbus_schema::MinerId;
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::{OffsetDateTime, macros::format_description};

use crate::{
    commands::Person,
    config::Database,
    store::{AuditEntry, Copied, Store, StoreError, beside, time_text},
};

/// The copy's name in a backup.
const COPY: &str = "manager.db";
/// The manifest's name in a backup.
const MANIFEST: &str = "manifest.json";
/// The present form of the manifest.
const FORM: u32 = 1;

/// What a backup says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The form of the manifest.
    pub form: u32,
    /// The version of the program that made it.
    pub program: String,
    /// When it was made, by this host's clock.
    pub taken_at: String,
    /// The version of the database's schema.
    pub schema: i64,
    /// The identity of the folded stream; `None` if no manager has run yet.
    pub stream: Option<String>,
    /// The last folded sequence.
    pub last_sequence: u64,
    /// The network's name, if it is known.
    pub network: Option<String>,
    /// The miners of the sectors and pledges.
    pub miners: Vec<String>,
    /// How many sectors the database knows.
    pub sectors: u64,
    /// The size of the copy in bytes.
    pub bytes: u64,
}

/// Why there is no backup, or it is not restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file could not be read or written.
    #[error("cannot {operation} {path}", path = path.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// PostgreSQL has its own tools.
    #[error(
        "the database is on PostgreSQL, which has its own backups: {command}. After `pg_restore`, and before a manager starts, \
         mark the database: `sealbus-manager restore --in-place`"
    )]
    Postgres {
        /// The command that makes one.
        command: String,
    },
    /// There is one already.
    #[error("{path} exists already, and a backup is never overwritten", path = path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// It is no backup, or not a whole one.
    #[error("{path} is no whole backup: {problem}", path = path.display())]
    NotWhole {
        /// The path.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// It belongs to another installation.
    #[error("the backup is of miners {found}, and the configuration has {configured}: take the backup of this manager")]
    OtherMiners {
        /// Those of the backup.
        found: String,
        /// Those of the configuration.
        configured: String,
    },
    /// There is a database in its place.
    #[error("there is a database {path} already: keep it if it can be read. To put the backup in its place, add --replace", path = path.display())]
    InTheWay {
        /// The database.
        path: PathBuf,
    },
    /// A manager uses it.
    #[error("a manager runs on the database {path}: stop it first", path = path.display())]
    InUse {
        /// The database.
        path: PathBuf,
    },
}

/// Makes a backup in a directory, and returns its path.
pub async fn back_up(database: &Database, directory: &Path) -> Result<(PathBuf, Manifest), Error> {
    let path = file_of(database)?;
    let now = OffsetDateTime::now_utc();
    let name = now.format(format_description!("manager-[year][month][day]T[hour][minute][second]Z"));
    let name = name.unwrap_or_else(|_| format!("manager-{}", now.unix_timestamp()));
    let (backup, partial) = (directory.join(&name), directory.join(format!(".{name}.{}", std::process::id())));
    if backup.exists() {
        return Err(Error::Exists { path: backup });
    }
    fs::create_dir(&partial).map_err(io("make", &partial))?;
    let made = write(path, &partial, now).await;
    let renamed = match made {
        Ok(manifest) => fs::rename(&partial, &backup).map_err(io("name", &backup)).map(|()| manifest),
        Err(error) => Err(error),
    };
    if renamed.is_err() {
        // It has no name that anybody would take for a backup's, so it may also stay.
        drop(fs::remove_dir_all(&partial));
    }
    let manifest = renamed?;
    sync(directory)?;
    Ok((backup, manifest))
}

async fn write(database: &Path, into: &Path, now: OffsetDateTime) -> Result<Manifest, Error> {
    let (copy, manifest_path) = (into.join(COPY), into.join(MANIFEST));
    Store::copy(database, &copy).await?;
    let Copied { schema, log, miners, sectors, network } = Store::examine(&copy).await?;
    let (stream, last_sequence) = log.map_or((None, 0), |(stream, last)| (Some(stream), last));
    let bytes = fs::metadata(&copy).map_err(io("read", &copy))?.len();
    let program = sealbus_schema::VERSION.to_owned();
    let taken_at = time_text(now);
    let manifest =
        Manifest { form: FORM, program, taken_at, schema, stream, last_sequence, network, miners, sectors, bytes };
    let text = serde_json::to_string_pretty(&manifest).unwrap_or_default();
    fs::write(&manifest_path, text + "\n").map_err(io("write", &manifest_path))?;
    for path in [&copy, &manifest_path] {
        set_private(path)?;
        sync(path)?;
    }
    sync(into)?;
    Ok(manifest)
}

/// Reads a backup's manifest.
pub fn manifest(backup: &Path) -> Result<Manifest, Error> {
    let path = backup.join(MANIFEST);
    let text = fs::read_to_string(&path).map_err(io("read", &path))?;
    let bad = |problem: String| Error::NotWhole { path: backup.to_owned(), problem };
    let manifest: Manifest = serde_json::from_str(&text).map_err(|error| bad(format!("{MANIFEST}: {error}")))?;
    if manifest.form != FORM {
        return Err(bad(format!("its manifest has form {}, and this program knows {FORM}", manifest.form)));
    }
    let copy = backup.join(COPY);
    let bytes = fs::metadata(&copy).map_err(io("read", &copy))?.len();
    if bytes != manifest.bytes {
        return Err(bad(format!("{COPY} has {bytes} bytes instead of {}", manifest.bytes)));
    }
    Ok(manifest)
}

/// Puts a backup in the database's place, and marks it so that the manager catches up before it sends anything. A database that
/// is there is kept under another name, which is returned.
pub async fn restore(
    backup: &Path,
    database: &Database,
    miners: &[MinerId],
    replace: bool,
    person: &Person,
) -> Result<Option<PathBuf>, Error> {
    let path = file_of(database)?;
    let manifest = manifest(backup)?;
    let is_ours = |miner: &String| miners.iter().any(|ours| ours.to_string() == *miner);
    if !manifest.miners.is_empty() && !manifest.miners.iter().any(is_ours) {
        let configured: Vec<_> = miners.iter().map(ToString::to_string).collect();
        let (found, configured) = (manifest.miners.join(", "), configured.join(", "));
        return Err(Error::OtherMiners { found, configured });
    }
    if path.exists() {
        if !replace {
            return Err(Error::InTheWay { path: path.to_owned() });
        }
        check_unused(database, path).await?;
    }
    let fresh = beside(path, ".restoring");
    for suffix in ["", "-wal", "-shm"] {
        remove(&beside(&fresh, suffix))?;
    }
    let copy = backup.join(COPY);
    fs::copy(&copy, &fresh).map_err(io("copy", &copy))?;
    set_private(&fresh)?;
    Store::examine(&fresh).await?;
    let store = Store::open_existing(&Database::Sqlite { path: fresh.clone() }).await?;
    mark(&store, Some(&manifest), person).await?;
    store.close().await?;
    sync(&fresh)?;
    let kept = if path.exists() { Some(keep(path)?) } else { None };
    for suffix in ["-wal", "-shm"] {
        remove(&beside(path, suffix))?;
        remove(&beside(&fresh, suffix))?;
    }
    remove(&beside(&fresh, ".lock"))?;
    fs::rename(&fresh, path).map_err(io("name", path))?;
    sync(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    Ok(kept)
}

/// Marks a database that was restored by other means.
pub async fn mark(store: &Store, manifest: Option<&Manifest>, person: &Person) -> Result<(), Error> {
    let mut tx = store.begin().await?;
    tx.mark_restored(manifest.map(|manifest| manifest.taken_at.as_str())).await?;
    let detail = json!({ "backup": manifest });
    tx.add_audit(&AuditEntry::new(&person.name, "restore", "database".to_owned(), &person.why, detail)).await?;
    Ok(tx.commit().await?)
}

/// Fails while a manager has the leadership. A database that cannot be read has none.
async fn check_unused(database: &Database, path: &Path) -> Result<(), Error> {
    let Ok(store) = Store::open_existing(database).await else { return Ok(()) };
    let is_free = store.candidate().try_lead().await?.is_some();
    drop(store);
    if is_free { Ok(()) } else { Err(Error::InUse { path: path.to_owned() }) }
}

/// Gives a database another name, with what was not written back yet.
fn keep(path: &Path) -> Result<PathBuf, Error> {
    let kept = beside(path, &format!(".before-restore-{}", OffsetDateTime::now_utc().unix_timestamp()));
    for suffix in ["-wal", "-shm", ""] {
        let (from, to) = (beside(path, suffix), beside(&kept, suffix));
        match fs::rename(&from, &to) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && !suffix.is_empty() => {}
            Err(error) => return Err(io("keep", &from)(error)),
        }
    }
    Ok(kept)
}

fn file_of(database: &Database) -> Result<&Path, Error> {
    match database {
        Database::Sqlite { path } => Ok(path),
        Database::Postgres { url, .. } => {
            let name = url.path().trim_start_matches('/');
            let host = url.host_str().unwrap_or_default();
            let command = format!("pg_dump --format=custom --host={host} --file=manager.dump {name}");
            Err(Error::Postgres { command })
        }
    }
}

fn set_private(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(io("protect", path))
}

/// Makes sure that a file, or a directory's names, are on disk.
fn sync(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|file| file.sync_all()).map_err(io("sync", path))
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io("remove", path)(error)),
        _ => Ok(()),
    }
}

fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { operation, path, source }
}
