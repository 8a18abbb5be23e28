//! GPUs and disks in hwloc's tree, combined with what the system tells about GPUs.

use super::{
    CpuSet, Disk, Gpu, Node,
    describe::Around,
    object::{Kind, Object, Pci},
    system::SystemCard,
};

/// NVIDIA's PCI vendor id.
pub(super) const NVIDIA: u16 = Gpu::NVIDIA;
/// The PCI base class of display controllers. GPUs without a display output have it too.
pub(super) const DISPLAY: u16 = 0x03;
/// The subtypes under which hwloc shows compute libraries' devices.
const COMPUTING: [&str; 4] = ["CUDA", "NVML", "OpenCL", "RSMI"];
/// The info keys for a GPU's memory, in KiB.
const MEMORY_KIB: [&str; 3] = ["CUDAGlobalMemorySize", "OpenCLGlobalMemorySize", "RSMIVRAMSize"];
/// The info keys for a GPU's UUID.
const UUID: [&str; 2] = ["NVIDIAUUID", "AMDUUID"];

/// A GPU that may be usable for computation, before it is given an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Card {
    vendor: u16,
    pci: String,
    uuid: Option<String>,
    name: String,
    node: Option<usize>,
    memory_bytes: u64,
}

/// The GPUs and disks of a described machine.
pub(super) fn of_tree(root: &Object, nodes: &[Node]) -> (Vec<Gpu>, Vec<Disk>) {
    let mut disks = Vec::new();
    visit(root, &Around::default(), nodes, None, &mut |object, pci, node| {
        if object.kind == Kind::Block {
            disks.extend(disk(object, pci, node.or_else(|| only(nodes, &root.nodes))));
        }
    });
    (numbered(cards_of_tree(root, nodes)), disks)
}

/// The GPUs in hwloc's tree.
pub(super) fn cards_of_tree(root: &Object, nodes: &[Node]) -> Vec<Card> {
    let mut cards = Vec::new();
    visit(root, &Around::default(), nodes, None, &mut |object, _, node| {
        if let Kind::Pci(pci) = &object.kind {
            cards.extend(card(object, pci, node.or_else(|| only(nodes, &root.nodes))));
        }
    });
    cards
}

/// Adds what the system tells about the GPUs. Those that are given to a virtual machine are left out.
pub(super) fn with_cards(mut cards: Vec<Card>, told: Vec<SystemCard>, nodes: &[Node], present: &CpuSet) -> Vec<Gpu> {
    for system in told {
        let at = cards.iter().position(|card| card.pci == system.pci);
        if system.given_away {
            at.map(|at| cards.remove(at));
            continue;
        }
        let at = at.unwrap_or_else(|| {
            let (vendor, pci, name) = (NVIDIA, system.pci.clone(), String::new());
            cards.push(Card { vendor, pci, uuid: None, name, node: None, memory_bytes: 0 });
            cards.len() - 1
        });
        let card = &mut cards[at];
        card.uuid = system.uuid.or(card.uuid.take());
        card.name = system.name.unwrap_or_else(|| match card.name.is_empty() {
            true => format!("NVIDIA {:04x}", system.device),
            false => std::mem::take(&mut card.name),
        });
        let told = system.numa_node.and_then(|index| nodes.iter().position(|node| node.os_index == index));
        card.node = told.or(card.node).or_else(|| only(nodes, present));
    }
    numbered(cards)
}

/// The only node of a single-node machine: everything is nearest to it.
pub(super) fn only(nodes: &[Node], present: &CpuSet) -> Option<usize> {
    (nodes.len() == 1 && present.len() <= 1).then_some(0)
}

