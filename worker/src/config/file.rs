//! The configuration file as written.

use std::{collections::BTreeMap, path::PathBuf};

use sealbus_nats::Connection;
use sealbus_schema::{MinerId, Phase, SectorSize, WorkerName, Workflow};
use serde::Deserialize;

use crate::{processor::MemoryPolicy, sandbox};

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The worker.
    pub worker: WorkerTable,
    /// How to connect to NATS, and with which credentials.
    pub nats: Connection,
    /// The slots.
    #[serde(default)]
    pub slot: Vec<SlotTable>,
    /// Groups of processors.
    #[serde(default)]
    pub processor: Vec<ProcessorTable>,
    /// Limits for the whole machine.
    #[serde(default)]
    pub limits: LimitsTable,
    /// Control groups; absent if they are not used.
    #[serde(default)]
    pub cgroup: Option<CgroupTable>,
    /// The locks, with the number of units of each.
    #[serde(default)]
    pub locks: BTreeMap<String, usize>,
    /// The permanent store.
    pub store: StoreTable,
    /// What to do for proofs of spacetime.
    #[serde(default)]
    pub proving: ProvingTable,
    /// Where the proofs library finds its large files.
    #[serde(default)]
    pub params: ParamsTable,
    /// Where metrics are served.
    #[serde(default)]
    pub metrics: Option<sealbus_nats::metrics::Settings>,
}

/// `[worker]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerTable {
    /// The worker's name on the bus, unique to a machine.
    pub name: WorkerName,
    /// The host name shown to people; by default the machine's own.
    #[serde(default)]
    pub host: Option<String>,
    /// Whose sectors to work on.
    pub miners: Vec<MinerId>,
    /// Which workflows to serve; all if it is not given.
    #[serde(default)]
    pub workflows: Option<Vec<Workflow>>,
    /// How large they are.
    pub sector_size: SectorSize,
    /// The pause before the first retry of a failed phase, in seconds.
    #[serde(default = "recover_interval_secs")]
    pub recover_interval_secs: u64,
    /// How many retries a transient error allows before a person is needed.
    #[serde(default = "max_retries")]
    pub max_retries: u32,
    /// Whether processors are confined to what they need.
    #[serde(default)]
    pub sandbox: sandbox::Mode,
    /// The time between two heartbeats, in seconds.
    #[serde(default = "heartbeat_secs")]
    pub heartbeat_secs: u64,
}

/// `[[slot]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotTable {
    /// A directory that nothing else uses. If it does not exist, the worker waits for it.
    pub path: PathBuf,
}

/// `[[processor]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessorTable {
    /// The phase that the group serves.
    pub stage: Phase,
    /// The number of processes.
    #[serde(default = "one")]
    pub count: usize,
    /// How many requests each process works on at the same time.
    #[serde(default = "one")]
    pub concurrent: usize,
    /// The processing units to run on.
    #[serde(default)]
    pub cpus: Option<CpusField>,
    /// The NUMA node to take memory from.
    #[serde(default)]
    pub numa_node: Option<u32>,
    /// Whether memory of other nodes is forbidden (`bind`) or a fallback (`prefer`).
    #[serde(default)]
    pub memory: Option<MemoryPolicy>,
    /// The GPUs that they see.
    #[serde(default)]
    pub gpus: Vec<String>,
    /// The locks that each request holds while it runs.
    #[serde(default)]
    pub locks: Vec<String>,
    /// Above this much memory each process is slowed down, such as `60GiB`.
    #[serde(default)]
    pub memory_high: Option<String>,
    /// Above this much memory each process is killed.
    #[serde(default)]
    pub memory_max: Option<String>,
    /// How many processes and threads each processor may have.
    #[serde(default)]
    pub pids_max: Option<u64>,
    /// The kind of pages for the labels of PC1.
    #[serde(default)]
    pub huge_pages: Option<String>,
    /// A third-party executable; by default the built-in processor.
    #[serde(default)]
    pub bin: Option<PathBuf>,
    /// The executable's arguments; the default depends on the protocol.
    #[serde(default)]
    pub args: Option<Vec<String>>,
    /// The protocol that the executable speaks.
    #[serde(default)]
    pub protocol: ProtocolName,
    /// How long an executable with the damocles protocol may take to report that it is ready, in seconds.
    #[serde(default = "stable_wait_secs")]
    pub stable_wait_secs: u64,
    /// For `pc2` with the damocles protocol: the number of rows of tree D to discard, as told to the executable.
    #[serde(default)]
    pub rows_to_discard: Option<usize>,
    /// For `pc1` with the damocles protocol: whether the executable does without the library's parent cache.
    #[serde(default)]
    pub own_parents: bool,
    /// For `c2`: whether the executable does without the library's parameters in its directory.
    #[serde(default)]
    pub own_params: bool,
    /// Whether a confined process is kept for all sectors, and may touch all slots.
    #[serde(default)]
    pub keep_process: bool,
    /// Files and directories that a confined process may read and execute, besides what its stage needs.
    #[serde(default)]
    pub readable: Vec<PathBuf>,
    /// Files and directories that it may change, besides.
    #[serde(default)]
    pub writable: Vec<PathBuf>,
    /// Environment variables to set.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Environment variables to inherit from the worker.
    #[serde(default)]
    pub inherit_env: Vec<String>,
    /// Whether to inherit all variables except those meant for the worker itself.
    #[serde(default)]
    pub inherit_envs: bool,
    /// The time limit of a request, in seconds.
    #[serde(default)]
    pub timeout_secs: Option<u64>,
}

