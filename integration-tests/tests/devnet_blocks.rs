//! Block production: base info, election, winning PoSt, blocks and their rewards, with a scripted verifier for proofs.

#[path = "devnet_support/chain.rs"]
mod chain;
#[path = "devnet_support/mining.rs"]
mod mining;

use chain::{Chain, MINER, PRE_COMMIT, PROVE_COMMIT, encode, pre_commit_params, prove_params};
use fil_actor_miner_state::v19::locked_reward_from_reward;
use fvm_ipld_encoding::RawBytes;
use fvm_shared::address::Address;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::crypto::signature::Signature;
use fvm_shared::econ::TokenAmount;
use sealbus_integration_tests::devnet::Config;
use sealbus_integration_tests::devnet::blocks::{BlockStats, Fate, Template};
use sealbus_integration_tests::devnet::faults::{Fault, Reverted};
use sealbus_integration_tests::devnet::proofs::PostInfo;
use sealbus_integration_tests::devnet::randomness::{blake2b256, draw, miner_entropy};
use sealbus_integration_tests::devnet::tipset::BlockHeader;

const OTHER: u64 = 1001;

/// The state that decides elections is as old as 15 deadlines: here 90 epochs.
const LOOKBACK: u64 = 90;

fn config() -> Config {
    Config { elections: true, window_epochs: 6, ..Config::default() }
}

/// A chain whose only miner has sectors for long enough to win blocks.
fn mining() -> Chain {
    let chain = Chain::with(config());
    chain.active(&[7, 8, 9]);
    chain.advance(LOOKBACK + 1);
    chain
}

fn blocks(chain: &Chain, miner: u64) -> Vec<BlockStats> {
    chain.node(|node| node.stats.miners.get(&miner).map(|stats| stats.blocks.clone()).unwrap_or_default())
}

fn fates(chain: &Chain, miner: u64) -> Vec<Fate> {
    blocks(chain, miner).iter().map(|block| block.fate).collect()
}

#[test]
fn a_winners_block_becomes_the_tipset_with_its_messages_and_earns_the_reward() {
    let chain = mining();
    let template = chain.next_win(MINER);
    let mut message = chain.message(chain.owner(), 0, RawBytes::default(), TokenAmount::from_whole(1));
    message.to = Address::new_id(MINER);
    let cid = chain.push(message).expect("the mempool takes it");
    let template = chain.template(MINER, template.epoch).expect("still won");
    let (header, messages) = chain.create_block(template);
    assert_eq!(messages.len(), 1);
    let (had, total) = (chain.miner(), chain.total());
    assert_eq!(chain.submit_block(header.clone(), &messages), Ok(()));
    assert_eq!(fates(&chain, MINER), [Fate::Waiting]);
    chain.advance(1);
    let head = chain.node(|node| node.chain.head().clone());
    assert_eq!(head.header, header);
    assert_eq!(head.cid.to_string(), blocks(&chain, MINER)[0].cid);
    assert_eq!(fates(&chain, MINER), [Fate::Included]);

    chain.advance(1);
    assert_eq!(chain.search(&cid).map(|found| found.receipt.exit_code.value()), Some(0));
    let reward = chain.node(|node| TokenAmount::from_atto(node.economics.reward.estimate()));
    let reward = (reward * header.election.win_count).div_floor(5);
    let now = chain.miner();
    assert_eq!(now.actor.balance - had.actor.balance, &reward + TokenAmount::from_whole(1));
    let (locked, _) = locked_reward_from_reward(reward);
    assert_eq!(now.state.locked_funds - had.state.locked_funds, locked);
    assert_eq!(chain.total(), total);
}

#[test]
fn where_nobody_submits_a_block_the_devnet_makes_it() {
    let chain = mining();
    let template = chain.next_win(MINER);
    let (header, messages) = chain.create_block(template);
    chain.advance(1);
    assert_ne!(chain.node(|node| node.chain.head().header.clone()), header);
    assert_eq!(chain.submit_block(header, &messages), Ok(()));
    assert_eq!(fates(&chain, MINER), [Fate::Late]);
    assert_eq!(chain.miner().state.locked_funds, TokenAmount::default());
}

/// Changes a right header.
type Change = fn(&mut BlockHeader);

