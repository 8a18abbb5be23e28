//! Chooses the GPUs for PC2 and C2.

use super::{
    request::{CannotPlan, Gpus, Request},
    times::is_large,
};
use crate::{
    machine::{Gpu, Machine},
    units,
};

/// A card with less memory than this is there for a screen.
const CARD_BYTES_LEAST: u64 = 4 << 30;
/// C2 for 32 and 64 GiB sectors transforms vectors of 2^27 elements of 32 bytes, two at a time.
const CARD_BYTES_C2: u64 = 8 << 30;

/// The result of the choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// GPUs that the machine does not have.
    pub imagined: Vec<String>,
    /// GPUs that it has and that are not used, with the reason.
    pub left_out: Vec<String>,
}

/// Reduces the machine to the requested GPUs.
///
/// # Errors
/// [`CannotPlan`] if a named GPU does not exist or cannot be used.
pub fn choose(machine: &mut Machine, request: &Request) -> Result<Chosen, CannotPlan> {
    if let Gpus::Named(names) = &request.gpus {
        named(machine, names)?;
        return Ok(Chosen::default());
    }
    let mut chosen = Chosen::default();
    machine.gpus.retain(|gpu| match unfit(gpu, request) {
        Some(why) => {
            chosen.left_out.push(why);
            false
        }
        None => true,
    });
    if let Gpus::Count(count) = request.gpus {
        machine.gpus.truncate(count);
        imagine(machine, count, &mut chosen.imagined);
    }
    Ok(chosen)
}

/// A warning about a GPU that is used but has too little memory.
#[must_use]
pub fn small(gpu: &Gpu, request: &Request) -> Option<String> {
    let is_small = (1..=CARD_BYTES_C2).contains(&gpu.memory_bytes) && is_large(request.sector_size);
    (is_small && request.does(sealbus_schema::Phase::C2)).then(|| {
        format!(
            "GPU {} has {}, and c2 needs more than {} on the card at a time; what does not fit is calculated on cores, for much \
             longer: measure it, or leave it out (--gpus)",
            gpu.id,
            units::bytes(gpu.memory_bytes),
            units::bytes(CARD_BYTES_C2)
        )
    })
}

fn named(machine: &mut Machine, names: &[String]) -> Result<(), CannotPlan> {
    let has = machine.gpus.iter().map(|gpu| gpu.id.as_str()).collect::<Vec<_>>().join(", ");
    for (at, name) in names.iter().enumerate() {
        let Some(gpu) = machine.gpus.iter().find(|gpu| gpu.id == *name) else {
            let has = if has.is_empty() { "none".to_owned() } else { has };
            return Err(CannotPlan::NoGpu { name: name.clone(), has });
        };
        if !gpu.is_cuda() {
            return Err(CannotPlan::ForeignGpu { name: name.clone(), card: gpu.name.clone() });
        }
        if names[..at].contains(name) {
            return Err(CannotPlan::GpuTwice { name: name.clone() });
        }
    }
    machine.gpus.retain(|gpu| names.contains(&gpu.id));
    Ok(())
}

/// Why a GPU is not used unless it is named.
fn unfit(gpu: &Gpu, request: &Request) -> Option<String> {
    let (id, name) = (&gpu.id, &gpu.name);
    if !gpu.is_cuda() {
        return Some(format!(
            "GPU {id} ({name}) is left out: it is not NVIDIA's, and the worker chooses cards by CUDA_VISIBLE_DEVICES; a processor \
             of your own may have it by its own variable in env"
        ));
    }
    let is_tiny = gpu.memory_bytes > 0 && gpu.memory_bytes < CARD_BYTES_LEAST && is_large(request.sector_size);
    is_tiny.then(|| {
        let bytes = units::bytes(gpu.memory_bytes);
        format!("GPU {id} ({name}) is left out: it has {bytes}, too little for such sectors; --gpus {id} takes it all the same")
    })
}

/// Adds GPUs that do not exist, with unused ids.
fn imagine(machine: &mut Machine, count: usize, imagined: &mut Vec<String>) {
    for number in (0_usize..).take(count.saturating_add(machine.gpus.len())) {
        let id = format!("{number}");
        if machine.gpus.len() < count && !machine.gpus.iter().any(|gpu| gpu.id == id) {
            imagined.push(id.clone());
            let (vendor, name) = (Gpu::NVIDIA, "imagined".to_owned());
            machine.gpus.push(Gpu { id, vendor, name, pci: None, node: None, memory_bytes: 0 });
        }
    }
}
