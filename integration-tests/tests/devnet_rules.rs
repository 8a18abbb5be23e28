//! The rules of the chain, with a scripted verifier for proofs.

#[path = "devnet_support/chain.rs"]
mod chain;

use chain::{Chain, MINER, PRE_COMMIT, PROOF, PROVE_COMMIT, aggregate_params, encode, pre_commit_params, prove_params};
use fil_actor_miner_state::v19::{
    CompactCommD, PieceActivationManifest, ProveCommitSectors3Params, SectorPreCommitInfo,
};
use fil_actors_shared::v19::BatchReturn;
use fvm_ipld_encoding::RawBytes;
use fvm_shared::address::Address;
use fvm_shared::commcid::{data_commitment_v1_to_cid, replica_commitment_v1_to_cid};
use fvm_shared::econ::TokenAmount;
use fvm_shared::error::ExitCode;
use fvm_shared::message::Message;
use fvm_shared::piece::{PaddedPieceSize, zero_piece_commitment};
use fvm_shared::sector::{RegisteredAggregateProof, RegisteredSealProof};
use sealbus_integration_tests::devnet::Config;
use sealbus_integration_tests::devnet::execution::BLOCK_GAS_LIMIT;
use sealbus_integration_tests::devnet::randomness::{beacon_data, blake2b256, draw, miner_entropy, ticket_vrf_proof};

const RIGHT: &[u8] = b"right";
const WRONG: &[u8] = b"wrong";

fn codes(return_data: &RawBytes) -> Vec<u32> {
    let batch: BatchReturn = return_data.deserialize().expect("a batch return");
    batch.codes().into_iter().map(|code| code.value()).collect()
}

#[test]
fn parameters_have_the_golden_bytes() {
    let params = encode(&prove_params(&[(7, &[1, 2, 3])], true));
    assert_eq!(hex::encode(params.bytes()), "8681820780814301020340f6f5f5");
    let batch = BatchReturn::of(&[0, 16, 0].map(ExitCode::new));
    assert_eq!(hex::encode(encode(&batch).bytes()), "820281820110");
    let one_fil = encode(&TokenAmount::from_whole(1));
    assert_eq!(hex::encode(one_fil.bytes()), "49000de0b6b3a7640000");
}

#[test]
fn a_cc_sector_is_pre_committed_and_proven() {
    let chain = Chain::new();
    let including = chain.height() + 1;
    assert_eq!(chain.pre_commit(vec![chain.sector(7)]).exit_code.value(), 0);
    let pre_commit = chain.on_chain_pre_commit(7).expect("on chain");
    assert_eq!(pre_commit.pre_commit_epoch, including);
    assert_eq!(pre_commit.pre_commit_deposit, chain.deposit());
    assert_eq!(chain.miner().state.pre_commit_deposits, chain.deposit());

    chain.advance(10);
    let receipt = chain.prove(&prove_params(&[(7, RIGHT)], true));
    assert_eq!(receipt.exit_code.value(), 0);
    assert_eq!(hex::encode(receipt.return_data.bytes()), "820180");
    let sector = chain.on_chain_sector(7).expect("active");
    assert_eq!(sector.flags.bits(), 2);
    assert_eq!(sector.activation, sector.power_base_epoch);
    assert!(chain.on_chain_pre_commit(7).is_none());
    let miner = chain.miner();
    assert_eq!(miner.state.pre_commit_deposits, TokenAmount::default());
    assert_eq!(miner.state.initial_pledge, sector.initial_pledge);
    let place = chain.node(|node| miner.state.find_sector(&node.store, 7));
    assert!(place.is_ok());
    let stats = chain.node(|node| node.stats.miners[&MINER].clone());
    assert_eq!((stats.sectors[&7].pre_commits, stats.sectors[&7].prove_commits), (1, 1));
    assert!(stats.failed.is_empty());
}

