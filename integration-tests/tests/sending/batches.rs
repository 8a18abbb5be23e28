//! Messages of many sectors: when they are sent, and that one sector's trouble is not the others'.

use fil_actor_miner_state::v19::{PreCommitSectorBatchParams2, ProveCommitSectors3Params};
use fvm_shared::econ::TokenAmount;
use sealbus_integration_tests::devnet::faults::{Fault, Reverted};
use sealbus_manager::{
    store::{CallFilter, MessageKind, MessageState},
    waits::Subject,
};
use sealbus_schema::{ErrorClass, ErrorCode, ErrorReport, ProofBytes, workflows::Input};

use crate::world::{RIGHT, Trusting, World, id, is_pushed};

const WAIT: &str = "[chain.batches]\nprecommit_max = 10\nprecommit_wait_epochs = 40\nprove_commit_max = 10\n\
                    prove_commit_wait_epochs = 40\nslack_epochs = 60\n";

async fn all_prove(world: &World) -> bool {
    world.in_state("proving").await.len() as u64 == world.sectors
}

#[tokio::test]
async fn ten_sectors_share_one_precommit_and_one_prove_commit() {
    let world = World::new(10).await;
    let driver = world.driver(WAIT).await;
    world.tick(&driver).await;
    let [(precommit, numbers)] = &world.calls(MessageKind::PreCommit).await[..] else { panic!("one call") };
    assert_eq!(*numbers, (1..=10).collect::<Vec<_>>());
    let params: PreCommitSectorBatchParams2 = precommit.params.deserialize().expect("params");
    assert_eq!(params.sectors.iter().map(|sector| sector.sector_number).collect::<Vec<_>>(), *numbers);
    world
        .until(&driver, "all wait for the chain's proof", async |world| {
            world.calls(MessageKind::ProveCommit).await.iter().any(|(_, numbers)| numbers.len() == 10)
        })
        .await;
    let [(prove, _)] = &world.calls(MessageKind::ProveCommit).await[..] else { panic!("one call") };
    let params: ProveCommitSectors3Params = prove.params.deserialize().expect("params");
    assert_eq!((params.sector_activations.len(), params.sector_proofs.len()), (10, 10));
    world.until(&driver, "all are active", all_prove).await;
    assert_eq!(world.effects(), [(1, 1); 10]);
    assert_eq!(world.devnet.with_node(|node| node.stats.messages), 2);
    assert!(world.store.open_messages().await.expect("reads").is_empty());
}

#[tokio::test]
async fn what_waits_for_others_says_so_and_goes_when_it_has_waited_or_a_person_hurries_it() {
    let world = World::new(3).await;
    let driver = world.driver(WAIT).await;
    world.tick(&driver).await;
    assert!(world.calls(MessageKind::PreCommit).await.is_empty());
    let subject = Subject::Message { key: MessageKind::PreCommit.key(id(2), 1, 1), sector: Some(id(2)) };
    let cause = driver.waits().cause(&subject).expect("waits");
    assert_eq!((cause.class, cause.code), (ErrorClass::Temp, ErrorCode::MESSAGE_HELD));
    assert!(cause.text.contains("3 of 10 are there. They are sent at epoch 60 in any case"), "{}", cause.text);
    world.advance(39);
    // A manager that starts anew knows since when they wait.
    let driver = world.driver(WAIT).await;
    world.tick(&driver).await;
    assert!(world.calls(MessageKind::PreCommit).await.is_empty());
    world.advance(1);
    world.tick(&driver).await;
    assert_eq!(world.calls(MessageKind::PreCommit).await.len(), 1);
    assert!(driver.waits().cause(&subject).is_none());

    let world = World::new(3).await;
    let driver = world.driver(WAIT).await;
    world.tick(&driver).await;
    let mut tx = world.store.begin().await.expect("begins");
    assert_eq!(tx.hurry(None, Some(MessageKind::PreCommit)).await.expect("stores"), 3);
    tx.commit().await.expect("commits");
    world.tick(&driver).await;
    assert_eq!(world.calls(MessageKind::PreCommit).await.len(), 1);
}

