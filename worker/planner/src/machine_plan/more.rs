//! What one more of something would bring: the plan of a machine that has it, compared with the plan of this one.

use super::{
    request::{Gpus, MachinePlan, More, Place, Request},
    times::is_large,
    without_more,
};
use crate::{machine::Machine, units};

/// A bank of memory.
const BANK_BYTES: u64 = 128 << 30;
/// A disk, where the machine has none to take as an example.
const DISK_BYTES: u64 = 3_840_000_000_000;

/// Each thing, with what it brings.
#[must_use]
pub fn more(machine: &Machine, request: &Request, plan: &MachinePlan) -> Vec<More> {
    let mut all = Vec::new();
    let mut try_with = |what: String, machine: &Machine, request: &Request| {
        if let Ok(with) = without_more(machine, request) {
            let (now, then) = (plan.steady.sectors_per_day, with.steady.sectors_per_day);
            all.push(More { what, sectors_per_day: then, gain_per_day: then - now });
        }
    };
    let with_gpu = Request { gpus: one_more(request, plan), ..request.clone() };
    if request.proves() {
        try_with("one more GPU".to_owned(), machine, &with_gpu);
    }
    if let Some((bytes, with_disk)) = with_disk(machine, request, plan) {
        try_with(format!("one more NVMe of {}", units::bytes(bytes)), machine, &with_disk);
    }
    if is_large(request.sector_size) {
        let bank = units::bytes(BANK_BYTES);
        let (machine, with_memory) = with_memory(machine, request);
        try_with(format!("{bank} more memory"), &machine, &with_memory);
        if request.proves() {
            let both = Request { gpus: with_gpu.gpus.clone(), ..with_memory };
            try_with(format!("a GPU and {bank}"), &machine, &both);
        }
    }
    if request.has_files() {
        let with_slot = Request { slots: Some(plan.slots.len() + 1), places: unlimited(), ..request.clone() };
        try_with("one more slot".to_owned(), machine, &with_slot);
    }
    all
}

/// As many as there are for the plan, and one that is imagined where there is no other.
fn one_more(request: &Request, plan: &MachinePlan) -> Gpus {
    Gpus::Count(match &request.gpus {
        Gpus::All => plan.gpus.saturating_add(1),
        Gpus::Count(count) => count.saturating_add(1),
        Gpus::Named(names) => names.len().saturating_add(1),
    })
}

/// The places with one more like the largest, and its size; nothing where the room is not known.
fn with_disk(machine: &Machine, request: &Request, plan: &MachinePlan) -> Option<(u64, Request)> {
    if request.slots.is_some() || !request.has_files() {
        return None;
    }
    let disks = machine.disks.iter().filter(|disk| !disk.rotational && disk.bytes > 0);
    let mut places: Vec<Place> = match request.places.is_empty() {
        false => request.places.clone(),
        true => disks.map(|disk| Place { path: disk.name.clone().into(), bytes: Some(disk.bytes) }).collect(),
    };
    let largest = places.iter().map(|place| place.bytes).collect::<Option<Vec<u64>>>()?.into_iter().max()?;
    // Free room of a full disk is no example.
    let bytes = if largest < plan.slot_bytes.saturating_mul(2) { DISK_BYTES } else { largest };
    places.push(Place { path: "more".into(), bytes: Some(bytes) });
    Some((bytes, Request { places, ..request.clone() }))
}

/// The memory spread over the nodes.
fn with_memory(machine: &Machine, request: &Request) -> (Machine, Request) {
    let mut machine = machine.clone();
    let nodes = machine.nodes.iter().filter(|node| node.has_cores).count().max(1) as u64;
    for node in machine.nodes.iter_mut().filter(|node| node.has_cores) {
        node.memory_bytes = node.memory_bytes.saturating_add(BANK_BYTES / nodes);
    }
    machine.memory_max_bytes = machine.memory_max_bytes.map(|most| most.saturating_add(BANK_BYTES));
    let memory_bytes = request.memory_bytes.map(|bytes| bytes.saturating_add(BANK_BYTES));
    (machine, Request { memory_bytes, ..request.clone() })
}

fn unlimited() -> Vec<Place> {
    vec![Place { path: "anywhere".into(), bytes: None }]
}

/// A remark where PC1s of one core each might do more than those of multicore SDR: memory that would lie idle, say.
#[must_use]
pub fn one_core_each(machine: &Machine, request: &Request, plan: &MachinePlan) -> Vec<String> {
    let is_multicore = plan.groups.iter().any(|group| group.producers.is_some());
    let alone = Request { producers: Some(0), slots: None, places: unlimited(), ..request.clone() };
    let Some(with) = is_multicore.then(|| without_more(machine, &alone).ok()).flatten() else { return Vec::new() };
    if with.steady.sectors_per_day < 1.1 * plan.steady.bound_per_day {
        return Vec::new();
    }
    vec![format!(
        "more PC1s of one core each might do {} sectors a day, if each takes only {}: measure one, and see --producers 0",
        units::rate(with.steady.sectors_per_day),
        with.times.iter().find(|time| time.name == "pc1").map_or_else(String::new, |time| units::time(time.time_ms)),
    )]
}
