//! Reads from `/proc` what a running process is bound to.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::{Binding, MemoryBinding};
use crate::topology::{
    CpuSet,
    cpu_set::CpuSetError,
    system::{Given, SystemError},
};

/// The binding of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The processing units that any of its threads may run on.
    pub cpus: CpuSet,
    /// The NUMA nodes that its cpuset allows.
    pub nodes_allowed: CpuSet,
    /// Its memory policy; `None` if the kernel has no NUMA support or does not show it.
    pub memory: Option<BoundPolicy>,
}

/// A memory policy, as in `numa_maps`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum BoundPolicy {
    /// From the node on which the process runs, then from others.
    Default,
    /// Only from these nodes.
    Bind(CpuSet),
    /// From these nodes first.
    Prefer(CpuSet),
    /// Another policy, as the kernel writes it.
    Other(String),
}

/// Why a process's binding could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadBackError {
    /// A file cannot be read, usually because the process has ended.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A `status` file cannot be parsed.
    #[error("cannot tell what process {pid} is bound to")]
    Status {
        /// The process.
        pid: u32,
        /// The parse error.
        #[source]
        source: SystemError,
    },
    /// A memory policy cannot be parsed.
    #[error("cannot tell how process {pid} takes memory: {policy:?}")]
    Policy {
        /// The process.
        pid: u32,
        /// The text in `numa_maps`.
        policy: String,
        /// The parse error.
        #[source]
        source: CpuSetError,
    },
}

/// A process has another binding than it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bound to {bound}, wanted {wanted}")]
pub struct BoundElsewhere {
    /// The binding it has.
    pub bound: Bound,
    /// The binding it should have.
    pub wanted: Binding,
}

/// Reads the binding of a process, with all its threads.
///
/// # Errors
/// [`ReadBackError`], also if the process ends meanwhile.
pub fn read_back(pid: u32) -> Result<Bound, ReadBackError> {
    read_back_below(Path::new("/proc"), pid)
}