#[test]
fn the_proof_is_checked_against_the_ticket_and_the_seed_of_the_chain() {
    let chain = Chain::new();
    let ticket_epoch = chain.height() - 3;
    let sector = SectorPreCommitInfo { seal_rand_epoch: ticket_epoch, ..chain.sector(7) };
    assert_eq!(chain.pre_commit(vec![sector]).exit_code.value(), 0);
    let seed_epoch = chain.on_chain_pre_commit(7).expect("on chain").pre_commit_epoch + 10;
    chain.advance(12);
    chain.prove(&prove_params(&[(7, RIGHT)], true));
    let asked = chain.verifier.asked.lock().expect("no panic").last().cloned().expect("asked");
    let entropy = miner_entropy(MINER);
    let ticket = blake2b256(&ticket_vrf_proof(1, 0, ticket_epoch));
    assert_eq!(asked.ticket, draw(&ticket, 5, ticket_epoch, &entropy));
    let beacon = blake2b256(&beacon_data(1, seed_epoch));
    assert_eq!(asked.seed, draw(&beacon, 6, seed_epoch, &entropy));
    assert_eq!((asked.miner, asked.sector), (MINER, 7));
}

#[test]
fn a_wrong_ticket_epoch_is_refused() {
    let chain = Chain::new();
    chain.node(|node| node.add_null_rounds(4000));
    chain.advance(4001);
    // Offsets relative to the epoch that includes the message.
    for offset in [0, 5, -3781] {
        let wrong = chain.height() + 1 + offset;
        let sector = SectorPreCommitInfo { seal_rand_epoch: wrong, ..chain.sector(7) };
        let receipt = chain.pre_commit(vec![sector]);
        assert_eq!(receipt.exit_code.value(), 16, "offset {offset}");
    }
    let oldest = chain.height() + 1 - 3780;
    let sector = SectorPreCommitInfo { seal_rand_epoch: oldest, ..chain.sector(7) };
    assert_eq!(chain.pre_commit(vec![sector]).exit_code.value(), 0);
    assert!(chain.on_chain_pre_commit(7).is_some());
}

#[test]
fn a_second_pre_commit_of_the_number_is_refused() {
    let chain = Chain::new();
    chain.pre_committed(&[7]);
    assert_eq!(chain.pre_commit(vec![chain.sector(7)]).exit_code.value(), 16);
    assert_eq!(chain.prove(&prove_params(&[(7, RIGHT)], true)).exit_code.value(), 0);
    assert_eq!(chain.pre_commit(vec![chain.sector(7)]).exit_code.value(), 16);
    assert_eq!(chain.pre_commit(vec![chain.sector(8), chain.sector(8)]).exit_code.value(), 16);
    let stats = chain.node(|node| node.stats.miners[&MINER].clone());
    assert_eq!(stats.sectors[&7].pre_commits, 1);
    let failed: Vec<_> = stats.failed.iter().map(|failed| (failed.sectors.clone(), failed.exit_code)).collect();
    assert_eq!(failed, [(vec![7], 16), (vec![7], 16), (vec![8, 8], 16)]);
}

#[test]
fn too_little_deposit_is_refused_and_the_exact_one_accepted() {
    let chain = Chain::new();
    let short = chain.deposit() - TokenAmount::from_atto(1);
    let params = pre_commit_params(vec![chain.sector(7)]);
    assert_eq!(chain.send(PRE_COMMIT, params, short).exit_code.value(), 19);
    assert!(chain.on_chain_pre_commit(7).is_none());
    let params = pre_commit_params(vec![chain.sector(7)]);
    assert_eq!(chain.send(PRE_COMMIT, params, chain.deposit()).exit_code.value(), 0);
}

#[test]
fn a_failed_message_changes_nothing_but_nonce_and_gas() {
    let chain = Chain::new();
    let before = chain.miner();
    let worker_before =
        chain.node(|node| node.latest().expect("state").actor(&node.miners[0].worker_key).expect("worker").1.clone());
    let receipt = chain.pre_commit(vec![SectorPreCommitInfo { expiration: 5, ..chain.sector(7) }]);
    assert_eq!(receipt.exit_code.value(), 16);
    assert!(receipt.gas_used > 0);
    let after = chain.miner();
    assert_eq!(before.actor.head, after.actor.head);
    assert_eq!(before.actor.balance, after.actor.balance);
    let worker_after =
        chain.node(|node| node.latest().expect("state").actor(&node.miners[0].worker_key).expect("worker").1.clone());
    assert_eq!(worker_after.nonce, worker_before.nonce + 1);
    let paid = &worker_before.balance - &worker_after.balance;
    assert_eq!(paid, TokenAmount::from_atto(100 * receipt.gas_used + 1_000 * 1_000_000_000));
}

