//! Keeps files that must not be used any more, for a person to look at.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::stage::{StageError, files};

/// The directory's name in a slot.
const YARD: &str = "quarantine";

/// Moves a file or directory of a slot into the slot's quarantine as `name`, and returns its new path; `None` if there
/// is nothing to move.
///
/// # Errors
/// [`StageError`] of the file system.
pub fn put_away(slot: &Path, what: &Path, name: &str) -> Result<Option<PathBuf>, StageError> {
    if !is_there(what)? {
        return Ok(None);
    }
    let yard = yard(slot)?;
    let to = free_name(&yard, name)?;
    files::rename(what, &to)?;
    files::sync_dir(&yard)?;
    files::sync_dir(slot)?;
    Ok(Some(to))
}

/// The path of a slot's quarantine.
pub fn place(slot: &Path) -> PathBuf {
    slot.join(YARD)
}

/// Creates the quarantine directory if needed. A file with its name is moved into it.
fn yard(slot: &Path) -> Result<PathBuf, StageError> {
    let yard = place(slot);
    let in_the_way = match fs::symlink_metadata(&yard) {
        Ok(found) if found.is_dir() => return Ok(yard),
        Ok(_) => Some(free_name(slot, "quarantine.found")?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(StageError::io("look at", &yard, &error)),
    };
    if let Some(aside) = &in_the_way {
        files::rename(&yard, aside)?;
    }
    files::create_dir(&yard)?;
    if let Some(aside) = &in_the_way {
        files::rename(aside, &free_name(&yard, "quarantine.found")?)?;
    }
    files::sync_dir(slot)?;
    Ok(yard)
}

/// The path of `name` in the directory, with a number appended if the name is taken.
fn free_name(dir: &Path, name: &str) -> Result<PathBuf, StageError> {
    let mut to = dir.join(name);
    let mut turn = 1;
    while is_there(&to)? {
        to = dir.join(format!("{name}.{turn}"));
        turn += 1;
    }
    Ok(to)
}

fn is_there(path: &Path) -> Result<bool, StageError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StageError::io("look at", path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarantined_files_are_kept_side_by_side() {
        let dir = tempfile::tempdir().expect("directory");
        let work_dir = dir.path().join("s-t01000-4.9");
        assert_eq!(put_away(dir.path(), &work_dir, "s-t01000-4.9").expect("nothing there"), None);
        for expected in ["s-t01000-4.9", "s-t01000-4.9.1"] {
            fs::create_dir(&work_dir).expect("directory");
            let moved = put_away(dir.path(), &work_dir, "s-t01000-4.9").expect("moved").expect("something");
            assert_eq!(moved, dir.path().join("quarantine").join(expected));
        }
    }

    #[test]
    fn what_has_the_quarantines_name_is_kept_in_it() {
        let dir = tempfile::tempdir().expect("directory");
        fs::write(place(dir.path()), "in the way").expect("writes");
        let journal = dir.path().join("journal");
        fs::write(&journal, "x").expect("writes");
        put_away(dir.path(), &journal, "journal").expect("moved").expect("something");
        let found = fs::read_to_string(dir.path().join("quarantine/quarantine.found")).expect("kept");
        assert_eq!(found, "in the way");
        assert!(dir.path().join("quarantine/journal").exists());
    }

    #[test]
    fn a_slot_that_is_gone_is_not_made_again() {
        let dir = tempfile::tempdir().expect("directory");
        let gone = dir.path().join("gone");
        assert_eq!(put_away(&gone, &gone.join("journal"), "journal").expect("nothing"), None);
        yard(&gone).expect_err("no slot");
        assert!(!gone.exists());
    }
}
