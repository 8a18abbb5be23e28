//! The tree of objects that hwloc finds, as plain data.

use super::CpuSet;

/// One object, and what is below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// The operating system's number, where it has one.
    pub os_index: Option<u32>,
    /// Its name; empty for most. `nvme0n1`.
    pub name: String,
    /// What more is known of its kind; empty for most. `Disk`, `NVML`.
    pub subtype: String,
    /// What else is told of it: names and values.
    pub infos: Vec<(String, String)>,
    /// The processing units in it; none for a device.
    pub units: CpuSet,
    /// The NUMA nodes in it and around it; none for a device.
    pub nodes: CpuSet,
    /// What it consists of, apart from the following.
    pub children: Vec<Object>,
    /// NUMA nodes that are nearest to all of it, and caches in front of their memory.
    pub memory: Vec<Object>,
    /// Devices that are nearest to all of it, and bridges to devices.
    pub devices: Vec<Object>,
}

/// What an object is, where that matters here.
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
        /// Its size.
        bytes: u64,
    },
    /// A NUMA node.
    Node {
        /// Its memory.
        memory_bytes: u64,
        /// Size and number of its pages, by size rising, ordinary ones first.
        pages: Vec<(u64, u64)>,
    },
    /// A PCI device.
    Pci(Pci),
    /// A block device of the operating system.
    Block,
    /// A GPU or coprocessor, as a driver or library names it.
    Accelerator,
    /// The whole, other caches, groups, dies, bridges, network devices.
    Other,
}

/// What PCI tells of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pci {
    /// Where it is: `0000:41:00.0`.
    pub address: String,
    /// Base class and subclass: 0x0302 is a 3D controller.
    pub class: u16,
    /// Who made it.
    pub vendor: u16,
    /// Which product it is.
    pub device: u16,
}

impl Object {
    /// A value that is told of it.
    #[must_use]
    pub fn info(&self, name: &str) -> Option<&str> {
        self.infos.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }
}
