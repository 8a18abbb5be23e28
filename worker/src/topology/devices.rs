//! Graphics cards and disks in hwloc's tree, and cards as the system tells of them.

use super::{
    Disk, Gpu, Node,
    describe::Around,
    object::{Kind, Object, Pci},
    system::SystemCard,
};

/// PCI's number for NVIDIA.
pub(super) const NVIDIA: u16 = 0x10de;
/// PCI's base class of display controllers, which those without a display are of as well.
pub(super) const DISPLAY: u16 = 0x03;
/// What hwloc calls the libraries that compute on a card.
const COMPUTING: [&str; 4] = ["CUDA", "NVML", "OpenCL", "RSMI"];
/// Where those tell a card's memory, in KiB.
const MEMORY_KIB: [&str; 3] = ["CUDAGlobalMemorySize", "OpenCLGlobalMemorySize", "RSMIVRAMSize"];
/// Where they tell its UUID.
const UUID: [&str; 2] = ["NVIDIAUUID", "AMDUUID"];

/// A card that may compute, before it has an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Card {
    vendor: u16,
    pci: String,
    uuid: Option<String>,
    name: String,
    node: Option<usize>,
    memory_bytes: u64,
}

/// Cards and disks of a machine that is described.
pub(super) fn of_tree(root: &Object, nodes: &[Node]) -> (Vec<Gpu>, Vec<Disk>) {
    let mut disks = Vec::new();
    visit(root, &Around::default(), nodes, None, &mut |object, pci, node| {
        if object.kind == Kind::Block {
            disks.extend(disk(object, pci, node));
        }
    });
    (numbered(cards_of_tree(root, nodes)), disks)
}

/// The cards in hwloc's tree.
pub(super) fn cards_of_tree(root: &Object, nodes: &[Node]) -> Vec<Card> {
    let mut cards = Vec::new();
    visit(root, &Around::default(), nodes, None, &mut |object, _, node| {
        if let Kind::Pci(pci) = &object.kind {
            cards.extend(card(object, pci, node));
        }
    });
    cards
}

/// Cards with what the system tells of them; those that it gave to somebody else are left out.
pub(super) fn with_cards(mut cards: Vec<Card>, told: Vec<SystemCard>, nodes: &[Node]) -> Vec<Gpu> {
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
        card.node = told.or(card.node).or_else(|| only(nodes));
    }
    numbered(cards)
}

/// The only node of a machine that has one: everything is next to it.
pub(super) fn only(nodes: &[Node]) -> Option<usize> {
    (nodes.len() == 1).then_some(0)
}

/// Cards in the order of their addresses, each with its UUID as id, or else its number among those of its maker.
fn numbered(mut cards: Vec<Card>) -> Vec<Gpu> {
    cards.sort_by(|one, other| one.pci.cmp(&other.pci));
    let number = |at: usize| cards[..at].iter().filter(|card| card.vendor == cards[at].vendor).count().to_string();
    let numbers: Vec<String> = (0..cards.len()).map(number).collect();
    let gpu = |(card, number): (Card, String)| Gpu {
        id: card.uuid.unwrap_or(number),
        name: card.name,
        pci: Some(card.pci),
        node: card.node,
        memory_bytes: card.memory_bytes,
    };
    cards.into_iter().zip(numbers).map(gpu).collect()
}

/// Shows each object with the PCI device that it is of and with the nearest node.
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
    show(object, pci, inside.nearest(nodes).or_else(|| only(nodes)));
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

/// A disk as a description tells of it. Whether it turns, a description does not say: what is not NVMe is taken to.
fn disk(object: &Object, pci: Option<&str>, node: Option<usize>) -> Option<Disk> {
    let removable = object.subtype.contains("Removable") || object.name.starts_with("sr");
    (object.subtype != "Tape" && !removable && !object.name.is_empty()).then(|| Disk {
        name: object.name.clone(),
        model: object.info("Model").unwrap_or_default().to_owned(),
        bytes: object.info("Size").and_then(|kib| kib.parse::<u64>().ok()).map_or(0, |kib| kib.saturating_mul(1024)),
        pci: pci.map(str::to_owned),
        node,
        rotational: !(object.name.starts_with("nvme") || object.name.starts_with("pmem")),
    })
}
