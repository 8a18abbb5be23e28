//! A slot: a directory that holds at most one sector at a time.
//!
//! ```text
//! <slot>/slot.lock                          held while a worker uses the slot
//! <slot>/journal                            what a restarted worker must know; absent while the slot is free
//! <slot>/s-t0<miner>-<number>.<token>/      the sector's files
//! <slot>/quarantine/                        files of sectors that were revoked or given up
//! <slot>/released                           the number of the last order to free the slot
//! <slot>/static/                            files that all jobs on the disk share, in one of its slots
//! <slot>/tmp/                               the processors' temporary files, in one of the slots only
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

/// The directory in a slot for files that all jobs on its disk share.
pub const STATIC_DIR: &str = "static";

/// A slot that this process alone uses. Clones refer to the same slot.
#[derive(Clone, Debug)]
pub struct Slot {
    index: usize,
    path: PathBuf,
    /// The directory that was opened, even if another one has its name by now.
    dir: Arc<File>,
    /// The lock ends with this file, also when the process is killed.
    _lock: Arc<File>,
    /// Each running file operation holds a permit. Taking all permits waits for all operations.
    operations: Arc<Semaphore>,
}

/// The number of permits: far more than a slot ever has running file operations.
const MAX_OPERATIONS: u32 = 1 << 10;

/// Why a slot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// Another process uses the slot.
    #[error(
        "slot {path} is in use by another process: stop that worker, or take the slot out of one of the configurations",
        path = path.display()
    )]
    InUse {
        /// The slot.
        path: PathBuf,
    },
    /// The lock file cannot be created.
    #[error("slot {path} cannot be locked", path = path.display())]
    Lock {
        /// The slot.
        path: PathBuf,
        /// The file system's error.
        #[source]
        source: io::Error,
    },
}

impl Slot {
    /// Locks the slot for this process.
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

    /// Checks that the slot's path still leads to the directory that was opened. What is written to another directory
    /// would be lost, or would be mistaken for the slot's.
    ///
    /// # Errors
    /// [`StageCode::SlotUnusable`] if it does not.
    pub fn check(&self) -> Result<(), StageError> {
        let lost = |what: &str| {
            let message = format!(
                "slot {}: {what}. Restore it, or give up what it held with `sealbus-manager slots release`",
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

    /// Runs a file operation on a blocking thread, after [`check`](Self::check). If it fails and the slot is gone by then, that
    /// is the cause. It runs to its end even if the future
    /// is dropped; [`Self::quiet`] waits for that.
    pub async fn operate<T: Send + 'static>(
        &self,
        operation: impl FnOnce() -> Result<T, StageError> + Send + 'static,
    ) -> Result<T, StageError> {
        let permit = Arc::clone(&self.operations).acquire_owned().await;
        let slot = self.clone();
        let run = move || {
            let _permit = permit;
            slot.check()?;
            operation().or_else(|error| slot.check().and(Err(error)))
        };
        // An error means that the operation panicked, or was cancelled because the runtime shuts down.
        let ended = |error: tokio::task::JoinError| Err(StageError::new(StageCode::IoFailed, error.to_string()));
        tokio::task::spawn_blocking(run).await.unwrap_or_else(ended)
    }

    /// Waits until all file operations have ended, including those whose futures were dropped.
    pub async fn quiet(&self) {
        drop(self.operations.acquire_many(MAX_OPERATIONS).await);
    }

    /// Removes a partly written journal that a killed process has left. The complete journal before it counts.
    fn drop_unfinished_journal(&self) {
        if let Err(error) = files::remove_tree(&self.path.join(".journal.tmp")) {
            tracing::warn!(slot = self.name(), %error, "an unfinished journal stays until the next one is written");
        }
    }

    /// The index in the configuration.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory's name, to be shown to people.
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The path of the journal.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// The working directory of a sector under a lease.
    pub fn work_dir(&self, sector: SectorId, token: Token) -> PathBuf {
        self.path.join(format!("{}.{token}", sector.file_name()))
    }
}

/// Opens the lock file read-only if it cannot be created. So a disk that has become read-only still shows what its slot
/// holds.
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
    async fn an_operation_that_fails_because_the_slot_went_away_meanwhile_blames_the_slot() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("slot");
        std::fs::create_dir(&path).expect("directory");
        let slot = Slot::open(0, &path).expect("free");
        let failed = || StageError::new(StageCode::IoFailed, "no such file");
        let of_a_file = slot.operate(move || Err::<(), _>(failed())).await.expect_err("fails");
        assert_eq!(of_a_file.code, StageCode::IoFailed);
        let away = dir.path().join("away");
        let goes_away = move || {
            std::fs::rename(&path, away).expect("renames");
            Err::<(), _>(failed())
        };
        assert_eq!(slot.operate(goes_away).await.expect_err("fails").code, StageCode::SlotUnusable);
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
