//! A slot: a directory that holds at most one sector at a time.
//!
//! ```text
//! <slot>/slot.lock                          held while a worker uses the slot
//! <slot>/journal                            what a restarted worker must know; none while the slot is free
//! <slot>/s-t0<miner>-<number>.<token>/      the sector's files
//! <slot>/quarantine/                        files of sectors that were taken from us
//! <slot>/tmp/                               the processors' temporary files, in one of the slots
//! ```

pub mod space;

use std::{
    fs::{File, TryLockError},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use sealbus_schema::{SectorId, Token};

use crate::stage::{StageCode, StageError, files};

/// A slot that this process, and no other, uses.
#[derive(Debug)]
pub struct Slot {
    index: usize,
    path: PathBuf,
    /// The lock goes with the file, also when this process is killed.
    lock: Arc<File>,
}

/// What tells whether a slot still is the directory that was taken. Nothing may be written into another one: a disk that
/// was unmounted leaves an empty directory on the disk below.
#[derive(Clone, Debug)]
pub struct Anchor {
    path: PathBuf,
    lock: Arc<File>,
}

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
        let lock =
            File::options().create(true).truncate(false).write(true).open(path.join("slot.lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {
                let slot = Slot { index, path: path.to_owned(), lock: Arc::new(lock) };
                slot.drop_unfinished_journal();
                Ok(slot)
            }
            Err(TryLockError::WouldBlock) => Err(SlotError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// What a process that was killed left of a journal that it was writing. The one before still counts.
    fn drop_unfinished_journal(&self) {
        if let Err(error) = files::remove_tree(&self.path.join(".journal.tmp")) {
            tracing::warn!(slot = self.name(), %error, "an unfinished journal stays until the next one is written");
        }
    }

    /// What tells whether it still is what was taken.
    pub fn anchor(&self) -> Anchor {
        Anchor { path: self.path.clone(), lock: Arc::clone(&self.lock) }
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

impl Anchor {
    /// Demands that the slot still is the directory that was taken.
    pub fn check(&self) -> Result<(), StageError> {
        let gone = |problem: String| {
            let message = format!(
                "slot {} is not the directory that was taken at the start ({problem}): mount or restore it, and restart the worker",
                self.path.display()
            );
            StageError::new(StageCode::SlotUnusable, message)
        };
        let ours = self.lock.metadata().map_err(|error| gone(error.to_string()))?;
        let there = std::fs::metadata(self.path.join("slot.lock")).map_err(|error| gone(error.to_string()))?;
        if (ours.dev(), ours.ino()) != (there.dev(), there.ino()) {
            return Err(gone("another directory is in its place".to_owned()));
        }
        Ok(())
    }

    /// Demands that the slot can be written to.
    pub fn probe(&self) -> Result<(), StageError> {
        self.check()?;
        let path = self.path.join(".probe");
        files::write_atomic(&path, b"probe")?;
        files::remove_tree(&path)
    }
}

/// Moves a sector's files to the slot's quarantine, and says where they are. There may be none.
pub fn quarantine(slot: &Path, work_dir: &Path) -> Result<Option<PathBuf>, StageError> {
    if !work_dir.exists() {
        return Ok(None);
    }
    let name = files::name_of(work_dir);
    let yard = slot.join("quarantine");
    files::create_dir(&yard)?;
    let mut to = yard.join(&name);
    let mut turn = 1;
    while to.exists() {
        to = yard.join(format!("{name}.{turn}"));
        turn += 1;
    }
    files::rename(work_dir, &to)?;
    files::sync_dir(&yard)?;
    files::sync_dir(slot)?;
    Ok(Some(to))
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
    fn a_slot_that_was_deleted_or_replaced_is_not_written_to() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("slot");
        std::fs::create_dir(&path).expect("directory");
        let slot = Slot::open(0, &path).expect("free");
        slot.anchor().probe().expect("good");
        std::fs::remove_dir_all(&path).expect("removes");
        assert_eq!(slot.anchor().probe().expect_err("gone").code, StageCode::SlotUnusable);
        std::fs::create_dir(&path).expect("directory");
        assert_eq!(slot.anchor().probe().expect_err("another").code, StageCode::SlotUnusable);
        let _other = Slot::open(1, &path).expect("free");
        assert_eq!(slot.anchor().probe().expect_err("another").code, StageCode::SlotUnusable);
        assert_eq!(std::fs::read_dir(&path).expect("list").count(), 1, "only the other one's lock");
    }

    #[test]
    fn quarantined_files_are_kept_side_by_side() {
        let dir = tempfile::tempdir().expect("directory");
        let slot = Slot::open(0, dir.path()).expect("free");
        let sector: SectorId = "f01000/4".parse().expect("sector");
        let work_dir = slot.work_dir(sector, Token(9));
        assert_eq!(quarantine(slot.path(), &work_dir).expect("nothing there"), None);
        for expected in ["s-t01000-4.9", "s-t01000-4.9.1"] {
            std::fs::create_dir(&work_dir).expect("directory");
            let moved = quarantine(slot.path(), &work_dir).expect("moved").expect("something");
            assert_eq!(moved, dir.path().join("quarantine").join(expected));
        }
    }
}