#[test]
fn malformed_pre_commits_are_refused() {
    let chain = Chain::new();
    let right = chain.sector(7);
    let unsealed = data_commitment_v1_to_cid(&[1; 32]).expect("a commitment");
    let sealed = replica_commitment_v1_to_cid(&[1; 32]).expect("a commitment");
    let wrong = [
        ("no V1", SectorPreCommitInfo { seal_proof: RegisteredSealProof::StackedDRG2KiBV1, ..right.clone() }),
        ("other size", SectorPreCommitInfo { seal_proof: RegisteredSealProof::StackedDRG8MiBV1P1, ..right.clone() }),
        ("32 GiB", SectorPreCommitInfo { seal_proof: RegisteredSealProof::StackedDRG32GiBV1P1, ..right.clone() }),
        (
            "NI",
            SectorPreCommitInfo { seal_proof: RegisteredSealProof::StackedDRG2KiBV1P2_Feat_NiPoRep, ..right.clone() },
        ),
        ("unknown proof", SectorPreCommitInfo { seal_proof: RegisteredSealProof::Invalid(99), ..right.clone() }),
        ("CommR is a CommD", SectorPreCommitInfo { sealed_cid: unsealed, ..right.clone() }),
        ("CommD is a CommR", SectorPreCommitInfo { unsealed_cid: CompactCommD::of(sealed), ..right.clone() }),
        ("deals", SectorPreCommitInfo { deal_ids: vec![1], ..right.clone() }),
        ("too short", SectorPreCommitInfo { expiration: chain.height() + 86_410 + 518_400 - 1, ..right.clone() }),
        ("too long", SectorPreCommitInfo { expiration: chain.height() + 3_680_640 + 100, ..right.clone() }),
        ("number too large", SectorPreCommitInfo { sector_number: u64::MAX, ..right.clone() }),
    ];
    for (name, sector) in wrong {
        assert_eq!(chain.pre_commit(vec![sector]).exit_code.value(), 16, "{name}");
    }
    assert_eq!(chain.send(PRE_COMMIT, pre_commit_params(vec![]), TokenAmount::default()).exit_code.value(), 16);
    let garbage = RawBytes::new(vec![0xff, 0x00]);
    assert_eq!(chain.send(PRE_COMMIT, garbage, TokenAmount::default()).exit_code.value(), 21);
    let synthetic = RegisteredSealProof::StackedDRG2KiBV1P1_Feat_SyntheticPoRep;
    let sector = SectorPreCommitInfo { seal_proof: synthetic, ..right };
    assert_eq!(chain.pre_commit(vec![sector]).exit_code.value(), 0);
}

#[test]
fn only_owner_and_worker_may_commit() {
    let chain = Chain::with(Config { miners: 2, ..Config::default() });
    let stranger = chain.node(|node| node.miners[1].worker_key);
    let params = || pre_commit_params(vec![chain.sector(7)]);
    let receipt = chain.send_from(stranger, PRE_COMMIT, params(), chain.deposit());
    assert_eq!(receipt.exit_code.value(), 18);
    // The owner's key is secp256k1, the worker's is BLS.
    let receipt = chain.send_from(chain.owner(), PRE_COMMIT, params(), chain.deposit());
    assert_eq!(receipt.exit_code.value(), 0);
    chain.advance(12);
    let params = encode(&prove_params(&[(7, RIGHT)], true));
    assert_eq!(chain.send_from(stranger, PROVE_COMMIT, params, TokenAmount::default()).exit_code.value(), 18);
}

