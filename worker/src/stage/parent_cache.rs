//! Creates the library's cache of the graph's parents, so that a killed run leaves no partial one behind.
//!
//! The library writes the cache (56 GiB for 32 GiB sectors) under its final name and with its full length from the
//! start, and takes any file of that length for a complete one. If it were killed half way, every later PC1 on the
//! machine would use wrong parents. So the first run for a proof type creates the cache here, under a lock. Before that
//! it writes a note that lists the caches that existed. If a note is found later, its writer was killed, and caches
//! that it does not list are removed.
//!
//! Every cache, whoever made it, is read from disk once and compared with the digest that the library publishes. A good
//! cache is remembered with its size and timestamps, and read again when these change.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use filecoin_proofs::parameters::public_params;
use filecoin_proofs::types::MerkleTreeTrait;
use filecoin_proofs::with_shape;
use rustix::fs::Advice;
use sealbus_schema::{SealProof, SectorSize};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use storage_proofs_core::settings::SETTINGS;
use storage_proofs_core::util::NODE_SIZE;

use super::{StageCode, StageError, files, lock, sector};

/// How long another processor may take to create or check the cache.
const MAKING_MAX: Duration = Duration::from_secs(2 * 3600);
const BUFFER: usize = 1 << 20;
/// The part that the names of all the library's parent caches share.
const NAME_PART: &str = "-sdr-parent-";
/// The bytes of a node in the cache: its 14 parents as 32-bit numbers.
const PARENTS_BYTES: u64 = 14 * 4;

/// The caches that existed when a run began to create one.
#[derive(Serialize, Deserialize)]
struct Note {
    before: BTreeSet<String>,
}

/// The cache of a proof type, with its metadata at the time of the full check.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ready {
    name: String,
    stamp: Stamp,
}

/// A complete cache. Two values are equal if the file was not written to in between.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parents(Ready);

/// The metadata that changes when a file is written to or replaced.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    inode: u64,
    modified_secs: i64,
    modified_nanos: i64,
}

/// The library's description of a proof type's cache. The library creates it if it does not exist.
struct Cache {
    path: PathBuf,
    /// The published SHA-256 of the file in hexadecimal, if there is one.
    digest: Option<String>,
}

/// Makes sure that the parent cache of `proof` is complete, in the directory named by this process's environment.
///
/// # Errors
/// [`StageCode::IoTimedOut`] if another processor holds the lock for too long; [`StageCode::IoFailed`] if a new cache
/// has the wrong digest; errors of the library and the file system.
pub(super) fn ensure(proof: SealProof) -> Result<Parents, StageError> {
    ensure_in(&PathBuf::from(&SETTINGS.parent_cache), proof, &mut || open_or_generate(proof))
}

fn ensure_in(
    dir: &Path,
    proof: SealProof,
    open_or_generate: &mut dyn FnMut() -> Result<Cache, StageError>,
) -> Result<Parents, StageError> {
    let ready = dir.join(format!(".sealbus-{}.ready", proof.sector_size().bytes()));
    if let Some(found) = found_ready(dir, &ready)? {
        return Ok(Parents(found));
    }
    files::create_dirs(dir)?;
    let _held = lock::hold(&dir.join(".sealbus.lock"), MAKING_MAX)?;
    // Another processor may have created the cache while this one waited for the lock.
    if let Some(found) = found_ready(dir, &ready)? {
        return Ok(Parents(found));
    }
    let note = dir.join(".sealbus.making");
    if let Some(Note { before }) = files::read_json(&note)? {
        for torn in caches(dir)?.difference(&before) {
            tracing::warn!(cache = %torn, "removing a parent cache whose writer was killed");
            files::remove_tree(&dir.join(torn))?;
        }
    }
    remove_cut_off(dir)?;
    let before = caches(dir)?;
    // Written before the library begins: whatever it leaves behind if killed is then known to be incomplete.
    files::write_json(&note, &Note { before: before.clone() })?;
    let cache = whole_cache(&before, open_or_generate)?;
    let found = Ready { name: files::name_of(&cache), stamp: stamp(&cache)? };
    files::write_json(&ready, &found)?;
    // Removed last. Without the note, an incomplete cache would count as complete.
    files::remove_tree(&note)?;
    Ok(Parents(found))
}

