//! Real 2 KiB sectors, whose proofs of spacetime are made and verified with Groth16.
//!
//! Requires the parameters for 2 KiB sectors in `FIL_PROOFS_PARAMETER_CACHE` (from `sealbus-devnet-params`).

#[path = "devnet_support/chain.rs"]
mod chain;
#[path = "devnet_support/mining.rs"]
mod mining;
#[path = "devnet_support/proving.rs"]
mod proving;
#[path = "devnet_support/sealing.rs"]
mod sealing;

use std::collections::BTreeMap;
use std::sync::Arc;

use chain::{Chain, MINER, encode, prove_params};
use fil_actor_miner_state::v19::{DisputeWindowedPoStParams, SubmitWindowedPoStParams};
use filecoin_proofs_api::post::{generate_window_post, generate_winning_post};
use filecoin_proofs_api::{RegisteredPoStProof, SectorId};
use fvm_shared::econ::TokenAmount;
use mining::WINNING_POST;
use proving::{RECOVERED, bits};
use sealbus_integration_tests::devnet::execution::beacon_digest;
use sealbus_integration_tests::devnet::proofs::{post_randomness, prover_id};
use sealbus_integration_tests::devnet::randomness::{draw, miner_entropy};
use sealbus_integration_tests::devnet::{Config, Devnet, ProofsApi};
use sealing::{Sealed, require_parameters};

/// A chain that verifies real proofs, and sectors of one partition that wait for their first proof.
fn sectors(numbers: &[u64]) -> (Chain, Vec<Sealed>) {
    require_parameters();
    let config = Config { proving: true, elections: true, ..Config::default() };
    let devnet = Devnet::new(config, Arc::new(ProofsApi)).expect("a devnet");
    let chain = Chain { devnet, verifier: Arc::default() };
    chain.advance(20);
    let sealed: Vec<Sealed> = numbers.iter().map(|number| Sealed::new(&chain, *number)).collect();
    let pre_commits = sealed.iter().map(|sealed| sealed.pre_commit(&chain)).collect();
    assert_eq!(chain.pre_commit(pre_commits).exit_code.value(), 0);
    chain.advance(12);
    let proofs: Vec<_> = sealed.iter().map(|sealed| (sealed.number, sealed.forge(sealed.seed(&chain)))).collect();
    let proofs: Vec<_> = proofs.iter().map(|(number, proof)| (*number, proof.as_slice())).collect();
    assert_eq!(chain.prove(&prove_params(&proofs, true)).exit_code.value(), 0, "{}", chain.last_error());
    (chain, sealed)
}

/// The message with a real window PoSt of these sectors, which takes seconds, in their open deadline.
fn window_post(chain: &Chain, sectors: &[&Sealed], skipped: &[u64]) -> SubmitWindowedPoStParams {
    let challenge = chain.until_open(sectors[0].number).challenge;
    let drawn = chain.node(|node| {
        let digest = beacon_digest(node.config.seed, challenge, node.chain.head().height());
        draw(&digest.expect("a beacon entry"), 4, challenge, &miner_entropy(MINER))
    });
    let kind = RegisteredPoStProof::StackedDrgWindow2KiBV1_2;
    let replicas: BTreeMap<_, _> =
        sectors.iter().map(|sealed| (SectorId::from(sealed.number), sealed.replica(kind))).collect();
    let proofs = generate_window_post(&post_randomness(drawn), &replicas, prover_id(MINER)).expect("a proof");
    let mut params = chain.post(sectors[0].number, skipped);
    params.proofs[0].proof_bytes = proofs[0].1.clone();
    params
}