#[tokio::test]
async fn nothing_waits_into_its_slack_nor_at_a_low_base_fee() {
    let world = World::new(2).await;
    let chain = "[chain.batches]\nprecommit_wait_epochs = 20000\nslack_epochs = 2000\n";
    let driver = world.driver(chain).await;
    world.tick(&driver).await;
    assert!(world.calls(MessageKind::PreCommit).await.is_empty());
    // The tickets expire at epoch 2900.
    world.advance(2900 - 2000 - 20);
    world.tick(&driver).await;
    assert_eq!(world.calls(MessageKind::PreCommit).await.len(), 1);

    let world = World::new(2).await;
    let driver = world.driver(&format!("{WAIT}at_once_base_fee_atto = \"100\"")).await;
    world.tick(&driver).await;
    assert_eq!(world.calls(MessageKind::PreCommit).await.len(), 1);
}

#[tokio::test]
async fn a_sector_whose_proof_the_chain_refuses_is_left_out_with_its_reason() {
    let mut world = World::new(10).await;
    world.wrong = vec![4];
    let driver = world.driver(WAIT).await;
    let nine_prove = async |world: &World| world.in_state("proving").await.len() == 9;
    world
        .until(&driver, "nine are sent", async |world| {
            world.calls(MessageKind::ProveCommit).await.iter().any(|(_, numbers)| numbers.len() == 9)
        })
        .await;
    let subject = Subject::Message { key: MessageKind::ProveCommit.key(id(4), 1, 1), sector: Some(id(4)) };
    let cause = driver.waits().cause(&subject).expect("the one that was left out waits");
    assert!(cause.text.contains("exit code 16"), "{}", cause.text);
    world.until(&driver, "nine are active", nine_prove).await;
    // The refusal counts when it has lasted for some epochs.
    world.until(&driver, "one is blocked", async |world| !world.blocked().await.is_empty()).await;
    assert_eq!(world.blocked().await, [(4, "PROVE_COMMIT_REFUSED".to_owned())]);
    assert_eq!(world.failed(), [0; 0], "nothing was paid for");
    let effects = world.effects();
    assert_eq!((effects[3], effects.iter().filter(|effect| **effect == (1, 1)).count()), ((1, 0), 9));
}

#[tokio::test]
async fn a_call_that_fails_as_a_whole_is_halved_until_the_culprit_is_alone() {
    let world = World::new(10).await;
    let driver = world.driver(WAIT).await;
    // The number is used by somebody else between the trial and the block.
    world.fault(Fault::StallInclusion { on: true });
    world.tick(&driver).await;
    assert_eq!(world.calls(MessageKind::PreCommit).await.len(), 1);
    world.other_tool_precommits(7);
    world.fault(Fault::StallInclusion { on: false });
    let nine_prove = async |world: &World| world.in_state("proving").await.len() == 9;
    world.until(&driver, "nine are active", nine_prove).await;
    let effects = world.effects();
    assert_eq!(effects.iter().filter(|effect| **effect == (1, 1)).count(), 9);
    let seven = world.job(7).await;
    assert!(seven.blocked.is_some() || seven.state.is_terminal() || seven.attempt > 1, "{seven:?}");
    assert_eq!(world.failed(), [16], "the first call only: the rest is tried alone before");
}

#[tokio::test]
async fn what_the_sender_cannot_pay_for_at_once_is_sent_in_parts() {
    let world = World::new(8).await;
    let driver = world.driver("").await;
    // The sender keeps enough for a message of four, but not of eight.
    let spared = world.balance(&world.worker()).await - TokenAmount::from_atto(12_000_000_000_000_u64);
    world.transfer(&world.worker(), &world.owner(), spared.clone());
    world.advance(3);
    world.tick(&driver).await;
    let [(_, numbers)] = &world.calls(MessageKind::PreCommit).await[..] else { panic!("one call") };
    assert_eq!(numbers.len(), 4);
    world.transfer(&world.owner(), &world.worker(), spared);
    world.until(&driver, "all are active", all_prove).await;
    assert_eq!(world.effects(), [(1, 1); 8]);
}

