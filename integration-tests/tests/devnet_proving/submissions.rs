//! SubmitWindowedPoSt: what is accepted, what is refused, and what it does to sectors.

use fil_actor_miner_state::v19::{ChangeWorkerAddressParams, PoStPartition, SubmitWindowedPoStParams};
use fvm_shared::address::Address;
use fvm_shared::randomness::Randomness;
use fvm_shared::sector::{PoStProof, RegisteredPoStProof};
use sealbus_integration_tests::devnet::Config;
use sealbus_integration_tests::devnet::execution::Posted;
use sealbus_integration_tests::devnet::faults::Reverted;
use sealbus_integration_tests::devnet::proofs::PostInfo;
use sealbus_integration_tests::devnet::randomness::{beacon_data, blake2b256, draw, miner_entropy};

use crate::chain::{Chain, MINER, encode};
use crate::nothing;
use crate::proving::{FAULTS, RECOVERED, SUBMIT, bits, proving};

#[test]
fn a_proof_in_time_activates_new_sectors_and_is_asked_once_a_period() {
    let chain = proving();
    chain.unproven(&[7, 8]);
    assert!(!chain.is_active(7) && !chain.is_faulty(7));
    let info = chain.until_open(7);
    let place = chain.place(7);
    assert_eq!(chain.submit(&chain.post(7, &[])).exit_code.value(), 0);
    assert!(chain.is_active(7) && chain.is_active(8));
    let posted =
        Posted { deadline: place.0, partitions: vec![place.1], skipped: vec![], is_optimistic: true, is_right: true };
    assert_eq!(chain.posts(), [posted]);

    assert_eq!(chain.submit(&chain.post(7, &[])).exit_code.value(), 16);
    assert!(chain.last_error().contains("partition already proven"), "{}", chain.last_error());
    chain.skip_to(info.close);
    assert!(chain.is_active(7), "it was proven");
    chain.prove_window(7, &[]);
    assert_eq!(chain.posts().len(), 2);
}

#[test]
fn the_proof_is_checked_against_the_challenge_of_the_deadline_and_the_good_sectors() {
    let chain = proving();
    chain.proven(&[7, 8]);
    let place = chain.place(7);
    assert_eq!(chain.place(8), place, "two sectors fit a partition");
    assert_eq!(chain.declare(FAULTS, 8, place).exit_code.value(), 0);
    chain.prove_window(7, &[]);
    let challenge = chain.deadline_of(7).challenge;
    let drawn = draw(&blake2b256(&beacon_data(1, challenge)), 4, challenge, &miner_entropy(MINER));
    let sealed = chain.on_chain_sector(7).expect("on chain").sealed_cid;
    let asked = chain.verifier.posts.lock().expect("no panic").last().cloned();
    assert_eq!(asked, Some(PostInfo::new(MINER, drawn, [(7, sealed)])), "the faulty sector is not proven");
}

/// Changes a right message.
type Change = fn(&Chain, &mut SubmitWindowedPoStParams);

