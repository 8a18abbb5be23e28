//! Venus' messager sends the messages: whatever becomes of one there, each purpose takes effect once.

use fvm_ipld_encoding::RawBytes;
use fvm_shared::econ::TokenAmount;
use sealbus_integration_tests::{
    command_line,
    devnet::{
        faults::{Fault, Reverted},
        messager::Stage,
    },
};
use sealbus_manager::{
    chain::{NodeClient, RpcClient},
    drive::Driver,
    preflight,
    store::{ErrandState, MessageKind, MessageState},
    waits::Subject,
};
use sealbus_schema::{ErrorClass, ErrorCode, ErrorReport, workflows::Input};
use serde_json::Value;

use crate::{
    errands::{ask_transfer, ended, errand},
    world::{Trusting, World, id},
};

const CHAIN: &str = "repush_epochs = 3";

async fn all_prove(world: &World) -> bool {
    world.in_state("proving").await.len() as u64 == world.sectors
}

/// The stages of what the messager has, in the order in which it came.
fn stages(world: &World) -> Vec<Stage> {
    world.messager().stages().into_iter().map(|(_, stage)| stage).collect()
}

fn last_id(world: &World) -> String {
    world.messager().stages().pop().expect("a message").0
}

/// The codes and texts of what open messages wait for.
async fn waits(world: &World, driver: &Driver<RpcClient>) -> String {
    let open = world.store.open_messages().await.expect("reads");
    let subjects = open.into_iter().map(|message| Subject::Message { key: message.key, sector: message.sector });
    let causes = subjects.filter_map(|subject| driver.waits().cause(&subject));
    causes.map(|cause| format!("{}: {}\n", cause.code, cause.text)).collect()
}

/// How many times a line of this kind is in a sector's history.
async fn told(world: &World, number: u64, kind: &str) -> usize {
    let history = world.store.history(id(number)).await.expect("reads");
    history.iter().filter(|entry| entry.happening.kind == kind).count()
}

async fn abandon(world: &World, number: u64) {
    let given_up = ErrorReport::new(ErrorClass::Abort, ErrorCode::ABANDONED, "by a person");
    world.apply(number, Input::Abandoned { cause: given_up, lose_deposit: true }).await;
}

#[tokio::test]
async fn messages_of_many_sectors_land_without_a_nonce_of_ours() {
    let world = World::with_messager(3).await;
    let driver = world.driver(CHAIN).await;
    world.until(&driver, "all are active", all_prove).await;
    assert_eq!(world.effects(), [(1, 1); 3]);
    world
        .until(&driver, "all is known", async |world| world.store.open_messages().await.expect("reads").is_empty())
        .await;
    assert_eq!(stages(&world), [Stage::OnChain; 2], "one message for all three, twice");
    assert_eq!(world.messager().pushes(), 2);
    assert_eq!(world.store.next_nonce(&world.worker().to_string()).await.expect("reads"), 0);
    let history = world.store.history(id(1)).await.expect("reads");
    let kinds: Vec<&str> = history.iter().map(|entry| entry.happening.kind.as_str()).collect();
    for kind in ["message_for_messager", "message_handed_over", "message_signed_by_messager"] {
        assert_eq!(kinds.iter().filter(|known| **known == kind).count(), 2, "{kind}: {kinds:?}");
    }
    assert!(
        !kinds.iter().any(|kind| ["message_signed", "message_pushed", "nonce_missing"].contains(kind)),
        "{kinds:?}"
    );
}

#[tokio::test]
async fn an_answer_that_is_lost_after_the_effect_does_not_send_twice() {
    let world = World::with_messager(2).await;
    let driver = world.driver(CHAIN).await;
    world.messager().faults(|faults| faults.lost_answers = Some(("PushMessageWithId".to_owned(), 2)));
    world.tick(&driver).await;
    assert!(waits(&world, &driver).await.contains("MESSAGER_UNAVAILABLE"));
    world.until(&driver, "all are active", all_prove).await;
    assert_eq!(world.effects(), [(1, 1); 2]);
    assert_eq!((stages(&world).len(), world.messager().pushes()), (2, 4));
}

