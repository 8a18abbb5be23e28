//! Secret files: read completely, never shown.

use std::{
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
};

/// The largest file, in bytes: more than any key, token, or password.
const MAX_BYTES: u64 = 64 << 10;

/// Reads a file with one secret. Strips what editors leave: a byte order mark, and white space around the secret.
pub fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|error| match error.kind() {
        // This replaces the standard library's message, which gives a byte position.
        io::ErrorKind::InvalidData => io::Error::new(io::ErrorKind::InvalidData, "it is not text"),
        _ => error,
    })?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is larger than {MAX_BYTES} bytes")));
    }
    Ok(text.trim_start_matches('\u{feff}').trim().to_owned())
}

/// What is wrong with a file's permissions, and how to fix it. `None` if they are safe or cannot be read.
pub fn exposed(path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    let may = match (mode & 0o004 != 0, mode & 0o002 != 0) {
        (false, false) => return None,
        (true, false) => "read",
        (false, true) => "write",
        (true, true) => "read and write",
    };
    Some(format!("everybody on this machine can {may} {} (mode {mode:04o}): chmod 600 it", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    #[test]
    fn what_editors_leave_around_a_secret_is_no_part_of_it() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("token");
        fs::write(&path, "\u{feff}abc.def\r\n\n").expect("writes");
        assert_eq!(read(&path).expect("reads"), "abc.def");
    }

    #[test]
    fn no_secret_is_a_directory_or_endless_or_not_text() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("token");
        assert!(read(directory.path()).is_err());
        assert!(read(Path::new("/dev/zero")).is_err());
        fs::write(&path, [0xff, 0xfe, b'S']).expect("writes");
        assert_eq!(read(&path).expect_err("not text").to_string(), "it is not text");
        fs::write(&path, vec![b'a'; 70_000]).expect("writes");
        assert!(read(&path).is_err());
    }

    #[test]
    fn a_secret_that_everybody_can_read_is_told_with_what_to_do() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("seed");
        fs::write(&path, "x").expect("writes");
        for (mode, told) in [(0o600, false), (0o640, false), (0o644, true), (0o602, true)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("sets the mode");
            assert_eq!(exposed(&path).is_some_and(|words| words.contains("chmod 600")), told, "{mode:o}");
        }
    }
}
