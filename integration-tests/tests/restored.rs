//! The restore drill: the manager's host is lost under load, and its database restored from the last backup. No message takes
//! effect twice, and no sector is lost.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use sealbus_integration_tests::{
    command_line::{done, refused},
    scripted::world::{Options, World, directory, is_over},
};
use serde_json::{Value, json};

/// How many sectors are wanted before the backup, and after it.
const PLEDGED: (usize, usize) = (8, 4);
/// How long the rest may take after the restoration.
const LIMIT: Duration = Duration::from_secs(180);

/// The moments of a drill, in milliseconds: how old the load is at the backup, and how old the backup is at the loss.
struct Moments {
    backup: u64,
    loss: u64,
}

/// What is counted after a drill.
#[derive(Debug)]
struct Counts {
    sectors: usize,
    found: usize,
    pre_commits: u64,
    prove_commits: u64,
    second: usize,
    failed: usize,
    lost: usize,
}

impl Moments {
    /// Those of a seed. A scripted sector takes some seconds, so each of its phases is met.
    fn of(seed: u64) -> Moments {
        let draw = |salt: u64, most: u64| {
            let mixed = (seed ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) % most
        };
        Moments { backup: draw(1, 6_000), loss: draw(2, 6_000) }
    }
}

fn drill(seed: u64) -> anyhow::Result<Counts> {
    let dir = directory()?;
    let options = Options { workers: 3, slots: 2, ..Options::default() };
    let mut world = World::prepare(dir.path(), options)?;
    world.start_manager()?;
    world.pledge_and_wait(PLEDGED.0)?;
    world.start_workers()?;
    let moments = Moments::of(seed);
    std::thread::sleep(Duration::from_millis(moments.backup));

    let config = world.manager_config();
    let backups = world.root().join("backups");
    std::fs::create_dir(&backups)?;
    let backups = backups.display().to_string();
    let made: Value = serde_json::from_str(&done(&config, &["backup", &backups, "--json"]))?;
    let backup = made["backup"].as_str().context("a backup")?.to_owned();
    world.pledge(PLEDGED.1)?;
    std::thread::sleep(Duration::from_millis(moments.loss));

    world.kill_manager();
    let known = world.sectors()?.len();
    world.forget_store();
    for suffix in ["", "-wal", "-shm", ".lock"] {
        drop(std::fs::remove_file(world.root().join(format!("manager.db{suffix}"))));
    }
    done(&config, &["restore", &backup, "--yes"]);
    let restored = world.sectors()?.len();
    // What the database says of a sector may be long past.
    for order in [&["pledge", "--miner", "f01000", "--count", "1"][..], &["workers", "drain", "w1", "--yes"]] {
        refused(&config, order, 1, &["no order can be given now", "the log", "Start the manager"]);
    }
    world.start_manager()?;
    wait_until_over(&mut world)?;
    count(&mut world, known, restored)
}

/// Waits until the database has caught up and every sector is active.
fn wait_until_over(world: &mut World) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        world.check_alive()?;
        let store = world.store()?;
        let (restored, pledges) =
            world.block_on(async { anyhow::Ok((store.restored().await?, store.open_pledges().await?)) })?;
        let sectors = world.sectors()?;
        if restored.is_none() && pledges.is_empty() && sectors.iter().all(is_over) {
            return Ok(());
        }
        if let Some(blocked) = sectors.iter().find(|sector| sector.blocked.is_some()) {
            bail!("sector {} is blocked in {}: {:?}", blocked.id, blocked.state.name(), blocked.blocked);
        }
        if Instant::now() > deadline {
            let open = sectors.iter().filter(|sector| !is_over(sector));
            let open: Vec<_> = open.map(|s| format!("{} {} {:?}", s.id, s.state.name(), s.ownership)).collect();
            bail!("{restored:?}, {pledges:?}, and these are not active: {open:#?}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn count(world: &mut World, known: usize, restored: usize) -> anyhow::Result<Counts> {
    let chain = world.chain_stats()?;
    let on_chain = chain["sectors"].as_object().cloned().unwrap_or_default();
    let sectors = world.sectors()?;
    let times = |one: &Value, kind: &str| one[kind].as_u64().unwrap_or_default();
    let is_known = |number: &String| sectors.iter().any(|sector| sector.id.number.to_string() == *number);
    Ok(Counts {
        sectors: sectors.len(),
        found: known.saturating_sub(restored),
        pre_commits: on_chain.values().map(|one| times(one, "pre_commits")).sum(),
        prove_commits: on_chain.values().map(|one| times(one, "prove_commits")).sum(),
        second: on_chain
            .values()
            .filter(|one| times(one, "pre_commits") > 1 || times(one, "prove_commits") > 1)
            .count(),
        failed: chain["failed"].as_array().map_or(0, Vec::len),
        lost: on_chain.keys().filter(|number| !is_known(number)).count(),
    })
}

/// A few moments in each run; more if `SEALBUS_ALL_CASES` is set.
#[test]
fn a_lost_manager_goes_on_from_its_last_backup_without_a_second_message_or_a_lost_sector() -> anyhow::Result<()> {
    let drills = if std::env::var_os("SEALBUS_ALL_CASES").is_some() { 40 } else { 2 };
    for seed in 0..drills {
        let Moments { backup, loss } = Moments::of(seed);
        let counts = drill(seed).with_context(|| format!("drill {seed}"))?;
        writeln!(std::io::stdout().lock(), "drill {seed}: backup at {backup} ms, lost {loss} ms later: {counts:?}")?;
        ensure!(counts.second == 0 && counts.failed == 0, "a message was sent twice: {counts:?}");
        ensure!(counts.lost == 0, "the manager does not know a sector that is on chain: {counts:?}");
        let all = counts.sectors as u64;
        ensure!(counts.found <= counts.sectors, "more were found again than there are: {counts:?}");
        ensure!(counts.sectors >= PLEDGED.0, "sectors are missing: {counts:?}");
        ensure!((counts.pre_commits, counts.prove_commits) == (all, all), "one of each for each sector: {counts:?}");
    }
    Ok(())
}

#[test]
fn a_backup_is_never_overwritten_and_a_database_in_use_is_not_replaced() -> anyhow::Result<()> {
    use sealbus_integration_tests::command_line::refused;
    let dir = directory()?;
    let mut world = World::prepare(dir.path(), Options::default())?;
    world.start_manager()?;
    world.pledge_and_wait(1)?;
    let config = world.manager_config();
    let root = world.root().display().to_string();
    let made: Value = serde_json::from_str(&done(&config, &["backup", &root, "--json"]))?;
    let backup = made["backup"].as_str().context("a backup")?;
    ensure!(made["manifest"]["miners"] == json!(["f01000"]) && made["manifest"]["sectors"] == 1, "{made}");
    refused(&config, &["restore", backup, "--yes"], 1, &["there is a database", "--replace"]);
    refused(&config, &["restore", backup, "--yes", "--replace"], 1, &["a manager runs on the database"]);
    world.kill_manager();
    std::fs::write(format!("{backup}/manager.db"), "cut off")?;
    refused(&config, &["restore", backup, "--yes", "--replace"], 1, &["no whole backup"]);
    ensure!(world.sectors()?.len() == 1, "the database is as it was");
    Ok(())
}