/// Like [`read_back`], with another root than `/proc`.
fn read_back_below(proc: &Path, pid: u32) -> Result<Bound, ReadBackError> {
    let process = proc.join(pid.to_string());
    let status = |path: &Path| {
        let text = read(path)?;
        Given::of_status(path, &text).map_err(|source| ReadBackError::Status { pid, source })
    };
    let Given { units: mut cpus, nodes: nodes_allowed } = status(&process.join("status"))?;
    let tasks = process.join("task");
    let threads = fs::read_dir(&tasks).map_err(|source| ReadBackError::Read { path: tasks.clone(), source })?;
    for thread in threads.flatten() {
        match status(&thread.path().join("status")) {
            Ok(given) => cpus = cpus.union(&given.units),
            // A thread has ended since the directory was listed.
            Err(ReadBackError::Read { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let memory = match fs::read_to_string(process.join("numa_maps")) {
        Ok(maps) => {
            let policy = policy_text(&maps);
            let parsed = policy.map(BoundPolicy::from_str).transpose();
            parsed.map_err(|source| ReadBackError::Policy {
                pid,
                policy: policy.unwrap_or_default().to_owned(),
                source,
            })?
        }
        Err(_) => None,
    };
    Ok(Bound { cpus, nodes_allowed, memory })
}

fn read(path: &Path) -> Result<String, ReadBackError> {
    fs::read_to_string(path).map_err(|source| ReadBackError::Read { path: path.to_owned(), source })
}

/// The process's policy is read from the line of the stack, because nobody gives the stack a policy of its own. Without
/// a stack line, the first line is used.
fn policy_text(numa_maps: &str) -> Option<&str> {
    let stack = numa_maps.lines().find(|line| line.split(' ').any(|word| word == "stack"));
    let (_, rest) = stack.or_else(|| numa_maps.lines().next())?.split_once(' ')?;
    // The mode `prefer (many)` contains a space, as in `prefer (many):0-1`.
    let end = match rest.strip_prefix("prefer (many)") {
        Some(after) => rest.len() - after.len() + after.find(' ').unwrap_or(after.len()),
        None => rest.find(' ').unwrap_or(rest.len()),
    };
    Some(&rest[..end])
}

impl Bound {
    /// Checks that the binding is the wanted one. Threads may have bound themselves to fewer cpus.
    ///
    /// # Errors
    /// [`BoundElsewhere`]. An unknown memory policy counts as right.
    pub fn check(&self, wanted: &Binding) -> Result<(), Box<BoundElsewhere>> {
        let cpus = !self.cpus.is_empty() && self.cpus.is_subset(&wanted.cpus);
        let memory = match (&wanted.memory, &self.memory) {
            (None, _) | (_, None) => true,
            (Some(MemoryBinding { nodes, strict: true }), Some(BoundPolicy::Bind(bound))) => nodes == bound,
            (Some(MemoryBinding { nodes, strict: false }), Some(BoundPolicy::Prefer(bound))) => bound.is_subset(nodes),
            _ => false,
        };
        match cpus && memory {
            true => Ok(()),
            false => Err(Box::new(BoundElsewhere { bound: self.clone(), wanted: wanted.clone() })),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cpus {}", self.cpus)?;
        match &self.memory {
            Some(policy) => write!(f, ", memory {policy}"),
            None => Ok(()),
        }
    }
}

impl FromStr for BoundPolicy {
    type Err = CpuSetError;

    fn from_str(text: &str) -> Result<Self, CpuSetError> {
        // In `bind=static:0-1` the part after `=` is a flag for changes of the cpuset. It is ignored.
        let (mode, nodes) = text.split_once(':').unwrap_or((text, ""));
        match mode.split('=').next().unwrap_or_default() {
            "default" | "local" => Ok(Self::Default),
            "bind" => Ok(Self::Bind(nodes.parse()?)),
            "prefer" | "prefer (many)" => Ok(Self::Prefer(nodes.parse()?)),
            _ => Ok(Self::Other(text.to_owned())),
        }
    }
}

impl fmt::Display for BoundPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Bind(nodes) => write!(f, "bind:{nodes}"),
            Self::Prefer(nodes) => write!(f, "prefer:{nodes}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl TryFrom<String> for BoundPolicy {
    type Error = CpuSetError;

    fn try_from(text: String) -> Result<Self, CpuSetError> {
        text.parse()
    }
}

impl From<BoundPolicy> for String {
    fn from(policy: BoundPolicy) -> String {
        policy.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> CpuSet {
        text.parse().expect("a list")
    }

    #[test]
    fn the_process_policy_is_that_of_its_stack() {
        let maps = "55d0c0a00000 prefer:1 file=/usr/bin/cat mapped=2 N0=2 kernelpagesize_kB=4\n\
                    7f0000000000 interleave:0-1 anon=1\n\
                    7ffd5e8f1000 bind:0 stack anon=3 dirty=3 N0=3 kernelpagesize_kB=4\n";
        assert_eq!(policy_text(maps), Some("bind:0"));
        assert_eq!(policy_text("7f00 prefer (many):0-1 stack anon=3\n"), Some("prefer (many):0-1"));
        assert_eq!(policy_text("7f00 default\n"), Some("default"));
        assert_eq!(policy_text("7f00 prefer (many):2\n"), Some("prefer (many):2"));
        assert_eq!(policy_text(""), None);
    }

    #[test]
    fn policies_are_read_as_the_kernel_writes_them() {
        for (text, policy) in [
            ("default", BoundPolicy::Default),
            ("local", BoundPolicy::Default),
            ("bind:0-1,3", BoundPolicy::Bind(set("0-1,3"))),
            ("bind=static:0", BoundPolicy::Bind(set("0"))),
            ("prefer:1", BoundPolicy::Prefer(set("1"))),
            ("prefer (many):0-1", BoundPolicy::Prefer(set("0-1"))),
            ("interleave:0-3", BoundPolicy::Other("interleave:0-3".to_owned())),
        ] {
            assert_eq!(text.parse::<BoundPolicy>().expect(text), policy);
        }
        assert!("bind:x".parse::<BoundPolicy>().is_err());
    }

    #[test]
    fn threads_are_looked_at_as_well() {
        let proc = tempfile::tempdir().expect("directory");
        let status = |cpus: &str| format!("Name:\tpc1\nCpus_allowed_list:\t{cpus}\nMems_allowed_list:\t0-1\n");
        for (path, cpus) in [("7", "0"), ("7/task/7", "0"), ("7/task/8", "1"), ("7/task/9", "4-5")] {
            fs::create_dir_all(proc.path().join(path)).expect("directory");
            fs::write(proc.path().join(path).join("status"), status(cpus)).expect("status");
        }
        // A thread that has just ended: its directory is empty.
        fs::create_dir(proc.path().join("7/task/10")).expect("directory");
        fs::write(proc.path().join("7/numa_maps"), "7ffd bind:1 stack anon=1\n").expect("maps");
        let bound = read_back_below(proc.path(), 7).expect("bound");
        assert_eq!(bound.to_string(), "cpus 0-1,4-5, memory bind:1");
        assert_eq!(bound.nodes_allowed, set("0-1"));

        let wanted = |cpus: &str, memory| Binding { cpus: set(cpus), memory };
        let memory = |nodes: &str, strict| Some(MemoryBinding { nodes: set(nodes), strict });
        assert_eq!(bound.check(&wanted("0-5", memory("1", true))), Ok(()));
        assert_eq!(bound.check(&wanted("0-5", None)), Ok(()));
        for other in [wanted("0-3", None), wanted("0-5", memory("0", true)), wanted("0-5", memory("1", false))] {
            let error = bound.check(&other).expect_err("bound elsewhere");
            assert_eq!(error.to_string(), format!("bound to cpus 0-1,4-5, memory bind:1, wanted {other}"));
        }
        assert!(matches!(read_back_below(proc.path(), 8), Err(ReadBackError::Read { .. })));
    }
}
