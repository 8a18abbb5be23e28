//! The configuration of a pool. It is made from the worker's configuration file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use sealbus_planner::machine::MemoryPolicy;
use sealbus_planner::schedule::Group;
use sealbus_schema::SectorSize;

use super::command::Protocol;
use super::running::Limits;
use crate::cgroup;
use crate::sandbox::Sandbox;
use crate::stage::Stage;
use crate::stage::huge_pages::{HugePages, Impossible, Wish};
use crate::topology::CpuSet;

/// The variables that every processor inherits from the worker, besides all that begin with [`INHERITED_PREFIX`].
pub const INHERITED: [&str; 4] = ["PATH", "HOME", "RUST_LOG", VISIBLE_GPUS];
/// The variable that tells a process which GPUs it may use.
pub const VISIBLE_GPUS: &str = "CUDA_VISIBLE_DEVICES";
/// Variables with these prefixes are meant for the worker itself, or come from systemd. They are left out when
/// everything is inherited; a group can still list one by name.
pub const OWN_PREFIXES: [&str; 6] =
    ["SEALBUS_", "NATS_", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "LISTEN_", "WATCHDOG_"];
/// The prefix of the proofs library's settings.
pub const INHERITED_PREFIX: &str = "FIL_PROOFS_";

/// The processors of a worker.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// The groups. Several may serve one stage.
    pub groups: Vec<GroupConfig>,
    /// Each processor gets its own `TMPDIR`, emptied at each start, in the first of these directories that is writable.
    /// A directory here is created if its parent exists.
    pub tmp_roots: Vec<PathBuf>,
}

/// A group of identical processors.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// The stage that they serve.
    pub stage: Stage,
    /// The executable. `None` means this one, with `processor <stage>` as its arguments.
    pub bin: Option<PathBuf>,
    /// The arguments, after `processor <stage>` if `bin` is `None`.
    pub args: Vec<String>,
    /// The number of processes.
    pub count: usize,
    /// How many requests each process works on at the same time.
    pub concurrent: usize,
    /// The locks of which each request holds one unit.
    pub locks: Vec<String>,
    /// The processing units to run on: empty for any, one set shared by all processes, or one set for each.
    pub cpus: Vec<CpuSet>,
    /// Whether `cpus` was chosen by the planner ([`crate::placement::choose`]).
    pub auto_cpus: bool,
    /// The NUMA node to take memory from.
    pub numa_node: Option<u32>,
    /// Whether memory of other nodes is forbidden or a fallback.
    pub memory: MemoryPolicy,
    /// The GPUs that they see; empty for those that the worker sees.
    pub gpus: Vec<String>,
    /// The limits of each processor's control group, if groups are used. The cpus and nodes in it are set from the
    /// placement.
    pub cgroup: cgroup::Limits,
    /// What its processes may touch; `None` for everything that the worker may.
    pub sandbox: Option<Sandbox>,
    /// Whether a confined process is kept for all sectors.
    pub keep_process: bool,
    /// What they may read besides, if they are confined.
    pub readable: Vec<PathBuf>,
    /// What they may change besides, if they are confined.
    pub writable: Vec<PathBuf>,
    /// The kind of pages for labels, and the sector size.
    pub huge_pages: Option<(Wish, SectorSize)>,
    /// Variables to set. They override inherited ones.
    pub env: BTreeMap<String, String>,
    /// Further variables to inherit.
    pub inherit_env: Vec<String>,
    /// Whether to inherit all variables except those with a prefix in [`OWN_PREFIXES`].
    pub inherit_all: bool,
    /// What the parameter directory in the environment must contain before a sector begins.
    pub parameters: Parameters,
    /// The protocol of the executable.
    pub protocol: Protocol,
    /// The worker's own executable, through which `bin` is started so that it dies with the worker. `None` starts `bin`
    /// directly.
    pub wrapper: Option<PathBuf>,
    /// The time limit of a request.
    pub timeout: Duration,
    /// The longest time between two heartbeats of a process that sends them.
    pub silence_timeout: Duration,
    /// The longest time that a process may take to stop a request.
    pub stop_timeout: Duration,
    /// The longest time from the start of a process to its first line.
    pub start_timeout: Duration,
    /// The longest answer that is accepted, in bytes.
    pub answer_bytes_max: usize,
    /// The longest output in a file that is accepted, in bytes.
    pub file_bytes_max: u64,
    /// The pause before a start after one failure. It doubles with each further failure, up to `backoff_max`.
    pub backoff: Duration,
    /// The longest pause before a start.
    pub backoff_max: Duration,
}

