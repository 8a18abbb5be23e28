//! A journal truncated at every byte: its slot blocks and keeps its files, and the other slots go on.

use std::fs;

use anyhow::{Context, ensure};
use sealbus_integration_tests::scripted::{
    control::Point,
    ledger::Ledger,
    table::Row,
    world::{Options, World, directory, wait},
};
use sealbus_schema::{ErrorClass, ErrorCode, Phase};

use crate::support::{At, Cells, reached, sector_of, wait_for_clean_slots};

/// The number of the worker's free slots. This many truncated journals are tried with each start.
const SLOTS: usize = 128;

/// Copies the journal of a sector in the middle of PC1 into other slots of the same worker, each truncated at another
/// byte.
pub fn cut_off_at_every_byte(table: &mut Cells) -> anyhow::Result<()> {
    let dir = directory()?;
    let options = Options { slots: SLOTS + 1, ..Options::default() };
    let mut world = World::prepare(dir.path(), options)?;
    let control = world.workers[0].control.clone();
    let at = At { point: Point::Inside, phase: Phase::Pc1 };
    at.hold(&control)?;
    world.start_manager()?;
    world.pledge_and_wait(1)?;
    world.start_workers()?;
    let number = sector_of(&reached(&control, at)?)?;
    world.kill_worker(0);
    let slots = world.workers[0].slots.clone();
    let journal = |slot: usize| slots[slot].join("journal");
    let home = (0..slots.len()).find(|slot| journal(*slot).exists()).context("a journal")?;
    let whole = fs::read(journal(home))?;
    let others: Vec<usize> = (0..slots.len()).filter(|slot| *slot != home).collect();
    let lengths: Vec<usize> = (0..whole.len()).collect();
    let mut restarts = 0;
    for batch in lengths.chunks(SLOTS) {
        let begun = control.marks_at(Point::Before, at.phase).len();
        for (slot, length) in others.iter().zip(batch) {
            fs::write(journal(*slot), &whole[..*length])?;
        }
        world.start_worker(0)?;
        restarts += 1;
        // The sector with the whole journal goes on, and every other slot reports what is wrong with its journal.
        wait("the phase's next beginning", || {
            Ok((control.marks_at(Point::Before, at.phase).len() > begun).then_some(()))
        })?;
        wait("a slot blocked for each journal that is cut off", || {
            let seen = world.on_bus(async |bus| Ok(bus.workers().await?))?;
            let slots = seen.iter().flat_map(|seen| &seen.heartbeat.slots);
            let blocked = slots.filter(|slot| {
                let unreadable = (ErrorClass::Crit, ErrorCode::JOURNAL_UNREADABLE);
                slot.blocked.as_ref().is_some_and(|error| (error.class, error.code.clone()) == unreadable)
            });
            Ok((blocked.count() == batch.len()).then_some(()))
        })?;
        world.kill_worker(0);
        for (slot, length) in others.iter().zip(batch) {
            ensure!(fs::read(journal(*slot))? == whole[..*length], "a journal that is cut off was changed");
            fs::remove_file(journal(*slot))?;
        }
    }
    at.release(&control)?;
    world.start_worker(0)?;
    world.wait_until_proving(1, std::time::Duration::from_secs(60))?;
    wait_for_clean_slots(&world)?;
    let entry = Ledger::read(&mut world)?.sector(number)?.clone();
    let begun = control.marks_at(Point::Before, at.phase).len();
    let failure = entry.check_ended_once().and_then(|()| {
        ensure!(entry.leases.claims() == 1 && begun == restarts + 2, "begun {begun} times in {restarts} restarts");
        Ok(())
    });
    table.note(format!("journal of {} bytes cut off at each of them, in {restarts} restarts", whole.len()));
    table.rows.push(Row {
        what: "journal cut off".to_owned(),
        point: at.point.name().to_owned(),
        phase: at.phase.to_string(),
        sector: Some(number),
        entry,
        begun: Some(begun),
        again: None,
        failure: failure.err().map(|error| format!("{error:#}")),
    });
    Ok(())
}
