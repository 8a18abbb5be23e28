//! Converts hwloc's tree of objects to a [`Machine`]. Pure.

use super::{
    Cache, Core, CpuSet, HugePages, Machine, Node, Sight, devices,
    load::TopologyError,
    object::{Kind, Object},
};

/// More bytes than any node has.
const NODE_BYTES_MAX: u64 = 1 << 50;
/// More bytes than any machine has.
const ALL_BYTES_MAX: u64 = 16 << 50;

/// The ancestors of an object.
#[derive(Clone, Default)]
pub(super) struct Around {
    /// The package it belongs to.
    pub(super) package: Option<usize>,
    /// The L3 cache it shares.
    l3: Option<usize>,
    /// Whether it is part of a core.
    in_core: bool,
    /// NUMA nodes by distance, as OS indexes. Each step towards the root of the tree adds the nodes found there.
    near: Vec<Vec<u32>>,
}

/// The objects found by a walk over the tree.
#[derive(Default)]
struct Found {
    packages: usize,
    nodes: Vec<Node>,
    l3s: Vec<u64>,
    cores: Vec<FoundCore>,
}

struct FoundCore {
    units: CpuSet,
    around: Around,
    /// The nodes that hwloc lists for the core.
    nodes: CpuSet,
}

/// Identifies a group of cores by L3 cache, nearest node and package. A cache that spans several nodes gives several
/// groups.
#[derive(Clone, Copy, PartialEq, Eq)]
struct GroupKey {
    l3: Option<usize>,
    near: Option<u32>,
    package: usize,
}

/// Describes the machine, without the parts that may not be used.
pub(super) fn describe(
    source: &str,
    root: &Object,
    allowed_units: &CpuSet,
    allowed_nodes: &CpuSet,
) -> Result<Machine, TopologyError> {
    let mut found = Found::default();
    found.walk(root, &Around::default());
    found.nodes.sort_by_key(|node| node.os_index);
    if let Some(pair) = found.nodes.windows(2).find(|pair| pair[0].os_index == pair[1].os_index) {
        return Err(TopologyError::NodeTwice { machine: source.to_owned(), node: pair[0].os_index });
    }
    memory_could_be(source, &found.nodes)?;
    let mut seen = CpuSet::new();
    for unit in found.cores.iter().flat_map(|core| core.units.iter()) {
        if seen.contains(unit) {
            return Err(TopologyError::UnitTwice { machine: source.to_owned(), unit });
        }
        seen.insert(unit);
    }
    let nearest: CpuSet = found.cores.iter().filter_map(FoundCore::near).collect();
    found.nodes.iter_mut().for_each(|node| node.has_cores = nearest.contains(node.os_index));
    let nodes_present: CpuSet = found.nodes.iter().map(|node| node.os_index).collect();
    found.nodes.retain(|node| allowed_nodes.contains(node.os_index));
    if found.nodes.is_empty() {
        return Err(TopologyError::NoNodes { machine: source.to_owned() });
    }
    let (caches, cores) = groups(&found, allowed_units);
    if cores.is_empty() {
        return Err(TopologyError::NoUnits { machine: source.to_owned() });
    }
    // If only nodes without cores may be used, they serve the cores nevertheless.
    caches.iter().for_each(|cache| found.nodes[cache.node].has_cores = true);
    let (gpus, disks) = devices::of_tree(root, &found.nodes);
    Ok(Machine {
        source: source.to_owned(),
        present: root.units.clone(),
        nodes_present,
        packages: found.packages.max(1),
        nodes: found.nodes,
        caches,
        cores,
        sight: Sight::default(),
        gpus,
        disks,
        memory_max_bytes: None,
    })
}

/// Checks that the memory sizes are plausible, so that later sums cannot overflow.
fn memory_could_be(source: &str, nodes: &[Node]) -> Result<(), TopologyError> {
    let mut all = 0_u64;
    for node in nodes {
        let refused = |value: String, problem: String| TopologyError::Memory {
            machine: source.to_owned(),
            node: node.os_index,
            value,
            problem,
        };
        let bytes = node.memory_bytes;
        if bytes > NODE_BYTES_MAX {
            return Err(refused(format!("{bytes} bytes of memory"), "no node has more than 1 PiB".to_owned()));
        }
        let is_too_much =
            |pages: &&HugePages| pages.page_bytes.checked_mul(pages.total).is_none_or(|bytes| bytes > NODE_BYTES_MAX);
        if let Some(HugePages { page_bytes, total, .. }) = node.huge_pages.iter().find(is_too_much) {
            let problem = format!("no node has more than 1 PiB, and this one has {bytes} bytes");
            return Err(refused(format!("{total} huge pages of {page_bytes} bytes"), problem));
        }
        all = all.saturating_add(bytes);
        if all > ALL_BYTES_MAX {
            let problem = format!("with those before it that is {all} bytes, and no machine has more than 16 PiB");
            return Err(refused(format!("{bytes} bytes of memory"), problem));
        }
    }
    Ok(())
}