#[test]
fn proving_comes_after_the_challenge_and_needs_a_pre_commit() {
    let chain = Chain::new();
    assert_eq!(chain.prove(&prove_params(&[(7, RIGHT)], true)).exit_code.value(), 17);
    assert_eq!(chain.pre_commit(vec![chain.sector(7)]).exit_code.value(), 0);
    let challenge = chain.on_chain_pre_commit(7).expect("on chain").pre_commit_epoch + 10;
    while chain.height() + 1 < challenge {
        chain.advance(1);
    }
    // Included at the challenge epoch itself, which is one epoch too early.
    assert_eq!(chain.prove(&prove_params(&[(7, RIGHT)], true)).exit_code.value(), 18);
    assert_eq!(chain.prove(&prove_params(&[(7, RIGHT)], true)).exit_code.value(), 0);
}

#[test]
fn a_wrong_proof_fails_the_message_or_only_its_sector() {
    let chain = Chain::new();
    chain.pre_committed(&[7, 8]);
    assert_eq!(chain.prove(&prove_params(&[(7, WRONG)], true)).exit_code.value(), 16);
    assert_eq!(chain.prove(&prove_params(&[(7, WRONG)], false)).exit_code.value(), 16);
    assert!(chain.on_chain_sector(7).is_none() && chain.on_chain_pre_commit(7).is_some());
    let receipt = chain.prove(&prove_params(&[(7, WRONG), (8, RIGHT)], false));
    assert_eq!(receipt.exit_code.value(), 0);
    assert_eq!(codes(&receipt.return_data), [16, 0]);
    assert!(chain.on_chain_sector(7).is_none() && chain.on_chain_sector(8).is_some());
    let stats = chain.node(|node| node.stats.miners[&MINER].clone());
    assert_eq!(stats.sectors[&7].prove_commits, 0);
    assert_eq!(stats.sectors[&8].prove_commits, 1);
}

#[test]
fn a_late_proof_is_skipped() {
    let chain = Chain::new();
    chain.pre_committed(&[7]);
    chain.node(|node| node.add_null_rounds(86_400));
    chain.advance(86_401);
    chain.pre_committed(&[8]);
    let receipt = chain.prove(&prove_params(&[(7, RIGHT), (8, RIGHT)], false));
    assert_eq!(codes(&receipt.return_data), [16, 0]);
    assert_eq!(chain.prove(&prove_params(&[(7, RIGHT)], true)).exit_code.value(), 16);
}

#[test]
fn shapes_of_prove_commit_are_checked() {
    let chain = Chain::new();
    chain.pre_committed(&[7]);
    let right = prove_params(&[(7, RIGHT)], true);
    let mut none = right.clone();
    none.sector_proofs.clear();
    let mut both = right.clone();
    both.aggregate_proof = RawBytes::new(vec![1]);
    let mut two = right.clone();
    two.sector_proofs.push(RawBytes::new(vec![1]));
    let mut long = right.clone();
    long.sector_proofs[0] = RawBytes::new(vec![0; 193]);
    let empty = prove_params(&[], true);
    for (name, params) in [("none", none), ("both", both), ("two", two), ("long", long), ("empty", empty)] {
        assert_eq!(chain.prove(&params).exit_code.value(), 16, "{name}");
    }
    assert!(chain.verifier.asked.lock().expect("no panic").is_empty());
}

#[test]
fn the_pieces_must_give_the_committed_commd() {
    let chain = Chain::new();
    chain.pre_committed(&[7]);
    let piece = |commitment: &[u8; 32], size| PieceActivationManifest {
        cid: data_commitment_v1_to_cid(commitment).expect("a commitment"),
        size: PaddedPieceSize(size),
        verified_allocation_key: None,
        notify: vec![],
    };
    let mut params = prove_params(&[(7, RIGHT)], true);
    params.sector_activations[0].pieces = vec![piece(&[3; 32], 256)];
    assert_eq!(chain.prove(&params).exit_code.value(), 16);
    let size = PaddedPieceSize(512);
    params.sector_activations[0].pieces = vec![piece(&zero_piece_commitment(size), 512)];
    assert_eq!(chain.prove(&params).exit_code.value(), 0);
    let sector = chain.on_chain_sector(7).expect("active");
    assert_eq!(sector.verified_deal_weight, (512 * (sector.expiration - sector.activation)).into());
}

