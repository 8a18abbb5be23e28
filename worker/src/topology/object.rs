//! hwloc's tree of objects, as plain data.

use super::CpuSet;

/// An object and everything below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The object's kind.
    pub kind: Kind,
    /// The operating system's index, if it has one.
    pub os_index: Option<u32>,
    /// The name, such as `nvme0n1`; empty for most objects.
    pub name: String,
    /// The subtype, such as `Disk` or `NVML`; empty for most objects.
    pub subtype: String,
    /// Further information, as pairs of name and value.
    pub infos: Vec<(String, String)>,
    /// The processing units in it; empty for a device.
    pub units: CpuSet,
    /// The NUMA nodes in or around it; empty for a device.
    pub nodes: CpuSet,
    /// The objects that it consists of, except those in the next two fields.
    pub children: Vec<Object>,
    /// The NUMA nodes nearest to the whole object, and memory-side caches.
    pub memory: Vec<Object>,
    /// The devices nearest to the whole object, and bridges to devices.
    pub devices: Vec<Object>,
}

/// The kinds of objects that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A processor package (socket).
    Package,
    /// A physical core.
    Core,
    /// A processing unit (hardware thread).
    Unit,
    /// A third-level cache.
    L3 {
        /// The size in bytes.
        bytes: u64,
    },
    /// A NUMA node.
    Node {
        /// The memory in bytes.
        memory_bytes: u64,
        /// Pages as (size in bytes, count), by increasing size; ordinary pages come first.
        pages: Vec<(u64, u64)>,
    },
    /// A PCI device.
    Pci(Pci),
    /// A block device of the operating system.
    Block,
    /// A GPU or coprocessor, as a driver or library names it.
    Accelerator,
    /// Anything else: the machine, other caches, groups, dies, bridges, network devices.
    Other,
}

/// The PCI identity of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pci {
    /// The address, such as `0000:41:00.0`.
    pub address: String,
    /// Base class and subclass. For example, 0x0302 is a 3D controller.
    pub class: u16,
    /// The vendor id.
    pub vendor: u16,
    /// The device id.
    pub device: u16,
}

impl Object {
    /// The value of a named information.
    #[must_use]
    pub fn info(&self, name: &str) -> Option<&str> {
        self.infos.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }
}