impl Around {
    /// The ancestors of this object's children.
    pub(super) fn inside(&self, object: &Object) -> Self {
        let mut inside = self.clone();
        let mut nodes: Vec<u32> = nodes_of_memory(&object.memory).into_iter().map(|node| node.os_index).collect();
        if !nodes.is_empty() {
            nodes.sort_unstable();
            inside.near.push(nodes);
        }
        inside
    }

    /// The index in `nodes` of the nearest one.
    pub(super) fn nearest(&self, nodes: &[Node]) -> Option<usize> {
        let position = |index: &u32| nodes.iter().position(|node| node.os_index == *index);
        self.near.iter().rev().find_map(|level| level.iter().find_map(position))
    }
}

impl Found {
    fn walk(&mut self, object: &Object, around: &Around) {
        let mut around = around.clone();
        match object.kind {
            Kind::Package => {
                around.package = Some(self.packages);
                self.packages += 1;
            }
            Kind::L3 { bytes } => {
                around.l3 = Some(self.l3s.len());
                self.l3s.push(bytes);
            }
            _ => {}
        }
        for mut node in nodes_of_memory(&object.memory) {
            node.package = around.package;
            self.nodes.push(node);
        }
        let mut inside = around.inside(object);
        // If a machine shows no cores, each processing unit counts as one.
        if matches!(object.kind, Kind::Core | Kind::Unit) && !inside.in_core {
            inside.in_core = true;
            let (units, nodes) = (object.units.clone(), object.nodes.clone());
            self.cores.push(FoundCore { units, around: inside.clone(), nodes });
        }
        for child in &object.children {
            self.walk(child, &inside);
        }
    }
}

/// The NUMA nodes among memory objects, also those behind a memory-side cache.
fn nodes_of_memory(memory: &[Object]) -> Vec<Node> {
    let mut nodes = Vec::new();
    for object in memory {
        if let (Kind::Node { memory_bytes, pages }, Some(os_index)) = (&object.kind, object.os_index) {
            // The first size is that of ordinary pages. A description does not tell how many huge pages are free.
            let huge = pages.iter().skip(1).filter(|(_, total)| *total > 0);
            let huge_pages = huge.map(|&(page_bytes, total)| HugePages { page_bytes, total, free: total }).collect();
            let memory_bytes = *memory_bytes;
            nodes.push(Node { os_index, package: None, memory_bytes, has_cores: false, huge_pages });
        }
        nodes.extend(nodes_of_memory(&object.memory));
    }
    nodes
}

/// The groups that have usable cores, and these cores.
fn groups(found: &Found, allowed: &CpuSet) -> (Vec<Cache>, Vec<Core>) {
    let mut keys: Vec<GroupKey> = Vec::new();
    let (mut caches, mut cores): (Vec<Cache>, Vec<Core>) = (Vec::new(), Vec::new());
    for core in &found.cores {
        let units = core.units.intersection(allowed);
        if units.is_empty() {
            continue;
        }
        let key = core.key();
        let cache = keys.iter().position(|known| *known == key).unwrap_or_else(|| {
            keys.push(key);
            caches.push(group(found, core));
            caches.len() - 1
        });
        cores.push(Core { units, cache });
    }
    (caches, cores)
}

/// The group of a core, with its share of the cache.
fn group(found: &Found, core: &FoundCore) -> Cache {
    let key = core.key();
    let cores_present = found.cores.iter().filter(|other| other.key() == key).count();
    let sharing = |l3| found.cores.iter().filter(|other| other.around.l3 == Some(l3)).count();
    let bytes = key.l3.map_or(0, |l3| found.l3s[l3].saturating_mul(cores_present as u64) / sharing(l3).max(1) as u64);
    let by_set = || found.nodes.iter().position(|node| core.nodes.contains(node.os_index));
    // If none of the core's own nodes may be used, the others are assumed to be equally far.
    let node = core.around.nearest(&found.nodes).or_else(by_set).unwrap_or(0);
    Cache { bytes, package: key.package, node, cores_present }
}

impl FoundCore {
    fn key(&self) -> GroupKey {
        GroupKey { l3: self.around.l3, near: self.near(), package: self.around.package.unwrap_or(0) }
    }

    /// The nearest node, as OS index.
    fn near(&self) -> Option<u32> {
        self.around.near.last().and_then(|level| level.first()).copied().or_else(|| self.nodes.iter().next())
    }
}
