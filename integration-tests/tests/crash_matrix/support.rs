//! Cells: a sector, a point in a phase, and what is expected in the end.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use sealbus_integration_tests::scripted::{
    control::{Control, Mark, Point},
    ledger::{Entry, Ledger},
    table::Row,
    world::{World, wait},
};
use sealbus_manager::config::Liveness;
use sealbus_schema::Phase;

/// The table while it is being filled.
#[derive(Default)]
pub struct Cells {
    pub rows: Vec<Row>,
    pub notes: Vec<String>,
}

/// A point in a phase.
#[derive(Clone, Copy, Debug)]
pub struct At {
    pub point: Point,
    pub phase: Phase,
}

/// What is expected of a cell's sector, besides having completed once.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// How many times the phase begins.
    pub begun: usize,
    /// How many failures are reported.
    pub failed: u64,
    /// How many times the sector is claimed.
    pub claims: usize,
}

impl Cells {
    /// Records a section that did not complete.
    pub fn fail(&mut self, section: &str, error: &anyhow::Error) {
        self.rows.push(Row::failed(section, format!("{error:#}")));
    }

    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Fills in a row from the collected records.
    pub fn judge(
        &mut self,
        what: &str,
        at: At,
        control: &Control,
        ledger: &Ledger,
        expected: Expected,
        again: Option<Duration>,
    ) -> anyhow::Result<()> {
        let number = sector_of(&reached(control, at)?)?;
        let entry = ledger.sector(number)?.clone();
        let begun = control.marks_at(Point::Before, at.phase).len();
        let failure = check(&entry, begun, expected).err().map(|error| format!("{error:#}"));
        self.rows.push(Row {
            what: what.to_owned(),
            point: at.point.name().to_owned(),
            phase: at.phase.to_string(),
            sector: Some(number),
            entry,
            begun: Some(begun),
            again,
            failure,
        });
        Ok(())
    }
}

impl At {
    /// Every point of every phase, in the order of a sector's life.
    pub fn all() -> Vec<At> {
        let of = |phase| Point::HOLDS.map(|point| At { point, phase });
        Phase::SEALING.into_iter().flat_map(of).collect()
    }

    pub fn hold(self, control: &Control) -> anyhow::Result<()> {
        Ok(control.hold(self.point, self.phase)?)
    }

    pub fn release(self, control: &Control) -> anyhow::Result<()> {
        Ok(control.release(self.point, self.phase)?)
    }
}

fn check(entry: &Entry, begun: usize, expected: Expected) -> anyhow::Result<()> {
    entry.check_ended_once()?;
    let Expected { begun: expected_begun, failed, claims } = expected;
    ensure!(begun == expected_begun, "the phase was begun {begun} times, not {expected_begun}");
    ensure!(entry.count("failed") == failed, "{} failures were reported, not {failed}", entry.count("failed"));
    ensure!(entry.leases.claims() == claims, "claimed {} times, not {claims}", entry.leases.claims());
    ensure!(entry.fenced == 0 && entry.stale_accepted == 0, "reports of somebody who does not own it");
    entry.check_each_step_once()
}

/// Waits until a processor is at a point, and returns its last mark there.
pub fn reached(control: &Control, at: At) -> anyhow::Result<Mark> {
    wait(&format!("{} {}", at.point.name(), at.phase), || Ok(control.marks_at(at.point, at.phase).pop()))
}

/// The sector number in a mark.
pub fn sector_of(mark: &Mark) -> anyhow::Result<u64> {
    let number = mark.work.strip_prefix("s-t01000-").and_then(|rest| rest.split('.').next());
    number.context("a working directory")?.parse().context("a number")
}

/// Limits that make the manager revoke leases within seconds.
pub fn impatient() -> Liveness {
    Liveness {
        revoke: true,
        dead_after_secs: 4,
        grace_secs: 1,
        short_grace_secs: 1,
        orphan_after_secs: 4,
        reissue_interval_secs: 1,
    }
}

/// Waits until every slot is empty.
pub fn wait_for_clean_slots(world: &World) -> anyhow::Result<()> {
    for worker in &world.workers {
        for slot in 0..worker.slots.len() {
            wait("an empty slot", || Ok(worker.left_in(slot)?.is_empty().then_some(())))
                .with_context(|| format!("{}: {:?}", worker.name, worker.left_in(slot)))?;
        }
    }
    Ok(())
}

/// This host's wall clock, in the unit of the marks.
pub fn unix_micros() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_micros())
}
