//! `params check`: whether a directory holds the right files, byte for byte.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::available_parallelism;

use indicatif::{ProgressBar, ProgressStyle};
use sealbus_params_dir::{
    files::{self, Fingerprint},
    marker::{Marker, MarkerError},
    memory::Memory,
};
use sealbus_schema::SectorSize;
use serde::Serialize;

use super::manifest::{Manifest, ManifestError};
use super::structure;

/// What to check.
#[derive(Clone, Debug)]
pub struct CheckRequest {
    /// The directory with the parameters.
    pub dir: PathBuf,
    /// The sector sizes that the files must serve.
    pub sector_sizes: Vec<SectorSize>,
    /// The files that there should be. A devnet's own files are compared with its marker file instead.
    pub manifest: Manifest,
    /// Whether to read again what an earlier check has read and what has not changed since.
    pub again: bool,
    /// Whether to draw a progress bar on stderr, if that is a terminal.
    pub progress: bool,
}

/// The findings, in the order of the files' names.
#[derive(Debug, Serialize)]
pub struct CheckReport {
    /// The directory.
    pub dir: PathBuf,
    /// Whether the files belong to a devnet: they were made from a trapdoor that somebody knows.
    pub devnet: bool,
    /// All files that there should be.
    pub files: Vec<CheckedFile>,
}

/// One file and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckedFile {
    /// The file's name.
    pub name: String,
    /// What was found.
    pub finding: Finding,
}

/// What a check can find in one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// The file is as it should be.
    Whole {
        /// Whether an earlier check has read it. The file has not changed since.
        remembered: bool,
    },
    /// There is no such file.
    Missing,
    /// The file ends too early.
    Truncated {
        /// The file's size in bytes.
        size: u64,
        /// The least size in bytes that it should have.
        expected: u64,
    },
    /// There are bytes after the file's end.
    TooLong {
        /// The file's size in bytes.
        size: u64,
        /// The size in bytes that it should have.
        expected: u64,
    },
    /// The file has the right length, but not the right content.
    Corrupt {
        /// The file's digest, cut to the length of the published one.
        digest: String,
        /// The published digest.
        expected: String,
    },
    /// The file cannot be read.
    Unreadable {
        /// The system's error message.
        reason: String,
    },
}

/// Why a directory cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// No file in the manifest serves the given sizes.
    #[error(
        "cannot find files for {} sectors in the manifest; give another --sector-size or --manifest",
        list(sector_sizes)
    )]
    NothingNamed {
        /// The requested sector sizes.
        sector_sizes: Vec<SectorSize>,
    },
    /// The manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The directory's marker cannot be read.
    #[error(transparent)]
    Marker(#[from] MarkerError),
}

/// A file that should be there.
struct Expected {
    name: String,
    /// The digest in hexadecimal, or its published prefix.
    digest: String,
    /// The length in bytes, if it is known beforehand.
    size: Option<u64>,
}

impl CheckRequest {
    /// The request that a worker makes when it starts: the official files or a devnet's, for the sizes that it serves,
    /// without progress bars, and reading only what has changed.
    pub fn for_worker(dir: PathBuf, sector_sizes: Vec<SectorSize>) -> Result<Self, CheckError> {
        let manifest = Manifest::official()?;
        Ok(Self { dir, sector_sizes, manifest, again: false, progress: false })
    }
}

impl CheckReport {
    /// The files that are not as they should be.
    pub fn bad(&self) -> impl Iterator<Item = &CheckedFile> {
        self.files.iter().filter(|file| !matches!(file.finding, Finding::Whole { .. }))
    }
}

/// Compares a directory's files with what they should be, several at a time.
///
/// A bad file is part of the report, not an error. Blocks until everything is read. The official files for 32 GiB
/// sectors are more than 100 GiB; they are read once, and the result is remembered in the directory.
pub fn check(request: &CheckRequest) -> Result<CheckReport, CheckError> {
    check_some(request, |_| true)
}

/// [`check`] for the files with some names only.
pub fn check_some(request: &CheckRequest, wanted: impl Fn(&str) -> bool) -> Result<CheckReport, CheckError> {
    let (devnet, mut expected) = expected(request)?;
    expected.retain(|file| wanted(&file.name));
    let memory = Memory::load(&request.dir);
    let bar = progress_bar(request, &expected);

    let count = expected.len();
    let memory = Mutex::new(memory);
    let queue = Mutex::new(VecDeque::from_iter(largest_first(&request.dir, expected)));
    let findings = Mutex::new(Vec::with_capacity(count));
    let threads = available_parallelism().map_or(1, usize::from).min(count);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let next = lock(&queue).pop_front();
                    let Some(expected) = next else { break };
                    let finding = check_file(request, &expected, &memory, &bar);
                    lock(&findings).push(CheckedFile { name: expected.name, finding });
                }
            });
        }
    });
    bar.finish_and_clear();
    lock(&memory).save();
    let mut files = findings.into_inner().unwrap_or_else(PoisonError::into_inner);
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(CheckReport { dir: request.dir.clone(), devnet, files })
}