#[test]
fn a_block_that_breaks_a_rule_is_refused() {
    let chain = mining();
    let (header, messages) = chain.create_block(chain.next_win(MINER));
    let worker = chain.worker();
    let refused: [(&str, Change); 16] = [
        ("validating block tickets failed", |header| header.ticket_vrf_proof[5] ^= 1),
        ("validating block tickets failed", |header| header.ticket_vrf_proof = header.election.vrf_proof.clone()),
        ("validating block election proof failed", |header| {
            header.election.vrf_proof = header.ticket_vrf_proof.clone();
        }),
        ("wrong number of wins", |header| header.election.win_count += 1),
        ("not claiming to be a winner", |header| header.election.win_count = 0),
        ("random beacon values", |header| header.beacon_entries.clear()),
        ("winning post was invalid", |header| header.winning_post[0].proof_bytes = b"wrong".to_vec()),
        ("winning post was invalid", |header| header.winning_post.clear()),
        ("parent weight different", |header| header.parent_weight += 1),
        ("base fee doesn't match", |header| header.base_fee += 1),
        ("parent state root did not match", |header| header.parent_state_root = header.messages),
        ("parent receipts root did not match", |header| header.parent_receipts = header.parents[0]),
        ("messages didn't match root cid", |header| header.messages = header.parents[0]),
        ("bls aggregate signature was invalid", |header| header.bls_aggregate = Signature::new_bls(vec![1; 96])),
        ("block has wrong timestamp", |header| header.timestamp += 1),
        ("actor not found", |header| header.miner = 999),
    ];
    for (text, change) in refused {
        let mut changed = header.clone();
        change(&mut changed);
        let error = chain.submit_block(chain.signed(changed, &worker), &messages).expect_err(text);
        assert!(error.contains(text), "{text}: {error}");
    }
    let mut changed = header.clone();
    changed.timestamp += 4;
    changed.height += 1;
    let error = chain.submit_block(chain.signed(changed, &worker), &messages).expect_err("too early");
    assert!(error.contains("block was from the future"), "{error}");
    let unsigned = BlockHeader { signature: None, ..header.clone() };
    assert_eq!(chain.submit_block(unsigned, &messages), Err("block had nil signature".to_owned()));
    let mut forged = header.clone();
    forged.signature = Some(Signature::new_bls(forged.ticket_vrf_proof.clone()));
    let error = chain.submit_block(forged, &messages).expect_err("not the worker's");
    assert!(error.contains("check block signature failed"), "{error}");
    let orphan = BlockHeader { parents: vec![header.messages], ..header.clone() };
    assert!(chain.submit_block(chain.signed(orphan, &worker), &messages).is_err());
    assert!(blocks(&chain, MINER).is_empty());
    assert_eq!(chain.submit_block(header, &messages), Ok(()));
}

#[test]
fn two_blocks_of_an_epoch_are_a_consensus_fault_and_the_same_block_twice_is_none() {
    let chain = mining();
    let (header, messages) = chain.create_block(chain.next_win(MINER));
    for _ in 0..2 {
        assert_eq!(chain.submit_block(header.clone(), &messages), Ok(()));
    }
    let faults = |chain: &Chain| chain.node(|node| node.stats.miners[&MINER].consensus_faults.clone());
    assert!(faults(&chain).is_empty() && blocks(&chain, MINER).len() == 1);

    let mut message = chain.message(chain.owner(), 0, RawBytes::default(), TokenAmount::from_whole(1));
    message.to = Address::new_id(MINER);
    chain.push(message).expect("the mempool takes it");
    let (second, messages) = chain.create_block(chain.template(MINER, header.height).expect("still won"));
    assert_eq!(chain.submit_block(second, &messages), Ok(()));
    assert_eq!(fates(&chain, MINER), [Fate::Waiting, Fate::Second]);
    let fault = faults(&chain).pop().expect("a fault");
    assert_eq!(fault.epoch, header.height);
    assert_eq!(fault.blocks, [blocks(&chain, MINER)[0].cid.clone(), blocks(&chain, MINER)[1].cid.clone()]);

    let total = chain.total();
    chain.advance(2);
    let miner = chain.miner();
    assert_eq!(miner.info.consensus_fault_elapsed, header.height + 900);
    assert!(miner.state.fee_debt.is_positive(), "five rewards are more than it has");
    assert_eq!(chain.total(), total);
    let info = chain.base_info(MINER, chain.height() + 1).expect("it has sectors");
    assert!(!info.is_eligible);
}

