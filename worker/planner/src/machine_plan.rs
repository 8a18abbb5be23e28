//! Plans which processors to run where on a machine, and estimates the throughput.
//!
//! [`plan`] turns a [`Machine`] and a [`Request`] into a [`MachinePlan`], in these steps. [`budget`] divides the
//! memory. [`place`] gives each PC1 whole cores of one L3 cache, using [`multicore`] for what the proofs library makes
//! of them. [`draft`] tries numbers of PC1s and [`gpus`] and keeps the best. [`groups`] gives the remaining cores to
//! the other phases. [`room`] puts slots where there is space. [`times`] has the assumptions. [`explain`] writes the
//! result for people, and [`configuration`] for the worker.
//!
//! [`check`](mod@check) checks configured processors against a machine, and [`auto`] places those that leave their cpus
//! to the worker.

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
/// [`CannotPlan`] if the machine cannot seal such sectors, or if the request does not fit it. Each error says why and
/// what to do.
pub fn plan(machine: &Machine, request: &Request) -> Result<MachinePlan, CannotPlan> {
    let plan = without_more(machine, request)?;
    let more = more::more(machine, request, &plan);
    let mut notes = more::one_core_each(machine, request, &plan);
    notes.extend(plan.notes);
    Ok(MachinePlan { more, notes, ..plan })
}

/// A plan without the estimates for additional hardware.
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

/// How many requests of each heavy phase may run at the same time.
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
