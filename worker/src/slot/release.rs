//! Carries out a person's order to free a slot exactly once, whatever is killed in between.
//!
//! The file `released` in the slot holds the number of the last such order. It says `<number> begun` until everything
//! has been moved to quarantine. A restarted worker first completes an order that was begun.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::quarantine;
use crate::{
    journal::Journal,
    stage::{StageCode, StageError, files},
};

const FILE: &str = "released";
const JOURNAL: &str = "journal";

/// Completes an order that was begun, and returns the number of the last order; 0 if there was none.
///
/// # Errors
/// [`StageError`] of the file system, also if the file `released` has unknown content.
pub fn settle(slot: &Path) -> Result<u64, StageError> {
    match read(slot)? {
        Some((id, true)) => carry_out(slot, id).map(|_| id),
        Some((id, false)) => Ok(id),
        None => Ok(0),
    }
}

/// Moves everything in the slot to quarantine, records that the order was carried out, and returns the new paths.
/// Nothing is deleted.
///
/// # Errors
/// [`StageError`] of the file system. The order can be repeated.
pub fn carry_out(slot: &Path, id: u64) -> Result<Vec<PathBuf>, StageError> {
    write(slot, &format!("{id} begun\n"))?;
    let mut put_away = Vec::new();
    for entry in files::list(slot)? {
        let name = files::name_of(&entry);
        let to = match name.as_str() {
            JOURNAL => journal_name(&entry),
            // A journal that was being written when the worker was killed. The complete one before it counts.
            ".journal.tmp" => {
                files::remove_tree(&entry)?;
                continue;
            }
            name if name.starts_with("s-t0") => name.to_owned(),
            _ => continue,
        };
        put_away.extend(quarantine::put_away(slot, &entry, &to)?);
    }
    write(slot, &format!("{id}\n"))?;
    Ok(put_away)
}

/// The name under which the journal is kept: its sector's, if it can be read.
fn journal_name(path: &Path) -> String {
    match Journal::load(path) {
        Ok(Some(journal)) => format!("{}.{}.journal", journal.intent.sector.file_name(), journal.token),
        _ => JOURNAL.to_owned(),
    }
}

fn write(slot: &Path, text: &str) -> Result<(), StageError> {
    files::write_atomic(&slot.join(FILE), text.as_bytes())
}

/// The number of the last order, and whether it has only begun.
fn read(slot: &Path) -> Result<Option<(u64, bool)>, StageError> {
    let path = slot.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StageError::io("read", &path, &error)),
    };
    let line = text.trim_end();
    let (number, begun) = line.strip_suffix(" begun").map_or((line, false), |number| (number, true));
    number.parse().map(|id| Some((id, begun))).map_err(|_| {
        let message = format!(
            "{} should hold the number of the last release and does not: write 0 into it, or a number that the slot's \
             orders have passed",
            path.display()
        );
        StageError::new(StageCode::SlotUnusable, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(dir: &Path) -> Vec<String> {
        files::list(dir).expect("list").iter().map(|path| files::name_of(path)).collect()
    }

    fn slot_with_something() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("directory");
        fs::write(dir.path().join("journal"), "rubbish").expect("writes");
        fs::write(dir.path().join("slot.lock"), "").expect("writes");
        fs::create_dir(dir.path().join("s-t01000-1.5")).expect("directory");
        fs::create_dir(dir.path().join("tmp")).expect("directory");
        dir
    }

    #[test]
    fn everything_of_a_sector_is_kept_in_quarantine_and_the_order_is_remembered() {
        let dir = slot_with_something();
        assert_eq!(settle(dir.path()).expect("none"), 0);
        assert_eq!(carry_out(dir.path(), 7).expect("carries out").len(), 2);
        assert_eq!(left(dir.path()), ["quarantine", "released", "slot.lock", "tmp"]);
        assert_eq!(left(&dir.path().join("quarantine")), ["journal", "s-t01000-1.5"]);
        assert_eq!(settle(dir.path()).expect("done"), 7);
    }

    #[test]
    fn a_release_that_was_begun_is_ended_by_the_next_start() {
        for moved in [&[][..], &["s-t01000-1.5"], &["journal", "s-t01000-1.5"]] {
            let dir = slot_with_something();
            write(dir.path(), "7 begun\n").expect("writes");
            for name in moved {
                quarantine::put_away(dir.path(), &dir.path().join(name), name).expect("moves");
            }
            assert_eq!(settle(dir.path()).expect("ends it"), 7);
            assert_eq!(left(dir.path()), ["quarantine", "released", "slot.lock", "tmp"]);
            assert_eq!(left(&dir.path().join("quarantine")), ["journal", "s-t01000-1.5"]);
            assert_eq!(read(dir.path()).expect("reads"), Some((7, false)));
        }
    }

    #[test]
    fn a_record_that_is_none_of_ours_is_not_taken_for_an_order() {
        let dir = tempfile::tempdir().expect("directory");
        fs::write(dir.path().join(FILE), "x").expect("writes");
        assert_eq!(settle(dir.path()).expect_err("refused").code, StageCode::SlotUnusable);
    }
}
