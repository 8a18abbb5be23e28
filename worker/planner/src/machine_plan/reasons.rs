//! Explains a plan in sentences.

use std::collections::{BTreeMap, BTreeSet};

use sealbus_schema::Phase;

use super::{
    budget::Sharing,
    draft::{CPU_LOCK, Draft, MEMORY_LOCK, SLOTS_MANY, Site, least_rest},
    gpus,
    multicore::Outcome,
    request::{Reason, WINDOW_POST, WINNING_POST},
    room::Room,
    times::{On, is_large, parent_cache_bytes},
};
use crate::{
    machine::{CpuSet, Machine, Node},
    pipeline::Steady,
    pipeline::{Bound, Resource, bounds},
    units,
};

/// The reasons, in the order of the plan.
#[must_use]
pub fn reasons(site: &Site<'_>, draft: &Draft, room: &Room) -> Vec<Reason> {
    let mut all = Vec::new();
    if site.request.does(Phase::Pc1) {
        all.push(reason("pc1", pc1_count(site, draft)));
        all.push(reason("pc1", pc1_cores(site, draft)));
    }
    if !draft.units.is_empty() {
        all.push(reason("pc1", pc1_memory(site)));
    }
    if site.request.proves() {
        all.push(reason("pc2, c2", proofs(site, draft)));
    }
    if let Some(lock) = draft.c2_lock(Phase::C2) {
        let text = format!(
            "{} c2 at most at the same time (lock {lock}), though there are {} GPUs: each takes {}, and pc2 {}",
            draft.c2s,
            draft.gpus,
            units::bytes(site.request.memory_of(Phase::C2)),
            units::bytes(site.request.memory_of(Phase::Pc2))
        );
        all.push(reason("memory", text));
    }
    if draft.sharing == Sharing::Turns {
        let text = format!(
            "pc1, pc2 and c2 hold the lock {MEMORY_LOCK}, because their memory does not fit beside each other: {} and {}",
            units::bytes(site.request.memory_of(Phase::Pc1)),
            units::bytes(site.request.memory_of(Phase::C2))
        );
        all.push(reason("memory", text));
    }
    if site.request.does(WINDOW_POST) {
        all.push(reason("posts", posts(site, draft)));
    }
    if site.request.has_files() {
        all.push(reason("the rest", rest(site, draft)));
    }
    if site.staggered_secs(draft) > 0 {
        let text = format!(
            "pc1 starts {} s apart at least, so that sectors do not come to the next phases all at once",
            site.staggered_secs(draft)
        );
        all.push(reason("limits", text));
    }
    if site.request.has_files() {
        all.push(reason("slots", slots(draft, room)));
    }
    all
}

fn reason(about: &str, text: String) -> Reason {
    Reason { about: about.to_owned(), text }
}

fn pc1_count(site: &Site<'_>, draft: &Draft) -> String {
    let count = draft.pc1s;
    let of = match draft.units.is_empty() {
        true => format!("{count} at a time, on whatever cores are free"),
        false => format!("{count}, each a process with one sector at a time"),
    };
    let kept = least_rest(&site.machine, draft.gpus);
    let scarce = match () {
        () if count >= draft.fits_memory && site.budget.from_huge => {
            "reserved huge pages have no room for another".to_owned()
        }
        () if count >= draft.fits_memory => "memory has no room for another".to_owned(),
        () if count >= draft.fits_cores && count < draft.fits_cores_alone => {
            let more = draft.fits_cores_alone - count;
            format!("there are cores for {more} more, but the nodes that have them have no memory for another")
        }
        () if count >= draft.fits_cores && draft.want.producers.is_some() => {
            format!("no L3 cache has {} more cores that multicore SDR could use", draft.want.cores)
        }
        () if count >= draft.fits_cores => "there are no cores for another".to_owned(),
        () if draft.rest_cores < kept + draft.want.cores && !draft.units.is_empty() => {
            format!("{kept} cores at least are kept for the other phases")
        }
        () => {
            let spec = site.pipeline(draft, SLOTS_MANY, &BTreeMap::new());
            let is_other =
                |bound: &Bound| !matches!(bound.resource, Resource::Processors(Phase::Pc1) | Resource::Slots);
            let other = bounds(&spec).into_iter().find(is_other);
            let by = other.map_or_else(String::new, |bound| {
                format!(": {} would allow {} sectors a day", bound.resource, units::rate(bound.per_day))
            });
            format!("more would bring little{by}")
        }
    };
    format!("{of}: {scarce}")
}

