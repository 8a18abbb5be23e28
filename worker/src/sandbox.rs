//! What a processor may touch.
//!
//! A processor runs code that is not ours: the proofs library, or somebody's executable. It runs as the worker's user,
//! so file permissions do not keep it from the worker's key, from other sectors or from the permanent store. Landlock
//! does, without root: the process that becomes the processor ([`crate::bind::exec`]) first gives up everything that
//! [`Rules`] do not name. What it gave up, it and its children never get back.
//!
//! So a process is confined to one sector's directory, and is replaced when its processor gets another sector
//! ([`Sandbox::places`]). Some are [shared](Sandbox::is_shared) by sectors and may touch all slots: those of C2, which often
//! keeps its parameters in memory and only reads there, those that work on several requests at once, and those that the
//! configuration says to keep.
//! [`rules`] decides what each stage needs, and [`enforce`](mod@enforce) is the kernel's part.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::Deserialize;

pub mod enforce;
pub mod rules;

pub use enforce::{Kernel, Refused, enforce, kernel};

/// Whether processors are confined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// They may do what the worker may.
    Off,
    /// They are, as far as the kernel can.
    #[default]
    BestEffort,
    /// They are, or the worker does not start.
    Required,
}

impl Mode {
    /// Whether the worker may start on this kernel.
    ///
    /// # Errors
    /// [`Refused::Kernel`] if processors must be confined and cannot be.
    pub const fn admit(self, kernel: Kernel) -> Result<(), Refused> {
        match self {
            Mode::Required if !kernel.confines() => Err(Refused::Kernel(kernel)),
            _ => Ok(()),
        }
    }

    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Off => "off",
            Mode::BestEffort => "best_effort",
            Mode::Required => "required",
        }
    }
}

/// What the processes of a group may touch, besides the system's files and their temporary directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Whether a process must not run unconfined.
    pub required: bool,
    /// Files and directories to read and execute.
    pub read: Vec<PathBuf>,
    /// Directories to read, with what links in them lead to. No processor may write there.
    pub follow: Vec<PathBuf>,
    /// Files and directories to change.
    pub write: Vec<PathBuf>,
    /// Directories to change that processors share, and that are created if necessary.
    pub common: Vec<Common>,
    /// The permanent store, in which files get names. What has a name there can be neither changed nor removed.
    pub store: Option<PathBuf>,
    /// The slots of which a process may touch everything, if sectors share it.
    pub shared_slots: Option<Vec<PathBuf>>,
    /// Whether the sector's directory (or the shared slots) may be changed, or only read.
    pub changes_sector: bool,
    /// Whether TCP connections are allowed.
    pub network: bool,
}

/// A directory that processors share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Common {
    /// The directory. It is created if its parent exists.
    pub dir: PathBuf,
    /// A file without which its parent is not what it should be: a disk that is not mounted, probably.
    pub beside: Option<&'static str>,
}

/// What a process may touch, in full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whether the process must not run unconfined.
    pub required: bool,
    /// What may be read and executed.
    pub read: Vec<PathBuf>,
    /// Directories that may be read, with what links in them lead to.
    pub follow: Vec<PathBuf>,
    /// What may be changed.
    pub write: Vec<PathBuf>,
    /// Directories in which files can get names, and keep them.
    pub add: Vec<PathBuf>,
    /// Whether TCP connections are allowed.
    pub network: bool,
}

/// The directory of a store in which files are written before they get their final place.
pub const INCOMING: &str = ".incoming";

/// Paths with the device and inode that they lead to; `None` if they lead nowhere.
///
/// The kernel allows a process what these were when it started. If a disk was mounted since then, the process cannot
/// touch it, and must be replaced.
pub type Places = BTreeMap<PathBuf, Option<(u64, u64)>>;

impl Sandbox {
    /// Whether a process is kept for other sectors.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.shared_slots.is_some()
    }

    /// Everything that a process for the sector in `sector_dir` depends on. Touches the disks.
    #[must_use]
    pub fn places(&self, sector_dir: Option<&Path>) -> Places {
        let common = self.common.iter().map(|common| &common.dir);
        let own = self.read.iter().chain(&self.follow).chain(&self.write).chain(common).chain(&self.store);
        let sector: Vec<&Path> = match (&self.shared_slots, sector_dir) {
            (Some(slots), Some(dir)) => {
                slots.iter().map(PathBuf::as_path).filter(|slot| dir.starts_with(slot)).collect()
            }
            (Some(slots), None) => slots.iter().map(PathBuf::as_path).collect(),
            (None, dir) => dir.into_iter().collect(),
        };
        own.map(PathBuf::as_path).chain(sector).map(|path| (path.to_owned(), place(path))).collect()
    }

    /// Creates what the process cannot create itself. Touches the disks.
    pub fn prepare(&self) {
        for Common { dir, beside } in &self.common {
            if beside.is_some_and(|file| !dir.with_file_name(file).is_file()) {
                continue;
            }
            match fs::create_dir(dir) {
                Ok(()) => tracing::debug!(dir = %dir.display(), "created for the processors"),
                // If it is missing now, the processor says so when it needs it.
                Err(error) => tracing::trace!(dir = %dir.display(), %error, "not created"),
            }
        }
    }

    /// The rules for a process that works on the sector in `sector_dir`.
    #[must_use]
    pub fn rules(&self, sector_dir: Option<&Path>, tmp_dir: &Path) -> Rules {
        let mut rules = Rules {
            required: self.required,
            read: self.read.clone(),
            follow: self.follow.clone(),
            write: self.write.iter().chain(self.common.iter().map(|common| &common.dir)).cloned().collect(),
            add: self.store.iter().cloned().collect(),
            network: self.network,
        };
        let sectors = match (&self.shared_slots, sector_dir) {
            (Some(slots), _) => slots.clone(),
            (None, dir) => dir.into_iter().map(Path::to_owned).collect(),
        };
        if self.changes_sector { &mut rules.write } else { &mut rules.read }.extend(sectors);
        rules.write.push(tmp_dir.to_owned());
        rules
    }
}

impl Rules {
    /// The rules as arguments of `sealbus-worker exec-bound`.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        let Self { required, read, follow, write, add, network } = self;
        let mut arguments: Vec<OsString> = vec!["--sandbox".into()];
        let mode = if *required { Mode::Required } else { Mode::BestEffort };
        arguments.push(mode.name().into());
        for (option, paths) in [("--read", read), ("--follow", follow), ("--write", write), ("--add", add)] {
            arguments.extend(paths.iter().flat_map(|path| [OsString::from(option), path.into()]));
        }
        if *network {
            arguments.push("--network".into());
        }
        arguments
    }
}

fn place(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}