/// `cpus` of a `[[processor]]`, in the kernel's list format such as `0-7,16-23`, or [`AUTO`].
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum CpusField {
    /// One set shared by all processes, or [`AUTO`].
    Together(String),
    /// One set for each process.
    Each(Vec<String>),
}

/// The value of `cpus` that lets the worker choose.
pub const AUTO: &str = "auto";

/// `[limits]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsTable {
    /// How many requests of a stage may run at the same time.
    #[serde(default)]
    pub concurrent: BTreeMap<Phase, usize>,
    /// The shortest time between two starts of a stage, in seconds.
    #[serde(default)]
    pub staggered_secs: BTreeMap<Phase, u64>,
}

/// `[cgroup]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CgroupTable {
    /// The group delegated to the worker; by default the one that it is in.
    #[serde(default)]
    pub parent: Option<PathBuf>,
    /// Whether the worker refuses to start without control groups.
    #[serde(default)]
    pub required: bool,
}

/// The protocol of an executable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProtocolName {
    /// Version 2 of our protocol, described in `docs/processors.md`.
    #[default]
    Sealbus,
    /// The protocol of damocles.
    Damocles,
}

/// `[store]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreTable {
    /// The store's name in the manager's configuration.
    pub name: String,
    /// The store's root, an existing directory.
    pub path: PathBuf,
}

/// `[proving]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProvingTable {
    /// Whether to read sectors of the store for proofs.
    pub read: bool,
    /// Whether to make SNARKs of window PoSts.
    pub prove: bool,
    /// Whether to make SNARKs of winning PoSts, beside whatever else the machine does.
    pub win: bool,
    /// Whether to make a proof of a made-up sector before the first task.
    pub trial: bool,
    /// How many sectors to read at the same time, without `[[processor]]` groups for that.
    pub readers: Option<usize>,
}

impl Default for ProvingTable {
    fn default() -> ProvingTable {
        ProvingTable { read: true, prove: false, win: false, trial: true, readers: None }
    }
}

/// `[params]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParamsTable {
    /// The directory of the Groth16 parameters: `FIL_PROOFS_PARAMETER_CACHE` of the processors.
    #[serde(default)]
    pub cache: Option<PathBuf>,
    /// The directory of the parent cache: `FIL_PROOFS_PARENT_CACHE` of the processors.
    #[serde(default)]
    pub parent_cache: Option<PathBuf>,
}

fn recover_interval_secs() -> u64 {
    30
}

fn max_retries() -> u32 {
    5
}

fn heartbeat_secs() -> u64 {
    10
}

fn stable_wait_secs() -> u64 {
    60
}

fn one() -> usize {
    1
}