/// Removes caches whose length belongs to no sector size. The library would refuse a truncated one for ever.
fn remove_cut_off(dir: &Path) -> Result<(), StageError> {
    let whole = SectorSize::ALL.map(|size| size.bytes() / NODE_SIZE as u64 * PARENTS_BYTES);
    for name in caches(dir)?.iter().filter(|name| name.contains(NAME_PART)) {
        let path = dir.join(name);
        if files::size_of(&path)?.is_some_and(|bytes| !whole.contains(&bytes)) {
            tracing::warn!(cache = %name, "removing a parent cache that is truncated");
            files::remove_tree(&path)?;
        }
    }
    Ok(())
}

/// A cache that is durable and has its digest. If an existing one is wrong, it is created again.
fn whole_cache(
    before: &BTreeSet<String>,
    open_or_generate: &mut dyn FnMut() -> Result<Cache, StageError>,
) -> Result<PathBuf, StageError> {
    let Cache { path, digest } = open_or_generate()?;
    if !before.contains(&files::name_of(&path)) {
        return confirm(path, digest.as_deref());
    }
    match confirm(path.clone(), digest.as_deref()) {
        Err(error) if error.code == StageCode::ChecksumMismatch => {
            tracing::warn!(%error, "creating a parent cache again");
            files::remove_tree(&path)?;
            let Cache { path, digest } = open_or_generate()?;
            confirm(path, digest.as_deref())
        }
        confirmed => confirmed,
    }
}

fn confirm(path: PathBuf, digest: Option<&str>) -> Result<PathBuf, StageError> {
    files::sync_file(&path)?;
    let Some(published) = digest else { return Ok(path) };
    tracing::info!(cache = %path.display(), "comparing the parent cache with its published digest");
    let found = sha256(&path).map_err(|error| StageError::io("read", &path, &error))?;
    if found == published {
        return Ok(path);
    }
    let message = format!("parent cache {} has the SHA-256 {found}, published is {published}", path.display());
    Err(StageError::new(StageCode::ChecksumMismatch, message))
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    // Drops the page cache, so that what is hashed comes from the disk. Only advice: failure is ignored.
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..length]);
    }
}

fn found_ready(dir: &Path, ready: &Path) -> Result<Option<Ready>, StageError> {
    let Some(remembered) = files::read_json::<Ready>(ready)? else { return Ok(None) };
    let cache = dir.join(&remembered.name);
    if files::size_of(&cache)?.is_none() {
        return Ok(None);
    }
    Ok((stamp(&cache)? == remembered.stamp).then_some(remembered))
}

fn stamp(path: &Path) -> Result<Stamp, StageError> {
    let found = fs::metadata(path).map_err(|error| StageError::io("look at", path, &error))?;
    Ok(Stamp {
        bytes: found.len(),
        inode: found.ino(),
        modified_secs: found.mtime(),
        modified_nanos: found.mtime_nsec(),
    })
}

fn caches(dir: &Path) -> Result<BTreeSet<String>, StageError> {
    let names = files::list(dir)?.into_iter().map(|path| files::name_of(&path));
    Ok(names.filter(|name| name.ends_with(".cache")).collect())
}

