//! The configuration file as written.

use std::{collections::BTreeMap, path::PathBuf};

use sealbus_nats::Connection;
use sealbus_schema::{MinerId, Phase, SectorSize, WorkerName, Workflow};
use serde::Deserialize;

use crate::processor::MemoryPolicy;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The worker.
    pub worker: WorkerTable,
    /// Where NATS is, and who we are there.
    pub nats: Connection,
    /// The slots.
    #[serde(default)]
    pub slot: Vec<SlotTable>,
    /// Groups of processors.
    #[serde(default)]
    pub processor: Vec<ProcessorTable>,
    /// What is allowed on the whole machine.
    #[serde(default)]
    pub limits: LimitsTable,
    /// Control groups; none if it is not there.
    #[serde(default)]
    pub cgroup: Option<CgroupTable>,
    /// The locks, with how many units each has.
    #[serde(default)]
    pub locks: BTreeMap<String, usize>,
    /// The permanent store.
    pub store: StoreTable,
    /// Where the proofs library finds its large files.
    #[serde(default)]
    pub params: ParamsTable,
}

/// `[worker]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerTable {
    /// The worker's name on the bus, one a machine.
    pub name: WorkerName,
    /// The host name that people see; the machine's own if it is not given.
    #[serde(default)]
    pub host: Option<String>,
    /// Whose sectors to work on.
    pub miners: Vec<MinerId>,
    /// Which workflows to serve; all if it is not given.
    #[serde(default)]
    pub workflows: Option<Vec<Workflow>>,
    /// How large they are.
    pub sector_size: SectorSize,
    /// The wait before the first new try of a failed phase, in seconds.
    #[serde(default = "recover_interval_secs")]
    pub recover_interval_secs: u64,
    /// How many further tries a transient failure allows before a person must look.
    #[serde(default = "max_retries")]
    pub max_retries: u32,
    /// The time between two signs of life, in seconds.
    #[serde(default = "heartbeat_secs")]
    pub heartbeat_secs: u64,
}

/// `[[slot]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotTable {
    /// A directory that nobody else uses. One that is not there is waited for.
    pub path: PathBuf,
}

/// `[[processor]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessorTable {
    /// The phase that the group serves.
    pub stage: Phase,
    /// How many processes.
    #[serde(default = "one")]
    pub count: usize,
    /// How many requests each of them works on at the same time.
    #[serde(default = "one")]
    pub concurrent: usize,
    /// The processing units that they run on.
    #[serde(default)]
    pub cpus: Option<CpusField>,
    /// The NUMA node whose memory they use.
    #[serde(default)]
    pub numa_node: Option<u32>,
    /// How strictly.
    #[serde(default)]
    pub memory: Option<MemoryPolicy>,
    /// The graphics cards that they see.
    #[serde(default)]
    pub gpus: Vec<String>,
    /// The locks that each request holds while it is worked on.
    #[serde(default)]
    pub locks: Vec<String>,
    /// Above this much memory each of them is slowed down, such as `60GiB`.
    #[serde(default)]
    pub memory_high: Option<String>,
    /// Above this much memory each of them is killed.
    #[serde(default)]
    pub memory_max: Option<String>,
    /// How many processes and threads each of them may have.
    #[serde(default)]
    pub pids_max: Option<u64>,
    /// What the labels of PC1 are to lie on.
    #[serde(default)]
    pub huge_pages: Option<String>,
    /// An executable of somebody else's; the built-in one if it is not given.
    #[serde(default)]
    pub bin: Option<PathBuf>,
    /// Its arguments; what they are if nothing is said depends on the protocol.
    #[serde(default)]
    pub args: Option<Vec<String>>,
    /// What the executable speaks.
    #[serde(default)]
    pub protocol: ProtocolName,
    /// How long an executable of the protocol of damocles may take until it says that it is ready, in seconds.
    #[serde(default = "stable_wait_secs")]
    pub stable_wait_secs: u64,
    /// What an executable of the protocol of damocles for `pc2` is told of the rows of tree D that are not kept.
    #[serde(default)]
    pub rows_to_discard: Option<usize>,
    /// Whether an executable of the protocol of damocles for `pc1` does without the library's cache of parents.
    #[serde(default)]
    pub own_parents: bool,
    /// Whether an executable for `c2` does without the library's parameters in its directory.
    #[serde(default)]
    pub own_params: bool,
    /// Environment variables to set.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Environment variables to pass on from the worker.
    #[serde(default)]
    pub inherit_env: Vec<String>,
    /// Whether to pass on all of them but those that are the worker's own business.
    #[serde(default)]
    pub inherit_envs: bool,
    /// The longest that a request may take, in seconds.
    #[serde(default)]
    pub timeout_secs: Option<u64>,
}

/// `cpus` of a `[[processor]]`, as the kernel writes lists: `0-7,16-23`, or [`AUTO`].
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum CpusField {
    /// One set for all of them together, or whatever a plan gives to each.
    Together(String),
    /// One for each.
    Each(Vec<String>),
}

/// The `cpus` that the worker chooses itself.
pub const AUTO: &str = "auto";

/// `[limits]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsTable {
    /// How many requests of a stage are worked on at the same time.
    #[serde(default)]
    pub concurrent: BTreeMap<Phase, usize>,
    /// The least time between two starts of a stage, in seconds.
    #[serde(default)]
    pub staggered_secs: BTreeMap<Phase, u64>,
}

/// `[cgroup]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CgroupTable {
    /// The group that the worker was given; the one that it is in if this is not said.
    #[serde(default)]
    pub parent: Option<PathBuf>,
    /// Whether the worker does not start without.
    #[serde(default)]
    pub required: bool,
}

/// What an executable speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProtocolName {
    /// Version 2 of `docs/processors.md`.
    #[default]
    Sealbus,
    /// That of damocles.
    Damocles,
}

/// `[store]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreTable {
    /// The name that the manager knows it by.
    pub name: String,
    /// Its root, an existing directory.
    pub path: PathBuf,
}

/// `[params]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParamsTable {
    /// The Groth16 parameters: `FIL_PROOFS_PARAMETER_CACHE` of the processors.
    #[serde(default)]
    pub cache: Option<PathBuf>,
    /// The cache of the graph's parents: `FIL_PROOFS_PARENT_CACHE` of the processors.
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
