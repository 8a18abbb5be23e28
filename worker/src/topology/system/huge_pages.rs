//! Counts reserved huge pages and the free ones among them.

use std::path::Path;

use super::{System, names, number};
use crate::topology::{HugePages, Node};

impl System {
    /// Replaces the huge page counts of the nodes.
    pub fn count_huge_pages(&self, nodes: &mut [Node]) {
        let alone = nodes.len() == 1;
        for node in nodes {
            let path = self.path(format!("sys/devices/system/node/node{}/hugepages", node.os_index));
            // A kernel without NUMA has no directories for nodes.
            let whole = self.path("sys/kernel/mm/hugepages");
            let path = if alone && !path.exists() { whole } else { path };
            let mut pages: Vec<HugePages> =
                names(&path).iter().filter_map(|name| pages_of(&path.join(name), name)).collect();
            pages.sort_by_key(|pages| pages.page_bytes);
            node.huge_pages = pages;
        }
    }
}

fn pages_of(directory: &Path, name: &str) -> Option<HugePages> {
    let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    let total = number(&directory.join("nr_hugepages")).filter(|total| *total > 0)?;
    let free = number(&directory.join("free_hugepages")).unwrap_or(0).min(total);
    Some(HugePages { page_bytes: kib.checked_mul(1024)?, total, free })
}
