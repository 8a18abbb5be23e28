//! The same for the workflow that only tests have: nothing of it is known here but its phases and the name of its end.

use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use sealbus_integration_tests::{
    scripted::{
        control::Point,
        ledger::Ledger,
        table::Row,
        world::{Options, World, directory, wait, wait_closely},
    },
    workflows::toy,
};
use sealbus_schema::{Phase, SectorId, Workflow};

use crate::support::{At, Cells, reached, wait_for_clean_slots};

const LIMIT: Duration = Duration::from_secs(120);
/// What each job reports once.
const REPORTS: [&str; 3] = ["toy_staged", "toy_measured", "finished"];

/// The processes that are killed, a third of the cells each.
const KILLED: [&str; 3] = ["worker", "processor", "manager"];

pub fn worker_processor_and_manager(table: &mut Cells) -> anyhow::Result<()> {
    let of = |phase: &Phase| Point::HOLDS.map(|point| At { point, phase: *phase });
    let points: Vec<At> = Workflow::Toy.phases().iter().flat_map(of).collect();
    let cells: Vec<(&str, At)> = KILLED.iter().flat_map(|what| points.iter().map(move |at| (*what, *at))).collect();
    let dir = directory()?;
    let options = Options { workers: cells.len(), workflows: vec![Workflow::Toy], ..Options::default() };
    let mut world = World::prepare(dir.path(), options)?;
    for ((_, at), worker) in cells.iter().zip(&world.workers) {
        at.hold(&worker.control)?;
    }
    world.start_manager()?;
    let store = wait("the manager's records", || Ok(world.store().ok()))?;
    let sectors: Vec<SectorId> = (1..=cells.len() as u64).map(|number| world.sector_id(number)).collect();
    wait_closely("the tables", || Ok(world.block_on(store.sectors(&Default::default())).ok().map(drop)))?;
    world.block_on(toy::begin(&store, &sectors))?;
    world.start_workers()?;

    for (index, (what, at)) in cells.iter().enumerate() {
        let mark = reached(&world.workers[index].control, *at)?;
        match *what {
            "worker" => {
                world.kill_worker(index);
                world.start_worker(index)?;
            }
            "processor" => kill_process(Pid::from_raw(mark.pid).context("a pid")?, Signal::KILL)?,
            // Once, when all the others are at their points.
            _ => {}
        }
    }
    world.kill_manager();
    for ((_, at), worker) in cells.iter().zip(&world.workers) {
        at.release(&worker.control)?;
    }
    world.start_manager()?;
    world.wait_until_proving(cells.len(), LIMIT)?;
    wait_for_clean_slots(&world)?;

    let ledger = Ledger::read(&mut world)?;
    for (worker, (what, at)) in world.workers.iter().zip(&cells) {
        let number = crate::support::sector_of(&reached(&worker.control, *at)?)?;
        let entry = ledger.sector(number)?.clone();
        let begun = worker.control.marks_at(Point::Before, at.phase).len();
        let check = || {
            ensure!(
                entry.state == "toy_done" && entry.blocked.is_none(),
                "it is {} ({:?})",
                entry.state,
                entry.blocked
            );
            for kind in REPORTS {
                ensure!(entry.count(kind) == 1, "{kind} was reported {} times", entry.count(kind));
            }
            ensure!(entry.leases.is_closed() && entry.leases.claims() == 1, "claimed {} times", entry.leases.claims());
            ensure!(entry.illegal == 0 && entry.fenced == 0, "reports that count for nothing");
            let expected = if *what == "manager" { 1 } else { 2 };
            ensure!(begun == expected, "the phase was begun {begun} times, not {expected}");
            Ok(())
        };
        let failure = check().err().map(|error: anyhow::Error| format!("{error:#}"));
        table.rows.push(Row {
            what: (*what).to_owned(),
            point: at.point.name().to_owned(),
            phase: at.phase.to_string(),
            sector: Some(number),
            entry,
            begun: Some(begun),
            again: None,
            failure,
        });
    }
    Ok(())
}
