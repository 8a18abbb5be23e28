//! How full disks are, without waiting for a disk that does not answer.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Directories that are looked at.
pub struct Disks {
    roots: Vec<Root>,
}

/// The space of the file system that has a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// The bytes that this user may still write.
    pub free: u64,
    /// All its bytes.
    pub size: u64,
}

struct Root {
    name: String,
    path: PathBuf,
    space: Arc<Mutex<Option<Space>>>,
    asked: Arc<AtomicBool>,
}

impl Disks {
    /// These directories, each with the name under which it is shown.
    pub fn new(roots: impl IntoIterator<Item = (String, PathBuf)>) -> Disks {
        let root = |(name, path)| Root { name, path, space: Arc::default(), asked: Arc::default() };
        Disks { roots: roots.into_iter().map(root).collect() }
    }

    /// What the last look has found, and begins the next one. A disk that has not answered is left out, and not asked
    /// again until it does: it occupies one thread, whatever happens.
    pub fn look(&self) -> Vec<(&str, Space)> {
        let mut found = Vec::new();
        for Root { name, path, space, asked } in &self.roots {
            if asked.swap(true, Ordering::AcqRel) {
                continue;
            }
            found.extend(take(space).map(|space| (name.as_str(), space)));
            let (path, space, answered) = (path.clone(), Arc::clone(space), Arc::clone(asked));
            // Not one of the runtime's threads, because the program's end would wait for it.
            let measuring = std::thread::Builder::new().name("disk".to_owned()).spawn(move || {
                *space.lock().unwrap_or_else(PoisonError::into_inner) = measure(&path);
                answered.store(false, Ordering::Release);
            });
            if measuring.is_err() {
                asked.store(false, Ordering::Release);
            }
        }
        found
    }
}

fn take(space: &Mutex<Option<Space>>) -> Option<Space> {
    *space.lock().unwrap_or_else(PoisonError::into_inner)
}

fn measure(path: &std::path::Path) -> Option<Space> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(Space { free: found.f_bavail * found.f_frsize, size: found.f_blocks * found.f_frsize })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_there_is_measured_and_one_that_is_not_is_left_out() {
        let directory = tempfile::tempdir().expect("a directory");
        let there = ("there".to_owned(), directory.path().to_owned());
        let disks = Disks::new([there, ("gone".to_owned(), directory.path().join("gone"))]);
        assert_eq!(disks.look(), [], "nobody has looked yet");
        let found = loop {
            std::thread::yield_now();
            match disks.look() {
                found if found.is_empty() => {}
                found => break found,
            }
        };
        let [(name, Space { free, size })] = found[..] else { panic!("{found:?}") };
        assert!(name == "there" && free <= size && size > 0);
    }
}
