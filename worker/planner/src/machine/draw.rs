//! Draws a machine as text.

use std::fmt::Write;

use super::{Cache, CpuSet, Disk, Gpu, Machine, Node};

/// A line, and the branches below it.
struct Branch {
    text: String,
    below: Vec<Branch>,
}

/// The machine as a tree of lines: packages contain nodes, and nodes contain groups of cores, GPUs and disks.
#[must_use]
pub fn draw(machine: &Machine) -> String {
    let mut text = format!(
        "{}: {}, {}, {}, {}, {}\n",
        machine.source,
        counted(machine.packages, "package"),
        counted(machine.nodes.len(), "node"),
        counted(machine.caches.len(), "L3 group"),
        counted(machine.cores.len(), "core"),
        counted(machine.units().len(), "thread"),
    );
    for package in 0..machine.packages {
        print(&mut text, &package_of(machine, package), "", "");
    }
    for branch in elsewhere(machine) {
        print(&mut text, &branch, "", "");
    }
    for line in left_out(machine) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// A size in a unit that is easy to read.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    while unit + 1 < UNITS.len() && bytes >> (10 * (unit + 1)) > 0 {
        unit += 1;
    }
    let size = 1_u64 << (10 * unit);
    match bytes % size {
        0 => format!("{} {}", bytes / size, UNITS[unit]),
        rest => format!("{}.{} {}", bytes / size, (u128::from(rest) * 10) / u128::from(size), UNITS[unit]),
    }
}

fn package_of(machine: &Machine, package: usize) -> Branch {
    let has = |at: usize| machine.caches.iter().any(|cache| cache.package == package && cache.node == at);
    // A node that belongs to several packages, or to none, is shown with its cores.
    let shown = |(at, node): &(usize, &Node)| node.package == Some(package) || has(*at);
    let nodes = machine.nodes.iter().enumerate().filter(shown);
    let below = nodes.map(|(at, node)| node_of(machine, package, at, node)).collect();
    Branch { text: format!("package {package}"), below }
}

fn node_of(machine: &Machine, package: usize, at: usize, node: &Node) -> Branch {
    let groups = machine.caches.iter().enumerate().filter(|(_, cache)| (cache.package, cache.node) == (package, at));
    let mut below: Vec<Branch> = groups.map(|(cache, group)| group_of(machine, cache, group)).collect();
    let first = below.is_empty();
    // Devices of a node that is shown in several packages are drawn in the first one only.
    let owner = node.package.or_else(|| machine.caches.iter().find(|cache| cache.node == at).map(|it| it.package));
    if owner.unwrap_or(package) == package {
        below.extend(machine.gpus.iter().filter(|gpu| gpu.node == Some(at)).map(gpu_of));
        below.extend(machine.disks.iter().filter(|disk| disk.node == Some(at)).map(disk_of));
    }
    let without = if first { ", without cores" } else { "" };
    Branch { text: format!("{}{without}", node_line(node)), below }
}

fn node_line(node: &Node) -> String {
    let mut line = format!("node {}: {}", node.os_index, bytes(node.memory_bytes));
    for pages in &node.huge_pages {
        let (size, total, free) = (bytes(pages.page_bytes), pages.total, pages.free);
        let _ = write!(line, ", {total} huge pages of {size} ({free} free)");
    }
    line
}

fn group_of(machine: &Machine, at: usize, cache: &Cache) -> Branch {
    let cores = machine.cores_of_cache(at);
    let units: CpuSet = cores.iter().flat_map(|&core| machine.cores[core].units.iter()).collect();
    let numbers: CpuSet = cores.iter().filter_map(|&core| u32::try_from(core).ok()).collect();
    let name = if cache.bytes == 0 { "no L3".to_owned() } else { format!("L3 {}", bytes(cache.bytes)) };
    let plural = |set: &CpuSet| if set.len() == 1 { "" } else { "s" };
    let mut text = format!("{name}: core{} {numbers}, thread{} {units}", plural(&numbers), plural(&units));
    if cores.len() < cache.cores_present {
        let _ = write!(text, " ({} of its {} cores)", cores.len(), cache.cores_present);
    }
    Branch { text, below: Vec::new() }
}

fn gpu_of(gpu: &Gpu) -> Branch {
    let maker = match gpu.vendor {
        Gpu::NVIDIA => "",
        Gpu::AMD => "AMD, ",
        _ => "neither NVIDIA's nor AMD's, ",
    };
    let mut text = format!("GPU {}: {maker}{}", gpu.id, gpu.name);
    if gpu.memory_bytes > 0 {
        let _ = write!(text, ", {}", bytes(gpu.memory_bytes));
    }
    at_pci(&mut text, gpu.pci.as_deref());
    Branch { text, below: Vec::new() }
}

fn disk_of(disk: &Disk) -> Branch {
    let size = if disk.bytes == 0 { "size unknown".to_owned() } else { bytes(disk.bytes) };
    let mut text = format!("disk {}: {size}", disk.name);
    if !disk.model.is_empty() {
        let _ = write!(text, ", {}", disk.model);
    }
    if disk.rotational {
        text.push_str(", rotating");
    }
    at_pci(&mut text, disk.pci.as_deref());
    Branch { text, below: Vec::new() }
}

fn at_pci(text: &mut String, address: Option<&str>) {
    if let Some(address) = address {
        let _ = write!(text, ", PCI {address}");
    }
}

/// What belongs to no package: nodes outside of packages without cores, and devices at unknown places.
fn elsewhere(machine: &Machine) -> Vec<Branch> {
    let outside =
        |(at, node): &(usize, &Node)| node.package.is_none() && !machine.caches.iter().any(|cache| cache.node == *at);
    let nodes = machine.nodes.iter().enumerate().filter(outside);
    let mut branches: Vec<Branch> = nodes.map(|(at, node)| node_of(machine, usize::MAX, at, node)).collect();
    let mut below: Vec<Branch> = machine.gpus.iter().filter(|gpu| gpu.node.is_none()).map(gpu_of).collect();
    below.extend(machine.disks.iter().filter(|disk| disk.node.is_none()).map(disk_of));
    if !below.is_empty() {
        branches.push(Branch { text: "next to no node that is known".to_owned(), below });
    }
    branches
}

/// What exists but may not be used.
fn left_out(machine: &Machine) -> Vec<String> {
    let mut lines = Vec::new();
    let units = machine.present.difference(&machine.units());
    if !units.is_empty() {
        lines.push(format!("not for the worker, by its cpuset or affinity: threads {units}"));
    }
    let nodes = machine.nodes.iter().map(|node| node.os_index).collect();
    let nodes = machine.nodes_present.difference(&nodes);
    if !nodes.is_empty() {
        lines.push(format!("not for the worker, by its cpuset: memory of nodes {nodes}"));
    }
    if !machine.sight.is_even() {
        let (groups, name) = machine.sight.groups();
        lines.push(match machine.sight.cores.len() {
            0 => "hwloc tells of no cores, so multicore SDR would panic".to_owned(),
            cores => format!("multicore SDR would panic: it divides {cores} cores by {groups} {name}"),
        });
    }
    if let Some(max) = machine.memory_max_bytes {
        lines.push(format!("the worker's cgroup allows {} of memory", bytes(max)));
    }
    lines
}

fn print(text: &mut String, branch: &Branch, first: &str, rest: &str) {
    let _ = writeln!(text, "{first}{}", branch.text);
    for (at, child) in branch.below.iter().enumerate() {
        let (corner, below) = if at + 1 == branch.below.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        print(text, child, &format!("{rest}{corner}"), &format!("{rest}{below}"));
    }
}

fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