#[test]
fn too_little_pledge_is_refused() {
    let chain = Chain::new();
    chain.pre_committed(&[7]);
    let params = encode(&prove_params(&[(7, RIGHT)], true));
    assert_eq!(chain.send(PROVE_COMMIT, params, TokenAmount::default()).exit_code.value(), 19);
    assert!(chain.on_chain_pre_commit(7).is_some());
}

#[test]
fn quality_is_tenfold_from_version_29_and_plain_before() {
    let pledge = |network_version| {
        let chain = Chain::with(Config { network_version, ..Config::default() });
        chain.pre_committed(&[7]);
        chain.prove(&prove_params(&[(7, RIGHT)], true));
        let sector = chain.on_chain_sector(7).expect("active");
        (sector.flags.bits(), sector.initial_pledge)
    };
    let (old_flags, old_pledge) = pledge(28);
    let (new_flags, new_pledge) = pledge(29);
    assert_eq!((old_flags, new_flags), (1, 2));
    assert!(new_pledge > &old_pledge * 9);
}

#[test]
fn removed_and_unknown_methods_are_unhandled() {
    let chain = Chain::new();
    for method in [1, 6, 7, 25, 26, 99] {
        let receipt = chain.send(method, RawBytes::default(), TokenAmount::default());
        assert_eq!(receipt.exit_code.value(), 22, "method {method}");
    }
}

#[test]
fn funds_can_be_sent_and_new_accounts_appear() {
    let chain = Chain::new();
    let new = Address::new_bls(&[9; 48]).expect("an address");
    let mut message = chain.message(chain.worker(), 0, RawBytes::default(), TokenAmount::from_whole(3));
    message.to = new;
    chain.push(message).expect("taken");
    chain.advance(2);
    let balance = chain.node(|node| node.latest().expect("state").actor(&new).expect("made").1.balance.clone());
    assert_eq!(balance, TokenAmount::from_whole(3));
    let mut message = chain.message(chain.worker(), 0, RawBytes::default(), TokenAmount::default());
    message.to = Address::new_actor(b"nobody");
    let cid = chain.push(message).expect("taken");
    chain.advance(2);
    assert_eq!(chain.search(&cid).expect("executed").receipt.exit_code.value(), 5);
}

#[test]
fn a_message_is_seen_in_the_child_of_the_tipset_that_includes_it() {
    let chain = Chain::new();
    let message = chain.message(chain.worker(), PRE_COMMIT, pre_commit_params(vec![chain.sector(7)]), chain.deposit());
    let cid = chain.push(message).expect("taken");
    let including = chain.height() + 1;
    assert!(chain.search(&cid).is_none());
    chain.advance(1);
    assert!(chain.search(&cid).is_none() && chain.on_chain_pre_commit(7).is_none());
    chain.node(|node| node.add_null_rounds(2));
    chain.advance(3);
    let lookup = chain.search(&cid).expect("executed");
    assert_eq!(lookup.tipset.height(), including + 3);
    assert_eq!(chain.on_chain_pre_commit(7).expect("on chain").pre_commit_epoch, including);
    let earlier = chain.node(|node| {
        let head = node.chain.head().clone();
        let tipset = node.chain.at_height(including, &head).expect("a tipset");
        let view = node.view(Some(&tipset.cid)).expect("a view");
        let miner = view.miner(&Address::new_id(MINER)).expect("the miner");
        miner.state.get_precommitted_sector(&node.store, 7).expect("reads")
    });
    assert!(earlier.is_none(), "state before the message is still there");
}

#[test]
fn randomness_of_null_rounds_comes_from_the_next_tipset_and_of_the_future_from_nowhere() {
    let chain = Chain::new();
    chain.node(|node| node.add_null_rounds(3));
    chain.advance(4);
    chain.node(|node| {
        let head = node.chain.head().clone();
        let digest = |epoch| node.chain.ticket_digest(epoch, &head);
        assert_eq!(digest(21), digest(24));
        assert_ne!(digest(20), digest(21));
        assert_eq!(digest(-880), digest(0));
        let error = digest(25).expect_err("the future");
        assert_eq!(error.to_string(), "cannot draw randomness from the future");
        assert_eq!(node.chain.at_height(22, &head).expect("a tipset").height(), 20);
        assert_eq!(node.chain.after_height(22, &head).expect("a tipset").height(), 24);
    });
}

