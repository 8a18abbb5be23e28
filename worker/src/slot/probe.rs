//! Checks that a slot's disk still writes and reads, before a sector is taken.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
};

use super::Slot;
use crate::stage::{StageCode, StageError, files};

const FILE: &str = ".probe";
/// One block of most file systems.
const PROBE_BYTES: usize = 4096;

/// Writes a small file, syncs it, reads it back and removes it.
///
/// # Errors
/// [`StageCode::SlotUnusable`] if the directory is gone; [`StageCode::DiskFull`]; [`StageCode::IoFailed`].
pub fn probe(slot: &Slot) -> Result<(), StageError> {
    slot.check()?;
    write_and_read(&slot.path().join(FILE))
}

fn write_and_read(path: &Path) -> Result<(), StageError> {
    let written: Vec<u8> = (0..PROBE_BYTES).map(|at| at as u8).collect();
    let write = || -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(&written)?;
        file.sync_all()
    };
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(PROBE_BYTES);
        File::open(path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let outcome = write().map_err(|error| failed("write", path, &error)).and_then(|()| {
        let found = read().map_err(|error| failed("read", path, &error))?;
        if found == written {
            return Ok(());
        }
        let message = format!("{} reads back differently from what was written", path.display());
        Err(StageError::new(StageCode::IoFailed, message))
    });
    // Also if the write failed: a full disk may have taken part of the file.
    let removed = files::remove_tree(path);
    outcome.and(removed)
}

/// The probe file lies directly in the slot. So if its directory does not exist, the slot is gone.
fn failed(operation: &str, path: &Path, error: &io::Error) -> StageError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            let message = format!("{operation} {}: {error}: the slot is not there", path.display());
            StageError::new(StageCode::SlotUnusable, message)
        }
        // A timeout would be retried as class `temp`. Here it is not: no sector begins until the disk answers.
        _ => match StageError::io(operation, path, error) {
            error if error.code == StageCode::IoTimedOut => StageError { code: StageCode::IoFailed, ..error },
            error => error,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_healthy_slot_is_left_as_it_was() {
        let dir = tempfile::tempdir().expect("directory");
        let slot = Slot::open(0, dir.path()).expect("slot");
        probe(&slot).expect("healthy");
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1, "the lock");
    }

    #[test]
    fn a_slot_that_cannot_be_written_to_is_told_by_its_cause() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("slot");
        fs::create_dir(&path).expect("directory");
        let slot = Slot::open(0, &path).expect("slot");
        fs::create_dir(path.join(FILE)).expect("in the way");
        assert_eq!(probe(&slot).expect_err("cannot write").code, StageCode::IoFailed);
        fs::remove_dir_all(&path).expect("removes");
        assert_eq!(probe(&slot).expect_err("gone").code, StageCode::SlotUnusable);
        for (errno, code) in [(28, StageCode::DiskFull), (30, StageCode::IoFailed), (5, StageCode::IoFailed)] {
            assert_eq!(failed("write", &path, &io::Error::from_raw_os_error(errno)).code, code);
        }
    }
}
