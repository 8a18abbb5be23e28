//! Physical disks, from the kernel's list of block devices.
//!
//! Partitions, loop devices, RAM disks, device mapper (LVM) and software RAID are left out, because they are built on
//! what is listed. Removable media are left out, and so are the hidden paths of a multipath NVMe disk.

use std::path::{Path, PathBuf};

use super::{System, is_pci_address, names, numa_node, number, text};
use crate::topology::{CpuSet, Disk, Node, devices::only};

/// The unit of sizes in `/sys/block`, whatever the disk's own sector size is.
const SECTOR_BYTES: u64 = 512;
/// The name prefixes of virtual machines' disks.
const VIRTUAL: [&str; 2] = ["vd", "xvd"];

impl System {
    /// The disks by name, each with the nearest of `nodes`. These are the usable nodes among the `present` ones.
    #[must_use]
    pub fn disks(&self, nodes: &[Node], present: &CpuSet) -> Vec<Disk> {
        let blocks = self.path("sys/block");
        names(&blocks).into_iter().filter_map(|name| disk(&blocks.join(&name), name, nodes, present)).collect()
    }
}

fn disk(block: &Path, name: String, nodes: &[Node], present: &CpuSet) -> Option<Disk> {
    let flag = |file: &str| number(&block.join(file)) == Some(1);
    let bytes = number(&block.join("size"))?.saturating_mul(SECTOR_BYTES);
    // Devices made of other devices, or of memory, have no `device` entry.
    if !block.join("device").exists() || flag("hidden") || flag("removable") || bytes == 0 {
        return None;
    }
    let places = places(block);
    let index = places.iter().find_map(|place| numa_node(place));
    let name_of = |place: &PathBuf| place.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    Some(Disk {
        model: text(&block.join("device/model")).unwrap_or_default(),
        bytes,
        pci: places.iter().filter_map(name_of).find(|name| is_pci_address(name)),
        node: index
            .and_then(|index| nodes.iter().position(|node| node.os_index == index))
            .or_else(|| only(nodes, present)),
        // The kernel does not know it for virtual disks, and then says that they rotate.
        rotational: flag("queue/rotational") && !VIRTUAL.iter().any(|prefix| name.starts_with(prefix)),
        name,
    })
}

/// The sysfs directories of the devices that a disk is attached to, innermost first. A multipath NVMe disk is attached
/// to none, but lists its paths; the first path is used.
fn places(block: &Path) -> Vec<PathBuf> {
    let Ok(place) = block.canonicalize() else { return Vec::new() };
    let up = |place: &Path| place.ancestors().map(Path::to_owned).collect::<Vec<_>>();
    let places = up(&place);
    if places.iter().any(|place| place.join("numa_node").exists()) {
        return places;
    }
    let Some(subsystem) = place.parent() else { return places };
    let controllers = names(subsystem).into_iter().filter(|name| name.starts_with("nvme"));
    let links = controllers.map(|name| subsystem.join(name)).filter(|path| path.is_symlink());
    match links.filter_map(|link| link.canonicalize().ok()).next() {
        Some(controller) => up(&controller),
        None => places,
    }
}