#[test]
fn a_message_that_breaks_a_rule_is_refused_and_changes_nothing() {
    let chain = Chain::with(Config { proving: true, miners: 2, ..Config::default() });
    chain.unproven(&[7, 8, 9, 10]);
    let other =
        [7, 8, 9, 10].into_iter().find(|number| chain.place(*number) != chain.place(7)).expect("two partitions");
    chain.until_open(7);
    chain.advance(3);
    let unchanged = chain.miner().actor.head;
    let refused: [(&str, u32, &str, Change); 18] = [
        ("the next deadline", 16, "invalid deadline", |_, params| params.deadline = (params.deadline + 1) % 48),
        ("no deadline", 16, "invalid deadline 48 of 48", |_, params| params.deadline = 48),
        ("no proof", 16, "expected exactly one proof, got 0", |_, params| params.proofs.clear()),
        ("two proofs", 16, "expected exactly one proof, got 2", |_, params| {
            params.proofs.push(params.proofs[0].clone());
        }),
        ("another size", 16, "expected proof of type", |_, params| {
            params.proofs[0].post_proof = RegisteredPoStProof::StackedDRGWindow8MiBV1P1;
        }),
        ("an old type", 16, "not allowed", |_, params| {
            params.proofs[0].post_proof = RegisteredPoStProof::Invalid(5);
        }),
        ("a long proof", 16, "smaller than 192 bytes", |_, params| params.proofs[0].proof_bytes = vec![0; 193]),
        ("no partition", 16, "smaller than 0 bytes", |_, params| params.partitions.clear()),
        ("four partitions", 16, "too many partitions 4, limit 3", |_, params| {
            params.partitions = (0..4).map(|index| PoStPartition { index, skipped: bits(&[]) }).collect();
        }),
        ("an unknown partition", 17, "no such partition 9", |_, params| params.partitions[0].index = 9),
        ("a partition twice", 16, "duplicate partitions", |_, params| {
            params.partitions.push(PoStPartition { index: params.partitions[0].index, skipped: bits(&[]) });
        }),
        ("before the challenge", 16, "to be after", |chain, params| {
            params.chain_commit_epoch -= 1;
            params.chain_commit_rand = Randomness(chain.commit_randomness(params.chain_commit_epoch).to_vec());
        }),
        ("the including epoch", 16, "must be less than the current epoch", |chain, params| {
            params.chain_commit_epoch = chain.height() + 1;
        }),
        ("other randomness", 16, "randomness mismatched", |_, params| params.chain_commit_rand.0[0] ^= 1),
        ("long randomness", 16, "at most 32 bytes", |_, params| params.chain_commit_rand.0.push(0)),
        ("a sector of nobody", 16, "sectors outside partition", |_, params| {
            params.partitions[0].skipped = bits(&[99]);
        }),
        ("a sector of another partition", 16, "sectors outside partition", |_, _| {}),
        ("all sectors skipped", 16, "no active sectors", |_, _| {}),
    ];
    for (name, code, text, change) in refused {
        let mut params = chain.post(7, &[]);
        match name {
            "a sector of another partition" => params.partitions[0].skipped = bits(&[other]),
            "all sectors skipped" => {
                let (deadline, partition) = chain.place(7);
                params.partitions[0].skipped = chain.partition(deadline, partition).sectors.clone();
            }
            _ => change(&chain, &mut params),
        }
        assert_eq!(chain.submit(&params).exit_code.value(), code, "{name}: {}", chain.last_error());
        assert!(chain.last_error().contains(text), "{name}: {}", chain.last_error());
        assert_eq!(chain.miner().actor.head, unchanged, "{name}");
    }
    let stranger = chain.node(|node| node.miners[1].worker_key);
    let receipt = chain.send_from(stranger, SUBMIT, encode(&chain.post(7, &[])), nothing());
    assert_eq!(receipt.exit_code.value(), 18);
    assert_eq!(chain.submit(&chain.post(7, &[])).exit_code.value(), 0);
}

#[test]
fn a_proof_after_the_close_is_refused() {
    let chain = proving();
    chain.unproven(&[7]);
    let info = chain.until_open(7);
    let params = chain.post(7, &[]);
    // The epoch of the close is the first of the next deadline.
    chain.skip_to(info.close - 1);
    assert_eq!(chain.submit(&params).exit_code.value(), 16);
    assert!(chain.last_error().contains(&format!("invalid deadline {}", params.deadline)), "{}", chain.last_error());
}

#[test]
fn the_last_epoch_of_a_deadline_is_in_time() {
    let chain = proving();
    chain.unproven(&[7]);
    let info = chain.until_open(7);
    let params = chain.post(7, &[]);
    chain.skip_to(info.close - 2);
    assert_eq!(chain.submit(&params).exit_code.value(), 0);
    assert!(chain.is_active(7) && chain.ends().iter().all(|end| end.faulty.is_empty()));
}

#[test]
fn owner_and_control_addresses_may_prove() {
    let chain = Chain::with(Config { proving: true, miners: 2, ..Config::default() });
    chain.unproven(&[7]);
    let control = chain.node(|node| node.miners[1].worker_key);
    let new_worker = Address::new_id(chain.node(|node| node.miners[0].worker));
    let params = ChangeWorkerAddressParams { new_worker, new_control_addresses: vec![control] };
    assert_eq!(chain.send_from(chain.owner(), 3, encode(&params), nothing()).exit_code.value(), 0);
    for sender in [chain.owner(), control] {
        chain.until_open(7);
        let receipt = chain.send_from(sender, SUBMIT, encode(&chain.post(7, &[])), nothing());
        assert_eq!(receipt.exit_code.value(), 0);
        chain.past_deadline(7);
    }
}

#[test]
fn a_skipped_sector_is_faulty_at_once_and_the_others_are_proven() {
    let chain = proving();
    chain.unproven(&[7, 8]);
    chain.prove_window(7, &[8]);
    assert!(chain.is_active(7) && chain.is_faulty(8));
    assert_eq!(chain.posts()[0].skipped, [8]);
    chain.past_deadline(7);
    assert!(chain.is_active(7) && chain.is_faulty(8));
    assert!(chain.ends().iter().all(|end| end.faulty.is_empty()), "the deadline's end finds no new fault");
}

