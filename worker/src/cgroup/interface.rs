//! Reads and writes the interface files of a group.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use super::CgroupError;

/// Writes to an interface file. The value goes out in one `write` call, because the kernel takes each call as a
/// command.
pub(super) fn write(group: &Path, file: &str, value: &str) -> Result<(), CgroupError> {
    let path = group.join(file);
    let written = File::options().write(true).open(&path).and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|source| CgroupError::Io { operation: "write to", path, source })
}

/// The contents of an interface file. `None` if it does not exist: the controller is not enabled, or the kernel is too
/// old.
pub(super) fn read(group: &Path, file: &str) -> Result<Option<String>, CgroupError> {
    let path = group.join(file);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CgroupError::Io { operation: "read", path, source }),
    }
}

/// The number in a file that holds a single one.
pub(super) fn number(group: &Path, file: &str) -> Result<Option<u64>, CgroupError> {
    Ok(read(group, file)?.and_then(|text| text.trim().parse().ok()))
}

/// The number after `key` in a file of `key number` lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The processes of a group without its subgroups; empty if the group is gone.
pub(super) fn pids(group: &Path) -> Result<Vec<u32>, CgroupError> {
    Ok(read(group, "cgroup.procs")?.unwrap_or_default().lines().filter_map(|line| line.trim().parse().ok()).collect())
}

/// The subgroups of a group; empty if the group is gone.
pub(super) fn children(group: &Path) -> Result<Vec<std::path::PathBuf>, CgroupError> {
    let list = || -> io::Result<Vec<_>> {
        let mut dirs = Vec::new();
        for entry in fs::read_dir(group)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                dirs.push(entry.path());
            }
        }
        dirs.sort();
        Ok(dirs)
    };
    match list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(|source| CgroupError::Io { operation: "list", path: group.to_owned(), source }),
    }
}
