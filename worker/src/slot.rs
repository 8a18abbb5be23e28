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
    path::{Path, PathBuf},
};

use sealbus_schema::{SectorId, Token};

use crate::stage::{StageError, files};

/// A slot that this process, and no other, uses.
#[derive(Debug)]
pub struct Slot {
    index: usize,
    path: PathBuf,
    /// The lock goes with the file, also when this process is killed.
    _lock: File,
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
                let slot = Slot { index, path: path.to_owned(), _lock: lock };
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