#[test]
fn recovering_sectors_are_verified_on_chain_and_recover() {
    let chain = proving();
    chain.proven(&[7, 8]);
    chain.fund(fvm_shared::econ::TokenAmount::from_whole(1));
    assert_eq!(chain.declare(FAULTS, 8, chain.place(8)).exit_code.value(), 0);
    assert_eq!(chain.declare(RECOVERED, 8, chain.place(8)).exit_code.value(), 0);
    chain.until_open(7);
    let mut wrong = chain.post(7, &[]);
    wrong.proofs[0].proof_bytes = b"wrong".to_vec();
    assert_eq!(chain.submit(&wrong).exit_code.value(), 16);
    assert!(chain.last_error().contains("invalid post was submitted"), "{}", chain.last_error());
    assert!(chain.is_faulty(8) && chain.is_recovering(8), "the whole message fails");

    let right = chain.submit(&chain.post(7, &[]));
    assert_eq!(right.exit_code.value(), 0);
    assert!(chain.is_active(8) && !chain.is_recovering(8));
    let posted = chain.posts().pop().expect("a proof");
    assert!(!posted.is_optimistic && posted.is_right);
    // Two sectors were verified: 117,680,921 gas and 43,780 for each.
    assert!(right.gas_used > 117_680_921 + 2 * 43_780, "{}", right.gas_used);
}

#[test]
fn a_message_without_the_gas_for_the_verification_of_a_recovery_runs_out_of_it() {
    let chain = proving();
    chain.proven(&[7, 8]);
    chain.fund(fvm_shared::econ::TokenAmount::from_whole(1));
    assert_eq!(chain.declare(FAULTS, 8, chain.place(8)).exit_code.value(), 0);
    assert_eq!(chain.declare(RECOVERED, 8, chain.place(8)).exit_code.value(), 0);
    chain.until_open(7);
    let mut message = chain.message(chain.worker(), SUBMIT, encode(&chain.post(7, &[])), nothing());
    message.gas_limit = 100_000_000;
    let cid = chain.push(message).expect("the mempool takes it");
    chain.advance(2);
    assert_eq!(chain.search(&cid).expect("executed").receipt.exit_code.value(), 7);
    assert!(chain.is_faulty(8) && chain.is_recovering(8));
}

#[test]
fn a_skipped_recovering_sector_stays_faulty_and_the_rest_is_believed() {
    let chain = proving();
    chain.proven(&[7, 8]);
    chain.fund(fvm_shared::econ::TokenAmount::from_whole(1));
    assert_eq!(chain.declare(FAULTS, 8, chain.place(8)).exit_code.value(), 0);
    assert_eq!(chain.declare(RECOVERED, 8, chain.place(8)).exit_code.value(), 0);
    chain.prove_window(7, &[8]);
    assert!(chain.is_faulty(8) && !chain.is_recovering(8) && chain.is_active(7));
    assert!(chain.posts().pop().expect("a proof").is_optimistic);
}

#[test]
fn a_wrong_proof_is_believed_and_known_to_tests() {
    let chain = proving();
    chain.unproven(&[7]);
    chain.until_open(7);
    let mut params = chain.post(7, &[]);
    params.proofs = vec![PoStProof { proof_bytes: b"wrong".to_vec(), ..params.proofs[0].clone() }];
    let receipt = chain.submit(&params);
    assert_eq!(receipt.exit_code.value(), 0);
    assert!(receipt.gas_used < 100_000_000, "the chain does not verify it");
    let posted = chain.posts().pop().expect("a proof");
    assert!(posted.is_optimistic && !posted.is_right);
    assert!(chain.is_active(7));
}

#[test]
fn a_reorganisation_of_the_committed_tipset_needs_a_new_message_and_no_new_proof() {
    let chain = proving();
    chain.unproven(&[7]);
    let info = chain.until_open(7);
    let mut params = chain.post(7, &[]);
    let depth = u64::try_from(chain.height() - info.challenge + 1).expect("after the challenge");
    chain.node(|node| node.reorganise(depth, Reverted::Later)).expect("a fork");
    assert_eq!(chain.submit(&params).exit_code.value(), 16);
    assert!(chain.last_error().contains("randomness mismatched"), "{}", chain.last_error());
    params.chain_commit_rand = Randomness(chain.commit_randomness(info.challenge).to_vec());
    assert_eq!(chain.submit(&params).exit_code.value(), 0);
    assert!(chain.posts().pop().expect("a proof").is_right);
}

#[test]
fn the_deadlines_can_be_few_and_short() {
    let chain = Chain::with(Config { proving: true, deadlines: 4, window_epochs: 6, ..Config::default() });
    chain.proven(&[7, 8, 9, 10, 11]);
    for number in [7, 8, 9, 10, 11] {
        assert!(chain.place(number).0 < 4);
    }
    let info = chain.deadline_of(7);
    assert_eq!((info.w_post_proving_period, info.close - info.open, info.open - info.challenge), (24, 6, 2));
    chain.past_deadline(7);
    assert!(chain.is_faulty(7), "nobody has proven it a second time");
}

#[test]
fn where_nobody_must_prove_a_proof_is_taken_all_the_same() {
    let chain = Chain::new();
    chain.active(&[7]);
    for _ in 0..2 {
        chain.prove_window(7, &[]);
        chain.past_deadline(7);
    }
    assert!(chain.is_active(7) && chain.posts().len() == 2 && chain.ends().is_empty());
    chain.past_deadline(7);
    assert!(chain.is_active(7));
}
