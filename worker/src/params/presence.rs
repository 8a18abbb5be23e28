//! Whether the files that C2 reads for one sector size exist, with the length that their own headers give. For
//! directories that a third-party executable reads: the content is not read.

use std::path::{Path, PathBuf};

use sealbus_schema::SectorSize;

use super::structure;
use crate::stage::{StageError, sector};

/// What is wrong in `dir` with the verifying key and, if `with_parameters`, with the parameters; `None` if nothing is.
///
/// # Errors
/// An error of the proofs library, if it has no file names for this size.
pub fn c2_files_problem(dir: &Path, size: SectorSize, with_parameters: bool) -> Result<Option<String>, StageError> {
    let proof = sector::registered(size.seal_proof());
    let named = |path: Result<PathBuf, _>| path.map_err(|error| StageError::library("name the parameters", &error));
    let mut paths = vec![named(proof.cache_verifying_key_path())?];
    if with_parameters {
        paths.push(named(proof.cache_params_path())?);
    }
    let names = paths.iter().filter_map(|path| path.file_name()?.to_str());
    let problems: Vec<String> =
        names.filter_map(|name| Some(format!("{name} {}", problem_of(&dir.join(name), name)?))).collect();
    Ok(Some(problems.join("; ")).filter(|problems| !problems.is_empty()))
}

fn problem_of(path: &Path, name: &str) -> Option<String> {
    let found = match std::fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Some("is missing".to_owned()),
        Err(error) => return Some(format!("cannot be looked at: {error}")),
    };
    match structure::expected_size(path, name) {
        Ok(Some(expected)) if expected != found => Some(format!("has {found} bytes and should have {expected}")),
        Ok(_) => None,
        Err(error) => Some(format!("cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: SectorSize = SectorSize::KiB2;

    #[test]
    fn missing_and_torn_files_are_named_and_only_those_that_are_wanted() {
        let dir = tempfile::tempdir().expect("directory");
        let problem = |with| c2_files_problem(dir.path(), SIZE, with).expect("named");
        let both = problem(true).expect("a problem");
        assert!(both.contains(".vk is missing; ") && both.ends_with(".params is missing"), "{both}");
        let name = both.split(' ').next().expect("a name");
        // A verifying key ends with a vector of points. Here it is empty.
        let key = vec![0; usize::try_from(sealbus_params_dir::VERIFYING_KEY_BYTES).expect("small")];
        std::fs::write(dir.path().join(name), &key).expect("written");
        assert_eq!(problem(false), None);
        assert!(!problem(true).expect("a problem").contains(".vk"));
        std::fs::write(dir.path().join(name), &key[..100]).expect("torn");
        assert!(problem(false).expect("a problem").contains("has 100 bytes"));
    }
}