#[tokio::test]
async fn the_first_of_several_senders_that_can_pay_sends() {
    let world = World::new(3).await;
    let (worker, owner) = (world.worker(), world.owner());
    let miner = format!("senders = {{ precommit = [\"{worker}\", \"{owner}\"], prove_commit = [\"{owner}\"] }}");
    let driver = world.driver_of("", &miner).await;
    let spared = world.balance(&worker).await - TokenAmount::from_atto(1_000_000_000_000_u64);
    world.transfer(&worker, &owner, spared);
    world.advance(3);
    world.tick(&driver).await;
    let [(precommit, numbers)] = &world.calls(MessageKind::PreCommit).await[..] else { panic!("one call") };
    assert_eq!((precommit.from, numbers.len()), (owner, 3));
    world.until(&driver, "all are active", all_prove).await;
    assert_eq!(world.effects(), [(1, 1); 3]);
}

#[tokio::test]
async fn a_sector_that_is_given_up_takes_its_call_back_and_the_others_are_sent_again() {
    let world = World::new(4).await;
    let driver = world.driver("").await;
    world.fault(Fault::StallInclusion { on: true });
    world.tick(&driver).await;
    let given_up = ErrorReport::new(ErrorClass::Abort, ErrorCode::ABANDONED, "by a person");
    world.apply(2, Input::Abandoned { cause: given_up, lose_deposit: true }).await;
    world.tick(&driver).await;
    let open = world.open(MessageKind::PreCommit).await;
    let withdrawn = |message: &&sealbus_manager::store::Message| matches!(message.state, MessageState::Withdrawn(_));
    assert_eq!(open.iter().filter(withdrawn).count(), 4);
    assert_eq!(open.iter().filter(|message| message.state == MessageState::Wanted).count(), 3);
    world.fault(Fault::StallInclusion { on: false });
    let three_prove = async |world: &World| world.in_state("proving").await.len() == 3;
    world.until(&driver, "three are active", three_prove).await;
    assert_eq!(world.effects(), [(1, 1), (0, 0), (1, 1), (1, 1)]);
}

