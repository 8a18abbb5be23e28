//! Real processes seal many sectors, whose messages share calls: one PreCommit, and one ProveCommit with their aggregate.

use std::time::Duration;

use anyhow::ensure;
use sealbus_integration_tests::scripted::world::{Options, World, directory, wait};
use sealbus_manager::{
    chain::{message::SignedMessage, params::ProveCommitSectors3Params},
    store::{CallFilter, CallRow, MessageKind},
};

const SECTORS: usize = 6;
/// The tickets and PreCommits of these sectors live for thousands of epochs, which are a tenth of a second here.
const CHAIN: &str = "[chain.batches]\nprecommit_max = 6\nprecommit_wait_epochs = 20000\nprove_commit_max = 6\n\
                     prove_commit_wait_epochs = 20000\nslack_epochs = 60\n";

#[test]
fn six_sectors_become_active_with_two_messages_and_one_aggregate() -> anyhow::Result<()> {
    let directory = directory()?;
    let options = Options { slots: SECTORS, chain_lines: CHAIN.to_owned(), ..Options::default() };
    let mut world = World::prepare(directory.path(), options)?;
    world.start_manager()?;
    world.start_workers()?;
    world.pledge(SECTORS)?;
    world.wait_until_proving(SECTORS, Duration::from_secs(180))?;
    let store = world.store()?;
    let calls = wait("the calls' ends", || {
        let calls = world.block_on(store.calls(&CallFilter { ended: true, limit: 10, ..CallFilter::default() }))?;
        Ok(calls.iter().all(|call| call.state == "landed").then_some(calls))
    })?;
    let of = |kind| calls.iter().filter(move |call| call.kind == kind).collect::<Vec<&CallRow>>();
    let (precommits, proves) = (of(MessageKind::PreCommit), of(MessageKind::ProveCommit));
    ensure!(precommits.len() == 1 && proves.len() == 1, "{precommits:?}, {proves:?}");
    ensure!([&precommits, &proves].iter().all(|calls| calls[0].sectors.len() == SECTORS));
    let (_, bytes) = proves[0].envelope.as_ref().expect("an envelope");
    let params: ProveCommitSectors3Params = SignedMessage::from_bytes(bytes)?.message().params.deserialize()?;
    ensure!(params.sector_proofs.is_empty() && params.aggregate_proof_type.is_some(), "{params:?}");
    let stats = world.chain_stats()?;
    for number in 1..=SECTORS {
        let counts = &stats["sectors"][number.to_string()];
        ensure!(*counts == serde_json::json!({ "pre_commits": 1, "prove_commits": 1 }), "{number}: {counts}");
    }
    Ok(())
}
