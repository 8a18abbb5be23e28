//! The short form of the soak of proving, in every test run. `make proving` runs the full one.

use std::io::Write;

use sealbus_integration_tests::scripted::{proving::ProvingSoak, world::directory};

#[test]
fn while_a_third_of_all_processes_is_killed_no_sector_becomes_faulty_without_a_cause() -> anyhow::Result<()> {
    let dir = directory()?;
    let soak = ProvingSoak {
        miners: 2,
        sectors: 2,
        workers: 4,
        provers: 2,
        periods: 2,
        window_epochs: 24,
        epoch_millis: 175,
        files_away: 1,
        blackout: false,
        seed: 1,
        tell: false,
    };
    let report = soak.run(dir.path())?;
    // Written past the test harness's capture, because the counts are the point of the test.
    writeln!(std::io::stdout().lock(), "{report}")?;
    report.check()
}
