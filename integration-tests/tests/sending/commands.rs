//! `messages`: what people see of the messages, and what they can do about them.

use sealbus_integration_tests::command_line;
use sealbus_manager::store::{ErrandState, MessageKind};
use serde_json::Value;

use crate::{errands::ask_transfer, world::World};

const WAIT: &str = "[chain.batches]\nprecommit_wait_epochs = 100\n";

fn done(world: &World, arguments: &[&str]) -> String {
    command_line::done(&world.config_file(), arguments)
}

fn json(world: &World, arguments: &[&str]) -> Value {
    serde_json::from_str(&done(world, arguments)).expect("JSON")
}

fn refused(world: &World, arguments: &[&str], code: i32, words: &[&str]) {
    command_line::refused(&world.config_file(), arguments, code, words);
}

#[tokio::test]
async fn what_waits_for_others_is_seen_and_sent_and_what_that_saved_is_shown() {
    let world = World::new(3).await;
    let driver = world.driver(WAIT).await;
    world.tick(&driver).await;
    let said = done(&world, &["messages", "list"]);
    assert!(said.contains("no message is on its way") && said.contains("3 messages of f01000"), "{said}");
    let said = done(&world, &["messages", "flush", "--dry-run"]);
    assert!(said.contains("3 messages are not signed yet; nothing was changed"), "{said}");
    world.tick(&driver).await;
    assert!(world.calls(MessageKind::PreCommit).await.is_empty());
    let said = done(&world, &["messages", "flush", "--miner", "f01000", "--kind", "precommit", "--why", "cheap now"]);
    assert!(said.contains("no longer wait for others"), "{said}");
    let audit = done(&world, &["audit", "list"]);
    assert!(audit.contains("messages flush") && audit.contains("cheap now"), "{audit}");
    world.tick(&driver).await;

    let listed = json(&world, &["messages", "list", "--json"]);
    let message = &listed["messages"][0];
    assert_eq!((&message["kind"], &message["state"]), (&Value::from("precommit"), &Value::from("pushed")), "{listed}");
    assert_eq!(message["sectors"].as_array().map(Vec::len), Some(3));
    assert_eq!(listed["not_signed"], Value::Array(Vec::new()));
    let (id, cid) = (message["message"].to_string(), message["cid"].as_str().expect("a CID"));
    let shown = json(&world, &["messages", "show", &id, "--json"]);
    assert_eq!(shown, json(&world, &["messages", "show", cid, "--json"]));
    let gas = |of: &str| shown["saved"][of].as_u64().expect("gas");
    assert!(gas("gas") * 2 < gas("gas_singly") && gas("bytes") < gas("bytes_singly"), "{shown}");
    let said = done(&world, &["messages", "show", &id]);
    assert!(said.contains("3 sectors in one message") && said.contains("f01000/2"), "{said}");

    world.until(&driver, "landed", async |world| world.effects() == [(1, 0); 3]).await;
    world.until(&driver, "known", async |world| world.open(MessageKind::PreCommit).await.is_empty()).await;
    assert!(done(&world, &["messages", "list", "--kind", "precommit"]).contains("no message is on its way"));
    assert!(done(&world, &["messages", "list", "--all", "--limit", "1"]).contains("landed"));
    refused(&world, &["messages", "show", "999"], 1, &["no message 999", "messages list --all"]);
    refused(&world, &["messages", "show", "bafy"], 1, &["no message bafy"]);
    refused(&world, &["messages", "flush", "--miner", "f09"], 2, &["f09", "f01000"]);
    refused(&world, &["messages", "flush", "--kind", "errand"], 2, &["precommit", "prove_commit"]);
    refused(&world, &["messages", "list", "--limit", "0"], 2, &["--limit"]);
}

#[tokio::test]
async fn an_errand_is_seen_and_taken_back() {
    let world = World::new(0).await;
    let driver = world.driver("").await;
    let (first, second) = (ask_transfer(&world, 5).await, ask_transfer(&world, 7).await);
    let number = first.0.to_string();
    let said = done(&world, &["messages", "cancel", &number, "--why", "wrong amount"]);
    assert!(said.contains("nothing was sent"), "{said}");
    refused(&world, &["messages", "cancel", &number], 1, &["has ended", "cancelled"]);
    refused(&world, &["messages", "cancel", "999"], 1, &["no errand 999"]);
    world
        .until(&driver, "landed", async |world| {
            world.store.errand(second).await.expect("reads").expect("exists").state == ErrandState::Landed
        })
        .await;
    assert!(done(&world, &["messages", "list", "--errands"]).contains("nothing that was asked for is on its way"));
    let listed = json(&world, &["messages", "list", "--errands", "--all", "--json"]);
    let states: Vec<_> = listed.as_array().expect("a list").iter().map(|errand| errand["state"].clone()).collect();
    assert_eq!(states, ["landed", "cancelled"], "the newest first");
    assert_eq!(listed[1]["error"], Value::from("wrong amount"));
}