#[test]
fn a_miner_that_owes_or_has_lost_its_power_is_not_eligible() {
    let chain = mining();
    assert!(chain.base_info(MINER, chain.height() + 1).expect("sectors").is_eligible);
    let template = chain.next_win(MINER);
    chain.node(|node| node.inject(Fault::FeeDebt { miner: MINER, atto: 5 }));
    chain.withdraw_all();
    chain.advance(2);
    let epoch = chain.height() + 1;
    assert!(!chain.base_info(MINER, epoch).expect("sectors").is_eligible, "it owes");
    let error = chain.submit_stale(template, epoch);
    assert!(error.contains("ineligible to mine"), "{error}");

    let chain = mining();
    chain.node(|node| node.inject(Fault::Faulty { miner: MINER, sectors: vec![7, 8, 9] }));
    chain.advance(2);
    let info = chain.base_info(MINER, chain.height() + 1).expect("it had sectors");
    assert!(!info.is_eligible, "it has no power");
    chain.advance(LOOKBACK + 1);
    assert!(chain.base_info(MINER, chain.height() + 1).is_none(), "it has not had sectors for long");
}

#[test]
fn the_base_info_is_that_of_the_state_some_time_ago() {
    let chain = Chain::with(config());
    chain.active(&[7, 8, 9]);
    let epoch = chain.height() + 1;
    assert!(chain.base_info(MINER, epoch).is_none(), "its sectors are too young");
    chain.advance(LOOKBACK + 1);
    let head = chain.node(|node| node.chain.head().clone());
    let epoch = head.height() + 1;
    let info = chain.base_info(MINER, epoch).expect("it has sectors");
    assert_eq!((&info.power, &info.network_power), (&(3 * 20_480).into(), &(3 * 20_480).into()));
    assert_eq!((info.worker_key, info.sector_size as u64), (chain.worker(), 2048));
    assert_eq!(info.previous_beacon_entry, head.header.beacon_entries.last().cloned().expect("an entry"));
    assert_eq!(info.beacon_entries.iter().map(|(round, _)| *round).collect::<Vec<_>>(), [epoch]);
    assert_eq!(info.sectors.len(), 1);
    // After null rounds the entries of all epochs since are in the block.
    chain.node(|node| node.add_null_rounds(2));
    chain.advance(2);
    let info = chain.base_info(MINER, epoch + 2).expect("it has sectors");
    assert_eq!(info.beacon_entries.iter().map(|(round, _)| *round).collect::<Vec<_>>(), [epoch, epoch + 1, epoch + 2]);

    let ask = |miner: u64, epoch: ChainEpoch| {
        chain.node(|node| node.base_info(&Address::new_id(miner), epoch, None)).map(|info| info.is_some())
    };
    assert!(ask(555, epoch + 2).is_err_and(|error| error.to_string().contains("actor not found")));
    assert!(ask(MINER, epoch + 4).is_err_and(|error| error.to_string().contains("does not exist yet")));
}

#[test]
fn the_winning_post_is_checked_for_the_sectors_of_the_base_info() {
    let chain = mining();
    let template = chain.next_win(MINER);
    let info = chain.base_info(MINER, template.epoch).expect("sectors");
    let drawn = draw(&blake2b256(&info.beacon_entry().1), 3, template.epoch, &miner_entropy(MINER));
    let (header, messages) = chain.create_block(template);
    assert_eq!(chain.submit_block(header, &messages), Ok(()));
    let asked = chain.verifier.posts.lock().expect("no panic").last().cloned();
    let sectors = info.sectors.iter().map(|sector| (sector.sector_number, sector.sealed_cid));
    assert_eq!(asked, Some(PostInfo::new(MINER, drawn, sectors)));
}

