//! A machine as data. It contains only what the worker may use, given its cpuset and cgroup.

use serde::{Deserialize, Serialize};

pub mod cpu_set;
pub mod draw;
mod restrict;
pub mod sight;

pub use cpu_set::CpuSet;
pub use draw::draw;
pub use restrict::CannotRestrict;
pub use sight::Sight;

/// A machine. Its lists refer to each other by index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Where the description comes from: `this machine`, an XML file, or a synthetic description.
    pub source: String,
    /// The processing units that exist. If the worker is restricted, these are more than the cores below have.
    pub present: CpuSet,
    /// The NUMA nodes that exist. If the worker is restricted, these are more than `nodes`.
    #[serde(default)]
    pub nodes_present: CpuSet,
    /// The number of processor packages (sockets).
    pub packages: usize,
    /// The NUMA nodes, by increasing OS index.
    pub nodes: Vec<Node>,
    /// Groups of cores that share a last-level (L3) cache, in hwloc's order. If no L3 is shown, there is one group per
    /// node.
    pub caches: Vec<Cache>,
    /// Physical cores with at least one usable processing unit, in hwloc's (logical) order.
    pub cores: Vec<Core>,
    /// The cores that the proofs library sees. It ignores the worker's affinity, but not its cgroup.
    #[serde(default)]
    pub sight: Sight,
    /// The GPUs that can compute.
    pub gpus: Vec<Gpu>,
    /// The disks.
    pub disks: Vec<Disk>,
    /// The memory limit of the worker's cgroup in bytes, if there is one.
    pub memory_max_bytes: Option<u64>,
}

/// A NUMA node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The operating system's index.
    pub os_index: u32,
    /// The package that contains it (0-based), if any.
    pub package: Option<usize>,
    /// The memory in bytes.
    pub memory_bytes: u64,
    /// Whether cores are next to it, usable or not. Memory without cores belongs to a GPU, or is far away.
    #[serde(default = "usual")]
    pub has_cores: bool,
    /// Its reserved huge pages, by increasing page size.
    pub huge_pages: Vec<HugePages>,
}

/// Huge pages of one size on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugePages {
    /// The size of a page in bytes.
    pub page_bytes: u64,
    /// The number of reserved pages.
    pub total: u64,
    /// How many of them are unused.
    pub free: u64,
}

/// Cores that share a last-level cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// The cache's size in bytes; 0 if it is not shown.
    pub bytes: u64,
    /// The package that contains it (0-based).
    pub package: usize,
    /// The node with the nearest memory, as an index into [`Machine::nodes`].
    pub node: usize,
    /// How many cores share it, usable or not.
    pub cores_present: usize,
}

/// A physical core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Core {
    /// Its usable processing units: one, or several with SMT.
    pub units: CpuSet,
    /// The cache that it shares, as an index into [`Machine::caches`].
    pub cache: usize,
}

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// The id by which it is selected: an index such as `0` in `CUDA_VISIBLE_DEVICES`, or a UUID.
    pub id: String,
    /// The PCI vendor id.
    #[serde(default = "nvidia")]
    pub vendor: u16,
    /// The product name.
    pub name: String,
    /// The PCI address, if known.
    pub pci: Option<String>,
    /// The nearest node, as an index into [`Machine::nodes`], if known.
    pub node: Option<usize>,
    /// The memory in bytes; 0 if unknown.
    pub memory_bytes: u64,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The operating system's name, for example `nvme0n1`.
    pub name: String,
    /// The product name.
    pub model: String,
    /// The size in bytes; 0 if unknown.
    pub bytes: u64,
    /// The PCI address, if known.
    #[serde(default)]
    pub pci: Option<String>,
    /// The nearest node, as an index into [`Machine::nodes`], if known.
    pub node: Option<usize>,
    /// Whether it rotates. Such a disk is too slow for slots.
    pub rotational: bool,
}

/// Whether memory may come from another node than the given one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryPolicy {
    /// No: an allocation that does not fit fails.
    #[default]
    Bind,
    /// Yes, when the given node is full.
    Prefer,
}

impl Machine {
    /// All usable processing units.
    #[must_use]
    pub fn units(&self) -> CpuSet {
        self.cores.iter().flat_map(|core| core.units.iter()).collect()
    }

    /// The cores that share a cache, as increasing indexes into [`Machine::cores`].
    #[must_use]
    pub fn cores_of_cache(&self, cache: usize) -> Vec<usize> {
        (0..self.cores.len()).filter(|&core| self.cores[core].cache == cache).collect()
    }

    /// The memory of all nodes in bytes. The sum saturates, because a made-up machine may exceed the limits for
    /// described ones.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.nodes.iter().fold(0, |sum, node| sum.saturating_add(node.memory_bytes))
    }

    /// The memory of all nodes with cores, in bytes.
    #[must_use]
    pub fn memory_of_cores_bytes(&self) -> u64 {
        let nodes = self.nodes.iter().filter(|node| node.has_cores);
        nodes.fold(0, |sum, node| sum.saturating_add(node.memory_bytes))
    }

    /// The node nearest to a core, as an index into [`Machine::nodes`].
    #[must_use]
    pub fn node_of_core(&self, core: usize) -> usize {
        self.caches[self.cores[core].cache].node
    }
}

impl Gpu {
    /// NVIDIA's PCI vendor id.
    pub const NVIDIA: u16 = 0x10de;
    /// AMD's PCI vendor id.
    pub const AMD: u16 = 0x1002;

    /// Whether it can be selected by `CUDA_VISIBLE_DEVICES`.
    #[must_use]
    pub fn is_cuda(&self) -> bool {
        self.vendor == Self::NVIDIA
    }
}

impl Node {
    /// The bytes in huge pages, at most the node's memory.
    #[must_use]
    pub fn huge_bytes(&self) -> u64 {
        let bytes = |pages: &HugePages| pages.page_bytes.saturating_mul(pages.total);
        self.huge_pages.iter().fold(0_u64, |sum, pages| sum.saturating_add(bytes(pages))).min(self.memory_bytes)
    }
}

impl MemoryPolicy {
    /// The name in the configuration.
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
