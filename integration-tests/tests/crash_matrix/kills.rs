//! `kill -9` of each process at each point of each phase.

use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use sealbus_integration_tests::scripted::{
    control::{Control, Point},
    ledger::Ledger,
    world::{Options, World, directory, wait, wait_closely},
};

use crate::support::{At, Cells, Expected, reached, unix_micros, wait_for_clean_slots};

const LIMIT: Duration = Duration::from_secs(180);

/// A world with one worker for each cell, held at the cell's point.
fn held_world(root: &std::path::Path, cells: &[At], nats: usize) -> anyhow::Result<World> {
    let options = Options { workers: cells.len(), nats, ..Options::default() };
    let mut world = World::prepare(root, options)?;
    for (at, worker) in cells.iter().zip(&world.workers) {
        at.hold(&worker.control)?;
    }
    world.start_manager()?;
    world.pledge_and_wait(cells.len())?;
    world.start_workers()?;
    // Each worker takes one sector: none completes its sector before all have begun.
    for worker in &world.workers {
        wait("the first phase of each worker", || Ok((!worker.control.marks().is_empty()).then_some(())))?;
    }
    Ok(world)
}

/// The first half of the cells kills the worker, the second half the processor.
pub fn worker_and_processor(table: &mut Cells) -> anyhow::Result<()> {
    let dir = directory()?;
    let points = At::all();
    let cells = [points.clone(), points.clone()].concat();
    let mut world = held_world(dir.path(), &cells, 1)?;
    let mut again = Vec::new();
    for (index, at) in cells.iter().enumerate() {
        let control = world.workers[index].control.clone();
        let mark = reached(&control, *at)?;
        let restarted = if index < points.len() {
            world.kill_worker(index);
            let restarted = unix_micros();
            world.start_worker(index)?;
            restarted
        } else {
            let pid = Pid::from_raw(mark.pid).context("a pid")?;
            kill_process(pid, Signal::KILL)?;
            unix_micros()
        };
        again.push(begun_again(&control, *at, restarted)?);
        at.release(&control)?;
    }
    finish(&mut world, cells.len())?;
    let ledger = Ledger::read(&mut world)?;
    for (index, (at, again)) in cells.iter().zip(again).enumerate() {
        let is_worker = index < points.len();
        let what = if is_worker { "worker" } else { "processor" };
        // A killed processor is a failed attempt. A killed worker begins the same attempt again.
        let expected = Expected { begun: 2, failed: u64::from(!is_worker), claims: 1 };
        table.judge(what, *at, &world.workers[index].control, &ledger, expected, Some(again))?;
    }
    Ok(())
}

/// All cells at once. The phases go on and end while the manager is down.
pub fn manager(table: &mut Cells) -> anyhow::Result<()> {
    let dir = directory()?;
    let cells = At::all();
    let mut world = held_world(dir.path(), &cells, 1)?;
    wait_until_all_are_there(&world, &cells)?;
    world.kill_manager();
    release_and_wait_for_answers(&world, &cells)?;
    let restart = Instant::now();
    world.start_manager()?;
    let before: Vec<String> = world.sectors()?.into_iter().map(|sector| sector.changed_at).collect();
    wait_closely("the manager", || {
        let now = world.sectors()?;
        Ok((!now.iter().map(|sector| &sector.changed_at).eq(&before)).then_some(()))
    })?;
    table.note(format!("the manager folds {} ms after its restart", restart.elapsed().as_millis()));
    finish_undisturbed(table, &mut world, &cells, "manager")
}

/// All cells at once, while NATS is down.
pub fn nats(table: &mut Cells) -> anyhow::Result<()> {
    let dir = directory()?;
    let cells = At::all();
    let mut world = held_world(dir.path(), &cells, 1)?;
    wait_until_all_are_there(&world, &cells)?;
    world.kill_nats(0);
    release_and_wait_for_answers(&world, &cells)?;
    world.start_nats(0)?;
    finish_undisturbed(table, &mut world, &cells, "nats")
}

/// Three NATS servers. The leader of the sectors' log is killed while every phase is running, and stays down.
pub fn nats_leader(table: &mut Cells) -> anyhow::Result<()> {
    let dir = directory()?;
    let cells: Vec<At> = At::all().into_iter().filter(|at| at.point == Point::Inside).collect();
    let mut world = held_world(dir.path(), &cells, 3)?;
    wait_until_all_are_there(&world, &cells)?;
    let leader = world.leader_of(sealbus_nats::topology::SECTORS)?;
    world.kill_nats(leader);
    release_and_wait_for_answers(&world, &cells)?;
    finish_undisturbed(table, &mut world, &cells, "nats leader of 3")
}

fn wait_until_all_are_there(world: &World, cells: &[At]) -> anyhow::Result<()> {
    cells.iter().zip(&world.workers).try_for_each(|(at, worker)| reached(&worker.control, *at).map(drop))
}

fn release_and_wait_for_answers(world: &World, cells: &[At]) -> anyhow::Result<()> {
    for (at, worker) in cells.iter().zip(&world.workers) {
        at.release(&worker.control)?;
    }
    for (at, worker) in cells.iter().zip(&world.workers) {
        reached(&worker.control, At { point: Point::Told, ..*at })?;
    }
    Ok(())
}

fn finish(world: &mut World, count: usize) -> anyhow::Result<()> {
    world.wait_until_proving(count, LIMIT)?;
    wait_for_clean_slots(world)
}

/// No phase was interrupted, so none began twice.
fn finish_undisturbed(table: &mut Cells, world: &mut World, cells: &[At], what: &str) -> anyhow::Result<()> {
    finish(world, cells.len())?;
    let ledger = Ledger::read(world)?;
    let expected = Expected { begun: 1, failed: 0, claims: 1 };
    for (at, worker) in cells.iter().zip(&world.workers) {
        table.judge(what, *at, &worker.control, &ledger, expected, None)?;
    }
    Ok(())
}

/// The time from `since_unix_micros` to the next beginning of the phase.
fn begun_again(control: &Control, at: At, since_unix_micros: u128) -> anyhow::Result<Duration> {
    let begun = wait("the phase's second beginning", || {
        let marks = control.marks_at(Point::Before, at.phase);
        Ok(marks.into_iter().map(|mark| mark.unix_micros).find(|micros| *micros >= since_unix_micros))
    })?;
    Ok(Duration::from_micros(u64::try_from(begun - since_unix_micros)?))
}
