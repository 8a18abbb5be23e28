//! The manager is killed around each message to the chain: before it is signed, between its signature and the node's
//! answer, and after the node has accepted it without an answer.

use std::time::Duration;

use sealbus_integration_tests::scripted::{
    ledger::Ledger,
    table::Row,
    world::{Options, World, directory, wait},
};
use sealbus_manager::store::{MessageKind, MessageState};
use serde_json::json;

use crate::support::{Cells, wait_for_clean_slots};

/// Each point, with the node's fault and the state of the message in the manager's database.
const POINTS: [(&str, &str, &str); 3] = [
    ("before", "Filecoin.GasEstimateMessageGas", "before"),
    ("inside", "Filecoin.MpoolPush", "before"),
    ("after", "Filecoin.MpoolPush", "after"),
];

/// One sector per point. Both of its messages are held there.
pub fn manager_around_each_message(table: &mut Cells) -> anyhow::Result<()> {
    let dir = directory()?;
    let mut world = World::prepare(dir.path(), Options::default())?;
    world.start_manager()?;
    world.start_workers()?;
    for (index, (_, method, when)) in POINTS.iter().enumerate() {
        let number = index as u64 + 1;
        let fail =
            json!([{ "kind": "fail_calls", "method": method, "when": when, "count": 1_000_000, "answer": "http503" }]);
        world.call_chain("Devnet.Fault", fail.clone())?;
        world.pledge(1)?;
        for kind in [MessageKind::PreCommit, MessageKind::ProveCommit] {
            wait_for_message(&mut world, number, kind, *method == "Filecoin.MpoolPush")?;
            if *when == "after" {
                // The node must have the message before the manager dies.
                wait("the message in the mempool", || {
                    let pending = world.call_chain("Filecoin.MpoolPending", json!([[]]))?;
                    let counts = world.chain_stats()?["sectors"][number.to_string()].clone();
                    let done = if kind == MessageKind::PreCommit { "pre_commits" } else { "prove_commits" };
                    Ok((pending.as_array().is_some_and(|all| !all.is_empty()) || counts[done] == 1).then_some(()))
                })?;
            }
            world.kill_manager();
            world.call_chain("Devnet.Fault", json!([{ "kind": "clear" }]))?;
            world.start_manager()?;
            if kind == MessageKind::PreCommit {
                wait("the landing", || {
                    let sector = world.sector(number)?;
                    Ok(sector
                        .filter(|sector| sector.state.seal().and_then(|state| state.precommitted()).is_some())
                        .map(drop))
                })?;
                world.call_chain("Devnet.Fault", fail.clone())?;
            }
        }
        world.wait_until_proving(index + 1, Duration::from_secs(60))?;
    }
    wait_for_clean_slots(&world)?;
    let ledger = Ledger::read(&mut world)?;
    for (index, (point, ..)) in POINTS.iter().enumerate() {
        let number = index as u64 + 1;
        let entry = ledger.sector(number)?.clone();
        let failure = entry.check_ended_once().err().map(|error| format!("{error:#}"));
        table.rows.push(Row {
            what: "manager".to_owned(),
            point: (*point).to_owned(),
            phase: "messages".to_owned(),
            sector: Some(number),
            entry,
            begun: None,
            again: None,
            failure,
        });
    }
    Ok(())
}

/// Waits until the manager wants a sector's message, or has signed it.
fn wait_for_message(world: &mut World, number: u64, kind: MessageKind, signed: bool) -> anyhow::Result<()> {
    wait(kind.name(), || {
        let (store, id) = (world.store()?, world.sector_id(number));
        let messages = world.block_on(store.open_messages())?;
        let found = messages.into_iter().find(|message| message.sector == Some(id) && message.kind == kind);
        Ok(found.filter(|message| signed == matches!(message.state, MessageState::Signed(_))).map(drop))
    })
}
