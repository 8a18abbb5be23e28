//! The soak's share in every run of the tests. `make soak` is the whole of it.

use std::{io::Write, time::Duration};

use sealbus_integration_tests::scripted::{soak::Soak, world::directory};

#[test]
fn every_sector_ends_once_while_everything_is_killed() -> anyhow::Result<()> {
    let dir = directory()?;
    let soak = Soak { workers: 20, sectors: 300, seed: 1, limit: Duration::from_secs(600), tell: false };
    let report = soak.run(dir.path())?;
    // Past the capture of the test harness: the counts are what the test is for.
    writeln!(std::io::stdout().lock(), "{report}")?;
    report.check()
}
