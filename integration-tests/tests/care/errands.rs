//! The owner's errands.

use fil_actor_miner_state::v19::MinerInfo;
use fvm_ipld_encoding::{CborStore, RawBytes};
use fvm_shared::{address::Address, econ::TokenAmount};
use sealbus_integration_tests::devnet::{execution::CreateMinerReturn, faults::Fault};
use serde_json::{Value, json};

use super::{
    Site, address,
    chain::{Chain, MINER},
};

fn info(site: &Site) -> MinerInfo {
    let miner = site.chain.miner();
    site.chain.node(|node| node.store.get_cbor(&miner.state.info).expect("reads").expect("an info"))
}

fn id(chain: &Chain, key: Address) -> Address {
    Address::new_id(chain.node(|node| node.latest().expect("state").world.resolve(&key).expect("on chain")))
}

/// The owner and the worker of another miner: strangers whose keys the wallet has.
fn strangers(site: &Site) -> [Address; 2] {
    site.chain.node(|node| [node.miners[1].owner_key, node.miners[1].worker_key])
}

fn fund_the_miner(site: &Site, whole: i64) {
    let receipt = site.chain.send(0, RawBytes::default(), TokenAmount::from_whole(whole));
    assert_eq!(receipt.exit_code.value(), 0);
}

#[test]
fn what_is_available_is_withdrawn_and_a_debt_comes_first() {
    let site = Site::new();
    fund_the_miner(&site, 10);
    let before = site.chain.balance(site.chain.owner());
    site.sends(&site.only(&["miners", "withdraw", "f01000", "--amount", "2.5"]));
    let withdrawn = site.chain.balance(site.chain.owner()) - before;
    assert!(withdrawn > TokenAmount::from_nano(2_490_000_000_i64), "{withdrawn}");
    site.refused(&["miners", "withdraw", "f01000", "--amount", "8"], &["--amount: 8 FIL are more than the 7.5"]);

    let atto = 15_000_000_000_000_000_000;
    site.chain.node(|node| node.inject(Fault::FeeDebt { miner: MINER, atto }));
    site.chain.advance(2);
    site.refused(
        &["miners", "withdraw", "f01000", "--all"],
        &["nothing can be withdrawn", "it owes 15 FIL", "repay-debt"],
    );
    let errand = site.only(&["miners", "repay-debt", "f01000"]);
    assert_eq!(errand["value_atto"], json!("7500000000000000000"), "7.5 FIL are the miner's own");
    site.sends(&errand);
    assert_eq!(site.chain.miner().state.fee_debt, TokenAmount::default());
    site.refused(&["miners", "repay-debt", "f01000"], &["it owes nothing"]);
}

