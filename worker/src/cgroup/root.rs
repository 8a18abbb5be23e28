//! The worker's own part of the cgroup hierarchy.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, FlockOperation, flock};

use super::{CgroupError, Group, Limits, Usage, group::kill_and_remove, hierarchy::Place, interface, limits::WANTED};

/// The child group that the worker moves itself into. systemd's unit names it in `DelegateSubgroup=`.
pub const OWN_GROUP: &str = "worker";
const PREFIX: &str = "sealbus-";

/// Why there are no groups for processors. The worker then runs without limits.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The machine has no version 2 hierarchy, or this process cannot see it.
    #[error("no cgroup v2 hierarchy with this process in it is mounted; version 1 is not supported")]
    NoHierarchy,
    /// The group is not delegated to the worker.
    #[error(
        "group {} is not delegated to the worker: set Delegate=yes (and DelegateSubgroup=worker) in its unit, or name a \
         group in the configuration",
        .0.display()
    )]
    NotDelegated(PathBuf),
    /// There is no permission to write to the group.
    #[error("group {} cannot be written to", path.display())]
    NotWritable {
        /// The group.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Other processes run in the group, so the kernel does not allow it to delegate controllers.
    #[error("group {} has processes of others ({pids:?}): give the worker one of its own", path.display())]
    Occupied {
        /// The group.
        path: PathBuf,
        /// The processes.
        pids: Vec<u32>,
    },
    /// Another process uses the same worker name.
    #[error("group {} is in use by another worker of the same name", .0.display())]
    InUse(PathBuf),
    /// A file or directory of the hierarchy could not be read or written.
    #[error(transparent)]
    Failed(#[from] CgroupError),
}

/// The worker's part of the hierarchy. It is locked as long as this value lives.
#[derive(Debug)]
pub struct CgroupRoot {
    path: PathBuf,
    controllers: BTreeSet<String>,
    _lock: File,
}

/// A group left by a dead worker.
#[derive(Debug)]
pub struct Leftover {
    /// The processor's name.
    pub name: String,
    /// How many processes in it were killed, or why it could not be removed.
    pub killed: Result<usize, CgroupError>,
}

impl CgroupRoot {
    /// Takes over the part for `worker` below the group of this process, or below the group at `given`.
    ///
    /// If the process is alone in its group, it is moved into `worker/` below it. Controllers that are not available
    /// are skipped. Each group then lists the limits that are not in force.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn discover(proc_root: &Path, given: Option<&Path>, worker: &str) -> Result<Self, Unavailable> {
        check_name(worker)?;
        let place = Place::of_this_process(proc_root).ok().flatten().ok_or(Unavailable::NoHierarchy)?;
        let shared = match given {
            Some(given) => given.to_owned(),
            None => delegated(&place)?,
        };
        let writable = rustix::fs::access(&shared, Access::WRITE_OK | Access::EXEC_OK)
            .and_then(|()| rustix::fs::access(shared.join("cgroup.procs"), Access::WRITE_OK));
        writable.map_err(|error| Unavailable::NotWritable { path: shared.clone(), source: error.into() })?;
        step_aside(&shared)?;
        share_out(&shared)?;
        let path = shared.join(format!("{PREFIX}{worker}"));
        make(&path)?;
        let failed = |source| CgroupError::Io { operation: "open", path: path.clone(), source };
        let lock = File::open(&path).map_err(failed)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Unavailable::InUse(path));
        }
        let controllers = share_out(&path)?;
        Ok(Self { path, controllers, _lock: lock })
    }

    /// The directory that holds the processors' groups.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The controllers that are enabled for the groups.
    #[must_use]
    pub fn controllers(&self) -> &BTreeSet<String> {
        &self.controllers
    }

    /// Creates a new group for the processor `name`. If an old one is there, it is killed and removed first.
    ///
    /// # Errors
    /// [`CgroupError`]. A limit that cannot be applied is not an error, see [`Group::unapplied`].
    pub fn create(&self, name: &str, limits: &Limits) -> Result<Group, CgroupError> {
        check_name(name)?;
        let path = self.path.join(name);
        kill_and_remove(&path)?;
        make(&path)?;
        let unapplied = limits.apply(&path, &self.controllers);
        Ok(Group::new(path, unapplied))
    }

    /// Kills and removes what an earlier worker of this name left behind. Call this before the first group is created.
    ///
    /// # Errors
    /// [`CgroupError::Io`] if the groups cannot be listed. A group that cannot be removed appears in the list.
    pub fn remove_leftovers(&self) -> Result<Vec<Leftover>, CgroupError> {
        let groups = interface::children(&self.path)?;
        let named = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(groups.iter().map(|path| Leftover { name: named(path), killed: kill_and_remove(path) }).collect())
    }

    /// What all processors together use now and have used.
    ///
    /// # Errors
    /// [`CgroupError::Io`].
    pub fn usage(&self) -> Result<Usage, CgroupError> {
        Usage::read(&self.path)
    }
}