#[test]
fn the_same_seed_gives_the_same_chain() {
    let head = |seed| {
        let chain = Chain::with(Config { seed, ..Config::default() });
        chain.pre_committed(&[7]);
        chain.node(|node| node.chain.head().cid)
    };
    assert_eq!(head(1), head(1));
    assert_ne!(head(1), head(2));
}

#[test]
fn ten_thousand_epochs_with_sectors_pass_in_seconds() {
    let chain = Chain::new();
    chain.pre_committed(&[1, 2, 3]);
    assert_eq!(chain.prove(&prove_params(&[(1, RIGHT), (2, RIGHT), (3, RIGHT)], true)).exit_code.value(), 0);
    let started = std::time::Instant::now();
    chain.advance(10_000);
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
    assert_eq!(PROOF, chain.on_chain_sector(2).expect("active").seal_proof);
}

#[test]
fn shapes_of_aggregates_are_checked() {
    let chain = Chain::new();
    let numbers: Vec<u64> = (1..=820).collect();
    for numbers in numbers.chunks(60) {
        chain.pre_committed(numbers);
    }
    let exit = |params: &ProveCommitSectors3Params| {
        let message = chain.message(chain.worker(), PROVE_COMMIT, encode(params), TokenAmount::from_whole(1));
        let cid = chain.push(Message { gas_limit: BLOCK_GAS_LIMIT, ..message }).expect("the mempool takes it");
        chain.advance(2);
        chain.search(&cid).expect("it was executed").receipt.exit_code.value()
    };
    let four = aggregate_params(&[1, 2, 3, 4], RIGHT);
    let mut of_version_1 = four.clone();
    of_version_1.aggregate_proof_type = Some(RegisteredAggregateProof::SnarkPackV1);
    let mut untyped = four.clone();
    untyped.aggregate_proof_type = None;
    let mut both = four.clone();
    both.sector_proofs = vec![RawBytes::new(RIGHT.to_vec()); 4];
    let mut typed_singles = prove_params(&[(1, RIGHT)], true);
    typed_singles.aggregate_proof_type = four.aggregate_proof_type;
    for (name, params) in [
        ("of version 1", of_version_1),
        ("without a type", untyped),
        ("with single proofs", both),
        ("singles with a type", typed_singles),
        ("of 3", aggregate_params(&[1, 2, 3], RIGHT)),
        ("of 820", aggregate_params(&numbers, RIGHT)),
        ("none", aggregate_params(&[1, 2, 3, 4], &[])),
    ] {
        assert_eq!(exit(&params), 16, "{name}");
    }
    assert!(chain.verifier.asked.lock().expect("no panic").is_empty());
    assert_eq!(exit(&aggregate_params(&[1, 2, 3, 4], WRONG)), 16);
    assert_eq!(exit(&aggregate_params(&[1, 2, 3, 1000], RIGHT)), 17, "one was never pre-committed");
    assert_eq!(exit(&four), 0);
    // The gas limit would not be enough for all that is left with mainnet's prices; see `execution/gas.rs`.
    assert_eq!(exit(&aggregate_params(&numbers[4..800], RIGHT)), 0);
}

#[test]
fn an_aggregate_is_about_expired_pre_commits_too_but_does_not_activate_them() {
    let chain = Chain::new();
    chain.pre_committed(&[7]);
    chain.node(|node| node.add_null_rounds(86_400));
    chain.advance(86_401);
    chain.pre_committed(&[8, 9, 10]);
    let receipt = chain.prove(&aggregate_params(&[8, 7, 9, 10], RIGHT));
    assert_eq!(receipt.exit_code.value(), 0);
    assert_eq!(codes(&receipt.return_data), [0, 16, 0, 0]);
    let asked: Vec<u64> = chain.verifier.asked.lock().expect("no panic").iter().map(|info| info.sector).collect();
    assert_eq!(asked, [8, 7, 9, 10]);
    assert!(chain.on_chain_sector(7).is_none() && chain.on_chain_sector(10).is_some());
}
