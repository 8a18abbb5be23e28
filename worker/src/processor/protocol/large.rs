//! Values that are too large for a line travel as files in the child's private `TMPDIR`.
//!
//! A path from a child is not trusted. Only a regular file directly in that directory is opened, without following
//! links, and at most the size limit is read. The reader of an output removes its file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use serde_json::Value;

use crate::stage::Json;

/// A value of more bytes than this is put into a file, if the other side supports that.
pub const LINE_BYTES: usize = 1 << 20;

/// Writes a value to a file `name` in `dir`, replacing whatever has that name.
///
/// # Errors
/// [`io::Error`] from the file system. No file is left behind then.
pub fn write(dir: &Path, name: &str, value: &Json) -> io::Result<PathBuf> {
    let path = dir.join(name);
    // Removed, not overwritten, because it may be a link to another file.
    remove(&path);
    let written = File::create_new(&path).and_then(|mut file| file.write_all(value.as_bytes()));
    if let Err(error) = written {
        remove(&path);
        return Err(error);
    }
    Ok(path)
}

/// Reads and removes the JSON file that a child's message names.
///
/// # Errors
/// What is wrong with the path or the file, for people.
pub fn take(dir: &Path, path: &Path, bytes_max: u64) -> Result<Value, String> {
    let refused = |reason: String| format!("{}: {reason}", path.display());
    let name = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if parent == dir => name,
        _ => return Err(refused(format!("not directly in {}", dir.display()))),
    };
    let of_system = |error: rustix::io::Errno| refused(io::Error::from(error).to_string());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(CWD, dir, flags, Mode::empty()).map_err(of_system)?;
    // A pipe in the file's place must not block us, and a link must not lead elsewhere.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&dir, name, flags, Mode::empty()).map_err(of_system)?;
    let found = rustix::fs::fstat(&file).map_err(of_system)?;
    let size = u64::try_from(found.st_size).unwrap_or(u64::MAX);
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(refused("no plain file".to_owned()));
    }
    if size > bytes_max {
        return Err(refused(format!("{size} bytes are more than {bytes_max}")));
    }
    let mut json = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    let read = File::from(file).take(bytes_max).read_to_end(&mut json);
    let _ = rustix::fs::unlinkat(&dir, name, AtFlags::empty());
    read.map_err(|error| refused(error.to_string()))?;
    serde_json::from_slice(&json).map_err(|error| refused(format!("no JSON: {error}")))
}

/// Removes a file if it exists.
pub fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove a temporary file");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_goes_through_a_file_which_is_gone_afterwards() {
        let dir = tempfile::tempdir().expect("directory");
        let value = serde_json::json!({"x": 1});
        write(dir.path(), "output-1.json", &Json::of(&"left by somebody").expect("json")).expect("written");
        let path = write(dir.path(), "output-1.json", &Json::of(&value).expect("json")).expect("written");
        assert_eq!(take(dir.path(), &path, 100).expect("value"), value);
        assert!(!path.exists());
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        let dir = tempfile::tempdir().expect("directory");
        let (tmp, secret) = (dir.path().join("tmp"), dir.path().join("secret"));
        std::fs::create_dir(&tmp).expect("directory");
        std::fs::write(&secret, "\"secret\"").expect("written");
        std::os::unix::fs::symlink(&secret, tmp.join("link")).expect("link");
        std::os::unix::fs::symlink(dir.path(), tmp.join("up")).expect("link");
        std::fs::create_dir(tmp.join("dir")).expect("directory");
        std::fs::write(tmp.join("big"), vec![b' '; 101]).expect("written");
        for path in [
            secret.clone(),
            tmp.join("link"),
            tmp.join("up/secret"),
            tmp.join("../secret"),
            tmp.join("dir"),
            tmp.join("big"),
            tmp.join("missing"),
            "secret".into(),
            "".into(),
        ] {
            take(&tmp, &path, 100).expect_err("refused");
        }
        assert!(secret.exists());
    }

    #[test]
    fn a_pipe_in_the_place_of_the_file_holds_nobody_up() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("pipe");
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("pipe");
        take(dir.path(), &path, 100).expect_err("refused");
    }
}