#[test]
fn a_worker_changes_in_two_steps_and_the_control_addresses_stay() {
    let site = Site::new();
    let [other, next] = strangers(&site);
    site.sends(&site.only(&["miners", "control", "set", "f01000", &other.to_string()]));
    assert_eq!(info(&site).control_addresses, [id(&site.chain, other)]);
    site.sends(&site.only(&["miners", "worker", "change", "f01000", &next.to_string()]));
    let early = site.refused(&["miners", "worker", "confirm", "f01000"], &["can be confirmed from epoch"]);
    let from = info(&site).pending_worker_key.expect("a change").effective_at;
    assert!(early.contains(&from.to_string()), "{early}");
    site.refused(&["miners", "worker", "change", "f01000", &other.to_string()], &["pending since before"]);
    site.chain.advance(900);
    site.sends(&site.only(&["miners", "worker", "confirm", "f01000"]));
    let after = info(&site);
    assert_eq!((after.worker, after.control_addresses), (id(&site.chain, next), vec![id(&site.chain, other)]));
    let shown: Value = {
        let output = site.run(&["miners", "info", "f01000", "--json"]);
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    assert_eq!(address(shown["worker"].as_str().expect("an address")), id(&site.chain, next));
}

#[test]
fn an_owner_proposes_and_the_proposed_one_confirms() {
    let site = Site::new();
    let [next, _] = strangers(&site);
    site.refused(&["miners", "owner", "confirm", "f01000"], &["no change of the owner is pending"]);
    let errand = site.only(&["miners", "owner", "change", "f01000", &next.to_string()]);
    assert_eq!(errand["role"], json!("owner"));
    site.sends(&errand);
    let errand = site.only(&["miners", "owner", "confirm", "f01000"]);
    assert_eq!(
        (errand["role"].as_str(), address(errand["key"].as_str().expect("a key"))),
        (Some("proposed_owner"), next)
    );
    site.sends(&errand);
    assert_eq!((info(&site).owner, info(&site).beneficiary), (id(&site.chain, next), id(&site.chain, next)));
}

#[test]
fn a_beneficiary_is_proposed_and_approved_and_withdraws_within_its_quota() {
    let site = Site::new();
    fund_the_miner(&site, 10);
    let [next, _] = strangers(&site);
    let change = ["miners", "beneficiary", "change", "f01000", &next.to_string(), "--quota", "3", "--until", "1000000"];
    site.sends(&site.only(&change));
    site.sends(&site.only(&["miners", "beneficiary", "confirm", "f01000"]));
    assert_eq!(info(&site).beneficiary, id(&site.chain, next));
    let before = site.chain.balance(next);
    site.sends(&site.only(&["miners", "withdraw", "f01000", "--all", "--as-beneficiary"]));
    let got = site.chain.balance(next) - before;
    assert!(got > TokenAmount::from_nano(2_990_000_000_i64) && got <= TokenAmount::from_whole(3), "{got}");
    site.refused(&["miners", "withdraw", "f01000", "--all"], &["quota of 3", "used up"]);
}

#[test]
fn clients_are_told_where_the_miner_is() {
    let site = Site::new();
    let peer = "12D3KooWQ4sjXAfYNKKuAwrNRpTMHjjJyGnbWvvzvyFwUCXdQUJ3";
    site.sends(&site.only(&["miners", "peer-id", "f01000", peer]));
    site.sends(&site.only(&["miners", "multiaddrs", "f01000", "/ip4/1.2.3.4/tcp/24001", "/dns4/a.example/tcp/1"]));
    let output = site.run(&["miners", "info", "f01000"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("/ip4/1.2.3.4/tcp/24001") && said.contains("/dns4/a.example/tcp/1"), "{said}");
    assert_eq!(info(&site).multi_address.len(), 2);
    assert!(!info(&site).peer_id.is_empty());
}

#[test]
fn a_miner_is_created_for_the_deposit_that_the_chain_asks_for() {
    let site = Site::new();
    let (owner, worker) = (site.chain.owner().to_string(), site.chain.worker().to_string());
    let arguments = ["miners", "create", "--owner", &owner, "--sector-size", "2KiB"];
    site.refused(&arguments, &["--worker", "is no BLS key"]);
    let errand = site.only(&[&arguments[..], &["--worker", &worker]].concat());
    let receipt = site.send(&errand);
    assert_eq!(receipt.exit_code.value(), 0);
    let created: CreateMinerReturn = receipt.return_data.deserialize().expect("a return");
    assert_eq!(created.id_address, Address::new_id(1002));
}

#[test]
fn funds_show_what_is_there_what_is_locked_and_what_is_needed() {
    let site = Site::new();
    site.chain.active(&[3]);
    fund_the_miner(&site, 10);
    let output = site.run(&["funds", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let funds: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let state = site.chain.miner().state;
    assert_eq!(funds[0]["pledge_atto"], json!(state.initial_pledge.atto().to_string()));
    assert_eq!(funds[0]["on_their_way"]["before_precommit"], json!(0));
    let week = &funds[0]["next_7_days"];
    assert_eq!((&week["sectors"]["before_prove_commit"], &week["expiring"]), (&json!(0), &json!(0)));
    let fee = site.chain.on_chain_sector(3).expect("is active").daily_fee;
    assert!(fee.is_positive());
    assert_eq!(week["daily_fees_atto"], json!((fee * 7).atto().to_string()));
    let roles: Vec<&Value> = funds[0]["addresses"].as_array().expect("a list").iter().map(|of| &of["roles"]).collect();
    assert_eq!(roles, [&json!(["owner"]), &json!(["worker", "sender"])]);
    let output = site.run(&["funds", "--miner", "f01000"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("available") && said.contains("NEXT 7 DAYS") && said.contains("daily fees"), "{said}");
}
