//! Extend, terminate, upgrade, compact.

use fvm_shared::{address::Address, econ::TokenAmount};
use sealbus_integration_tests::devnet::{Config, faults::Fault};
use serde_json::{Value, json};

use super::{
    Site, atto,
    chain::{Chain, MINER},
};

/// What a unit of gas costs on this chain, in attoFIL.
const BASE_FEE: u64 = 100;

fn left_out(preview: &Value) -> Vec<(&str, &str)> {
    let all = preview["notes"]["left_out"].as_array().expect("a list").iter();
    all.map(|left| (left["sector"].as_str().expect("a sector"), left["why"].as_str().expect("a reason"))).collect()
}

fn faulty(chain: &Chain, sectors: Vec<u64>) {
    chain.node(|node| node.inject(Fault::Faulty { miner: MINER, sectors }));
    chain.advance(2);
}

#[test]
fn sectors_are_extended_as_shown_and_those_that_cannot_be_say_why() {
    let site = Site::new();
    site.chain.active(&[3, 4, 5, 6]);
    faulty(&site.chain, vec![5]);
    let preview = site.preview(&["sectors", "extend", "--miner", "f01000", "--numbers", "3-5", "--days", "700"]);
    assert_eq!(left_out(&preview), [("f01000/5", "it is faulty: prove it first")]);
    let errand = &preview["errands"][0];
    let until = preview["epoch"].as_i64().expect("an epoch") + 700 * 2880;
    let numbers: Vec<&Value> = errand["detail"]["declared"].as_array().expect("a list").iter().collect();
    assert!(numbers.iter().all(|declared| declared["expiration"] == json!(until)), "{errand:#}");
    assert_eq!((&errand["method"], &errand["value_atto"]), (&json!(32), &json!("0")));
    let before = site.chain.on_chain_sector(6).expect("active").expiration;
    site.sends(errand);
    let expiration = |number| site.chain.on_chain_sector(number).expect("active").expiration;
    assert_eq!([3, 4, 6].map(expiration), [until, until, before]);

    let again = site.preview(&["sectors", "extend", "f01000/3", "f01000/77", "--days", "600"]);
    let reasons = left_out(&again);
    assert!(reasons[0] == ("f01000/77", "it is not proven on chain"), "{reasons:?}");
    assert!(reasons[1].1.contains(&format!("expires at epoch {until} already")), "{reasons:?}");
    assert_eq!(again["errands"], json!([]));
    let soon = site.preview(&["sectors", "extend", "--miner", "f01000", "--expiring-days", "400", "--more-days", "9"]);
    assert_eq!(left_out(&soon)[0].0, "f01000/5");
    assert_eq!(soon["errands"][0]["detail"]["declared"][0]["sectors"], json!("6"));
}

#[test]
fn a_termination_costs_what_was_shown() {
    let site = Site::new();
    site.chain.active(&[3, 4]);
    // Fees of a new sector are too small to tell from roundings.
    site.chain.advance(4_000);
    let place = site.chain.place(3);
    site.chain.until_mutable(place.0);
    let errand = site.only(&["sectors", "terminate", "f01000/3"]);
    let shown = atto(errand["detail"]["costs_atto"].as_str().expect("an amount"));
    let burnt = || site.chain.balance(Address::new_id(99));
    let before = burnt();
    let receipt = site.send(&errand);
    assert_eq!(receipt.exit_code.value(), 0);
    let taken = burnt() - before - TokenAmount::from_atto(BASE_FEE) * receipt.gas_used;
    assert!(taken.is_positive());
    let off = (taken.atto() - shown.atto()).magnitude().clone();
    assert!(off * 1000u32 <= taken.atto().magnitude().clone(), "{taken} for {shown}");
    assert!(!site.chain.partition(place.0, place.1).live_sectors().get(3));
    let ended = site.preview(&["sectors", "terminate", "f01000/3"]);
    assert_eq!(left_out(&ended), [("f01000/3", "it has ended")]);
}

#[test]
fn a_sector_whose_deadline_is_proven_now_says_when_it_can_be_ended() {
    let site = Site::new();
    site.chain.active(&[3]);
    let deadline = site.chain.place(3).0;
    let miner = site.chain.miner();
    let open = site.chain.node(|node| {
        let policy = node.policy.clone();
        let info = |epoch| miner.state.deadline_info(&policy, epoch);
        while info(node.epoch()).index != deadline {
            node.advance_epoch().expect("an epoch passes");
        }
        info(node.epoch())
    });
    let preview = site.preview(&["sectors", "terminate", "f01000/3"]);
    let expected = format!("deadline {deadline} is proven now or next; it can be changed from epoch {}", open.close);
    assert_eq!(left_out(&preview), [("f01000/3", expected.as_str())]);
    assert_eq!(preview["errands"], json!([]));
}

#[test]
fn sectors_from_before_the_upgrade_get_full_quality_for_the_pledge_that_was_shown() {
    let site = Site::with(Config { network_version: 28, ..Config::default() });
    site.chain.active(&[3, 4, 5]);
    let arguments = ["sectors", "upgrade-quality", "--miner", "f01000", "--all"];
    site.refused(&arguments, &["the network has version 28", "from version 29 on"]);
    let now = site.chain.height();
    site.chain.node(|node| node.upgrade(now)).expect("an upgrade");
    site.chain.withdraw_all();
    faulty(&site.chain, vec![4]);
    let preview = site.preview(&arguments);
    assert_eq!(left_out(&preview), [("f01000/4", "it is faulty: prove it first")]);
    let pledges = || [3, 5].map(|number| site.chain.on_chain_sector(number).expect("active").initial_pledge);
    let before: TokenAmount = pledges().into_iter().sum();
    let errand = &preview["errands"][0];
    let value = atto(errand["value_atto"].as_str().expect("an amount"));
    site.sends(errand);
    let risen = pledges().into_iter().sum::<TokenAmount>() - before;
    // The node's answer has a margin of a tenth.
    assert!(risen.is_positive() && risen <= value && value.atto() * 10 <= risen.atto() * 12, "{risen} of {value}");
    for number in [3, 5] {
        assert!(site.chain.on_chain_sector(number).expect("active").flags.bits() & 2 != 0);
    }
    let again = site.preview(&arguments);
    assert_eq!(left_out(&again)[0], ("f01000/3", "it has tenfold quality already"));
}

#[test]
fn a_compacted_deadline_has_no_dead_sectors_and_fewer_partitions() {
    let site = Site::new();
    // A full partition has 2 sectors here.
    let numbers: Vec<u64> = (3..15).collect();
    site.chain.active(&numbers);
    let deadline = site.chain.place(3).0;
    let of_deadline: Vec<u64> = numbers.into_iter().filter(|number| site.chain.place(*number).0 == deadline).collect();
    site.chain.until_mutable(deadline);
    let named = format!("f01000/{}", of_deadline[0]);
    site.sends(&site.only(&["sectors", "terminate", &named]));
    let errand = site.only(&["sectors", "compact", "f01000"]);
    assert_eq!((&errand["method"], &errand["detail"]["dead"]), (&json!(19), &json!(1)));
    site.sends(&errand);
    let output = site.run(&["sectors", "compact", "f01000", "--dry-run"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no partition of f01000 has dead sectors"), "{said}");
}
