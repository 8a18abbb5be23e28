//! Reads files that a person has named, with limits on size and time.

use std::{fs, io, io::Read, path::Path, sync::mpsc, thread, time::Duration};

/// How long reading a pipe or a device may take.
const WAIT: Duration = Duration::from_secs(10);

/// Reads a file of at most `bytes_max` bytes.
///
/// # Errors
/// [`io::Error`] if the file cannot be read or is larger, or if it is a pipe that nobody writes to in time.
pub fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.is_file() {
        return read(path, bytes_max);
    }
    let (tell, told) = mpsc::channel();
    let path = path.to_owned();
    // After a timeout the thread is abandoned, because opening a pipe cannot be interrupted.
    thread::spawn(move || tell.send(read(&path, bytes_max)));
    told.recv_timeout(WAIT).unwrap_or_else(|_| {
        let secs = WAIT.as_secs();
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("it is not a regular file, and did not end within {secs} s"),
        ))
    })
}

fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > bytes_max {
        true => Err(io::Error::other(format!("it has more than {bytes_max} bytes"))),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_or_is_too_large_is_refused() {
        let error = |path: &str, most| read_bounded(Path::new(path), most).expect_err(path).to_string();
        assert_eq!(error("/dev/zero", 1000), "it has more than 1000 bytes");
        assert!(error("/", 1000).contains("directory"));
        assert_eq!(read_bounded(Path::new("/dev/null"), 0).expect("nothing"), b"");
    }
}
