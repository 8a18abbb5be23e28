//! Secret files: read completely, never shown.
//!
//! In the place of a path the configurations may name a [credential](https://systemd.io/CREDENTIALS/):
//! `credential:worker.nk` is what the unit's `LoadCredential=worker.nk:…` has given to this process. The file that it comes
//! from can then belong to root.

use std::{
    borrow::Cow,
    ffi::OsStr,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// The largest file, in bytes: more than any key, token, or password.
const MAX_BYTES: u64 = 64 << 10;

/// What a credential's name begins with in a configuration.
const CREDENTIAL: &str = "credential:";
/// The variable by which systemd tells where a unit's credentials are.
const DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// The path of a secret that a configuration in the directory `base` names. A credential is left as it is.
pub fn absolute(base: &Path, path: &Path) -> PathBuf {
    if credential(path).is_some() { path.to_owned() } else { base.join(path) }
}

/// The name of a credential; `None` for the path of a file.
fn credential(path: &Path) -> Option<&str> {
    path.to_str()?.strip_prefix(CREDENTIAL)
}

/// Where a secret that a configuration names is now.
///
/// # Errors
/// If it is a credential, and this process has none.
pub fn locate(path: &Path) -> io::Result<Cow<'_, Path>> {
    located(path, std::env::var_os(DIRECTORY).as_deref())
}

/// Where a secret is. `directory` is that of the unit's credentials, if it has any.
fn located<'a>(path: &'a Path, directory: Option<&OsStr>) -> io::Result<Cow<'a, Path>> {
    let Some(name) = credential(path) else { return Ok(path.into()) };
    if name.is_empty() || name.contains('/') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a credential has a name, not a path"));
    }
    match directory {
        Some(directory) => Ok(Path::new(directory).join(name).into()),
        None => {
            let problem = format!("{DIRECTORY} is not set: only a unit with LoadCredential={name}:… has it");
            Err(io::Error::new(io::ErrorKind::NotFound, problem))
        }
    }
}

/// Reads a file with one secret. Strips what editors leave: a byte order mark, and white space around the secret.
pub fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(locate(path)?)?;
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
    let mode = std::fs::metadata(locate(path).ok()?).ok()?.permissions().mode() & 0o777;
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
    fn a_credential_is_found_where_the_unit_has_it_and_told_where_there_is_none() {
        let named = Path::new("credential:worker.nk");
        let at = located(named, Some("/run/credentials/w".as_ref())).expect("there");
        assert_eq!(&*at, Path::new("/run/credentials/w/worker.nk"));
        let missing = located(named, None).expect_err("no unit").to_string();
        assert!(missing.contains("LoadCredential=worker.nk"), "{missing}");
        for wrong in ["credential:", "credential:../shadow"] {
            located(Path::new(wrong), Some("/run".as_ref())).expect_err(wrong);
        }
        assert_eq!(&*located(Path::new("/etc/key"), None).expect("a path"), Path::new("/etc/key"));
        let base = Path::new("/etc/sealbus");
        assert_eq!(absolute(base, named), named);
        assert_eq!(absolute(base, Path::new("worker.nk")), Path::new("/etc/sealbus/worker.nk"));
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