#[tokio::test]
async fn what_is_stuck_unfilled_is_told_and_waited_for() {
    let world = World::with_messager(1).await;
    let driver = world.driver(CHAIN).await;
    world.messager().faults(|faults| faults.stuck = true);
    for _ in 0..15 {
        world.tick(&driver).await;
        world.advance(1);
    }
    let said = waits(&world, &driver).await;
    assert!(said.contains("MESSAGE_PENDING") && said.contains("has no nonce yet"), "{said}");
    world.messager().faults(|faults| {
        faults.stuck = false;
        faults.filling_fails = Some("sign message failed: no wallet connection found".to_owned());
    });
    for _ in 0..5 {
        world.advance(1);
        world.tick(&driver).await;
    }
    assert!(waits(&world, &driver).await.contains("no wallet connection found"));
    assert_eq!(stages(&world), [Stage::Unfilled], "nothing is sent instead");
    world.messager().faults(|faults| faults.filling_fails = None);
    world.until(&driver, "it is active", all_prove).await;
    assert_eq!((world.effects(), stages(&world).len()), (vec![(1, 1)], 2));
}

#[tokio::test]
async fn what_was_marked_bad_before_it_was_signed_is_sent_anew_with_another_id_after_a_while() {
    let world = World::with_messager(1).await;
    let driver = world.driver(CHAIN).await;
    world.messager().faults(|faults| faults.stuck = true);
    world.tick(&driver).await;
    let first = last_id(&world);
    world.messager().set_stage(&first, Some(Stage::Failed));
    world.messager().faults(|faults| faults.stuck = false);
    world.tick(&driver).await;
    assert_eq!(stages(&world), [Stage::Failed], "a round of filling may still overwrite the mark");
    world.until(&driver, "it is active", all_prove).await;
    assert_eq!(stages(&world), [Stage::Failed, Stage::OnChain, Stage::OnChain]);
    assert_eq!((world.effects(), told(&world, 1, "message_failed").await), (vec![(1, 1)], 1));
}

#[tokio::test]
async fn a_round_of_filling_that_overwrites_the_mark_does_not_lead_to_a_second_message() {
    let world = World::with_messager(1).await;
    let driver = world.driver("repush_epochs = 5").await;
    world.messager().faults(|faults| faults.stuck = true);
    world.tick(&driver).await;
    let first = last_id(&world);
    world.messager().set_stage(&first, Some(Stage::Failed));
    world.advance(2);
    world.tick(&driver).await;
    world.messager().set_stage(&first, Some(Stage::Unfilled));
    world.messager().faults(|faults| faults.stuck = false);
    world.until(&driver, "it is active", all_prove).await;
    assert_eq!((world.effects(), stages(&world)), (vec![(1, 1)], vec![Stage::OnChain; 2]));
}

#[tokio::test]
async fn what_was_marked_bad_after_it_was_signed_may_land_so_nothing_is_sent_instead() {
    let world = World::with_messager(1).await;
    let driver = world.driver(CHAIN).await;
    world.fault(Fault::StallInclusion { on: true });
    world.tick(&driver).await;
    world.advance(1);
    let first = last_id(&world);
    world.messager().set_stage(&first, Some(Stage::Failed));
    for _ in 0..10 {
        world.tick(&driver).await;
        world.advance(1);
    }
    let said = waits(&world, &driver).await;
    assert!(said.contains("MESSAGER_REFUSES") && said.contains("recover-failed-msg"), "{said}");
    assert_eq!(stages(&world), [Stage::Failed]);
    world.fault(Fault::StallInclusion { on: false });
    world.until(&driver, "it is active", all_prove).await;
    assert_eq!((world.effects(), stages(&world).len()), (vec![(1, 1)], 2));
}

#[tokio::test]
async fn a_nonce_that_another_tool_used_leads_to_another_message_once_that_is_confident() {
    let world = World::with_messager(2).await;
    let driver = world.driver(CHAIN).await;
    world.fault(Fault::StallInclusion { on: true });
    world.tick(&driver).await;
    world.advance(1);
    let first = world.messager().signed(&last_id(&world)).expect("it is signed");
    // It takes the place of the messager's in the pool.
    world.devnet.with_node(|node| {
        let mut other = first.message.clone();
        (other.to, other.value, other.method_num) = (other.from, TokenAmount::default(), 0);
        (other.params, other.gas_premium) = (RawBytes::default(), TokenAmount::from_atto(900_000));
        other.gas_fee_cap = TokenAmount::from_atto(1_000_000);
        let signed = node.wallet.sign_message(&other.from.clone(), other).expect("signs");
        node.push(signed).expect("replaces it");
    });
    world.fault(Fault::StallInclusion { on: false });
    world.advance(1);
    world.tick(&driver).await;
    world.advance(1);
    assert_eq!(stages(&world), [Stage::NonceConflict], "not confident yet");
    world.until(&driver, "all are active", all_prove).await;
    assert_eq!(stages(&world), [Stage::NonceConflict, Stage::OnChain, Stage::OnChain]);
    assert_eq!(world.effects(), [(1, 1); 2]);
}