fn pc1_cores(site: &Site<'_>, draft: &Draft) -> String {
    if draft.units.is_empty() {
        return "not bound to cores".to_owned();
    }
    let threads = draft.units[0].cpus.len() / draft.units[0].cores.len().max(1);
    let whole = match threads {
        1 => String::new(),
        threads => format!(
            ", with all {threads} hardware threads of each: whoever used the others would take half of the core"
        ),
    };
    let caches: BTreeSet<usize> = draft.units.iter().map(|unit| unit.cache).collect();
    let spread = match caches.len() {
        count if count == draft.units.len() => "each in an L3 cache of its own".to_owned(),
        count => format!("in {count} L3 caches, spread as evenly as they allow"),
    };
    let cores = draft.want.cores;
    match (draft.want.producers, &draft.single) {
        (Some(producers), _) => {
            let floating = draft.units.iter().filter(|unit| unit.outcome == Some(Outcome::Unbound)).count();
            let floats = match floating {
                0 => String::new(),
                count => format!(
                    ". For {count} of them multicore SDR finds no unit of its own (it takes core numbers for cpu numbers), so \
                     the threads share the {cores} cores instead of having one each"
                ),
            };
            let searched = match site.request.producers {
                None => {
                    ". Of 1, 2 and 3 producers this number allows the most, if pc1 takes as long with each: measure it, and see \
                         --producers"
                }
                Some(_) => "",
            };
            let producers = if producers == 1 { "1 producer".to_owned() } else { format!("{producers} producers") };
            format!(
                "{cores} cores of one L3 cache, {spread}: multicore SDR's main thread and {producers} exchange \
                 everything through it{whole}{floats}{searched}"
            )
        }
        (None, Some(why)) => format!("one core each{whole}. Multicore SDR is not used: {why}; pc1 takes longer so"),
        (None, None) => {
            format!("one core each, {spread}{whole}; {} cores are too few for multicore SDR", site.machine.cores.len())
        }
    }
}

fn pc1_memory(site: &Site<'_>) -> String {
    let need = units::bytes(site.request.memory_of(Phase::Pc1));
    let from = if site.budget.from_huge { "reserved huge pages of " } else { "" };
    let on_node = site.budget.pc1s_on_node(site.request);
    let list: Vec<String> =
        site.machine.nodes.iter().zip(&on_node).map(|(node, count)| format!("{} for {count}", node.os_index)).collect();
    format!(
        "{need} each (two layers of labels), bound to {from}the node of its cores; nodes have room: {}",
        list.join(", ")
    )
}

fn proofs(site: &Site<'_>, draft: &Draft) -> String {
    if draft.gpus == 0 {
        return format!(
            "there is no GPU: both run on {} cores, one at a time (lock {CPU_LOCK}), and take {} and {} instead of {} and {} or so",
            draft.rest_cores,
            units::time(site.time(draft, Phase::Pc2).time_ms),
            units::time(site.time(draft, Phase::C2).time_ms),
            units::time(site.request.times.phase(Phase::Pc2, On::Gpu).time_ms),
            units::time(site.request.times.phase(Phase::C2, On::Gpu).time_ms),
        );
    }
    let has = site.machine.gpus.len();
    let unused = match has - draft.gpus {
        0 => String::new(),
        unused => format!("; {unused} of {has} GPUs are left unused, more would bring nothing or have no memory"),
    };
    let near = match site.machine.gpus[..draft.gpus].iter().any(|gpu| gpu.node.is_some()) && !draft.units.is_empty() {
        true => ", on cores and memory of the GPU's node where it has some left",
        false => "",
    };
    format!(
        "one of each for each GPU, kept apart by the GPU's lock: two at once on one GPU fail or slow each other{near}{unused}"
    )
}

fn posts(site: &Site<'_>, draft: &Draft) -> String {
    let (place, what) = match draft.gpus {
        0 => ("one, on the cores of pc2 and c2", "these cores are"),
        1 => ("one, on the GPU", "the GPU is"),
        _ => ("one for each GPU", "the GPUs are"),
    };
    format!(
        "window PoSts: {place}, with the locks of c2; from 5 epochs before a challenge until the proof is made {what} kept for \
         them, which the expected sectors a day leave out. Winning PoSts: one more, without a lock: a block has seconds, and \
         {} is enough",
        units::bytes(site.request.memory_of(WINNING_POST))
    )
}

fn rest(site: &Site<'_>, draft: &Draft) -> String {
    if draft.units.is_empty() {
        return "everything shares all cores".to_owned();
    }
    let per_gpu = match draft.gpus {
        0 => String::new(),
        _ => format!("; {} are kept free at least, to feed the GPUs", least_rest(&site.machine, draft.gpus)),
    };
    let caches = (0..site.machine.caches.len()).filter(|&cache| {
        let cores = site.machine.cores_of_cache(cache);
        !cores.is_empty() && draft.units.iter().all(|unit| unit.cache != cache)
    });
    let alone = caches.count();
    format!(
        "add_pieces, tree_d, transfer, c1 and the cpu's part of pc2 and c2 share the {} cores that pc1 does not have \
             (L3 caches without pc1: {alone}){per_gpu}",
        draft.rest_cores
    )
}