fn open_or_generate(proof: SealProof) -> Result<Cache, StageError> {
    fn shaped<Tree: 'static + MerkleTreeTrait>(proof: SealProof) -> anyhow::Result<Cache> {
        let cache = public_params::<Tree>(&sector::registered(proof).as_v1_config())?.graph.parent_cache()?;
        // If its own verification is off, the library returns the published digest, or an empty string.
        let digest = Some(cache.digest).filter(|digest| !digest.is_empty());
        Ok(Cache { path: cache.path, digest })
    }
    with_shape!(proof.sector_size().bytes(), shaped, proof)
        .map_err(|error| StageError::library("make the parent cache", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: SealProof = SealProof::StackedDrg2KiBV1_1;

    /// A fake library: it creates the cache `name` if it does not exist, and counts how often it did.
    fn library<'a>(
        dir: &'a Path,
        digest: &'a str,
        made: &'a mut usize,
    ) -> impl FnMut() -> Result<Cache, StageError> + 'a {
        move || {
            let path = dir.join("graph.cache");
            if !path.exists() {
                *made += 1;
                fs::write(&path, "whole").map_err(|error| StageError::io("write", &path, &error))?;
            }
            Ok(Cache { path, digest: Some(digest.to_owned()) })
        }
    }

    fn digest_of(text: &str) -> String {
        hex::encode(Sha256::digest(text))
    }

    #[test]
    fn a_cache_whose_maker_was_killed_is_made_again() {
        let dir = tempfile::tempdir().expect("directory");
        let (old, torn) = (dir.path().join("old.cache"), dir.path().join("graph.cache"));
        fs::write(&old, "of others").expect("write");
        fs::write(&torn, "half").expect("write");
        let before = BTreeSet::from(["old.cache".to_owned()]);
        files::write_json(&dir.path().join(".sealbus.making"), &Note { before }).expect("note");

        let (digest, mut made) = (digest_of("whole"), 0);
        for _ in 0..2 {
            ensure_in(dir.path(), SIZE, &mut library(dir.path(), &digest, &mut made)).expect("made");
        }
        assert_eq!((made, fs::read_to_string(&torn).expect("read").as_str()), (1, "whole"));
        assert_eq!(fs::read_to_string(&old).expect("read"), "of others");

        fs::remove_file(&torn).expect("remove");
        ensure_in(dir.path(), SIZE, &mut library(dir.path(), &digest, &mut made)).expect("made");
        assert_eq!(made, 2, "a cache that a person removed is made again under the lock");
    }

    #[test]
    fn a_cache_of_somebody_else_is_compared_with_the_published_digest_and_made_again_if_it_differs() {
        let dir = tempfile::tempdir().expect("directory");
        let cache = dir.path().join("graph.cache");
        fs::write(&cache, "other").expect("write");
        let (digest, mut made) = (digest_of("whole"), 0);
        ensure_in(dir.path(), SIZE, &mut library(dir.path(), &digest, &mut made)).expect("made");
        assert_eq!((made, fs::read_to_string(&cache).expect("read").as_str()), (1, "whole"));

        fs::write(&cache, "wrong").expect("write");
        let later = fs::metadata(&cache).expect("file").modified().expect("time") + Duration::from_secs(1);
        File::options().write(true).open(&cache).and_then(|file| file.set_modified(later)).expect("time");
        ensure_in(dir.path(), SIZE, &mut library(dir.path(), &digest, &mut made)).expect("made");
        assert_eq!((made, fs::read_to_string(&cache).expect("read").as_str()), (2, "whole"));
    }

    #[test]
    fn a_new_cache_without_its_digest_is_an_error_and_is_never_taken_for_ready() {
        let dir = tempfile::tempdir().expect("directory");
        let (digest, mut made) = (digest_of("another"), 0);
        for _ in 0..2 {
            let error = ensure_in(dir.path(), SIZE, &mut library(dir.path(), &digest, &mut made)).expect_err("refused");
            assert_eq!(error.code, StageCode::ChecksumMismatch);
            assert!(error.message.contains("published"), "{error}");
        }
        assert_eq!(made, 2, "each try makes it anew");
    }

    #[test]
    fn a_cache_that_is_cut_off_is_removed_before_the_library_sees_it_and_others_are_left_alone() {
        let dir = tempfile::tempdir().expect("directory");
        let write = |name: &str, bytes: usize| fs::write(dir.path().join(name), vec![0; bytes]).expect("write");
        write("v28-sdr-parent-aa.cache", 1000);
        write("v28-sdr-parent-bb.cache", 64 * 56);
        write("mine.cache", 1000);
        let digest = digest_of("whole");
        ensure_in(dir.path(), SIZE, &mut library(dir.path(), &digest, &mut 0)).expect("made");
        let left: Vec<String> = caches(dir.path()).expect("list").into_iter().collect();
        assert_eq!(left, ["graph.cache", "mine.cache", "v28-sdr-parent-bb.cache"]);
    }

    #[test]
    fn what_was_found_whole_is_not_read_again_until_it_changes() {
        let dir = tempfile::tempdir().expect("directory");
        let (digest, mut made) = (digest_of("whole"), 0);
        ensure_in(dir.path(), SIZE, &mut library(dir.path(), &digest, &mut made)).expect("made");
        ensure_in(dir.path(), SIZE, &mut || panic!("the library is not asked again")).expect("remembered");
    }
}