#[tokio::test]
async fn what_the_messager_signed_for_more_is_followed_and_both_envelopes_are_kept() {
    let world = World::with_messager(1).await;
    let driver = world.driver(CHAIN).await;
    world.fault(Fault::StallInclusion { on: true });
    world.tick(&driver).await;
    world.advance(1);
    world.tick(&driver).await;
    let first = last_id(&world);
    let before = world.messager().signed(&first).expect("is signed");
    world.messager().replace(&first, TokenAmount::from_atto(400_000));
    world.advance(1);
    world.tick(&driver).await;
    assert_ne!(world.messager().signed(&first).expect("is signed"), before);
    let said = command_line::done(&world.config_file(), &["messages", "show", "1"]);
    assert!(said.contains("the messager sends it from") && said.contains("envelope 2 of 2"), "{said}");
    world.fault(Fault::StallInclusion { on: false });
    world.until(&driver, "it is active", all_prove).await;
    assert_eq!((world.effects(), stages(&world).len()), (vec![(1, 1)], 2));
}

#[tokio::test]
async fn what_ran_out_of_gas_is_sent_anew_with_a_higher_limit() {
    let world = World::with_messager(1).await;
    let driver = world.driver(CHAIN).await;
    world.tick(&driver).await;
    world.fault(Fault::LowGas { count: 1 });
    world.advance(1);
    let (first, limit) = {
        let id = last_id(&world);
        let signed = world.messager().signed(&id).expect("is signed");
        (id, signed.message.gas_limit)
    };
    world.until(&driver, "it is active", all_prove).await;
    let ids = world.messager().stages();
    let again = world.messager().signed(&ids[1].0).expect("is signed");
    assert!(ids[0].0 == first && again.message.gas_limit > limit, "{} after {limit}", again.message.gas_limit);
    assert_eq!((world.effects(), world.failed().len()), (vec![(1, 1)], 1));
}

#[tokio::test]
async fn a_sector_whose_number_is_taken_meanwhile_costs_only_itself() {
    let world = World::with_messager(4).await;
    let driver = world.driver(CHAIN).await;
    world.messager().faults(|faults| faults.stuck = true);
    world.tick(&driver).await;
    // The messager's estimate of the whole message fails from now on.
    world.other_tool_precommits(2);
    world.devnet.with_node(|node| node.advance_epoch().expect("an epoch passes"));
    world.messager().faults(|faults| faults.stuck = false);
    let three_prove = async |world: &World| world.in_state("proving").await.len() == 3;
    world.until(&driver, "three are active", three_prove).await;
    assert_eq!(world.effects().iter().map(|(_, proven)| *proven).collect::<Vec<_>>(), [1, 0, 1, 1]);
    assert_eq!((stages(&world)[0], world.failed().len()), (Stage::Failed, 0), "it costs no gas");
}

#[tokio::test]
async fn a_sector_that_is_given_up_takes_its_message_back_while_that_is_unsigned() {
    let world = World::with_messager(3).await;
    let driver = world.driver(CHAIN).await;
    world.messager().faults(|faults| faults.stuck = true);
    world.tick(&driver).await;
    abandon(&world, 2).await;
    world.tick(&driver).await;
    world.tick(&driver).await;
    world.messager().faults(|faults| faults.stuck = false);
    let two_prove = async |world: &World| world.in_state("proving").await.len() == 2;
    world.until(&driver, "two are active", two_prove).await;
    assert_eq!(world.effects(), [(1, 1), (0, 0), (1, 1)]);
    assert_eq!(stages(&world), [Stage::Failed, Stage::OnChain, Stage::OnChain]);
    assert!(world.open(MessageKind::Filler).await.is_empty());
}

