//! Extending, terminating and compacting.

use fil_actor_miner_state::v19::{
    CompactPartitionsParams, ExpirationExtension2, ExtendSectorExpiration2Params, TerminateSectorsParams,
    TerminateSectorsReturn, TerminationDeclaration, pledge_penalty_for_continued_fault, qa_power_for_sector,
};
use fvm_shared::address::Address;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::econ::TokenAmount;
use fvm_shared::receipt::Receipt;
use sealbus_integration_tests::devnet::Config;
use sealbus_integration_tests::devnet::faults::Fault;

use crate::chain::{Chain, MINER, encode};
use crate::{bits, nothing};

const EXTEND: u64 = 32;
const TERMINATE: u64 = 9;
const COMPACT: u64 = 19;

fn extension(place: (u64, u64), numbers: &[u64], expiration: ChainEpoch) -> ExpirationExtension2 {
    ExpirationExtension2 {
        deadline: place.0,
        partition: place.1,
        sectors: bits(numbers),
        sectors_with_claims: vec![],
        new_expiration: expiration,
    }
}

fn extend(chain: &Chain, extensions: Vec<ExpirationExtension2>) -> u32 {
    let params = encode(&ExtendSectorExpiration2Params { extensions });
    chain.send(EXTEND, params, nothing()).exit_code.value()
}

fn termination(place: (u64, u64), numbers: &[u64]) -> TerminationDeclaration {
    TerminationDeclaration { deadline: place.0, partition: place.1, sectors: bits(numbers) }
}

fn terminate(chain: &Chain, terminations: Vec<TerminationDeclaration>) -> Receipt {
    chain.send(TERMINATE, encode(&TerminateSectorsParams { terminations }), nothing())
}

#[test]
fn sectors_become_active_when_their_deadline_closes() {
    let chain = Chain::new();
    chain.unproven(&[7]);
    let place = chain.place(7);
    assert!(chain.partition(place.0, place.1).unproven.get(7));
    let close = chain.node(|node| {
        let view = node.view(None).expect("a view");
        let state = view.miner(&Address::new_id(MINER)).expect("the miner").state;
        let now = state.deadline_info(&node.policy, node.epoch());
        let ahead = (place.0 + 48 - now.index) % 48;
        now.close + ahead as i64 * 60
    });
    // What happens in the last epoch is seen from the next one on.
    chain.advance((close - 1 - chain.height()) as u64);
    assert!(!chain.partition(place.0, place.1).is_active(7));
    chain.advance(1);
    assert!(chain.partition(place.0, place.1).is_active(7));
}

#[test]
fn active_sectors_are_extended_in_place() {
    let chain = Chain::new();
    chain.active(&[7, 8]);
    let (before, total) = (chain.on_chain_sector(7).expect("active"), chain.total());
    let expiration = before.expiration + 100_000;
    assert_eq!(extend(&chain, vec![extension(chain.place(7), &[7], expiration)]), 0);
    let after = chain.on_chain_sector(7).expect("active");
    assert_eq!((after.expiration, after.activation), (expiration, before.activation));
    assert_eq!((after.initial_pledge, after.flags), (before.initial_pledge, before.flags));
    assert_eq!(after.daily_fee, before.daily_fee);
    assert!(after.power_base_epoch > before.power_base_epoch);
    assert_eq!(chain.on_chain_sector(8).expect("active").expiration, before.expiration);
    assert!(chain.partition(chain.place(7).0, chain.place(7).1).is_active(7));
    assert_eq!(chain.total(), total);
}

#[test]
fn an_extension_that_is_not_possible_fails_as_a_whole() {
    let chain = Chain::with(Config { miners: 2, ..Config::default() });
    chain.active(&[7, 8, 9]);
    chain.unproven(&[10]);
    let place = chain.place(7);
    let expiration = chain.on_chain_sector(7).expect("active").expiration;
    let later = expiration + 100_000;
    let wrong = [
        ("unproven", chain.place(10), 10, later, 20),
        ("unknown", place, 99, later, 17),
        ("in another partition", chain.place(9), 7, later, 20),
        ("shorter", place, 7, expiration - 1, 16),
        ("too far", place, 7, chain.height() + 3_680_640 + 100, 16),
        ("no such deadline", (48, 0), 7, later, 16),
        ("no such partition", (place.0, 9), 7, later, 17),
    ];
    for (name, place, number, expiration, code) in wrong {
        assert_eq!(extend(&chain, vec![extension(place, &[number], expiration)]), code, "{name}");
    }
    let both = vec![extension(place, &[7], later), extension(chain.place(10), &[10], later)];
    assert_eq!(extend(&chain, both), 20);
    assert_eq!(chain.on_chain_sector(7).expect("active").expiration, expiration);

    let stranger = chain.node(|node| node.miners[1].worker_key);
    let params = encode(&ExtendSectorExpiration2Params { extensions: vec![extension(place, &[7], later)] });
    assert_eq!(chain.send_from(stranger, EXTEND, params, nothing()).exit_code.value(), 18);
    chain.node(|node| node.inject(Fault::Faulty { miner: MINER, sectors: vec![7] }));
    chain.advance(2);
    assert_eq!(extend(&chain, vec![extension(place, &[7], later)]), 20, "faulty");
}

