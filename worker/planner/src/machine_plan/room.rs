//! Slots: as many as keep the processors busy, where there is room.

use std::{collections::BTreeSet, path::PathBuf};

use super::{
    draft::{Draft, Site},
    request::{CannotPlan, Place},
    times::is_large,
};
use crate::{machine::Machine, pipeline::DAY_MS, pipeline::simulate, sector::needed_bytes, units};

/// What a file system leaves of a disk, in hundredths.
const OF_DISK: u64 = 98;
/// Slots beyond what a pipeline without queues would hold.
const SPARE: f64 = 1.1;
/// The most slots beyond that.
const SPARE_MOST: f64 = 1.5;
/// The part of the bound that is good enough.
const BUSY: f64 = 0.98;
/// The most slots of a plan.
const SLOTS_MAX: usize = 5_000;
/// Where slots are written when nobody says where they may be.
const UNKNOWN: &str = "/mnt/seal";

/// The slots of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Their directories.
    pub slots: Vec<PathBuf>,
    /// As many as would be worth it.
    pub worth: usize,
    /// As many as there is room for; `None` where nobody knows.
    pub fit: Option<usize>,
    /// Where there is room, with how many slots fit.
    pub places: Vec<(Place, Option<usize>)>,
    /// What one slot takes.
    pub slot_bytes: u64,
    /// Whether somebody said where slots may be.
    pub is_told: bool,
    /// Whether the sectors are too small for a plan to matter.
    pub is_small: bool,
}

/// Finds room.
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

/// A directory that is among the places twice, however it is written.
fn twice(places: &[Place]) -> Option<String> {
    let plain = |place: &Place| place.path.components().collect::<PathBuf>();
    let mut seen = BTreeSet::new();
    places.iter().find(|place| !seen.insert(plain(place))).map(|place| place.path.display().to_string())
}

/// How many slots keep the processors busy: what a pipeline without queues would hold, some more, and, where two
/// resources are about as scarce, as many more as the queues between them need.
fn worth(site: &Site<'_>, draft: &Draft) -> Result<usize, CannotPlan> {
    let small = site.small(draft);
    let residence = site.pipeline(draft, 1, &small).residence_ms();
    let held = draft.per_day * residence as f64 / DAY_MS as f64;
    // Small sectors are for tests: a slot for each core is plenty.
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

/// Takes a slot of each place in turn, as long as there is room.
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

/// The machine's own disks, by the names that they might be mounted under.
fn disks(machine: &Machine) -> Vec<Place> {
    let usable = machine.disks.iter().filter(|disk| !disk.rotational && disk.bytes > 0);
    let place =
        |name: &str, bytes: u64| Place { path: PathBuf::from("/mnt").join(name), bytes: Some(bytes / 100 * OF_DISK) };
    usable.map(|disk| place(&disk.name, disk.bytes)).collect()
}