#[tokio::test]
async fn what_is_given_up_after_it_was_signed_lands_and_the_others_go_on_with_it() {
    let world = World::with_messager(2).await;
    let driver = world.driver(CHAIN).await;
    world.fault(Fault::StallInclusion { on: true });
    world.tick(&driver).await;
    world.advance(1);
    world.tick(&driver).await;
    abandon(&world, 2).await;
    world.tick(&driver).await;
    world.fault(Fault::StallInclusion { on: false });
    world.until(&driver, "one is active", async |world| world.in_state("proving").await == [1]).await;
    assert_eq!(world.effects(), [(1, 1), (1, 0)], "the deposit of the second one is lost");
    assert_eq!(stages(&world).len(), 2, "the first one needs no other PreCommit");
}

#[tokio::test]
async fn something_harmless_takes_the_id_of_what_the_messager_may_still_get() {
    let world = World::with_messager(1).await;
    let driver = world.driver(CHAIN).await;
    world.tick(&driver).await;
    let first = last_id(&world);
    world.messager().set_stage(&first, None);
    abandon(&world, 1).await;
    for _ in 0..3 {
        // Each change wakes the driver at once, long before the messager looks at another head.
        world.tick(&driver).await;
    }
    for _ in 0..5 {
        world.advance(1);
        world.tick(&driver).await;
    }
    assert_eq!(world.messager().stages(), [(first, Stage::Failed)]);
    assert!(world.store.open_messages().await.expect("reads").is_empty());
    assert_eq!(world.effects(), [(0, 0)]);
}

#[tokio::test]
async fn what_a_messager_with_an_older_database_has_lost_is_handed_over_again() {
    let world = World::with_messager(1).await;
    let driver = world.driver(CHAIN).await;
    world.messager().faults(|faults| faults.stuck = true);
    world.tick(&driver).await;
    world.messager().set_stage(&last_id(&world), None);
    world.messager().faults(|faults| faults.stuck = false);
    world.until(&driver, "it is active", all_prove).await;
    assert_eq!(world.effects(), [(1, 1)]);
}

#[tokio::test]
async fn what_a_fork_takes_from_the_chain_lands_again() {
    for messages in [Reverted::Again, Reverted::Later, Reverted::Lost] {
        let world = World::with_messager(2).await;
        let driver = world.driver(CHAIN).await;
        world.until(&driver, "PreCommits have landed", async |world| world.effects() == [(1, 0); 2]).await;
        for _ in 0..3 {
            world.tick(&driver).await;
            world.advance(1);
        }
        world.devnet.with_node(|node| node.reorganise(6, messages).expect("forks"));
        world.until(&driver, "all are active", all_prove).await;
        world
            .until(&driver, "all is known", async |world| world.store.open_messages().await.expect("reads").is_empty())
            .await;
        assert_eq!(stages(&world).len(), 2, "{messages:?}");
    }
}

#[tokio::test]
async fn an_errand_lands_once_and_one_that_is_taken_back_does_not() {
    let world = World::with_messager(0).await;
    let driver = world.driver(CHAIN).await;
    let before = world.balance(&world.owner()).await;
    let landing = ask_transfer(&world, 77).await;
    world.until(&driver, "it has landed", async |world| ended(world, landing).await).await;
    assert_eq!(errand(&world, landing).await.state, ErrandState::Landed);
    world.messager().faults(|faults| faults.stuck = true);
    let cancelled = ask_transfer(&world, 1000).await;
    world.tick(&driver).await;
    let said = command_line::done(&world.config_file(), &["messages", "cancel", &cancelled.0.to_string()]);
    assert!(said.contains("taken back at the messager"), "{said}");
    world.tick(&driver).await;
    world.tick(&driver).await;
    world.messager().faults(|faults| faults.stuck = false);
    world.until(&driver, "it has ended", async |world| ended(world, cancelled).await).await;
    assert_eq!(errand(&world, cancelled).await.state, ErrandState::Cancelled);
    assert_eq!(world.balance(&world.owner()).await - before, TokenAmount::from_atto(77));
    assert_eq!(stages(&world), [Stage::OnChain, Stage::Failed]);
}

#[tokio::test]
async fn the_most_that_a_message_may_cost_travels_to_the_messager() {
    let world = World::with_messager(1).await;
    let driver = world.driver("max_fee_atto = \"5000000000000\"").await;
    world.tick(&driver).await;
    world.advance(1);
    let sent = world.messager().signed(&last_id(&world)).expect("is signed").message;
    assert!(sent.gas_fee_cap.clone() * sent.gas_limit <= TokenAmount::from_atto(5_000_000_000_000_i64), "{sent:?}");
}

