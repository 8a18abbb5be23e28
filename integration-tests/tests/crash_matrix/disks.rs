//! Disks that fail under a worker: one full, one read-only, one slot deleted. Each failure stops only its own slot.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use sealbus_integration_tests::scripted::{
    control::Point,
    ledger::{Entry, Ledger},
    table::Row,
    world::{Options, World, directory, wait},
};
use sealbus_manager::{
    life,
    store::{Happening, Job},
};
use sealbus_schema::{Phase, SectorId, machine::manager::AttemptPolicy, message::SlotStatus, workflows::Input};
use serde_json::json;

use crate::support::{At, Cells, impatient, wait_for_clean_slots};

const LIMIT: Duration = Duration::from_secs(120);
/// More than a slot needs for a sector, and small enough to fill up.
const DISK: &str = "size=80m";
/// The worker's slots, by index.
const FULL: usize = 0;
const READ_ONLY: usize = 1;
const DELETED: usize = 2;
const GOOD: usize = 3;

/// A file system that is unmounted when this is dropped.
struct Mount(PathBuf);

impl Mount {
    fn memory(at: &Path) -> anyhow::Result<Mount> {
        mount(&["-t", "tmpfs", "-o", DISK, "tmpfs", &at.display().to_string()])?;
        Ok(Mount(at.to_owned()))
    }

