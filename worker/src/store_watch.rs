//! Watches the permanent store for the slots: whether it takes files is checked before a sector begins, not after hours
//! of sealing.
//!
//! A small file is written once at the start, and again while something is wrong. Otherwise the store is only examined
//! without writing, so that a thousand workers do not load the store they share.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::fs::{Access, StatVfsMountFlags};
use sealbus_schema::{ErrorClass, ErrorCode, ErrorReport, identity::STORE_FILE};
use tokio::{sync::Mutex, task::JoinHandle};

use crate::config::Config;

/// How long writing a small file may take before the store counts as silent.
const LIMIT: Duration = Duration::from_secs(30);
/// The directories that a transfer writes to, if they exist already.
const DIRECTORIES: [&str; 2] = ["sealed", "cache"];

/// Watches the permanent store. All slots share it.
#[derive(Debug)]
pub struct StoreWatch {
    watched: Watched,
    state: Mutex<State>,
}

#[derive(Debug)]
struct Watched {
    name: String,
    root: PathBuf,
    /// The name of this worker's small file. It is unique, because several workers share a store.
    file: String,
    /// The shortest time between two checks.
    interval: Duration,
}

#[derive(Debug)]
enum State {
    Unknown,
    Good(Instant),
    Bad(Box<ErrorReport>, Instant),
    /// A check that is still running.
    Looking(JoinHandle<Outcome>),
}

type Outcome = Result<(), (&'static str, PathBuf, io::Error)>;

impl StoreWatch {
    /// Watches the configuration's store. A third-party transfer runs as a child of this process, so it writes to the
    /// same directory.
    pub fn new(config: &Config) -> StoreWatch {
        let watched = Watched {
            name: config.store.name.clone(),
            root: config.store.path.clone(),
            file: format!(".probe.{}", config.name),
            interval: config.recover_interval / 2,
        };
        StoreWatch { watched, state: Mutex::new(State::Unknown) }
    }

    /// Reports that the store has refused something. The next check writes a file.
    pub async fn doubt(&self) {
        let mut state = self.state.lock().await;
        if !matches!(*state, State::Looking(_)) {
            *state = State::Unknown;
        }
    }

    /// What is wrong with the store; `None` if nothing is.
    pub async fn problem(&self) -> Option<ErrorReport> {
        let watched = &self.watched;
        let mut state = self.state.lock().await;
        let mut looking = match std::mem::replace(&mut *state, State::Unknown) {
            State::Good(at) if at.elapsed() < watched.interval => {
                *state = State::Good(at);
                return None;
            }
            State::Bad(report, at) if at.elapsed() < watched.interval => {
                *state = State::Bad(report.clone(), at);
                return Some(*report);
            }
            State::Looking(looking) => looking,
            State::Good(_) => watched.look(false),
            State::Unknown | State::Bad(..) => watched.look(true),
        };
        let Ok(ended) = tokio::time::timeout(LIMIT, &mut looking).await else {
            *state = State::Looking(looking);
            return Some(watched.report(ErrorCode::STORE_UNAVAILABLE, "it does not answer within 30 s"));
        };
        let report = match ended {
            Ok(Ok(())) => {
                *state = State::Good(Instant::now());
                return None;
            }
            Ok(Err((operation, path, error))) => {
                let code = match error.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::STORE_FULL,
                    _ => ErrorCode::STORE_UNAVAILABLE,
                };
                watched.report(code, &format!("cannot {operation} {}: {error}", path.display()))
            }
            Err(error) => watched.report(ErrorCode::STORE_UNAVAILABLE, &format!("the check crashed: {error}")),
        };
        *state = State::Bad(Box::new(report.clone()), Instant::now());
        Some(report)
    }
}

impl Watched {
    fn look(&self, write: bool) -> JoinHandle<Outcome> {
        let (root, file) = (self.root.clone(), write.then(|| self.root.join(&self.file)));
        tokio::task::spawn_blocking(move || look(&root, file.as_deref()))
    }