#[test]
fn real_proofs_are_accepted_and_a_wrong_one_is_disputed_and_does_not_recover() {
    let (chain, sealed) = sectors(&[11, 12]);
    let both: Vec<&Sealed> = sealed.iter().collect();
    chain.fund(TokenAmount::from_whole(100));
    assert_eq!(chain.submit(&window_post(&chain, &both, &[])).exit_code.value(), 0);
    assert!(chain.posts().pop().expect("a proof").is_right);
    assert!(chain.is_active(11) && chain.is_active(12));
    chain.past_deadline(11);

    let mut wrong = window_post(&chain, &both, &[]);
    wrong.proofs[0].proof_bytes[0] ^= 1;
    assert_eq!(chain.submit(&wrong).exit_code.value(), 0, "it is believed");
    assert!(!chain.posts().pop().expect("a proof").is_right);
    chain.past_deadline(11);
    let place = chain.place(11);
    let dispute = DisputeWindowedPoStParams { deadline: place.0, post_index: 0 };
    assert_eq!(chain.send(24, encode(&dispute), TokenAmount::default()).exit_code.value(), 0);
    assert!(chain.is_faulty(11) && chain.is_faulty(12));

    for number in [11, 12] {
        assert_eq!(chain.declare(RECOVERED, number, place).exit_code.value(), 0, "{}", chain.last_error());
    }
    let mut params = window_post(&chain, &both, &[]);
    params.proofs[0].proof_bytes[60] ^= 8;
    assert_eq!(chain.submit(&params).exit_code.value(), 16);
    params.proofs[0].proof_bytes[60] ^= 8;
    assert_eq!(chain.submit(&params).exit_code.value(), 0, "{}", chain.last_error());
    assert!(chain.is_active(11) && chain.is_active(12));
}

#[test]
fn a_real_proof_without_a_skipped_sector_is_right_and_one_with_it_is_not() {
    let (chain, sealed) = sectors(&[11, 12]);
    let both: Vec<&Sealed> = sealed.iter().collect();
    let mut with = window_post(&chain, &both, &[]);
    with.partitions[0].skipped = bits(&[12]);
    let without = window_post(&chain, &both[..1], &[12]);
    // The same messages could not both be accepted. One is tried on a fork of the state.
    let tried = |params: &SubmitWindowedPoStParams| {
        let message = chain.message(chain.worker(), 5, encode(params), TokenAmount::default());
        let applied = chain.node(|node| node.dry_run(&message, None)).expect("tried");
        applied.posted.expect("accepted").is_right
    };
    chain.advance(1);
    assert!(!tried(&with) && tried(&without));
    assert_eq!(chain.submit(&without).exit_code.value(), 0);
    assert!(chain.is_active(11) && chain.is_faulty(12));
}

#[test]
fn a_block_with_a_real_winning_post_is_accepted_and_one_with_a_flipped_bit_is_not() {
    let (chain, sealed) = sectors(&[11, 12]);
    let both: Vec<&Sealed> = sealed.iter().collect();
    assert_eq!(chain.submit(&window_post(&chain, &both, &[])).exit_code.value(), 0);
    // Elections are decided by the state of 900 epochs ago.
    chain.advance(902);
    let template = chain.next_win(MINER);
    let info = chain.base_info(MINER, template.epoch).expect("sectors");
    let [challenged] = info.sectors.as_slice() else { panic!("one sector is proven") };
    let challenged = sealed.iter().find(|sealed| sealed.number == challenged.sector_number).expect("one of ours");
    let kind = RegisteredPoStProof::StackedDrgWinning2KiBV1;
    let replicas = BTreeMap::from([(SectorId::from(challenged.number), challenged.replica(kind))]);
    let drawn = chain.drawn(&info, WINNING_POST, MINER, template.epoch, &[]);
    let mut proof = generate_winning_post(&post_randomness(drawn), &replicas, prover_id(MINER)).expect("a proof");
    let proof = proof.remove(0).1;

    let (mut header, messages) = chain.create_block(template);
    for (bytes, is_right) in [(flipped(&proof), false), (proof, true)] {
        header.winning_post[0].proof_bytes = bytes;
        let submitted = chain.submit_block(chain.signed(header.clone(), &info.worker_key), &messages);
        assert_eq!(submitted.is_ok(), is_right, "{submitted:?}");
        assert!(is_right || submitted.is_err_and(|error| error.contains("invalid election post")));
    }
    chain.advance(1);
    assert_eq!(chain.node(|node| node.chain.head().header.winning_post.clone()), header.winning_post);
}

fn flipped(proof: &[u8]) -> Vec<u8> {
    let mut flipped = proof.to_vec();
    flipped[60] ^= 8;
    flipped
}
