//! Reserves disk space for a sector before it is taken.
//!
//! Several slots may share a disk. A slot that holds a sector, or waits for one, has reserved what that sector still
//! needs. So two slots never count on the same free bytes.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

pub use sealbus_planner::sector::needed_bytes;
use sealbus_schema::{ErrorClass, ErrorCode, ErrorReport, SealProof};

use super::{Slot, quarantine};

/// The reservations of this process's slots.
#[derive(Debug, Default)]
pub struct Ledger {
    reserved: Mutex<BTreeMap<usize, Reserved>>,
}

#[derive(Debug)]
struct Reserved {
    device: u64,
    /// The directory whose files have already used part of the reservation.
    work_dir: Option<PathBuf>,
}

/// A slot has no room for another sector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// There are too few free bytes.
    #[error(
        "slot {slot} has {free} bytes free for it, a sector needs {needed}: free space or take the slot out; \
         {quarantined} bytes in quarantine"
    )]
    Full {
        /// The slot.
        slot: String,
        /// The free bytes that other slots have not reserved.
        free: u64,
        /// The bytes that a sector needs.
        needed: u64,
        /// The bytes in the slot's own quarantine.
        quarantined: u64,
    },
    /// The free space cannot be read.
    #[error("slot {slot}: {problem}")]
    Unknown {
        /// The slot.
        slot: String,
        /// The system's error.
        problem: String,
    },
}

impl NoRoom {
    /// The report for the manager.
    pub fn report(&self) -> ErrorReport {
        let code = match self {
            NoRoom::Full { .. } => ErrorCode::DISK_FULL,
            NoRoom::Unknown { .. } => ErrorCode::SLOT_UNUSABLE,
        };
        ErrorReport::from_error(ErrorClass::Crit, code, self)
    }
}

impl Ledger {
    /// Reserves the space for a new sector in a slot.
    pub fn reserve(&self, slot: &Slot, proof: SealProof) -> Result<(), NoRoom> {
        self.reserve_bytes(slot, needed_bytes(proof))
    }

    fn reserve_bytes(&self, slot: &Slot, needed: u64) -> Result<(), NoRoom> {
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        reserved.remove(&slot.index());
        let unknown = |error: io::Error| NoRoom::Unknown { slot: slot.name(), problem: error.to_string() };
        let device = fs::metadata(slot.path()).map_err(unknown)?.dev();
        let promised: u64 = reserved
            .values()
            .filter(|other| other.device == device)
            .map(|other| needed.saturating_sub(other.work_dir.as_deref().map_or(0, used_bytes)))
            .sum();
        let free = free_bytes(slot.path()).map_err(unknown)?.saturating_sub(promised);
        if free < needed {
            let quarantined = used_bytes(&quarantine::place(slot.path()));
            return Err(NoRoom::Full { slot: slot.name(), free, needed, quarantined });
        }
        reserved.insert(slot.index(), Reserved { device, work_dir: None });
        Ok(())
    }

    /// Records where the slot's sector lies. What its files use is then no longer reserved.
    pub fn hold(&self, slot: &Slot, work_dir: PathBuf) {
        if let Ok(found) = fs::metadata(slot.path()) {
            let entry = Reserved { device: found.dev(), work_dir: Some(work_dir) };
            self.reserved.lock().unwrap_or_else(PoisonError::into_inner).insert(slot.index(), entry);
        }
    }

    /// Drops the slot's reservation.
    pub fn release(&self, slot: &Slot) {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner).remove(&slot.index());
    }
}

/// The bytes that an ordinary user can still write to a file system.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let room = rustix::fs::statvfs(path)?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

/// The disk space that a directory's files use. What cannot be read counts as 0.
fn used_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => used_bytes(&entry.path()),
            Ok(found) => found.blocks() * 512 / found.nlink().max(1),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_slots_do_not_count_on_the_same_bytes() {
        let dirs = [tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory")];
        let slots = [0, 1].map(|index| Slot::open(index, dirs[index].path()).expect("slot"));
        let ledger = Ledger::default();
        ledger.reserve(&slots[0], SealProof::StackedDrg2KiBV1_1).expect("room");
        ledger.reserve(&slots[0], SealProof::StackedDrg2KiBV1_1).expect("the same again");
        let free = free_bytes(dirs[1].path()).expect("free");
        let proof = SealProof::StackedDrg64GiBV1_1;
        if free < 2 * needed_bytes(proof) {
            ledger.release(&slots[0]);
            let alone = ledger.reserve(&slots[1], proof).is_ok();
            assert!(ledger.reserve(&slots[0], proof).is_err() || !alone);
        }
        ledger.release(&slots[1]);
        ledger.reserve(&slots[0], SealProof::StackedDrg2KiBV1_1).expect("room again");
    }

    #[test]
    fn a_full_slot_is_told_with_both_numbers() {
        let error = NoRoom::Full { slot: "/s".into(), free: 5, needed: 9, quarantined: 3 };
        assert_eq!((error.report().class, error.report().code), (ErrorClass::Crit, ErrorCode::DISK_FULL));
        assert!(error.to_string().contains("5 bytes free") && error.to_string().contains("needs 9"));
        assert!(error.to_string().contains("3 bytes in quarantine"));
    }

    #[test]
    fn a_slot_without_room_says_what_its_quarantine_takes() {
        let dir = tempfile::tempdir().expect("directory");
        let slot = Slot::open(0, dir.path()).expect("slot");
        fs::create_dir_all(quarantine::place(dir.path()).join("s-t01000-1.5")).expect("directory");
        fs::write(quarantine::place(dir.path()).join("s-t01000-1.5/sealed"), vec![1; 1 << 20]).expect("writes");
        let needed = u64::MAX;
        let error = Ledger::default().reserve_bytes(&slot, needed).expect_err("no disk has that");
        let NoRoom::Full { quarantined, .. } = error else { panic!("{error}") };
        assert!(quarantined >= 1 << 20, "{quarantined}");
    }
}