#[tokio::test]
async fn a_messager_that_is_away_is_waited_for_and_nothing_is_fixed_meanwhile() {
    let world = World::with_messager(1).await;
    let driver = world.driver(CHAIN).await;
    world.messager().faults(|faults| faults.away = true);
    for _ in 0..3 {
        world.tick(&driver).await;
        world.advance(1);
    }
    let said = waits(&world, &driver).await;
    assert!(said.contains("MESSAGER_UNAVAILABLE") && said.contains("the messager does not answer"), "{said}");
    let open = world.store.open_messages().await.expect("reads");
    assert!(open.iter().all(|message| message.state == MessageState::Wanted), "{open:?}");
    world.messager().faults(|faults| faults.away = false);
    world.until(&driver, "it is active", all_prove).await;
}

#[tokio::test]
async fn a_wrong_token_an_unknown_sender_and_a_table_that_is_gone_are_told_with_what_to_do() {
    let world = World::with_messager(1).await;
    let driver = world.driver(CHAIN).await;
    let token_file = world.config_file().with_file_name("messager-token");
    std::fs::write(&token_file, "another").expect("writes");
    world.tick(&driver).await;
    let said = waits(&world, &driver).await;
    assert!(said.contains("MESSAGER_REFUSES") && said.contains("chain.messager.token_file"), "{said}");

    world.driver(CHAIN).await;
    let worker = world.worker();
    world.messager().faults(|faults| faults.unknown_senders = [worker].into());
    world.tick(&driver).await;
    let said = waits(&world, &driver).await;
    assert!(said.contains(&worker.to_string()) && said.contains("signer register"), "{said}");

    // The call was fixed, and may have been handed over, so it is not sent in another way.
    let config = world.config(CHAIN, "");
    let chain = sealbus_manager::config::Chain { messager: None, ..config.chain.clone() };
    let without =
        world.driver_with(sealbus_manager::config::Config { chain, ..config }, world.client(), world.epoch).await;
    world.tick(&without).await;
    let said = waits(&world, &without).await;
    assert!(said.contains("[chain.messager] is not configured any more"), "{said}");
    world.messager().faults(|faults| faults.unknown_senders.clear());
    world.until(&driver, "it is active", all_prove).await;
    assert_eq!((world.effects(), stages(&world).len()), (vec![(1, 1)], 2));
}

#[tokio::test]
async fn what_the_messager_lacks_is_found_before_a_sector_begins() {
    let world = World::with_messager(0).await;
    let config = world.config("", "");
    let node = NodeClient::new(world.client());
    let found = async || {
        let found = preflight::everything(&node, &config, &Trusting { aggregate: None }).await;
        let of_messager = found.into_iter().filter(|(_, cause)| cause.code.as_str().starts_with("MESSAGER"));
        of_messager.map(|(_, cause)| format!("{}: {}", cause.code, cause.text)).collect::<Vec<_>>()
    };
    assert_eq!(found().await, Vec::<String>::new());
    world.messager().faults(|faults| faults.unknown_senders = [world.worker()].into());
    let [said] = &found().await[..] else { panic!("one finding") };
    assert!(said.contains("MESSAGER_REFUSES") && said.contains(&world.worker().to_string()), "{said}");
    assert!(said.contains("signer register") && said.contains("chain.messager.token_file"), "{said}");
    world.messager().faults(|faults| faults.away = true);
    let [said] = &found().await[..] else { panic!("one finding") };
    assert!(said.starts_with("MESSAGER_UNAVAILABLE"), "{said}");
}

#[tokio::test]
async fn people_see_that_the_messager_sends_a_message() {
    let world = World::with_messager(2).await;
    let driver = world.driver(CHAIN).await;
    world.tick(&driver).await;
    let file = world.config_file();
    let listed = command_line::done(&file, &["messages", "list"]);
    assert!(listed.contains("messager") && listed.contains("pushed"), "{listed}");
    let json: Value = serde_json::from_str(&command_line::done(&file, &["messages", "list", "--json"])).expect("JSON");
    let message = &json["messages"][0];
    assert_eq!((&message["nonce"], &message["messager_id"]), (&Value::Null, &Value::from(last_id(&world))));
    let shown = command_line::done(&file, &["messages", "show", "1"]);
    assert!(shown.contains("the messager sends it from") && shown.contains("handed over at epoch"), "{shown}");
}