/// The group that was delegated to this process: its own, or the parent if the process has already been moved into the
/// child group.
fn delegated(place: &Place) -> Result<PathBuf, Unavailable> {
    let above = place.dir.parent().filter(|_| place.dir.ends_with(OWN_GROUP) && !place.is_top());
    match above {
        Some(above) if above == place.mount || is_delegated(above) => Ok(above.to_owned()),
        // At the top of a machine without systemd, or of a container, nobody else manages the groups.
        _ if place.is_top() || is_delegated(&place.dir) => Ok(place.dir.clone()),
        _ => Err(Unavailable::NotDelegated(place.dir.clone())),
    }
}

/// systemd marks delegated groups with an extended attribute.
fn is_delegated(dir: &Path) -> bool {
    ["user.delegate", "trusted.delegate"].iter().any(|name| {
        let mut value = [0; 8];
        rustix::fs::getxattr(dir, *name, &mut value[..]).is_ok_and(|length| value[..length] == *b"1")
    })
}

/// Moves the processes out of a group that is to delegate controllers, if this process is in it. The root group may
/// have both, processes and delegated controllers.
fn step_aside(shared: &Path) -> Result<(), Unavailable> {
    let is_machines_top = !shared.join("cgroup.type").exists();
    let pids = interface::pids(shared)?;
    if is_machines_top || pids.is_empty() {
        return Ok(());
    }
    if !pids.contains(&std::process::id()) {
        return Err(Unavailable::Occupied { path: shared.to_owned(), pids });
    }
    let own = shared.join(OWN_GROUP);
    make(&own)?;
    for pid in pids {
        match interface::write(&own, "cgroup.procs", &pid.to_string()) {
            // ESRCH: the process has ended.
            Err(CgroupError::Io { source, .. }) if source.raw_os_error() == Some(3) => {}
            moved => moved?,
        }
    }
    Ok(())
}

/// Enables in the children of `group` all controllers that it has itself. Returns those that are enabled.
fn share_out(group: &Path) -> Result<BTreeSet<String>, CgroupError> {
    let here = words(interface::read(group, "cgroup.controllers")?);
    for controller in WANTED.iter().filter(|controller| here.contains(**controller)) {
        // One at a time, so that a controller that cannot be enabled does not prevent the others.
        if let Err(error) = interface::write(group, "cgroup.subtree_control", &format!("+{controller}")) {
            tracing::debug!(controller, %error, "controller not enabled");
        }
    }
    Ok(words(interface::read(group, "cgroup.subtree_control")?))
}

fn words(text: Option<String>) -> BTreeSet<String> {
    text.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

fn make(path: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(|source| CgroupError::Io { operation: "make", path: path.to_owned(), source }),
    }
}

fn check_name(name: &str) -> Result<(), CgroupError> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match !name.is_empty() && name.chars().all(good) {
        true => Ok(()),
        false => Err(CgroupError::Name(name.to_owned())),
    }
}