#[tokio::test]
async fn four_proofs_are_sent_as_their_aggregate_and_singly_if_that_cannot_be_made() {
    let invalid = ErrorReport::new(ErrorClass::Perm, ErrorCode::PROOF_INVALID, "it does not verify");
    for (aggregate, singles) in [(Some(Ok(ProofBytes(RIGHT.to_vec()))), 0), (Some(Err(invalid)), 5), (None, 5)] {
        let world = World::new(5).await;
        let driver = world.driver_that("", Trusting { aggregate }).await;
        world
            .until(&driver, "all are sent", async |world| {
                let open = world.open(MessageKind::ProveCommit).await;
                if open.len() == 5 && !open.iter().all(is_pushed) {
                    // The aggregate is made by another process, in real time.
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                open.len() == 5 && open.iter().all(is_pushed)
            })
            .await;
        let [(prove, _)] = &world.calls(MessageKind::ProveCommit).await[..] else { panic!("one call") };
        let params: ProveCommitSectors3Params = prove.params.deserialize().expect("params");
        assert_eq!((params.sector_activations.len(), params.sector_proofs.len()), (5, singles));
        assert_eq!(params.aggregate_proof.bytes() == RIGHT, singles == 0);
        world.until(&driver, "all are active", all_prove).await;
        assert_eq!(world.effects(), [(1, 1); 5]);
    }
}

/// At which step of a batch's life the fork comes, and how many epochs it replaces.
fn forks() -> Vec<(u64, u64)> {
    let is_all = std::env::var_os("SEALBUS_ALL_CASES").is_some();
    let depths: &[u64] = if is_all { &[1, 2, 3, 5, 8, 12, 16, 20] } else { &[2, 20] };
    let steps = (0..24).step_by(if is_all { 1 } else { 4 });
    steps.flat_map(|step| depths.iter().map(move |depth| (step, *depth))).collect()
}

async fn ends_active_after_a_fork(messages: Reverted) {
    for (at, depth) in forks() {
        let world = World::new(3).await;
        let driver = world.driver("repush_epochs = 3").await;
        for _ in 0..at {
            world.tick(&driver).await;
            world.work().await;
            world.advance(1);
        }
        world.devnet.with_node(|node| node.reorganise(depth, messages).expect("forks"));
        let is_over =
            async |world: &World| all_prove(world).await && world.effects().iter().all(|effect| *effect == (1, 1));
        world.until(&driver, &format!("active after {messages:?} at step {at}, {depth} epochs"), is_over).await;
        // The fork may include a ProveCommit too early, or behind no PreCommit.
        assert!(world.failed().iter().all(|exit| matches!(exit, 16..=18)), "{:?}", world.failed());
        // What is active now stays so, and nothing is on its way any more.
        world.until(&driver, "at rest", async |world| world.calls(MessageKind::ProveCommit).await.is_empty()).await;
        assert_eq!(world.effects(), [(1, 1); 3]);
    }
}

#[tokio::test]
async fn a_batch_ends_in_active_sectors_whenever_a_fork_comes_that_includes_its_messages_at_once() {
    ends_active_after_a_fork(Reverted::Again).await;
}

#[tokio::test]
async fn a_batch_ends_in_active_sectors_whenever_a_fork_comes_that_includes_its_messages_later() {
    ends_active_after_a_fork(Reverted::Later).await;
}

#[tokio::test]
async fn a_batch_ends_in_active_sectors_whenever_a_fork_comes_that_forgets_its_messages() {
    ends_active_after_a_fork(Reverted::Lost).await;
}

#[tokio::test]
async fn an_aggregate_that_costs_too_much_in_one_message_is_not_waited_with() {
    let world = World::new(5).await;
    let aggregate = Some(Ok(ProofBytes(RIGHT.to_vec())));
    // At this base fee that is enough for two sectors, but not for five.
    world.fault(Fault::BaseFee { atto: 50_000 });
    world.advance(2);
    let driver = world.driver_that("max_fee_atto = \"8000000000000\"", Trusting { aggregate }).await;
    world
        .until(&driver, "all are active", async |world| {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            all_prove(world).await
        })
        .await;
    assert_eq!((world.effects(), world.failed()), (vec![(1, 1); 5], vec![]));
    let filter = CallFilter { ended: true, limit: 9, kind: Some(MessageKind::ProveCommit), ..CallFilter::default() };
    let calls = world.store.calls(&filter).await.expect("reads");
    assert!(calls.len() > 1 && calls.iter().all(|call| call.sectors.len() < 5), "{calls:?}");
}

#[tokio::test]
async fn a_stuck_batch_is_signed_for_more_within_the_limit_of_its_sectors() {
    let world = World::new(6).await;
    let driver = world.driver("repush_epochs = 3").await;
    world.fault(Fault::StallInclusion { on: true });
    world.tick(&driver).await;
    let [(first, _)] = &world.calls(MessageKind::PreCommit).await[..] else { panic!("one call") };
    world.fault(Fault::Premium { atto: 300_000 });
    world
        .until(&driver, "a dearer one in the pool", async |world| {
            let calls = world.calls(MessageKind::PreCommit).await;
            calls[0].0 != *first && world.open(MessageKind::PreCommit).await.iter().all(is_pushed)
        })
        .await;
    let [(second, numbers)] = &world.calls(MessageKind::PreCommit).await[..] else { panic!("one call") };
    assert_eq!((second.sequence, &second.params, numbers.len()), (first.sequence, &first.params, 6));
    assert_eq!(second.gas_premium, TokenAmount::from_atto(300_000));
    world.fault(Fault::StallInclusion { on: false });
    world.until(&driver, "all are active", all_prove).await;
    assert_eq!(world.effects(), [(1, 1); 6]);
}