/// What C2 needs in the directory that its `FIL_PROOFS_PARAMETER_CACHE` names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parameters {
    /// Unknown, so nothing is checked.
    #[default]
    Unknown,
    /// All files of the built-in C2, verified byte for byte.
    Whole,
    /// The parameters and the verifying key of the sector size, checked by their length only.
    Sized,
    /// The verifying key, with which the worker itself verifies proofs.
    VerifyingKey,
}

/// The place of one processor on the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// The processing units; `None` for all that the worker may use.
    pub cpus: Option<CpuSet>,
    /// The NUMA node of its memory, and whether other nodes are forbidden.
    pub memory: Option<(u32, MemoryPolicy)>,
    /// The GPUs that it sees; empty for those that the worker sees.
    pub gpus: Vec<String>,
}

/// The default time limit of a request, by stage: several times what the slowest machines in use take for 64 GiB
/// without a GPU.
#[must_use]
pub const fn default_timeout(stage: Stage) -> Duration {
    const HOUR: u64 = 3600;
    Duration::from_secs(match stage {
        Stage::AddPieces | Stage::TreeD | Stage::C1 => 2 * HOUR,
        Stage::Pc1 => 24 * HOUR,
        Stage::Pc2 | Stage::Transfer | Stage::C2 | Stage::Own(_) => 8 * HOUR,
    })
}

/// The worker's own environment. Variables that are not UTF-8 are left out.
pub fn own_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

impl GroupConfig {
    /// `count` built-in processors for `stage`, with the [time limit](default_timeout) of the stage and the other defaults.
    #[must_use]
    pub fn built_in(stage: Stage, count: usize) -> Self {
        Self {
            stage,
            bin: None,
            args: Vec::new(),
            count,
            concurrent: 1,
            locks: Vec::new(),
            cpus: Vec::new(),
            auto_cpus: false,
            numa_node: None,
            memory: MemoryPolicy::default(),
            gpus: Vec::new(),
            cgroup: cgroup::Limits::default(),
            sandbox: None,
            keep_process: false,
            readable: Vec::new(),
            writable: Vec::new(),
            huge_pages: None,
            env: BTreeMap::new(),
            inherit_env: Vec::new(),
            inherit_all: false,
            parameters: if stage == Stage::C2 { Parameters::Whole } else { Parameters::Unknown },
            protocol: Protocol::Sealbus,
            wrapper: None,
            timeout: default_timeout(stage),
            silence_timeout: Duration::from_secs(60),
            stop_timeout: Duration::from_secs(10),
            start_timeout: Duration::from_secs(30),
            answer_bytes_max: 16 << 20,
            file_bytes_max: 1 << 30,
            backoff: Duration::from_millis(250),
            backoff_max: Duration::from_secs(30),
        }
    }

    /// The place of the `nth` processor of the group.
    #[must_use]
    pub fn placement(&self, nth: usize) -> Placement {
        let cpus = if self.cpus.len() == 1 { self.cpus.first() } else { self.cpus.get(nth) };
        Placement {
            cpus: cpus.cloned(),
            memory: self.numa_node.map(|node| (node, self.memory)),
            gpus: self.gpus.clone(),
        }
    }

    /// The part of the group that the scheduler needs.
    #[must_use]
    pub fn schedule(&self) -> Group {
        Group { stage: self.stage, count: self.count, concurrent: self.concurrent, locks: self.locks.clone() }
    }

    /// The environment of a processor, given the worker's own.
    #[must_use]
    pub fn environment(&self, own: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
        let inherits = |name: &str| {
            INHERITED.contains(&name)
                || name.starts_with(INHERITED_PREFIX)
                || self.inherit_env.iter().any(|other| other == name)
                || self.inherit_all && !OWN_PREFIXES.iter().any(|own| name.starts_with(own))
        };
        let mut environment: BTreeMap<String, String> = own.filter(|(name, _)| inherits(name)).collect();
        if !self.gpus.is_empty() {
            environment.insert(VISIBLE_GPUS.to_owned(), self.gpus.join(","));
        }
        environment.extend(self.env.clone());
        environment
    }

