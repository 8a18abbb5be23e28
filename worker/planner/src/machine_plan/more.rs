//! Estimates the gain from additional hardware: compares this plan with the plan of a machine that has it.

use super::{
    request::{Gpus, MachinePlan, More, Place, Request},
    times::is_large,
    without_more,
};
use crate::{machine::Machine, units};

/// The size of an additional bank of memory, in bytes.
const BANK_BYTES: u64 = 128 << 30;
/// The size of an additional disk in bytes, if the machine's own disks are no guide.
const DISK_BYTES: u64 = 3_840_000_000_000;

/// The gain from each kind of additional hardware.
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

/// The GPUs of the plan and one more, which is imagined if the machine has no unused one.
fn one_more(request: &Request, plan: &MachinePlan) -> Gpus {
    Gpus::Count(match &request.gpus {
        Gpus::All => plan.gpus.saturating_add(1),
        Gpus::Count(count) => count.saturating_add(1),
        Gpus::Named(names) => names.len().saturating_add(1),
    })
}

/// The places for slots plus another one as large as the largest, with its size. `None` if the space is unknown.
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
    // The free space of a nearly full disk is no guide.
    let bytes = if largest < plan.slot_bytes.saturating_mul(2) { DISK_BYTES } else { largest };
    places.push(Place { path: "more".into(), bytes: Some(bytes) });
    Some((bytes, Request { places, ..request.clone() }))
}

/// The machine with another bank of memory, spread over the nodes.
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

/// A note for the case that single-core PC1s might give more sectors than multicore SDR, because memory would otherwise
/// be unused.
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