    /// Makes a directory readable but not writable, as on a disk that the kernel has switched to read-only.
    fn read_only(at: &Path) -> anyhow::Result<Mount> {
        let at_text = at.display().to_string();
        mount(&["--bind", &at_text, &at_text])?;
        let mounted = Mount(at.to_owned());
        mount(&["-o", "remount,ro,bind", &at_text])?;
        Ok(mounted)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("mount").args(arguments).output().context("cannot run mount")?;
    ensure!(output.status.success(), "mount: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// A worker with four slots, each with a sector in the middle of PC1. Three disks fail, the phases go on, and the disks
/// are repaired.
pub fn failing_disks(table: &mut Cells) -> anyhow::Result<()> {
    let dir = directory()?;
    let mut world =
        World::prepare(dir.path(), Options { slots: 4, processors: 4, liveness: impatient(), ..Options::default() })?;
    let slots = world.workers[0].slots.clone();
    let full = match Mount::memory(&slots[FULL]) {
        Ok(mount) => mount,
        Err(error) => {
            table.note(format!("failing disks: SKIPPED, not counted: {error:#}"));
            return Ok(());
        }
    };
    let at = At { point: Point::Inside, phase: Phase::Pc1 };
    at.hold(&world.workers[0].control)?;
    world.start_manager()?;
    world.pledge_and_wait(slots.len())?;
    world.start_workers()?;
    let control = world.workers[0].control.clone();
    wait("four sectors inside PC1", || Ok((control.marks_at(at.point, at.phase).len() == slots.len()).then_some(())))?;
    let sectors: Vec<SectorId> = wait("a heartbeat that names four sectors", || {
        Ok(statuses(&mut world)?.iter().map(|slot| slot.holding.as_ref().map(|holding| holding.sector)).collect())
    })?;

    let filler = fill(&slots[FULL])?;
    let read_only = Mount::read_only(&slots[READ_ONLY])?;
    fs::remove_dir_all(&slots[DELETED])?;
    at.release(&control)?;
    // The other slots do not hold up the good one.
    wait_for_state(&mut world, sectors[GOOD], Job::is_done)?;
    wait_for_block(&mut world, FULL, "DISK_FULL")?;
    wait_for_block(&mut world, READ_ONLY, "IO_FAILED")?;
    wait_for_block(&mut world, DELETED, "SLOT_UNUSABLE")?;

    fs::remove_file(filler)?;
    drop(read_only);
    for (index, slot) in [(FULL, "DISK_FULL"), (READ_ONLY, "IO_FAILED")] {
        wait_for_state(&mut world, sectors[index], |job| {
            job.blocked.as_ref().is_some_and(|cause| cause.code.as_str() == slot)
        })?;
        resubmit(&mut world, sectors[index])?;
        wait_for_state(&mut world, sectors[index], Job::is_done)?;
    }
    // The contents of the deleted slot are lost. The slot is created again, a person releases it, and the worker is
    // restarted. The manager notices that the worker no longer knows the sector, and offers it again.
    fs::create_dir(&slots[DELETED])?;
    world.kill_worker(0);
    release(&mut world, &slots[DELETED])?;
    world.start_worker(0)?;
    world.wait_until_proving(slots.len(), LIMIT)?;
    wait_for_clean_slots(&world)?;
    wait("no block in any slot", || Ok(statuses(&mut world)?.iter().all(|slot| slot.blocked.is_none()).then_some(())))?;
    drop(full);

    let ledger = Ledger::read(&mut world)?;
    for (index, what, failed, claims) in [
        (FULL, "disk full", 1, 1),
        (READ_ONLY, "disk read-only", 1, 1),
        (DELETED, "slot deleted", 0, 2),
        (GOOD, "slot beside them", 0, 1),
    ] {
        let number = sectors[index].number.0;
        let entry = ledger.sector(number)?.clone();
        let failure = check(&entry, failed, claims).err().map(|error| format!("{error:#}"));
        let (point, phase) = (at.point.name().to_owned(), at.phase.to_string());
        let begun = control.marks_at(Point::Before, at.phase);
        let begun = begun.iter().filter(|mark| mark.work.starts_with(&format!("s-t01000-{number}."))).count();
        table.rows.push(Row {
            what: what.to_owned(),
            point,
            phase,
            sector: Some(number),
            entry,
            begun: Some(begun),
            again: None,
            failure,
        });
    }
    Ok(())
}

fn check(entry: &Entry, failed: u64, claims: usize) -> anyhow::Result<()> {
    entry.check_ended_once()?;
    ensure!(entry.count("failed") == failed, "{} failures were reported, not {failed}", entry.count("failed"));
    ensure!(entry.leases.claims() == claims, "claimed {} times, not {claims}", entry.leases.claims());
    Ok(())
}

/// Fills a disk to its last free byte.
fn fill(slot: &Path) -> anyhow::Result<PathBuf> {
    let path = slot.join("filler");
    let mut file = File::create(&path)?;
    let block = vec![1; 64 << 10];
    loop {
        match file.write(&block) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(path),
            Err(error) => bail!("cannot fill {}: {error}", slot.display()),
        }
    }
}

fn statuses(world: &mut World) -> anyhow::Result<Vec<SlotStatus>> {
    wait("a heartbeat", || {
        let seen = world.on_bus(async |bus| Ok(bus.workers().await?))?;
        Ok(seen.into_iter().next().map(|seen| seen.heartbeat.slots))
    })
}

fn wait_for_block(world: &mut World, slot: usize, code: &str) -> anyhow::Result<()> {
    let is_blocked = |status: &SlotStatus| status.blocked.as_ref().is_some_and(|error| error.code.as_str() == code);
    wait(&format!("slot {slot} blocked as {code}"), || Ok(is_blocked(&statuses(world)?[slot]).then_some(())))
        .with_context(|| format!("{:?}", statuses(world).map(|all| all[slot].clone())))
}

fn wait_for_state(world: &mut World, sector: SectorId, is_it: impl Fn(&Job) -> bool) -> anyhow::Result<()> {
    wait(&format!("the awaited state of {sector}"), || {
        world.check_alive()?;
        Ok(world.sector(sector.number.0)?.filter(|job| is_it(job)).map(drop))
    })
    .with_context(|| format!("{:?}", world.sector(sector.number.0).map(|sector| sector.map(|sector| sector.state))))
}

/// A person resubmits the sector, which continues where it failed.
fn release(world: &mut World, slot: &Path) -> anyhow::Result<()> {
    let (store, worker) = (world.store()?, world.workers[0].name.parse()?);
    world.block_on(async {
        let mut tx = store.begin().await?;
        tx.order_release(&worker, &slot.canonicalize()?.display().to_string()).await?;
        Ok(tx.commit().await?)
    })
}

fn resubmit(world: &mut World, sector: SectorId) -> anyhow::Result<()> {
    let store = world.store()?;
    world.block_on(async {
        let mut tx = store.begin().await?;
        let sector = tx.sector(sector).await?.context("a sector")?;
        let policy = AttemptPolicy { max_attempts: 3, max_issues: 50 };
        let happening = Happening::of_manager("resubmitted", json!({}));
        life::apply(&mut tx, sector, Input::Resubmitted { from: None }, happening, policy).await?;
        Ok(tx.commit().await?)
    })
}