/// The files that should be there, and whether they belong to a devnet: those in the manifest, or all those in a
/// devnet's marker file.
///
/// Sizes of real networks are never compared with a marker file.
fn expected(request: &CheckRequest) -> Result<(bool, Vec<Expected>), CheckError> {
    let named = request.manifest.files_for(&request.sector_sizes);
    let mut expected: BTreeMap<String, (String, Option<u64>)> =
        named.into_iter().map(|(name, entry)| (name.to_owned(), (entry.digest.clone(), None))).collect();
    let real = request.sector_sizes.iter().any(|size| size.is_of_real_networks());
    let marker = Marker::load(&request.dir)?.filter(|_| !real);
    let devnet = marker.is_some();
    let wanted = |size| size == 0 || request.sector_sizes.iter().any(|one| one.bytes() == size);
    for (name, file) in marker.into_iter().flat_map(|marker| marker.files) {
        if wanted(file.sector_size) {
            expected.insert(name, (file.digest, Some(file.size)));
        }
    }
    if expected.is_empty() {
        return Err(CheckError::NothingNamed { sector_sizes: request.sector_sizes.clone() });
    }
    let expected = expected.into_iter();
    let expected = expected.map(|(name, (digest, size))| Expected { name, digest, size });
    Ok((devnet, expected.collect()))
}

fn check_file(request: &CheckRequest, expected: &Expected, memory: &Mutex<Memory>, bar: &ProgressBar) -> Finding {
    let path = request.dir.join(&expected.name);
    let unreadable = |error: std::io::Error| Finding::Unreadable { reason: error.to_string() };
    let fingerprint = match Fingerprint::of(&path) {
        Ok(Some(fingerprint)) => fingerprint,
        Ok(None) => return Finding::Missing,
        Err(error) => return unreadable(error),
    };
    let size = fingerprint.size;
    // A wrong length is found first, because hashing a file of many gigabytes takes minutes.
    let by_header = match expected.size {
        Some(size) => Ok(Some(size)),
        None => structure::expected_size(&path, &expected.name),
    };
    match by_header {
        Ok(Some(expected)) if size < expected => {
            bar.inc(size);
            return Finding::Truncated { size, expected };
        }
        Ok(Some(expected)) if size > expected => {
            bar.inc(size);
            return Finding::TooLong { size, expected };
        }
        Ok(_) => {}
        Err(error) => return unreadable(error),
    }

    let recalled = || lock(memory).recall(&expected.name, &fingerprint).map(str::to_owned);
    let (digest, remembered) = match (!request.again).then(recalled).flatten() {
        Some(digest) => {
            bar.inc(size);
            (digest, true)
        }
        None => match files::digest(&path, |read| bar.inc(read)) {
            Ok(digest) => {
                lock(memory).remember(&expected.name, fingerprint, digest.clone());
                (digest, false)
            }
            Err(error) => return unreadable(error),
        },
    };
    // The manifest publishes only a prefix of the digest.
    if digest.starts_with(&expected.digest) && !expected.digest.is_empty() {
        Finding::Whole { remembered }
    } else {
        let digest = digest.chars().take(expected.digest.len()).collect();
        Finding::Corrupt { digest, expected: expected.digest.clone() }
    }
}

/// Largest files first, so that no large file is read alone at the end.
fn largest_first(dir: &Path, mut expected: Vec<Expected>) -> Vec<Expected> {
    expected.sort_by_key(|file| std::cmp::Reverse(size(dir, file)));
    expected
}

fn size(dir: &Path, file: &Expected) -> u64 {
    std::fs::metadata(dir.join(&file.name)).map_or(0, |metadata| metadata.len())
}

fn progress_bar(request: &CheckRequest, expected: &[Expected]) -> ProgressBar {
    if !request.progress {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("checking {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} (left: {eta})");
    let total = expected.iter().map(|file| size(&request.dir, file)).sum();
    ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn list(sizes: &[SectorSize]) -> String {
    sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Ignores poisoning: every change under these locks is a single step, so a panic leaves the data consistent.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole { remembered: false } => write!(f, "is whole"),
            Self::Whole { remembered: true } => {
                write!(f, "is whole (as read before; unchanged since)")
            }
            Self::Missing => write!(f, "is missing"),
            Self::Truncated { size, expected } => {
                write!(f, "is truncated: it has {size} bytes and should have at least {expected}")
            }
            Self::TooLong { size, expected } => {
                write!(f, "is too long: it has {size} bytes and should have {expected}")
            }
            Self::Corrupt { digest, expected } => {
                write!(f, "is corrupt: its length is right, its digest is {digest} and should be {expected}")
            }
            Self::Unreadable { reason } => write!(f, "cannot be read: {reason}"),
        }
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for file in &self.files {
            writeln!(f, "{} {}", file.name, file.finding)?;
        }
        let whose = if self.devnet { "a devnet's" } else { "official" };
        let bad = self.bad().count();
        write!(f, "{}: {} files, {whose}; {bad} bad", self.dir.display(), self.files.len())
    }
}
