//! A short soak for every test run. `make soak` runs the full one.

use std::{io::Write, time::Duration};

use sealbus_integration_tests::scripted::{soak::Soak, world::directory};

#[test]
fn every_sector_ends_once_while_everything_is_killed() -> anyhow::Result<()> {
    let dir = directory()?;
    let soak = Soak { workers: 20, sectors: 150, seed: 1, limit: Duration::from_secs(600), tell: false };
    let report = soak.run(dir.path())?;
    // Written past the test harness's capture, because the counts are the point of the test.
    writeln!(std::io::stdout().lock(), "{report}")?;
    report.check()
}
