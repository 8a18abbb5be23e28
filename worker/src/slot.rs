//! A slot: a directory that holds at most one sector at a time.
//!
//! ```text
//! <slot>/slot.lock                          held while a worker uses the slot
//! <slot>/journal                            what a restarted worker must know; none while the slot is free
//! <slot>/s-t0<miner>-<number>.<token>/      the sector's files
//! <slot>/quarantine/                        what was taken from us, or given up
//! <slot>/released                           the last order to free the slot that was carried out, or begun
//! <slot>/tmp/                               the processors' temporary files, in one of the slots
//! ```

pub mod probe;
pub mod quarantine;
pub mod release;
pub mod space;

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use sealbus_schema::{SectorId, Token};
use tokio::sync::Semaphore;

use crate::stage::{StageCode, StageError, files};

/// A slot that this process, and no other, uses. Clones are the same slot.
#[derive(Clone, Debug)]
pub struct Slot {
    index: usize,
    path: PathBuf,
    /// The directory as it was found, whatever has its name now.
    dir: Arc<File>,
    /// The lock goes with the file, also when this process is killed.
    _lock: Arc<File>,
    /// One permit for each file operation under way, so that they can be waited for.
    operations: Arc<Semaphore>,
}

/// How many file operations a slot may have under way; far more than it ever has.
const MAX_OPERATIONS: u32 = 1 << 10;

/// Why a slot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// Another process has it.
    #[error(
        "slot {path} is in use by another process: stop that worker, or take the slot out of one of the configurations",
        path = path.display()
    )]
    InUse {
        /// The slot.
        path: PathBuf,
    },
    /// The lock file cannot be made.
    #[error("slot {path} cannot be locked", path = path.display())]
    Lock {
        /// The slot.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Slot {
    /// Takes the slot for this process.
    pub fn open(index: usize, path: &Path) -> Result<Slot, SlotError> {
        let failed = |source| SlotError::Lock { path: path.to_owned(), source };
        let dir = File::open(path).map_err(failed)?;
        let lock = lock_file(&path.join("slot.lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {
                let slot = Slot {
                    index,
                    path: path.to_owned(),
                    dir: Arc::new(dir),
                    _lock: Arc::new(lock),
                    operations: Arc::new(Semaphore::new(MAX_OPERATIONS as usize)),
                };
                slot.drop_unfinished_journal();
                Ok(slot)
            }
            Err(TryLockError::WouldBlock) => Err(SlotError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Whether the slot's path still leads to the directory that was opened. Everything written elsewhere would be lost,
    /// or would pretend to be the slot.
    ///
    /// # Errors
    /// [`StageCode::SlotUnusable`] if not.
    pub fn check(&self) -> Result<(), StageError> {
        let lost = |what: &str| {
            let message = format!(
                "slot {}: {what}. Put it back as it was, or give up what it held with `sealbus-manager slots release`",
                self.name()
            );
            Err(StageError::new(StageCode::SlotUnusable, message))
        };
        match (fs::metadata(&self.path), self.dir.metadata()) {
            (Ok(now), Ok(then)) if (now.dev(), now.ino()) == (then.dev(), then.ino()) => Ok(()),
            (Ok(_), Ok(_)) => lost("another directory has taken its place under the worker"),
            (Err(error), _) if error.kind() == io::ErrorKind::NotFound => {
                lost("its directory was removed or unmounted under the worker")
            }
            (Err(error), _) | (_, Err(error)) => lost(&format!("its directory does not answer: {error}")),
        }
    }

    /// Carries out a file operation on another thread, if the slot still is what it was. It runs to its end even if
    /// the future is dropped; [`Self::quiet`] waits for it.
    pub async fn operate<T: Send + 'static>(
        &self,
        operation: impl FnOnce() -> Result<T, StageError> + Send + 'static,
    ) -> Result<T, StageError> {
        let permit = Arc::clone(&self.operations).acquire_owned().await;
        let slot = self.clone();
        let run = move || {
            let _permit = permit;
            slot.check()?;
            operation()
        };
        // The task was cancelled with the runtime, or panicked.
        let ended = |error: tokio::task::JoinError| Err(StageError::new(StageCode::IoFailed, error.to_string()));
        tokio::task::spawn_blocking(run).await.unwrap_or_else(ended)
    }

    /// Waits until no file operation is under way that a dropped future left behind.
    pub async fn quiet(&self) {
        drop(self.operations.acquire_many(MAX_OPERATIONS).await);
    }

    /// What a process that was killed left of a journal that it was writing. The one before still counts.
    fn drop_unfinished_journal(&self) {
        if let Err(error) = files::remove_tree(&self.path.join(".journal.tmp")) {
            tracing::warn!(slot = self.name(), %error, "an unfinished journal stays until the next one is written");
        }
    }

    /// Its position in the configuration.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory's name, for people.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The journal's file.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// The directory of a sector's files under a lease.
    pub fn work_dir(&self, sector: SectorId, token: Token) -> PathBuf {
        self.path.join(format!("{}.{token}", sector.file_name()))
    }
}

/// The lock's file, opened to be read alone: a disk that has become read-only still shows what its slot holds.
fn lock_file(path: &Path) -> io::Result<File> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            File::options().create(true).truncate(false).write(true).open(path)?;
            File::open(path)
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_used_by_one_at_a_time() {
        let dir = tempfile::tempdir().expect("directory");
        let slot = Slot::open(0, dir.path()).expect("free");
        let error = Slot::open(1, dir.path()).expect_err("taken");
        assert!(matches!(error, SlotError::InUse { .. }), "{error}");
        drop(slot);
        Slot::open(0, dir.path()).expect("free again");
    }

    #[test]
    fn a_slot_whose_directory_is_removed_or_replaced_is_noticed() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("slot");
        std::fs::create_dir(&path).expect("directory");
        let slot = Slot::open(0, &path).expect("free");
        slot.check().expect("there");
        std::fs::rename(&path, dir.path().join("away")).expect("renames");
        let gone = slot.check().expect_err("gone");
        assert_eq!(gone.code, StageCode::SlotUnusable);
        assert!(gone.message.contains("removed or unmounted"), "{gone}");
        std::fs::create_dir(&path).expect("directory");
        let other = slot.check().expect_err("another");
        assert!(other.message.contains("another directory") && other.message.contains("slots release"), "{other}");
        std::fs::remove_dir(&path).expect("removes");
        std::fs::rename(dir.path().join("away"), &path).expect("renames");
        slot.check().expect("back");
    }

    #[tokio::test]
    async fn what_a_dropped_future_left_under_way_can_be_waited_for() {
        let dir = tempfile::tempdir().expect("directory");
        let slot = Slot::open(0, dir.path()).expect("free");
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let file = dir.path().join("late");
        let late = slot.operate(move || {
            let _ = gate.recv();
            files::write_atomic(&file, b"late")
        });
        let started = tokio::time::timeout(std::time::Duration::from_millis(1), late).await;
        started.expect_err("dropped while it waits");
        go.send(()).expect("goes on");
        slot.quiet().await;
        assert!(dir.path().join("late").exists());
    }
}