#[test]
fn without_elections_the_rest_of_the_network_wins() {
    let chain = Chain::with(Config { window_epochs: 6, ..Config::default() });
    chain.active(&[7]);
    chain.advance(LOOKBACK + 1);
    let info = chain.base_info(MINER, chain.height() + 1).expect("sectors");
    assert!(info.is_eligible && info.network_power > (1_u64 << 60).into());
    assert!((0..20).all(|_| {
        chain.advance(1);
        chain.template(MINER, chain.height() + 1).is_none()
    }));
}

#[test]
fn of_two_blocks_of_an_epoch_the_one_with_the_smaller_ticket_is_taken() {
    let chain = Chain::with(Config { miners: 2, ..config() });
    chain.active(&[7]);
    chain.active_of_other(7);
    chain.advance(LOOKBACK + 1);
    for _ in 0..100 {
        let epoch = chain.height() + 1;
        let both = (chain.template(MINER, epoch), chain.template(OTHER, epoch));
        if let (Some(one), Some(other)) = both {
            let made = [one, other].map(|template| chain.create_block(template));
            for (header, messages) in &made {
                assert_eq!(chain.submit_block(header.clone(), messages), Ok(()));
            }
            chain.advance(1);
            let smaller = made.iter().min_by_key(|(header, _)| blake2b256(&header.ticket_vrf_proof)).expect("two");
            assert_eq!(chain.node(|node| node.chain.head().header.clone()), smaller.0);
            let fates = [fates(&chain, MINER), fates(&chain, OTHER)].concat();
            assert!(fates.contains(&Fate::Included) && fates.contains(&Fate::Outbid), "{fates:?}");
            return;
        }
        chain.advance(1);
    }
    panic!("they never win the same epoch");
}

#[test]
fn a_fork_takes_a_block_and_its_reward_away() {
    let chain = mining();
    let (header, messages) = chain.create_block(chain.next_win(MINER));
    assert_eq!(chain.submit_block(header, &messages), Ok(()));
    chain.advance(2);
    assert!(chain.miner().state.locked_funds.is_positive());
    chain.node(|node| node.reorganise(2, Reverted::Again)).expect("a fork");
    chain.advance(1);
    assert_eq!(fates(&chain, MINER), [Fate::Late]);
    assert_eq!(chain.miner().state.locked_funds, TokenAmount::default());
}

#[test]
fn a_block_of_an_epoch_without_tipset_comes_too_late() {
    let chain = mining();
    let (header, messages) = chain.create_block(chain.next_win(MINER));
    assert_eq!(chain.submit_block(header, &messages), Ok(()));
    chain.node(|node| node.add_null_rounds(1));
    chain.advance(2);
    assert_eq!(fates(&chain, MINER), [Fate::Late]);
}

impl Chain {
    /// Submits a block of an epoch for which its election proof was not made, on top of the head.
    fn submit_stale(&self, template: Template, epoch: ChainEpoch) -> String {
        let head = self.node(|node| node.chain.head().clone());
        let info = self.base_info(MINER, epoch).expect("sectors");
        let ticket = self.drawn(&info, 1, MINER, epoch - 1, &head.header.ticket_vrf_proof);
        let ticket = self.node(|node| node.wallet.sign(&info.worker_key, &ticket)).expect("the worker's key");
        let template = Template {
            parent: head.cid,
            epoch,
            timestamp: head.header.timestamp + 4,
            beacon_entries: info.beacon_entries.clone(),
            ticket_vrf_proof: ticket.bytes().to_vec(),
            ..template
        };
        let (header, messages) = self.create_block(template);
        self.submit_block(header, &messages).expect_err("not eligible")
    }

    /// Brings a sector of the second miner to the point where it is active.
    fn active_of_other(&self, number: u64) {
        let worker = self.node(|node| node.miners[1].worker_key);
        let send = |method, params| {
            let mut message = self.message(worker, method, params, TokenAmount::from_whole(1));
            message.to = Address::new_id(OTHER);
            let cid = self.push(message).expect("the mempool takes it");
            self.advance(2);
            assert_eq!(self.search(&cid).expect("executed").receipt.exit_code.value(), 0);
        };
        send(PRE_COMMIT, pre_commit_params(vec![self.sector(number)]));
        self.advance(12);
        send(PROVE_COMMIT, encode(&prove_params(&[(number, b"right")], true)));
        self.advance(288);
    }
}
