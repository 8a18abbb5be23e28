//! A lock between processes that is waited for with a time limit.

use std::{
    fs::{File, TryLockError},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{StageCode, StageError};

/// The pause between two attempts to take the lock.
const PAUSE: Duration = Duration::from_millis(100);

/// Locks the file at `path`, creating it if needed. The lock is held as long as the returned file is open. It ends with
/// the process, also when that is killed.
///
/// # Errors
/// [`StageCode::IoTimedOut`] if another process still holds the lock after `limit`; errors of the file system.
pub(super) fn hold(path: &Path, limit: Duration) -> Result<File, StageError> {
    let failed = |error| StageError::io("lock", path, &error);
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) if begun.elapsed() >= limit => {
                let message = format!(
                    "lock {}: another process still holds it after {} s; it makes what this one waits for, or hangs",
                    path.display(),
                    limit.as_secs()
                );
                return Err(StageError::new(StageCode::IoTimedOut, message));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(PAUSE.min(limit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_stays_taken_is_given_up_with_an_error_that_is_worth_a_retry() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("lock");
        let held = hold(&path, Duration::ZERO).expect("free");
        let error = hold(&path, Duration::from_millis(1)).expect_err("taken");
        assert_eq!((error.code, error.class()), (StageCode::IoTimedOut, sealbus_schema::ErrorClass::Temp));
        assert!(error.message.contains("another process still holds it"), "{error}");
        drop(held);
        hold(&path, Duration::ZERO).expect("free again");
    }
}
