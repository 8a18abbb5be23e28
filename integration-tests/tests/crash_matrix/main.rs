//! The crash matrix: every process killed before, inside and after every phase, and the disks that fail under them.

use std::time::{Duration, Instant};

use sealbus_integration_tests::scripted::{
    ledger::Ledger,
    world::{Options, World, directory},
};

#[test]
fn sectors_that_nobody_disturbs_end_once() -> anyhow::Result<()> {
    let dir = directory()?;
    let start = Instant::now();
    let mut world = World::prepare(dir.path(), Options { workers: 20, ..Options::default() })?;
    world.start_manager()?;
    eprintln!("prepared {:?}", start.elapsed());
    world.start_workers()?;
    world.pledge(100)?;
    world.wait_until_proving(100, Duration::from_secs(180))?;
    eprintln!("proving {:?}", start.elapsed());
    let r=Ledger::read(&mut world)?.assert_each_ended_once(100);
    eprintln!("ledger {:?} {:?}", start.elapsed(), r);
    if std::env::var_os("KEEP").is_some() { std::mem::forget(dir); }
    r
}