    /// The variables that put labels on the wished kind of pages. They are added to an `environment`, and depend on the
    /// machine's present state under `sys_root` (`/sys`).
    ///
    /// # Errors
    /// [`Impossible`].
    pub fn huge_page_variables(
        &self,
        sys_root: &Path,
        environment: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, Impossible> {
        match self.huge_pages {
            Some((wish, size)) => HugePages::read(sys_root).variables(wish, size, environment),
            None => Ok(BTreeMap::new()),
        }
    }

    /// The limits that the processes must keep.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            start: self.start_timeout,
            silence: self.silence_timeout,
            stop: self.stop_timeout,
            line_bytes: self.answer_bytes_max,
            file_bytes: self.file_bytes_max,
        }
    }

    /// The pause before a start after this many `failures` in a row.
    #[must_use]
    pub fn backoff_after(&self, failures: u32) -> Duration {
        match failures {
            0 => Duration::ZERO,
            _ => self.backoff.saturating_mul(2_u32.saturating_pow(failures.min(32) - 1)).min(self.backoff_max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_variables_are_inherited_and_configured_ones_win() {
        let mut group = GroupConfig::built_in(Stage::C2, 1);
        group.env.insert("RUST_LOG".into(), "debug".into());
        group.inherit_env.push("EXTRA".into());
        let own = [
            ("PATH", "/bin"),
            ("RUST_LOG", "info"),
            ("NATS_TOKEN", "secret"),
            ("FIL_PROOFS_PARAMETER_CACHE", "/p"),
            ("EXTRA", "1"),
        ];
        let environment = group.environment(own.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        let names: Vec<&str> = environment.keys().map(String::as_str).collect();
        assert_eq!(names, ["EXTRA", "FIL_PROOFS_PARAMETER_CACHE", "PATH", "RUST_LOG"]);
        assert_eq!(environment["RUST_LOG"], "debug");
    }

    #[test]
    fn everything_is_inherited_on_demand_but_what_is_the_workers_own_business() {
        let mut group = GroupConfig::built_in(Stage::C2, 1);
        group.inherit_all = true;
        let own = [
            ("LD_LIBRARY_PATH", "/opt/cuda"),
            ("PIECE_FETCHER_TOKEN", "theirs"),
            ("NATS_PASSWORD", "ours"),
            ("SEALBUS_WORKER_CONFIG", "/etc/sealbus/worker.toml"),
            ("CREDENTIALS_DIRECTORY", "/run/credentials/sealbus-worker.service"),
            ("NOTIFY_SOCKET", "/run/systemd/notify"),
        ];
        let own = || own.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let names: Vec<String> = group.environment(own()).into_keys().collect();
        assert_eq!(names, ["LD_LIBRARY_PATH", "PIECE_FETCHER_TOKEN"]);
        group.inherit_env.push("NATS_PASSWORD".into());
        assert_eq!(group.environment(own())["NATS_PASSWORD"], "ours", "it was asked for by name");
    }

    #[test]
    fn each_processor_has_its_own_cores_or_all_share_one_set() {
        let mut group = GroupConfig::built_in(Stage::Pc1, 2);
        assert_eq!(group.placement(1), Placement::default());
        group.cpus = vec!["0-3".parse().expect("cpus")];
        (group.numa_node, group.gpus) = (Some(1), vec!["0".into(), "2".into()]);
        let placement = group.placement(1);
        assert_eq!((placement.cpus, placement.memory), (group.cpus.first().cloned(), Some((1, MemoryPolicy::Bind))));
        group.cpus.push("4-7".parse().expect("cpus"));
        assert_eq!(group.placement(1).cpus.map(|cpus| cpus.to_string()), Some("4-7".to_owned()));
        let seen = [("CUDA_VISIBLE_DEVICES".to_owned(), "0,1,2,3".to_owned())];
        assert_eq!(group.environment(seen.into_iter())["CUDA_VISIBLE_DEVICES"], "0,2");
    }

    #[test]
    fn the_back_off_doubles_and_is_bounded() {
        let group = GroupConfig::built_in(Stage::C2, 1);
        assert_eq!(group.backoff_after(0), Duration::ZERO);
        assert_eq!(group.backoff_after(1), group.backoff);
        assert_eq!(group.backoff_after(3), group.backoff * 4);
        assert_eq!(group.backoff_after(u32::MAX), group.backoff_max);
    }
}
