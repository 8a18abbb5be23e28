//! The crash matrix: every process is killed before, inside and after every phase, and disks fail under a worker.
//!
//! There is one sector per cell and one test per section. Each cell asserts counts on chain, in the log, in the
//! manager's database and in the store. Everything happens once, and nothing comes from a worker that did not own the
//! sector. `docs/testing.md` explains the table.

mod disks;
mod journals;
mod kills;
mod messages;
mod stop;
mod support;
#[cfg(feature = "toy-workflow")]
mod toy;

use std::time::Instant;

use sealbus_integration_tests::scripted::table;

use support::Cells;

/// Runs a section of the matrix, prints its table, and fails if one of its cells failed.
fn judge(name: &str, section: fn(&mut Cells) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut cells = Cells::default();
    let start = Instant::now();
    if let Err(error) = section(&mut cells) {
        cells.fail(name, &error);
    }
    cells.note(format!("{name}: {} s", start.elapsed().as_secs()));
    table::print(&format!("Crash matrix, {name}"), &cells.rows, &cells.notes)?;
    assert!(cells.rows.iter().all(|row| row.failure.is_none()), "the table says which cells failed");
    Ok(())
}

#[test]
fn a_sector_outlives_its_worker_and_its_processors() -> anyhow::Result<()> {
    judge("worker and processor", kills::worker_and_processor)
}

#[test]
fn a_sector_outlives_the_manager() -> anyhow::Result<()> {
    judge("manager", kills::manager)
}

#[test]
fn a_sector_outlives_nats() -> anyhow::Result<()> {
    judge("nats", kills::nats)
}

#[test]
fn a_sector_outlives_the_leader_of_three_nats_servers() -> anyhow::Result<()> {
    judge("nats leader", kills::nats_leader)
}

#[test]
fn a_message_is_sent_once_by_a_manager_that_dies_around_it() -> anyhow::Result<()> {
    judge("messages", messages::manager_around_each_message)
}

#[test]
fn a_sector_outlives_a_worker_that_is_stopped_for_longer_than_every_grace() -> anyhow::Result<()> {
    judge("stop", stop::stopped_longer_than_every_grace)
}

#[test]
fn a_sector_outlives_disks_that_fail() -> anyhow::Result<()> {
    judge("disks", disks::failing_disks)
}

#[test]
fn a_journal_that_is_cut_off_blocks_its_slot_and_no_other() -> anyhow::Result<()> {
    judge("journals", journals::cut_off_at_every_byte)
}

#[cfg(feature = "toy-workflow")]
#[test]
fn a_job_of_another_workflow_outlives_its_worker_its_processors_and_the_manager() -> anyhow::Result<()> {
    judge("toy", toy::worker_processor_and_manager)
}
