//! Chooses the slots: as many as keep the processors busy, where there is space.

use std::{collections::BTreeSet, path::PathBuf};

use super::{
    draft::{Draft, Site},
    request::{CannotPlan, Place},
    times::is_large,
};
use crate::{machine::Machine, pipeline::DAY_MS, pipeline::simulate, sector::needed_bytes, units};

/// The percentage of a disk that a file system leaves for files.
const OF_DISK: u64 = 98;
/// The first number of slots tried, as a multiple of what a pipeline without queues would hold.
const SPARE: f64 = 1.1;
/// The highest number of slots tried, as such a multiple.
const SPARE_MOST: f64 = 1.5;
/// The part of the upper bound that is good enough.
const BUSY: f64 = 0.98;
/// The highest number of slots in a plan.
const SLOTS_MAX: usize = 5_000;
/// The parent directory of the slots if none is given.
const UNKNOWN: &str = "/mnt/seal";

/// The slots of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Their directories.
    pub slots: Vec<PathBuf>,
    /// How many would be useful.
    pub worth: usize,
    /// How many there is space for; `None` if unknown.
    pub fit: Option<usize>,
    /// The places with space, and how many slots fit into each.
    pub places: Vec<(Place, Option<usize>)>,
    /// The bytes that a slot needs.
    pub slot_bytes: u64,
    /// Whether the request said where slots may be.
    pub is_told: bool,
    /// Whether the sectors are too small for a plan to matter.
    pub is_small: bool,
}

/// Chooses the slots.
pub fn room(site: &Site<'_>, draft: &Draft) -> Result<Room, CannotPlan> {
    let slot_bytes = needed_bytes(site.request.sector_size.seal_proof());
    let is_told = !site.request.places.is_empty();
    let is_small = !is_large(site.request.sector_size);
    if !site.request.has_files() {
        let (slots, places) = (Vec::new(), Vec::new());
        return Ok(Room { slots, worth: 0, fit: Some(0), places, slot_bytes, is_told, is_small });
    }
    if let Some(path) = twice(&site.request.places) {
        return Err(CannotPlan::PlaceTwice { path });
    }
    let known = if is_told { site.request.places.clone() } else { disks(&site.machine) };
    let known = if known.is_empty() { vec![Place { path: UNKNOWN.into(), bytes: None }] } else { known };
    let fits = |place: &Place| place.bytes.map(|bytes| usize::try_from(bytes / slot_bytes).unwrap_or(usize::MAX));
    let places: Vec<(Place, Option<usize>)> = known.into_iter().map(|place| (place.clone(), fits(&place))).collect();
    // `None` as soon as the space of one place is unknown.
    let fit = places.iter().map(|(_, fits)| *fits).try_fold(0_usize, |sum, fits| Some(sum.saturating_add(fits?)));
    let said = || places.iter().map(|(place, _)| place.to_string()).collect::<Vec<_>>().join(", ");
    let needed = units::bytes(slot_bytes);
    if fit == Some(0) {
        return Err(CannotPlan::NoRoom { needed, places: said() });
    }
    let worth = worth(site, draft)?;
    let count = match (site.request.slots, fit) {
        (Some(wanted), Some(room)) if wanted > room => {
            return Err(CannotPlan::TooManySlots { wanted, room, needed, places: said() });
        }
        (Some(wanted), _) => wanted,
        (None, fit) => fit.map_or(worth, |fit| fit.min(worth)),
    };
    let slots = spread(&places, count.min(SLOTS_MAX));
    Ok(Room { slots, worth, fit, places, slot_bytes, is_told, is_small })
}

/// A directory that is given twice, perhaps with different spellings.
fn twice(places: &[Place]) -> Option<String> {
    let plain = |place: &Place| place.path.components().collect::<PathBuf>();
    let mut seen = BTreeSet::new();
    places.iter().find(|place| !seen.insert(plain(place))).map(|place| place.path.display().to_string())
}

/// How many slots keep the processors busy. The start is what a pipeline without queues would hold, and some more. If
/// two resources are about equally scarce, slots are added for the queues between them.
fn worth(site: &Site<'_>, draft: &Draft) -> Result<usize, CannotPlan> {
    let small = site.small(draft);
    let residence = site.pipeline(draft, 1, &small).residence_ms();
    let held = draft.per_day * residence as f64 / DAY_MS as f64;
    // Small sectors are for tests, where one slot per core is plenty.
    if !is_large(site.request.sector_size) {
        return Ok((held.ceil() as usize).clamp(1, site.machine.cores.len().max(2)));
    }
    let at_most = ((held * SPARE_MOST).ceil() as usize).clamp(1, SLOTS_MAX);
    let mut worth = ((held * SPARE).ceil() as usize).clamp(1, at_most);
    while worth < at_most && simulate(&site.pipeline(draft, worth, &small))?.sectors_per_day < BUSY * draft.per_day {
        worth = (worth + worth.div_ceil(20)).min(at_most);
    }
    Ok(worth)
}

/// Takes slots from the places in turn, as long as there is space.
fn spread(places: &[(Place, Option<usize>)], count: usize) -> Vec<PathBuf> {
    let mut left: Vec<usize> = places.iter().map(|(_, fits)| fits.unwrap_or(usize::MAX)).collect();
    let mut slots = Vec::new();
    while slots.len() < count && left.iter().any(|&left| left > 0) {
        for ((place, _), left) in places.iter().zip(&mut left) {
            if *left > 0 && slots.len() < count {
                *left -= 1;
                slots.push(place.path.join(format!("slot{}", slots.len())));
            }
        }
    }
    slots
}

/// The machine's own disks, under the names by which they might be mounted.
fn disks(machine: &Machine) -> Vec<Place> {
    let usable = machine.disks.iter().filter(|disk| !disk.rotational && disk.bytes > 0);
    let place =
        |name: &str, bytes: u64| Place { path: PathBuf::from("/mnt").join(name), bytes: Some(bytes / 100 * OF_DISK) };
    usable.map(|disk| place(&disk.name, disk.bytes)).collect()
}
