//! Makes the library's cache of the graph's parents, so that a killed run leaves no torn one behind.
//!
//! The library writes the cache (56 GiB for a 32 GiB sector) under its final name and at its full length from the
//! start, and takes any file of that length for a finished one: killed half way, every later PC1 on the machine would
//! label with wrong parents. So the first run for a proof type makes the cache here, under a lock, with a note of what
//! was there before; a note that outlived its writer names what has to go.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use filecoin_proofs::parameters::public_params;
use filecoin_proofs::types::MerkleTreeTrait;
use filecoin_proofs::with_shape;
use sealbus_schema::SealProof;
use serde::{Deserialize, Serialize};
use storage_proofs_core::settings::SETTINGS;

use super::{StageError, files, sector};

/// The caches that were there when a run began to make one.
#[derive(Serialize, Deserialize)]
struct Note {
    before: BTreeSet<String>,
}

/// The caches that were finished by the run for a proof type.
#[derive(Serialize, Deserialize)]
struct Ready {
    caches: Vec<String>,
}

/// Makes sure that the parent cache of `proof` is whole.
pub(super) fn ensure(proof: SealProof) -> Result<(), StageError> {
    ensure_in(&PathBuf::from(&SETTINGS.parent_cache), proof, &mut || generate(proof))
}

fn ensure_in(
    dir: &Path,
    proof: SealProof,
    generate: &mut dyn FnMut() -> Result<(), StageError>,
) -> Result<(), StageError> {
    let ready = dir.join(format!(".sealbus-{}.ready", proof.sector_size().bytes()));
    if is_ready(dir, &ready)? {
        return Ok(());
    }
    files::create_dirs(dir)?;
    let lock = dir.join(".sealbus.lock");
    // The lock goes with the file descriptor, also when this process is killed.
    let _held = File::create(&lock)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|error| StageError::io("lock", &lock, &error))?;
    if is_ready(dir, &ready)? {
        return Ok(());
    }
    let note = dir.join(".sealbus.making");
    if let Some(Note { before }) = files::read_json(&note)? {
        for torn in caches(dir)?.difference(&before) {
            tracing::warn!(cache = %torn, "removing a parent cache whose maker was killed");
            files::remove_tree(&dir.join(torn))?;
        }
    }
    let before = caches(dir)?;
    files::write_json(&note, &Note { before: before.clone() })?;
    generate()?;
    let made: Vec<String> = caches(dir)?.difference(&before).cloned().collect();
    for cache in &made {
        files::sync_file(&dir.join(cache))?;
    }
    files::write_json(&ready, &Ready { caches: made })?;
    files::remove_tree(&note)
}

fn is_ready(dir: &Path, ready: &Path) -> Result<bool, StageError> {
    let Some(Ready { caches }) = files::read_json(ready)? else { return Ok(false) };
    Ok(caches.iter().all(|cache| dir.join(cache).exists()))
}

fn caches(dir: &Path) -> Result<BTreeSet<String>, StageError> {
    let names = files::list(dir)?.into_iter().map(|path| files::name_of(&path));
    Ok(names.filter(|name| name.ends_with(".cache")).collect())
}

fn generate(proof: SealProof) -> Result<(), StageError> {
    fn generate_shaped<Tree: 'static + MerkleTreeTrait>(proof: SealProof) -> anyhow::Result<()> {
        public_params::<Tree>(&sector::registered(proof).as_v1_config())?.graph.parent_cache().map(drop)
    }
    with_shape!(proof.sector_size().bytes(), generate_shaped, proof)
        .map_err(|error| StageError::library("make the parent cache", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_whose_maker_was_killed_is_made_again() {
        let dir = tempfile::tempdir().expect("directory");
        let (old, torn) = (dir.path().join("old.cache"), dir.path().join("torn.cache"));
        std::fs::write(&old, "whole").expect("write");
        std::fs::write(&torn, "half").expect("write");
        let before = BTreeSet::from(["old.cache".to_owned()]);
        files::write_json(&dir.path().join(".sealbus.making"), &Note { before }).expect("note");

        let mut runs = 0;
        for _ in 0..2 {
            ensure_in(dir.path(), SealProof::StackedDrg2KiBV1_1, &mut || {
                runs += 1;
                assert!(!torn.exists() && old.exists());
                std::fs::write(&torn, "whole").map_err(|error| StageError::io("write", &torn, &error))
            })
            .expect("made");
        }
        assert_eq!(runs, 1);
        assert_eq!(std::fs::read_to_string(&torn).expect("read"), "whole");

        std::fs::remove_file(&torn).expect("remove");
        ensure_in(dir.path(), SealProof::StackedDrg2KiBV1_1, &mut || {
            runs += 1;
            Ok(())
        })
        .expect("made");
        assert_eq!(runs, 2, "a cache that a person removed is made again under the lock");
    }
}
