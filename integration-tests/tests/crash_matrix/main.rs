//! The crash matrix: every process killed before, inside and after every phase, and disks that fail under a worker.
//!
//! One sector a cell. What is asserted of each are counts, on chain, in the log, in the manager's records and in the store:
//! everything once, and nothing of anybody who did not own the sector. `docs/testing.md` says how to read the table.

mod disks;
mod journals;
mod kills;
mod messages;
mod stop;
mod support;

use std::time::Instant;

use sealbus_integration_tests::scripted::table;

use support::Cells;

/// Adds its cells to the table.
type Section = fn(&mut Cells) -> anyhow::Result<()>;

#[test]
fn every_cell_of_the_crash_matrix_passes() -> anyhow::Result<()> {
    let mut cells = Cells::default();
    let sections: [(&str, Section); 8] = [
        ("worker and processor", kills::worker_and_processor),
        ("manager", kills::manager),
        ("nats", kills::nats),
        ("nats leader", kills::nats_leader),
        ("messages", messages::manager_around_each_message),
        ("stop", stop::stopped_longer_than_every_grace),
        ("disks", disks::failing_disks),
        ("journals", journals::cut_off_at_every_byte),
    ];
    // To look into one section: SEALBUS_SECTION=disks.
    let only = std::env::var("SEALBUS_SECTION").ok();
    for (name, run) in sections.into_iter().filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name)) {
        let start = Instant::now();
        if let Err(error) = run(&mut cells) {
            cells.fail(name, &error);
        }
        cells.note(format!("{name}: {} s", start.elapsed().as_secs()));
    }
    table::print("Crash matrix", &cells.rows, &cells.notes)?;
    assert!(cells.rows.iter().all(|row| row.failure.is_none()), "the table says which cells failed");
    Ok(())
}
