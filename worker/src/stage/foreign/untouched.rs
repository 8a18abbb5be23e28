//! Detects changes to the inputs that a third-party executable must only read.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::stage::{StageCode, StageError};

/// Files, with their metadata when they were noted.
#[derive(Debug)]
pub(super) struct Untouched(Vec<(PathBuf, Look)>);

/// The metadata that a write changes.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    device_and_inode: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
}

impl Untouched {
    pub(super) fn note(paths: &[PathBuf]) -> Result<Self, StageError> {
        paths.iter().map(|path| Ok((path.clone(), look(path)?))).collect::<Result<_, _>>().map(Self)
    }

    /// Fails if one of the files was written to since.
    pub(super) fn check(&self) -> Result<(), StageError> {
        for (path, before) in &self.0 {
            if look(path)? != *before {
                let message = format!("the executable changed its input {}: it cannot be tried again", path.display());
                return Err(StageError::new(StageCode::ProcessorProtocol, message));
            }
        }
        Ok(())
    }
}

fn look(path: &PathBuf) -> Result<Look, StageError> {
    let found = std::fs::metadata(path).map_err(|error| StageError::io("look at", path, &error))?;
    Ok(Look {
        device_and_inode: (found.dev(), found.ino()),
        bytes: found.len(),
        modified: (found.mtime(), found.mtime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_written_to_or_replaced_is_noticed() {
        let dir = tempfile::tempdir().expect("directory");
        let (path, other) = (dir.path().join("input"), dir.path().join("other"));
        std::fs::write(&path, "input").expect("written");
        let inputs = Untouched::note(std::slice::from_ref(&path)).expect("noted");
        inputs.check().expect("untouched");
        std::fs::write(&other, "input").expect("written");
        std::fs::rename(&other, &path).expect("renamed");
        assert_eq!(inputs.check().expect_err("replaced").code, StageCode::ProcessorProtocol);
        let inputs = Untouched::note(std::slice::from_ref(&path)).expect("noted");
        std::fs::write(&path, "longer than before").expect("written");
        inputs.check().expect_err("written to");
    }
}
