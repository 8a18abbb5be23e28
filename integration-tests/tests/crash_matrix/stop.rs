//! Workers are stopped for longer than every grace period, lose their sectors meanwhile, and wake up as stale owners.

use std::time::Duration;

use anyhow::ensure;
use rustix::process::Signal;
use sealbus_integration_tests::scripted::{
    control::Point,
    ledger::Ledger,
    table::Row,
    world::{Options, World, directory, wait},
};
use sealbus_schema::Phase;

use crate::support::{At, Cells, impatient, reached, sector_of};

const LIMIT: Duration = Duration::from_secs(120);

/// Both are stopped inside a phase. One is stopped before its sector's PreCommit, so the sector starts anew; the other
/// after it, so the sector is rebuilt. The manager revokes both leases, and a third worker completes both sectors. Then
/// the stopped workers continue.
pub fn stopped_longer_than_every_grace(table: &mut Cells) -> anyhow::Result<()> {
    let dir = directory()?;
    let mut world = World::prepare(dir.path(), Options { workers: 3, liveness: impatient(), ..Options::default() })?;
    let stopped = [Phase::Pc1, Phase::C1].map(|phase| At { point: Point::Inside, phase });
    for (index, at) in stopped.iter().enumerate() {
        at.hold(&world.workers[index].control)?;
    }
    world.start_manager()?;
    world.pledge_and_wait(stopped.len())?;
    for index in 0..stopped.len() {
        world.start_worker(index)?;
    }
    let mut numbers = Vec::new();
    for (index, at) in stopped.iter().enumerate() {
        numbers.push(sector_of(&reached(&world.workers[index].control, *at)?)?);
        world.signal_worker(index, Signal::STOP);
    }
    world.start_worker(2)?;
    world.wait_until_proving(stopped.len(), LIMIT)?;
    for (index, at) in stopped.iter().enumerate() {
        at.release(&world.workers[index].control)?;
        world.signal_worker(index, Signal::CONT);
    }
    for worker in &world.workers[..stopped.len()] {
        wait(
            "a freed slot with its files out of the way",
            || Ok((worker.left_in(0)? == ["quarantine"]).then_some(())),
        )?;
    }
    // They can take further sectors; no other worker is left to take these.
    world.kill_worker(2);
    world.pledge(stopped.len())?;
    world.wait_until_proving(2 * stopped.len(), LIMIT)?;

    let ledger = Ledger::read(&mut world)?;
    for (index, (at, number)) in stopped.iter().zip(numbers).enumerate() {
        let entry = ledger.sector(number)?.clone();
        let begun = world.workers[index].control.marks_at(Point::Before, at.phase);
        let begun = begun.iter().filter(|mark| sector_of(mark).is_ok_and(|of| of == number)).count();
        let failure = (|| {
            entry.check_ended_once()?;
            ensure!(entry.leases.claims() == 2, "claimed {} times, not twice", entry.leases.claims());
            ensure!(entry.fenced == 0 && entry.stale_accepted == 0, "the stale owner was heard");
            let owners: Vec<_> = entry.leases.records.iter().filter_map(|lease| lease.owner.clone()).collect();
            ensure!(owners == [world.workers[index].name.as_str(), "w3"], "owned by {owners:?}");
            anyhow::Ok(())
        })();
        table.rows.push(Row {
            what: "worker SIGSTOP, revoked".to_owned(),
            point: at.point.name().to_owned(),
            phase: at.phase.to_string(),
            sector: Some(number),
            entry,
            begun: Some(begun),
            again: None,
            failure: failure.err().map(|error| format!("{error:#}")),
        });
    }
    Ok(())
}
