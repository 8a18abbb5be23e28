//! Reads from system files what hwloc does not tell: what the worker may use, free huge pages, GPUs and disks.
//!
//! All paths are relative to a root directory, so that tests can use made-up trees.

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

/// A system file cannot be read or parsed.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A line is missing.
    #[error("{} has no line {field}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The line's name.
        field: &'static str,
    },
    /// A line does not hold a list of numbers.
    #[error("{} has a line {field} that cannot be read", path.display())]
    List {
        /// The file.
        path: PathBuf,
        /// The line's name.
        field: &'static str,
        /// The parse error.
        #[source]
        source: super::cpu_set::CpuSetError,
    },
}

/// The system files below a root directory.
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
    /// The files below `root`, which is `/` or a made-up tree.
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

/// The text of a file without surrounding white space; `None` if it cannot be read.
fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The number in a file.
fn number(path: &Path) -> Option<u64> {
    text(path)?.parse().ok()
}

/// The names in a directory, sorted; empty if it cannot be read.
fn names(path: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The NUMA node of a device; `None` where the kernel says -1 for unknown.
fn numa_node(device: &Path) -> Option<u32> {
    text(&device.join("numa_node"))?.parse().ok()
}

/// Whether a name is a PCI address such as `0000:41:00.0`.
fn is_pci_address(name: &str) -> bool {
    let hexadecimal = |part: &str, length: usize| part.len() >= length && part.bytes().all(|it| it.is_ascii_hexdigit());
    let parts: Vec<&str> = name.split([':', '.']).collect();
    name.matches(':').count() == 2
        && matches!(parts[..], [domain, bus, slot, function]
            if hexadecimal(domain, 4) && hexadecimal(bus, 2) && hexadecimal(slot, 2) && hexadecimal(function, 1))
}