    fn report(&self, code: ErrorCode, problem: &str) -> ErrorReport {
        let message = format!("store {}: {problem}", self.name);
        let mut report = ErrorReport::new(ErrorClass::Crit, code, message);
        report
            .causes
            .push("no sector begins before the store takes files; the worker checks again by itself".to_owned());
        report
    }
}

/// Examines a store, and writes a small file if `file` is given.
fn look(root: &Path, file: Option<&Path>) -> Outcome {
    let refused = |operation, path: &Path| {
        let path = path.to_owned();
        move |error: rustix::io::Errno| (operation, path, io::Error::from(error))
    };
    let mount = rustix::fs::statvfs(root).map_err(refused("look at", root))?;
    if mount.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(("write to", root.to_owned(), io::ErrorKind::ReadOnlyFilesystem.into()));
    }
    let may_write = Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::access(root, may_write).map_err(refused("write to", root))?;
    for directory in DIRECTORIES.map(|name| root.join(name)) {
        match rustix::fs::access(&directory, may_write) {
            Err(rustix::io::Errno::NOENT) | Ok(()) => {}
            Err(error) => return Err(refused("write to", &directory)(error)),
        }
    }
    // Without an identity file this is probably a mount point whose store is not mounted. Nothing is written there.
    let Some(file) = file.filter(|_| root.join(STORE_FILE).exists()) else { return Ok(()) };
    let written = std::fs::File::create(file).and_then(|mut created| {
        created.write_all(b"sealbus")?;
        created.sync_all()
    });
    // A full store may have taken part of the file; that goes too.
    let removed = std::fs::remove_file(file);
    written.map_err(|error| ("write", file.to_owned(), error))?;
    removed.map_err(|error| ("remove", file.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn watch(root: &Path) -> StoreWatch {
        let (name, file) = ("main".to_owned(), ".probe.w1".to_owned());
        let watched = Watched { name, root: root.to_owned(), file, interval: Duration::ZERO };
        StoreWatch { watched, state: Mutex::new(State::Unknown) }
    }

    #[tokio::test]
    async fn a_store_that_takes_files_is_left_as_it_was() {
        let dir = tempfile::tempdir().expect("directory");
        fs::write(dir.path().join(STORE_FILE), "{}").expect("writes");
        let watch = watch(dir.path());
        assert_eq!(watch.problem().await, None);
        assert_eq!(watch.problem().await, None, "looked at from outside");
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1);
    }

    #[tokio::test]
    async fn a_store_that_takes_no_files_is_told_by_its_cause_until_it_does() {
        let dir = tempfile::tempdir().expect("directory");
        let root = dir.path().join("store");
        let watch = watch(&root);
        let report = watch.problem().await.expect("it is not there");
        assert_eq!((report.class, &report.code), (ErrorClass::Crit, &ErrorCode::STORE_UNAVAILABLE));
        assert!(report.message().contains("store main: cannot look at"), "{}", report.message());
        fs::create_dir(&root).expect("directory");
        fs::create_dir(root.join(".probe.w1")).expect("in the way");
        assert_eq!(watch.problem().await, None, "nothing is written where no store is known to be");
        fs::write(root.join(STORE_FILE), "{}").expect("writes");
        assert_eq!(watch.problem().await, None, "looked at from outside");
        watch.doubt().await;
        let report = watch.problem().await.expect("it takes no file");
        assert!(report.message().contains("cannot write"), "{}", report.message());
        fs::remove_dir(root.join(".probe.w1")).expect("removes");
        assert_eq!(watch.problem().await, None);
        fs::remove_dir_all(&root).expect("removes");
        assert!(watch.problem().await.is_some(), "gone again");
    }

    #[tokio::test]
    async fn a_store_that_is_mounted_read_only_is_told_before_anything_is_written() {
        // Exists on every Linux, and nobody can create a file there, not even root.
        let report = watch(Path::new("/proc/self")).problem().await.expect("takes no files");
        assert_eq!(report.code, ErrorCode::STORE_UNAVAILABLE);
    }
}
