//! What is ordered is sent by the running manager, once.

use std::time::Duration;

use sealbus_integration_tests::{
    cluster::wait_within,
    command_line,
    scripted::world::{Options, World, directory, wait},
};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(120);
/// More than a proving period: until then each new sector is active.
const UNTIL_ACTIVE: u64 = 2900;

fn done(world: &World, arguments: &[&str]) -> String {
    command_line::done(&world.manager_config(), arguments)
}

fn expiration(world: &World, sector: u64) -> i64 {
    let on_chain = world.call_chain("Filecoin.StateSectorGetInfo", json!(["t01000", sector, null])).expect("answers");
    on_chain["Expiration"].as_i64().expect("a sector")
}

/// A world with two active sectors.
fn world(directory: &std::path::Path) -> World {
    let mut world = World::prepare(directory, Options { slots: 2, ..Options::default() }).expect("a world");
    world.start_manager().expect("starts");
    world.start_workers().expect("start");
    world.pledge(2).expect("pledges");
    world.wait_until_proving(2, LIMIT).expect("proving");
    world.call_chain("Devnet.Advance", json!([UNTIL_ACTIVE])).expect("advances");
    world
}

#[test]
fn an_extension_that_is_ordered_lands_once_and_the_audit_says_who_ordered_it() {
    let directory = directory().expect("a directory");
    let mut world = world(directory.path());
    let before = [1, 2].map(|sector| expiration(&world, sector));
    let order = ["sectors", "extend", "f01000/1", "--days", "700", "--yes", "--why", "it is worth it"];
    done(&world, &order);
    wait_within(LIMIT, "the extension", || {
        world.check_alive()?;
        Ok((expiration(&world, 1) > before[0]).then_some(()))
    })
    .expect("lands");
    assert_eq!(expiration(&world, 2), before[1]);
    let audit: Vec<Value> = serde_json::from_str(&done(&world, &["audit", "list", "--json"])).expect("JSON");
    let entry = audit.iter().find(|entry| entry["verb"] == "sectors extend").expect("an entry");
    assert_eq!((&entry["target"], &entry["why"]), (&json!("f01000"), &json!("it is worth it")));
    world.call_chain("Devnet.Advance", json!([20])).expect("advances");
    let failed = &world.chain_stats().expect("counts")["failed"];
    assert_eq!(*failed, json!([]));
}

#[test]
fn a_policy_extends_sectors_before_they_expire_and_asks_once() {
    let directory = directory().expect("a directory");
    let mut world = world(directory.path());
    let config = world.manager_config();
    let text = std::fs::read_to_string(&config).expect("reads");
    let policy = "[[miner]]\nexpiry = { extend_below_days = 300, extend_to_days = 700 }";
    std::fs::write(&config, text.replace("[[miner]]", policy)).expect("writes");
    let before = [1, 2].map(|sector| expiration(&world, sector));
    world.kill_manager();
    world.start_manager().expect("starts");
    wait_within(LIMIT, "the extensions", || {
        world.check_alive()?;
        Ok([1, 2].iter().zip(before).all(|(sector, before)| expiration(&world, *sector) > before).then_some(()))
    })
    .expect("land");
    // Looks come once in 120 epochs. The second one finds nothing to do.
    world.call_chain("Devnet.Advance", json!([300])).expect("advances");
    let then = [1, 2].map(|sector| expiration(&world, sector));
    wait("the next look", || Ok(Some(()))).expect("waits");
    assert_eq!([1, 2].map(|sector| expiration(&world, sector)), then);
}
