//! What the system's files tell and hwloc does not: what the worker was given, free huge pages, cards, disks.
//!
//! All files are read below a root, so that made-up trees take their place in tests.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

mod cards;
mod cgroup;
mod disks;
mod given;
mod huge_pages;

pub use cards::SystemCard;
pub use given::Given;

/// A file of the system that cannot be read or understood.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It lacks a line.
    #[error("{} has no line {field}", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
        /// The line's name.
        field: &'static str,
    },
    /// It has something else than a list of numbers.
    #[error("{} has a line {field} that cannot be read", path.display())]
    List {
        /// Which.
        path: PathBuf,
        /// The line's name.
        field: &'static str,
        /// What is wrong.
        #[source]
        source: super::cpu_set::CpuSetError,
    },
}

/// The files of a system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    root: PathBuf,
}

impl Default for System {
    fn default() -> Self {
        Self::below("/")
    }
}

impl System {
    /// The files below `root`: `/`, or a made-up tree.
    #[must_use]
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// A path below the root.
    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// The text of a file without the white space around it; nothing where there is no such file.
fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The number in a file.
fn number(path: &Path) -> Option<u64> {
    text(path)?.parse().ok()
}

/// The names in a directory, sorted; none where there is no such directory.
fn names(path: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The node of a device; the kernel says -1 where it does not know.
fn numa_node(device: &Path) -> Option<u32> {
    text(&device.join("numa_node"))?.parse().ok()
}

/// Whether a name is a PCI address: `0000:41:00.0`.
fn is_pci_address(name: &str) -> bool {
    let hexadecimal = |part: &str, length: usize| part.len() >= length && part.bytes().all(|it| it.is_ascii_hexdigit());
    let parts: Vec<&str> = name.split([':', '.']).collect();
    name.matches(':').count() == 2
        && matches!(parts[..], [domain, bus, slot, function]
            if hexadecimal(domain, 4) && hexadecimal(bus, 2) && hexadecimal(slot, 2) && hexadecimal(function, 1))
}