/// The GPUs by PCI address. The id is the UUID, or else the number among the GPUs of its vendor.
///
/// A plain number means NVIDIA, because `CUDA_VISIBLE_DEVICES` accepts it. Other vendors' numbers have the vendor's
/// name as prefix. A UUID that is malformed or not unique cannot select a GPU, so such a GPU is numbered.
fn numbered(mut cards: Vec<Card>) -> Vec<Gpu> {
    cards.sort_by(|one, other| one.pci.cmp(&other.pci));
    cards.dedup_by(|one, other| one.pci == other.pci);
    let uuid = |at: usize| -> Option<String> {
        let uuid = cards[at].uuid.clone().filter(|uuid| is_uuid(uuid))?;
        let is_its_own = cards.iter().filter(|card| card.uuid.as_ref() == Some(&uuid)).count() == 1;
        is_its_own.then_some(uuid)
    };
    let number = |at: usize| cards[..at].iter().filter(|card| card.vendor == cards[at].vendor).count();
    let number = |at: usize| match cards[at].vendor {
        Gpu::NVIDIA => number(at).to_string(),
        Gpu::AMD => format!("amd{}", number(at)),
        other => format!("pci{other:04x}-{}", number(at)),
    };
    let ids: Vec<String> = (0..cards.len()).map(|at| uuid(at).unwrap_or_else(|| number(at))).collect();
    let gpu = |(card, id): (Card, String)| Gpu {
        id,
        vendor: card.vendor,
        name: card.name,
        pci: Some(card.pci),
        node: card.node,
        memory_bytes: card.memory_bytes,
    };
    cards.into_iter().zip(ids).map(gpu).collect()
}

/// Whether a text can be a GPU's id in a configuration and is not a number.
fn is_uuid(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    text.len() > 8 && text.contains('-') && text.bytes().all(is_part)
}

/// Calls `show` for each object, with its PCI device and its nearest node.
fn visit(
    object: &Object,
    around: &Around,
    nodes: &[Node],
    pci: Option<&str>,
    show: &mut impl FnMut(&Object, Option<&str>, Option<usize>),
) {
    let inside = around.inside(object);
    let pci = match &object.kind {
        Kind::Pci(pci) => Some(pci.address.as_str()),
        _ => pci,
    };
    show(object, pci, inside.nearest(nodes));
    for child in object.children.iter().chain(&object.devices) {
        visit(child, &inside, nodes, pci, show);
    }
}

fn card(object: &Object, pci: &Pci, node: Option<usize>) -> Option<Card> {
    let computing: Vec<&Object> = object
        .devices
        .iter()
        .filter(|device| device.kind == Kind::Accelerator && COMPUTING.contains(&device.subtype.as_str()))
        .collect();
    let nvidia = pci.vendor == NVIDIA && pci.class >> 8 == DISPLAY;
    if !nvidia && computing.is_empty() {
        return None;
    }
    let info = |names: &[&str]| computing.iter().find_map(|device| names.iter().find_map(|name| device.info(name)));
    let name = info(&["GPUModel"]).or_else(|| object.info("PCIDevice")).or(Some(object.name.as_str()));
    Some(Card {
        vendor: pci.vendor,
        pci: pci.address.clone(),
        uuid: info(&UUID).map(str::to_owned),
        name: match name.filter(|name| !name.is_empty()) {
            Some(name) => name.to_owned(),
            None => format!("{:04x}:{:04x}", pci.vendor, pci.device),
        },
        node,
        memory_bytes: info(&MEMORY_KIB)
            .and_then(|kib| kib.parse::<u64>().ok())
            .map_or(0, |kib| kib.saturating_mul(1024)),
    })
}

/// A disk in a description. Descriptions do not say whether a disk rotates, so SATA and SAS disks are assumed to.
fn disk(object: &Object, pci: Option<&str>, node: Option<usize>) -> Option<Disk> {
    let medium = object.subtype.starts_with("Removable") || object.subtype == "Tape" || object.name.starts_with("sr");
    (!medium && !object.name.is_empty()).then(|| Disk {
        name: object.name.clone(),
        model: object.info("Model").unwrap_or_default().to_owned(),
        bytes: object.info("Size").and_then(|kib| kib.parse::<u64>().ok()).map_or(0, |kib| kib.saturating_mul(1024)),
        pci: pci.map(str::to_owned),
        node,
        rotational: object.name.starts_with("sd"),
    })
}
