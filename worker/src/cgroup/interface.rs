//! The files of a group, read and written.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use super::CgroupError;

/// Writes to a file that the kernel has made. One write, because each is an order of its own.
pub(super) fn write(group: &Path, file: &str, value: &str) -> Result<(), CgroupError> {
    let path = group.join(file);
    let written = File::options().write(true).open(&path).and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|source| CgroupError::Io { operation: "write to", path, source })
}

/// The contents, `None` if there is no such file: the controller is not there, or the kernel is older.
pub(super) fn read(group: &Path, file: &str) -> Result<Option<String>, CgroupError> {
    let path = group.join(file);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CgroupError::Io { operation: "read", path, source }),
    }
}

/// A file that holds one number.
pub(super) fn number(group: &Path, file: &str) -> Result<Option<u64>, CgroupError> {
    Ok(read(group, file)?.and_then(|text| text.trim().parse().ok()))
}

/// The number after `key` in a file of keys and numbers.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The processes of a group alone; none if it is gone.
pub(super) fn pids(group: &Path) -> Result<Vec<u32>, CgroupError> {
    Ok(read(group, "cgroup.procs")?.unwrap_or_default().lines().filter_map(|line| line.trim().parse().ok()).collect())
}

/// The groups in a group; none if it is gone.
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
