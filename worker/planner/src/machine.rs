//! A machine as data. What the worker may not use (by its cpuset or cgroup) is already left out of it.

use serde::{Deserialize, Serialize};

pub mod cpu_set;
pub mod draw;
mod restrict;
pub mod sight;

pub use cpu_set::CpuSet;
pub use draw::draw;
pub use restrict::CannotRestrict;
pub use sight::Sight;

/// A machine. Positions in one list are what other lists refer to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Where the description comes from: `this machine`, an XML file, a synthetic description.
    pub source: String,
    /// Processing units that exist; more than what the cores below have where the worker is restricted.
    pub present: CpuSet,
    /// NUMA nodes that exist; more than `nodes` where the worker is restricted.
    #[serde(default)]
    pub nodes_present: CpuSet,
    /// How many processor packages (sockets) there are.
    pub packages: usize,
    /// NUMA nodes, by OS index rising.
    pub nodes: Vec<Node>,
    /// Groups of cores that share a last-level (L3) cache, in hwloc's order. A machine that tells of no L3 has one group a node.
    pub caches: Vec<Cache>,
    /// Physical cores of which at least one processing unit may be used, in hwloc's (logical) order.
    pub cores: Vec<Core>,
    /// What the proofs library finds of it: also what the worker's affinity leaves out, but not what its cgroup does.
    #[serde(default)]
    pub sight: Sight,
    /// Graphics cards that may compute.
    pub gpus: Vec<Gpu>,
    /// Disks.
    pub disks: Vec<Disk>,
    /// The most memory that the worker's cgroup may use, in bytes, where it is limited.
    pub memory_max_bytes: Option<u64>,
}

/// A NUMA node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The operating system's number.
    pub os_index: u32,
    /// The package that it is in (0-based), if it is in one.
    pub package: Option<usize>,
    /// Its memory.
    pub memory_bytes: u64,
    /// Whether cores are next to it, also some that may not be used. Others' memory is a graphics card's, or far away.
    #[serde(default = "usual")]
    pub has_cores: bool,
    /// Pages that are reserved there, by size rising.
    pub huge_pages: Vec<HugePages>,
}

/// Huge pages of one size on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugePages {
    /// The size of one.
    pub page_bytes: u64,
    /// How many are reserved.
    pub total: u64,
    /// How many of them nobody uses.
    pub free: u64,
}

/// Cores that share a last-level cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// The cache's size; 0 where the machine tells of none.
    pub bytes: u64,
    /// The package that it is in (0-based).
    pub package: usize,
    /// The node whose memory is nearest: a position in [`Machine::nodes`].
    pub node: usize,
    /// How many cores share it, also those that may not be used.
    pub cores_present: usize,
}

/// A physical core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Core {
    /// Its processing units that may be used: one, or several with SMT.
    pub units: CpuSet,
    /// The cache that it shares: a position in [`Machine::caches`].
    pub cache: usize,
}

/// A graphics card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// How it is chosen, for example `0` of `CUDA_VISIBLE_DEVICES`, or a UUID.
    pub id: String,
    /// Who made it, as PCI numbers makers.
    #[serde(default = "nvidia")]
    pub vendor: u16,
    /// What it is, for people.
    pub name: String,
    /// Its PCI address, where known.
    pub pci: Option<String>,
    /// The nearest node: a position in [`Machine::nodes`], where known.
    pub node: Option<usize>,
    /// Its memory in bytes, 0 where unknown.
    pub memory_bytes: u64,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The operating system's name, for example `nvme0n1`.
    pub name: String,
    /// What it is, for people.
    pub model: String,
    /// Its size in bytes, 0 where unknown.
    pub bytes: u64,
    /// Its PCI address, where known.
    #[serde(default)]
    pub pci: Option<String>,
    /// The nearest node: a position in [`Machine::nodes`], where known.
    pub node: Option<usize>,
    /// Whether it turns; such a disk is no place for a slot.
    pub rotational: bool,
}

/// How strictly memory is taken from a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryPolicy {
    /// From that node alone: what does not fit fails.
    #[default]
    Bind,
    /// From that node first.
    Prefer,
}

impl Machine {
    /// Everything that may be used.
    #[must_use]
    pub fn units(&self) -> CpuSet {
        self.cores.iter().flat_map(|core| core.units.iter()).collect()
    }

    /// The cores that share a cache: positions in [`Machine::cores`], rising.
    #[must_use]
    pub fn cores_of_cache(&self, cache: usize) -> Vec<usize> {
        (0..self.cores.len()).filter(|&core| self.cores[core].cache == cache).collect()
    }

    /// The memory of all nodes. Each is bounded where a machine is described; the sum of what is made up ends at the largest number.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.nodes.iter().fold(0, |sum, node| sum.saturating_add(node.memory_bytes))
    }

    /// The memory that has cores next to it.
    #[must_use]
    pub fn memory_of_cores_bytes(&self) -> u64 {
        let nodes = self.nodes.iter().filter(|node| node.has_cores);
        nodes.fold(0, |sum, node| sum.saturating_add(node.memory_bytes))
    }

    /// The node that a core is nearest to: a position in [`Machine::nodes`].
    #[must_use]
    pub fn node_of_core(&self, core: usize) -> usize {
        self.caches[self.cores[core].cache].node
    }
}

impl Gpu {
    /// PCI's number for NVIDIA.
    pub const NVIDIA: u16 = 0x10de;
    /// PCI's number for AMD.
    pub const AMD: u16 = 0x1002;

    /// Whether `CUDA_VISIBLE_DEVICES` chooses it.
    #[must_use]
    pub fn is_cuda(&self) -> bool {
        self.vendor == Self::NVIDIA
    }
}

impl Node {
    /// In huge pages. What a description says beyond the node's memory is not there.
    #[must_use]
    pub fn huge_bytes(&self) -> u64 {
        let bytes = |pages: &HugePages| pages.page_bytes.saturating_mul(pages.total);
        self.huge_pages.iter().fold(0_u64, |sum, pages| sum.saturating_add(bytes(pages))).min(self.memory_bytes)
    }
}

impl MemoryPolicy {
    /// As it is written in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            MemoryPolicy::Bind => "bind",
            MemoryPolicy::Prefer => "prefer",
        }
    }
}

fn usual() -> bool {
    true
}

fn nvidia() -> u16 {
    Gpu::NVIDIA
}
