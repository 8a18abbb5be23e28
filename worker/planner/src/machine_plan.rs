//! What to start where on a machine, and what that comes to.
//!
//! [`plan`] goes from a [`Machine`] and a [`Request`] to a [`MachinePlan`]. It shares out the memory ([`budget`]), gives PC1s
//! whole cores of one L3 cache ([`place`], with [`multicore`] for what the proofs library makes of them), tries numbers of
//! PC1s and [`gpus`] and keeps those that allow the most ([`draft`]), gives the rest what is left ([`groups`]), and puts slots
//! where there is room ([`room`]). [`times`] is what it assumes. [`explain`] writes the result for people,
//! [`configuration`] writes it for the worker.
//!
//! [`check`](mod@check) holds somebody's own processors against a machine, and [`auto`] places those that leave it open.

pub mod auto;
pub mod budget;
pub mod check;
pub mod configuration;
pub mod draft;
pub mod explain;
pub mod gpus;
pub mod groups;
mod more;
pub mod multicore;
pub mod place;
mod reasons;
pub mod request;
pub mod room;
pub mod times;

pub use check::{Finding, PlacedGroup, Severity, check};
pub use request::{CannotPlan, Gpus, Group, MachinePlan, More, Place, Reason, Request};

use std::collections::BTreeMap;

use sealbus_schema::Phase;

use crate::{machine::Machine, pipeline::simulate};
use draft::{Draft, Site};

/// Plans a machine.
///
/// # Errors
/// A machine that cannot seal such sectors, or a request that does not fit it; each says why and what to do.
pub fn plan(machine: &Machine, request: &Request) -> Result<MachinePlan, CannotPlan> {
    let plan = without_more(machine, request)?;
    let more = more::more(machine, request, &plan);
    let mut notes = more::one_core_each(machine, request, &plan);
    notes.extend(plan.notes);
    Ok(MachinePlan { more, notes, ..plan })
}

/// A plan without what one more of anything would bring.
fn without_more(machine: &Machine, request: &Request) -> Result<MachinePlan, CannotPlan> {
    let site = Site::new(machine, request)?;
    let draft = draft::choose(&site)?;
    let room = room::room(&site, &draft)?;
    let small = site.small(&draft);
    let groups = groups::groups(&site, &draft, &small);
    let slots = if request.has_files() { room.slots.len() } else { 2 * draft.gpus.max(1) };
    let pipeline = site.pipeline(&draft, slots, &small);
    let steady = simulate(&pipeline)?;
    let proofs = if request.proves() { draft.gpus.max(1) } else { 0 };
    Ok(MachinePlan {
        machine: explain::machine(&site.machine),
        sector_size: request.sector_size,
        concurrent: concurrent(&groups, draft.c2s),
        staggered_secs: BTreeMap::from_iter(
            [(Phase::Pc1, site.staggered_secs(&draft))].into_iter().filter(|(_, secs)| *secs > 0),
        ),
        locks: pipeline.locks.clone(),
        elsewhere: Phase::SEALING.into_iter().filter(|&phase| request.has_files() && !request.does(phase)).collect(),
        cgroups: request.cgroups,
        gpus: draft.gpus,
        slots: room.slots.clone(),
        slot_bytes: room.slot_bytes,
        times: used_times(&site, &draft),
        memory: site.budget.shares(request, draft.pc1s, [proofs, draft.c2s], draft.sharing),
        reasons: reasons::reasons(&site, &draft, &room),
        notes: reasons::notes(&site, &draft, &room, &steady),
        more: Vec::new(),
        groups,
        pipeline,
        steady,
    })
}

/// The most of each heavy phase at the same time.
fn concurrent(groups: &[Group], c2s: usize) -> BTreeMap<Phase, usize> {
    let mut counts = BTreeMap::new();
    for group in groups.iter().filter(|group| matches!(group.stage, Phase::Pc1 | Phase::Pc2 | Phase::C2)) {
        *counts.entry(group.stage).or_insert(0) += group.count;
    }
    if groups.iter().any(|group| group.stage == Phase::C2) {
        counts.insert(Phase::C2, c2s);
    }
    counts
}

fn used_times(site: &Site<'_>, draft: &Draft) -> Vec<times::UsedTime> {
    let phases = Phase::SEALING.into_iter().filter(|&stage| site.request.has_files() || site.request.does(stage));
    let waits = if site.request.has_files() { 0..times::WAITS.len() } else { 0..0 };
    phases.map(|stage| site.time(draft, stage)).chain(waits.map(|wait| site.request.times.wait(wait))).collect()
}
