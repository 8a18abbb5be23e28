//! The chain is reorganised at each moment of a sector's life. The sector must become active once, and the manager's record must
//! say what the chain says.
//!
//! The devnet's challenge delay is ten epochs. So a fork of 20 epochs, taken before C2 ends, replaces the PreCommit and moves its
//! seed; one that is taken when the sector is active replaces the ProveCommit as well.

use std::time::Duration;

use anyhow::{Context, ensure};
use sealbus_integration_tests::{
    devnet::faults::Reverted,
    scripted::{
        control::Point,
        world::{Options, World, directory, is_over, wait_closely},
    },
};
use sealbus_schema::Phase;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(120);
const EPOCH_MILLIS: u64 = 100;

/// When the fork comes.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// While a processor works.
    Inside(Phase),
    /// As soon as the manager says that the sector is in this state.
    In(&'static str),
}

const MOMENTS: [Moment; 9] = [
    Moment::Inside(Phase::Pc1),
    Moment::Inside(Phase::Pc2),
    Moment::In("pre_committing"),
    Moment::Inside(Phase::Transfer),
    Moment::In("awaiting_seed"),
    Moment::Inside(Phase::C1),
    Moment::Inside(Phase::C2),
    Moment::In("prove_committing"),
    Moment::In("proving"),
];

/// How many epochs are replaced: within the confidence of one epoch, beyond it, beyond the seed, and beyond the PreCommit.
fn depths() -> &'static [u64] {
    if std::env::var_os("SEALBUS_ALL_CASES").is_some() { &[1, 2, 5, 12, 20] } else { &[2, 20] }
}

fn at_each_moment(messages: Reverted) -> anyhow::Result<()> {
    let directory = directory()?;
    let mut world = World::prepare(directory.path(), Options { epoch_millis: EPOCH_MILLIS, ..Options::default() })?;
    world.start_manager()?;
    world.start_workers()?;
    let cells: Vec<(u64, Moment)> = depths().iter().flat_map(|depth| MOMENTS.map(|moment| (*depth, moment))).collect();
    for (index, (depth, moment)) in cells.iter().enumerate() {
        let number = index as u64 + 1;
        // The fork is about this sector alone: the messages of the last one are older.
        world.call_chain("Devnet.Advance", json!([30]))?;
        one(&mut world, number, *depth, *moment, messages)
            .with_context(|| format!("sector {number}: {depth} epochs, {moment:?}, messages {messages:?}"))?;
    }
    Ok(())
}

fn one(world: &mut World, number: u64, depth: u64, moment: Moment, messages: Reverted) -> anyhow::Result<()> {
    let control = world.workers[0].control.clone();
    if let Moment::Inside(phase) = moment {
        control.hold(Point::Inside, phase)?;
    }
    world.pledge(1)?;
    let work = format!("-{number}.");
    wait_closely("the moment", || {
        Ok(match moment {
            Moment::Inside(phase) => {
                control.marks_at(Point::Inside, phase).iter().any(|mark| mark.work.contains(&work)).then_some(())
            }
            Moment::In(state) => world.sector(number)?.filter(|sector| sector.state.name() == state).map(drop),
        })
    })?;
    // The clock stands still, so that the fork is as deep as it should be.
    world.call_chain("Devnet.SetEpochMillis", json!([0]))?;
    world.call_chain("Devnet.Reorganise", json!([depth, messages]))?;
    world.call_chain("Devnet.SetEpochMillis", json!([EPOCH_MILLIS]))?;
    if let Moment::Inside(phase) = moment {
        control.release(Point::Inside, phase)?;
    }
    let deadline = std::time::Instant::now() + LIMIT;
    loop {
        world.check_alive()?;
        let sector = world.sector(number)?.context("a sector")?;
        ensure!(sector.blocked.is_none(), "it is blocked: {:?}", sector.blocked);
        let on_chain = world.call_chain("Filecoin.StateSectorGetInfo", json!(["t01000", number, null]))?;
        let counts = world.chain_stats()?["sectors"][number.to_string()].clone();
        let (store, id) = (world.store()?, sector.id);
        let recorded = world.block_on(store.existing(id))?.and_then(|existing| existing.on_chain);
        if is_over(&sector)
            && let (Some(activation), Some(recorded)) = (on_chain["Activation"].as_i64(), &recorded)
            && recorded.activation_epoch == activation
        {
            ensure!(counts == json!({ "pre_commits": 1, "prove_commits": 1 }), "it had {counts} on this chain");
            return Ok(());
        }
        ensure!(
            std::time::Instant::now() < deadline,
            "after {} s it is {} with {recorded:?}, on chain {on_chain}, {counts}",
            LIMIT.as_secs(),
            sector.state.name(),
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_sector_becomes_active_whose_messages_the_fork_includes_at_once() -> anyhow::Result<()> {
    at_each_moment(Reverted::Again)
}

#[test]
fn a_sector_becomes_active_whose_messages_the_fork_includes_later() -> anyhow::Result<()> {
    at_each_moment(Reverted::Later)
}

#[test]
fn a_sector_becomes_active_whose_messages_the_fork_forgets() -> anyhow::Result<()> {
    at_each_moment(Reverted::Lost)
}
