//! What a person can do about proofs by hand: read and prove a deadline without sending anything, look ahead, recover. The
//! sectors, readers and provers are scripted.

use std::{fmt::Write, fs, time::Duration};

use sealbus_integration_tests::{
    cluster::{own_binary, wait_within},
    command_line::{command, done, refused},
    scripted::{
        latencies::Latencies,
        world::{self, Options, World},
    },
};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(300);

/// Three active sectors, and a worker that reads and proves.
fn world(options: Options) -> anyhow::Result<(tempfile::TempDir, World)> {
    let dir = world::directory()?;
    let mut world = World::prepare(dir.path(), Options { slots: 3, ..options })?;
    let (config, control) = (world.root().join("w1.toml"), world.workers[0].control.path().to_owned());
    let mut text = fs::read_to_string(&config)?;
    text.push_str("\n[proving]\nprove = true\ntrial = false\n");
    let program = own_binary("sealbus-scripted-processor")?;
    for stage in ["post_read", "post_prove"] {
        write!(
            text,
            "\n[[processor]]\nstage = \"{stage}\"\nbin = {program:?}\nargs = [\"{stage}\", {control:?}]\nwritable = [{control:?}]\n"
        )?;
    }
    fs::write(&config, text)?;
    world.start_manager()?;
    world.start_workers()?;
    world.pledge(3)?;
    world.wait_until_proving(3, LIMIT)?;
    Ok((dir, world))
}

fn json_of(world: &World, arguments: &[&str], code: i32) -> Value {
    let output = command(&world.manager_config(), &[arguments, &["--json"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said}"))
}

/// A deadline with sectors, and one of these.
fn deadline(world: &World) -> (String, u64) {
    let coming = json_of(world, &["proving", "forecast", "f01000"], 0);
    let partitions = coming["partitions"].as_array().expect("partitions");
    let proven: u64 = partitions.iter().map(|partition| partition["to_prove"].as_u64().expect("a count")).sum();
    assert_eq!(proven, 3, "{coming:#}");
    let deadline = partitions[0]["deadline"].to_string();
    let done = json_of(world, &["proving", "simulate", "f01000", &deadline], 0);
    (deadline, done["partitions"][0]["slowest"][0][0].as_u64().expect("a sector"))
}

#[test]
fn a_deadline_is_read_and_proven_now_what_is_bad_is_named_and_what_is_impossible_is_refused() -> anyhow::Result<()> {
    let (_dir, world) = world(Options::default())?;
    let (deadline, sector) = deadline(&world);
    refuses(&world, &deadline, &sector.to_string());
    let simulate =
        |more: &[&str], code| json_of(&world, &[&["proving", "simulate", "f01000", &deadline], more].concat(), code);
    let well = &simulate(&[], 0)["partitions"][0];
    assert!(well["sectors"].as_u64() > Some(0) && well["sectors"] == well["read"], "{well:#}");
    assert_eq!((&well["bad"], &well["proof"]), (&json!([]), &Value::Null));

    // The scripted proof is not one that the chain would take. That is what verifying it here is for.
    let wrong = &simulate(&["--prove"], 1)["partitions"][0];
    assert!(wrong["problem"].as_str().is_some_and(|problem| problem.contains("worker w1")), "{wrong:#}");

    Latencies { bad: vec![sector], ..Latencies::default() }.write(&world.workers[0].control)?;
    let bad = &simulate(&[], 1)["partitions"][0]["bad"][0];
    assert_eq!((&bad["number"], &bad["store"]), (&json!(sector), &json!("main")));
    assert!(bad["cause"].as_str().is_some_and(|cause| cause.contains("is damaged")), "{bad:#}");
    let output = command(&world.manager_config(), &["proving", "simulate", "f01000", &deadline]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains(&format!("bad      sector {sector} (store `main`)")), "{told}");

    wait_within(LIMIT, "a worker at each queue", || {
        let forecast = json_of(&world, &["proving", "forecast", "f01000"], 0);
        let waiting = |of: &Value| of["waiting"].as_u64().unwrap_or_default();
        let ready = &forecast["ready"];
        Ok((waiting(&ready["readers"]["main"]) == 1 && waiting(&ready["provers"]) == 1).then_some(()))
    })?;
    let shown = done(&world.manager_config(), &["proving", "forecast", "f01000"]);
    for part in ["readers in the store `main`: 1 wait", "provers: 1 wait", "read ahead"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    Ok(())
}

/// What cannot be done is refused with field and remedy.
fn refuses(world: &World, deadline: &str, sector: &str) {
    let config = world.manager_config();
    for (arguments, words) in [
        (["simulate", "f02000", "0"].as_slice(), ["miner", "f02000"]),
        (&["simulate", "f01000", "48"], ["DEADLINE 48", "0 to 47"]),
        (&["simulate", "f01000", deadline, "--partition", "7"], ["--partition 7", "0 to 0"]),
        (&["recover", "f02000"], ["miner", "f02000"]),
        (&["recover", "f01000", sector], ["is not faulty", "proving faults f01000"]),
        (&["recover", "f01000", "99"], ["no such sector", "proving faults f01000"]),
        (&["recover", "f01000", "9-1"], ["SECTORS", "9-1"]),
        (&["forecast", "f02000"], ["miner", "f02000"]),
    ] {
        refused(&config, &[&["proving"], arguments].concat(), 2, &words);
    }
    let nothing = json_of(world, &["proving", "recover", "f01000"], 0);
    assert_eq!(nothing["errands"], json!([]));
}

#[test]
fn faulty_sectors_that_can_be_read_are_declared_as_recovered_and_the_others_are_named() -> anyhow::Result<()> {
    // Nobody proves, so all become faulty. A proving period is 24 s.
    let arguments = ["--proving", "--deadlines", "4"].map(str::to_owned).to_vec();
    let (_dir, world) = world(Options { devnet_arguments: arguments, ..Options::default() })?;
    wait_within(LIMIT, "three faults", || {
        let faults = json_of(&world, &["proving", "faults", "f01000"], 0);
        Ok((faults.as_array().map(Vec::len) == Some(3)).then_some(()))
    })?;
    Latencies { bad: vec![3], ..Latencies::default() }.write(&world.workers[0].control)?;
    // Of some deadline it is too late for a while.
    let told = wait_within(LIMIT, "sector 3 to be read", || {
        let output = command(&world.manager_config(), &["proving", "recover", "f01000", "3", "--json"]);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{told}");
        Ok(told.contains("cannot be read").then_some(told))
    })?;
    assert!(told.contains("sealed/s-t01000-3 is damaged") && told.contains("stays faulty"), "{told}");
    // A message that comes too late is dropped, and the recovery asked for again.
    wait_within(LIMIT, "the recovery of sector 1", || {
        command(&world.manager_config(), &["proving", "recover", "f01000", "1", "--yes", "--json"]);
        let errands = json_of(&world, &["messages", "list", "--errands", "--all"], 0).to_string();
        Ok((errands.contains("landed") && errands.contains("as recovered")).then_some(()))
    })
}