fn slots(draft: &Draft, room: &Room) -> String {
    let each = units::bytes(room.slot_bytes);
    let count = room.slots.len();
    if room.is_small {
        return format!("{count} of {each}: no more than cores, small sectors are for tests");
    }
    let worth = format!("{} would keep everything busy at {} sectors a day", room.worth, units::rate(draft.per_day));
    match room.fit {
        Some(fit) if fit < room.worth => format!("{count} of {each}: {worth}, there is room for {fit}"),
        Some(fit) => format!("{count} of {each}: {worth}; there is room for {fit}"),
        None => format!("{count} of {each}: {worth}; nobody said how much room there is"),
    }
}

/// What a person should know or do.
#[must_use]
pub fn notes(site: &Site<'_>, draft: &Draft, room: &Room, steady: &Steady) -> Vec<String> {
    let mut notes = Vec::new();
    let machine = &site.machine;
    notes.extend(site.left_out.iter().cloned());
    notes.extend(machine.gpus.iter().take(draft.gpus).filter_map(|gpu| gpus::small(gpu, site.request)));
    notes.extend(without_cores(machine));
    if !site.request.only.is_empty() {
        notes.push(elsewhere(site));
    }
    if !site.imagined.is_empty() {
        notes.push(format!("GPU {} is imagined: the machine does not have it", site.imagined.join(", ")));
    }
    if draft.gpus == 0 && site.request.proves() && is_large(site.request.sector_size) {
        notes.push("without a GPU pc2 and c2 take hours of many cores: a GPU is the first thing to buy".to_owned());
    }
    if draft.gpus > 0 {
        notes.push("pc2 and c2 use a GPU only if their executable is built for it; this one's own are not: give theirs as bin, and measure".to_owned());
    }
    if draft.sharing == Sharing::WithoutParents {
        let bytes = units::bytes(parent_cache_bytes(site.request.sector_size));
        notes.push(format!("memory has no room for the parent cache ({bytes}): each layer of pc1 reads it from the disk, put it on a fast one"));
    }
    if draft.sharing == Sharing::Turns {
        notes.push("pc1 and c2 wait for each other's memory: more memory, or swap on fast disks and --need c2=…, would let them overlap".to_owned());
    }
    if let Some(why) = &draft.single {
        notes.push(format!("multicore SDR is off: {why}"));
    }
    if site.budget.huge > 0 && !site.budget.from_huge {
        let bytes = units::bytes(site.budget.huge);
        notes.push(format!("{bytes} are reserved as huge pages, and nothing here uses them: --huge-pages gives them to pc1, or unreserve them"));
    }
    if !machine.units().is_empty() && machine.present.len() > machine.units().len() {
        let outside = machine.present.difference(&machine.units());
        notes.push(format!(
            "the worker may not use cpus {outside}; if they are other threads of its cores, whoever uses them slows pc1"
        ));
    }
    if !room.is_told && site.request.has_files() {
        notes.push("nobody said where slots may be (--slots-on): the paths are a guess, edit them".to_owned());
    }
    if steady.sectors_per_day < 0.95 * steady.bound_per_day {
        notes.push(format!(
            "expected is {:.0}% of the bound, because sectors wait for each other in turns; some slots more bring it nearer",
            100.0 * steady.sectors_per_day / steady.bound_per_day
        ));
    }
    if site.request.has_files() {
        notes.push(
            "make the slots' directories before the worker starts; it waits for those that are missing".to_owned(),
        );
    }
    notes
}

/// A note about memory that is not counted.
fn without_cores(machine: &Machine) -> Option<String> {
    let nodes: Vec<&Node> = machine.nodes.iter().filter(|node| !node.has_cores && node.memory_bytes > 0).collect();
    let numbers: CpuSet = nodes.iter().map(|node| node.os_index).collect();
    let bytes = nodes.iter().fold(0_u64, |sum, node| sum.saturating_add(node.memory_bytes));
    (!nodes.is_empty()).then(|| {
        format!(
            "the {} of node {numbers} are not counted: no cores are next to them, so they are a graphics card's, or slower memory",
            units::bytes(bytes)
        )
    })
}

/// A note about phases that run elsewhere.
fn elsewhere(site: &Site<'_>) -> String {
    let phases = [Phase::Pc1, Phase::Pc2, Phase::C2].into_iter().filter(|&phase| !site.request.does(phase));
    let names = phases.map(Phase::name).collect::<Vec<_>>().join(" and ");
    match (names.is_empty(), site.request.has_files()) {
        (true, _) => "--only names all heavy phases, as without it".to_owned(),
        (false, true) => format!(
            "{names}: done elsewhere, as fast as is needed, by an executable (bin) that hands it on; it takes no memory, cores or GPU here"
        ),
        (false, false) => {
            "c2 alone needs no slots: this is for a machine that an executable (bin) of workers hands c2 to".to_owned()
        }
    }
}
