//! Physical disks, from the kernel's list of block devices.
//!
//! Partitions, loops, memory disks, device mapper (LVM) and software RAID are not listed: they consist of what is.
//! Neither are removable media, and the hidden paths of an NVMe disk that has several.

use std::path::{Path, PathBuf};

use super::{System, is_pci_address, names, numa_node, number, text};
use crate::topology::{Disk, Node, devices::only};

/// The kernel counts sizes in these, whatever a disk's own are.
const SECTOR_BYTES: u64 = 512;

impl System {
    /// The disks, by name.
    #[must_use]
    pub fn disks(&self, nodes: &[Node]) -> Vec<Disk> {
        let blocks = self.path("sys/block");
        names(&blocks).into_iter().filter_map(|name| disk(&blocks.join(&name), name, nodes)).collect()
    }
}

fn disk(block: &Path, name: String, nodes: &[Node]) -> Option<Disk> {
    let flag = |file: &str| number(&block.join(file)) == Some(1);
    let bytes = number(&block.join("size"))?.saturating_mul(SECTOR_BYTES);
    // What is made of other devices, or of memory, is no device itself.
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
        node: index.and_then(|index| nodes.iter().position(|node| node.os_index == index)).or_else(|| only(nodes)),
        rotational: flag("queue/rotational"),
        name,
    })
}

/// The directories of what a disk hangs on, from the inside out. An NVMe disk with several paths hangs on none of them
/// and names them beside itself; then the first is taken.
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