#[test]
fn a_terminated_sector_pays_its_fee_and_frees_the_rest_of_its_pledge() {
    let chain = Chain::new();
    chain.active(&[7, 8]);
    let place = chain.place(7);
    chain.until_mutable(place.0);
    let sector = chain.on_chain_sector(7).expect("active");
    let (before, burnt, total) = (chain.miner(), chain.balance(Address::new_id(99)), chain.total());
    let including = chain.height() + 1;
    let receipt = terminate(&chain, vec![termination(place, &[7])]);
    assert_eq!(receipt.exit_code.value(), 0);
    assert!(receipt.return_data.deserialize::<TerminateSectorsReturn>().expect("a return").done);

    // FIP-0098: 8.5 % of the pledge, less in the first 140 days, but at least 2 % and 1.05 fault fees.
    let fault_fee = chain.node(|node| {
        let (power, economics) = (qa_power_for_sector(node.config.sector_size, &sector), &node.economics);
        pledge_penalty_for_continued_fault(&economics.reward, &economics.network_qa_power, &power)
    });
    let simple = (&sector.initial_pledge * 85).div_floor(1000);
    let young = (&simple * (including - sector.activation)).div_floor(140 * 2880);
    let least = (&sector.initial_pledge * 2).div_floor(100).max((fault_fee * 105).div_floor(100));
    let fee = simple.min(young).max(least);
    assert!(fee.is_positive());
    let after = chain.miner();
    assert_eq!(&before.actor.balance - &after.actor.balance, fee);
    assert_eq!(&before.state.initial_pledge - &after.state.initial_pledge, sector.initial_pledge);
    assert_eq!(after.state.fee_debt, nothing());
    assert_eq!(chain.balance(Address::new_id(99)) - burnt, fee + TokenAmount::from_atto(100 * receipt.gas_used));
    assert_eq!(chain.total(), total);

    let partition = chain.partition(place.0, place.1);
    assert!(partition.terminated.get(7) && !partition.live_sectors().get(7));
    assert!(partition.is_active(8) || chain.place(8) != place);
    assert_eq!(terminate(&chain, vec![termination(place, &[7])]).exit_code.value(), 16, "not live any more");
}

#[test]
fn a_termination_is_refused_in_a_deadline_that_is_near_and_from_strangers() {
    let chain = Chain::with(Config { miners: 2, ..Config::default() });
    chain.active(&[7]);
    let place = chain.place(7);
    // The deadline has just closed, so it is mutable until a window before it opens again.
    chain.until_mutable(place.0);
    let stranger = chain.node(|node| node.miners[1].worker_key);
    let params = encode(&TerminateSectorsParams { terminations: vec![termination(place, &[7])] });
    assert_eq!(chain.send_from(stranger, TERMINATE, params, nothing()).exit_code.value(), 18);
    let open = chain.node(|node| {
        let state = node.view(None).expect("a view").miner(&Address::new_id(MINER)).expect("the miner").state;
        let now = state.deadline_info(&node.policy, node.epoch());
        now.open + ((place.0 + 48 - now.index) % 48) as i64 * 60
    });
    chain.advance((open - 60 - chain.height()) as u64);
    assert_eq!(terminate(&chain, vec![termination(place, &[7])]).exit_code.value(), 16);
    assert_eq!(terminate(&chain, vec![termination((48, 0), &[7])]).exit_code.value(), 16);
}

#[test]
fn compacting_forgets_dead_sectors_and_keeps_live_ones() {
    let chain = Chain::new();
    chain.active(&[7, 8]);
    let place = chain.place(7);
    assert_eq!(chain.place(8), place, "two sectors fit a partition");
    let compact = |deadline, partitions: &[u64]| {
        let params = encode(&CompactPartitionsParams { deadline, partitions: bits(partitions) });
        chain.send(COMPACT, params, nothing()).exit_code.value()
    };
    assert_eq!(compact(place.0, &[0]), 18, "the deadline may still be disputed");
    chain.until_mutable(place.0);
    assert_eq!(terminate(&chain, vec![termination(place, &[7])]).exit_code.value(), 0);
    assert!(chain.on_chain_sector(7).is_some(), "a terminated sector stays until it is compacted");
    assert_eq!(compact(48, &[0]), 16);
    assert_eq!(compact(place.0, &[place.1]), 0);
    assert!(chain.on_chain_sector(7).is_none());
    let place = chain.place(8);
    assert!(chain.partition(place.0, place.1).is_active(8));
    assert!(!chain.partition(place.0, place.1).sectors.get(7));
}
