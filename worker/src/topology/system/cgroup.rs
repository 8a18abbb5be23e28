//! The memory limit of the worker's cgroup, for both cgroup versions.

use std::path::{Component, Path, PathBuf};

use super::{System, text};

/// Without a limit, version 1 shows the largest multiple of the page size. Anything above this counts as no limit.
const UNLIMITED_V1: u64 = 1 << 62;

impl System {
    /// The lowest memory limit of this process's cgroup and its ancestors, in bytes.
    #[must_use]
    pub fn memory_max(&self) -> Option<u64> {
        let memberships = text(&self.path("proc/self/cgroup"))?;
        let mounts = text(&self.path("proc/self/mountinfo"))?;
        memberships.lines().flat_map(|line| self.limits(line, &mounts)).min()
    }

    /// The limits from a membership's cgroup up to the mount point. A membership is `0::/a/b` or `4:memory:/a/b`.
    fn limits(&self, membership: &str, mounts: &str) -> Vec<u64> {
        let mut fields = membership.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { return Vec::new() };
        let file = match controllers {
            "" => "memory.max",
            _ if controllers.split(',').any(|it| it == "memory") => "memory.limit_in_bytes",
            _ => return Vec::new(),
        };
        let Some((mounted, top)) = mounts.lines().find_map(|line| mount(line, controllers.is_empty())) else {
            return Vec::new();
        };
        // The mount may start below the top of the hierarchy. In a container the path may also point outside of it.
        let below = Path::new(path).strip_prefix(&mounted).unwrap_or(Path::new(""));
        let below = if below.components().all(|it| matches!(it, Component::Normal(_))) { below } else { Path::new("") };
        let limit = |group: &Path| text(&self.path(top.join(group)).join(file))?.parse::<u64>().ok();
        below.ancestors().filter_map(limit).filter(|bytes| *bytes < UNLIMITED_V1).collect()
    }
}

/// The root and mount point in a line of `mountinfo`, if it mounts the wanted hierarchy.
fn mount(line: &str, version_2: bool) -> Option<(PathBuf, PathBuf)> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (mounted, top) = (mount.next()?, mount.next()?);
    let mut kind = kind.split(' ');
    let (name, options) = (kind.next()?, kind.nth(1)?);
    let wanted = match name {
        "cgroup2" => version_2,
        "cgroup" => !version_2 && options.split(',').any(|option| option == "memory"),
        _ => false,
    };
    wanted.then(|| (mounted.into(), top.into()))
}
