//! Where the cgroup hierarchy is mounted, and where in it a process is.

use std::{fs, io, path::Path, path::PathBuf};

/// A process's place in the hierarchy of cgroup v2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where the hierarchy, or the visible part of it, is mounted.
    pub mount: PathBuf,
    /// The directory of the process's group, at or below `mount`.
    pub dir: PathBuf,
}

impl Place {
    /// The place of the calling process, read from `proc_root` (`/proc`).
    ///
    /// `None` if no version 2 hierarchy is mounted, or if the process is outside the visible part.
    ///
    /// # Errors
    /// [`io::Error`] if `proc_root` cannot be read.
    pub fn of_this_process(proc_root: &Path) -> io::Result<Option<Self>> {
        let mounts = fs::read_to_string(proc_root.join("self/mountinfo"))?;
        let groups = fs::read_to_string(proc_root.join("self/cgroup"))?;
        Ok(Self::find(&mounts, &groups))
    }

    /// Parses the contents of `/proc/self/mountinfo` and `/proc/self/cgroup`.
    #[must_use]
    pub fn find(mounts: &str, groups: &str) -> Option<Self> {
        // Version 2 has one line, with hierarchy number 0 and no controller names.
        let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
        mounts.lines().filter_map(parse_mount).find_map(|(root, mount)| {
            let below = Path::new(path).strip_prefix(&root).ok()?;
            // A group above the root of the cgroup namespace is shown with `..`.
            let is_inside = below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
            // Joining an empty path would add a trailing slash.
            let dir = if below.as_os_str().is_empty() { mount.clone() } else { mount.join(below) };
            is_inside.then_some(Self { dir, mount })
        })
    }

    /// Whether the process is in the topmost visible group: the root of the machine or of a container.
    #[must_use]
    pub fn is_top(&self) -> bool {
        self.dir == self.mount
    }
}

/// The root and the mount point of a cgroup v2 line; `None` for other lines.
fn parse_mount(line: &str) -> Option<(PathBuf, PathBuf)> {
    let (before, after) = line.split_once(" - ")?;
    if after.split(' ').next()? != "cgroup2" {
        return None;
    }
    let mut fields = before.split(' ').skip(3);
    Some((unescape(fields.next()?), unescape(fields.next()?)))
}

/// Undoes the kernel's escaping: a blank in a path is written as `\040`, in octal.
fn unescape(text: &str) -> PathBuf {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    PathBuf::from(escapes.iter().fold(text.to_owned(), |text, (code, meant)| text.replace(code, meant)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn found(mounts: &str, groups: &str) -> Option<(String, bool)> {
        Place::find(mounts, groups).map(|place| (place.dir.display().to_string(), place.is_top()))
    }

    #[test]
    fn a_unit_of_systemd_is_found_below_the_mount() {
        let dir = "/sys/fs/cgroup/system.slice/sealbus-worker.service".to_owned();
        assert_eq!(found(UNIFIED, "0::/system.slice/sealbus-worker.service\n"), Some((dir, false)));
    }

    #[test]
    fn a_second_hierarchy_beside_version_1_is_found() {
        let mounts = "25 20 0:21 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      31 20 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(found(mounts, "4:memory:/a\n0::/\n"), Some(("/sys/fs/cgroup/unified".to_owned(), true)));
    }

    #[test]
    fn a_container_that_sees_its_part_alone_is_at_the_top() {
        let mounts = "30 23 0:26 /docker/ab /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(found(mounts, "0::/docker/ab\n"), Some(("/sys/fs/cgroup".to_owned(), true)));
        assert_eq!(found(mounts, "0::/docker/ab/x\n"), Some(("/sys/fs/cgroup/x".to_owned(), false)));
    }

    #[test]
    fn what_cannot_be_seen_is_not_found() {
        assert_eq!(found("", "0::/\n"), None);
        assert_eq!(found(UNIFIED, "4:memory:/a\n"), None);
        assert_eq!(found(UNIFIED, "0::/../other\n"), None);
        assert_eq!(found("30 23 0:26 /docker/ab /sys/fs/cgroup ro - cgroup2 cgroup rw\n", "0::/docker/abc\n"), None);
    }

    #[test]
    fn blanks_in_a_path_are_understood() {
        let mounts = "30 23 0:26 / /odd\\040place rw - cgroup2 cgroup2 rw\n";
        assert_eq!(found(mounts, "0::/w\n"), Some(("/odd place/w".to_owned(), false)));
    }
}
