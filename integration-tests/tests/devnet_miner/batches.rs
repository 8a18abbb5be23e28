//! Batches of ten in which one sector is wrong.

use fil_actor_miner_state::v19::{CompactCommD, ProveCommitSectors3Return, SectorPreCommitInfo};
use fvm_ipld_encoding::RawBytes;
use fvm_shared::commcid::data_commitment_v1_to_cid;
use fvm_shared::econ::TokenAmount;

use crate::chain::{Chain, MINER, PRE_COMMIT, PROVE_COMMIT, aggregate_params, encode, pre_commit_params, prove_params};

const RIGHT: &[u8] = b"right";
const WRONG: &[u8] = b"wrong";
/// The sectors of a batch. The one in the middle is wrong.
const BATCH: [u64; 10] = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19];
const POISON: u64 = 14;

fn codes(return_data: &RawBytes) -> Vec<u32> {
    let returned: ProveCommitSectors3Return = return_data.deserialize().expect("a return");
    returned.activation_results.codes().into_iter().map(|code| code.value()).collect()
}

fn is_active(chain: &Chain, number: u64) -> bool {
    chain.on_chain_sector(number).is_some()
}

/// The proofs of a batch, all right but for the poison's.
fn proofs(poison: &'static [u8]) -> Vec<(u64, &'static [u8])> {
    BATCH.iter().map(|number| (*number, if *number == POISON { poison } else { RIGHT })).collect()
}

#[test]
fn a_pre_commit_batch_with_one_wrong_sector_fails_as_a_whole() {
    let chain = Chain::new();
    chain.pre_committed(&[99]);
    let right = chain.sector(POISON);
    let unsealed = data_commitment_v1_to_cid(&[1; 32]).expect("a commitment");
    let poisons = [
        ("the number is taken", SectorPreCommitInfo { sector_number: 99, ..right.clone() }, 16),
        ("the number is there twice", SectorPreCommitInfo { sector_number: 10, ..right.clone() }, 16),
        (
            "the ticket has expired",
            SectorPreCommitInfo { seal_rand_epoch: chain.height() - 3_800, ..right.clone() },
            16,
        ),
        ("CommR is a CommD", SectorPreCommitInfo { sealed_cid: unsealed, ..right.clone() }, 16),
        ("the expiration is too near", SectorPreCommitInfo { expiration: chain.height() + 1_000, ..right.clone() }, 16),
        ("CommD is a CommR", SectorPreCommitInfo { unsealed_cid: CompactCommD::of(right.sealed_cid), ..right }, 16),
    ];
    for (name, poison, code) in poisons {
        let batch = BATCH.map(|number| if number == POISON { poison.clone() } else { chain.sector(number) });
        let receipt = chain.pre_commit(batch.to_vec());
        assert_eq!((receipt.exit_code.value(), receipt.return_data.bytes()), (code, &[][..]), "{name}");
        assert!(BATCH.iter().all(|number| chain.on_chain_pre_commit(*number).is_none()), "{name}");
    }
    let batch = || BATCH.map(|number| chain.sector(number)).to_vec();
    let short = &chain.deposit() * 10_u64 - TokenAmount::from_atto(1);
    assert_eq!(chain.send(PRE_COMMIT, pre_commit_params(batch()), short).exit_code.value(), 19);
    assert_eq!(chain.pre_commit(batch()).exit_code.value(), 0);
    assert!(BATCH.iter().all(|number| chain.on_chain_pre_commit(*number).is_some()));
    assert_eq!(chain.miner().state.pre_commit_deposits, &chain.deposit() * 11_u64);
}

#[test]
fn a_wrong_proof_costs_only_its_sector() {
    let chain = Chain::new();
    chain.pre_committed(&BATCH);
    assert_eq!(chain.prove(&prove_params(&proofs(WRONG), true)).exit_code.value(), 16, "all or nothing");
    let receipt = chain.prove(&prove_params(&proofs(WRONG), false));
    assert_eq!(receipt.exit_code.value(), 0);
    assert_eq!(codes(&receipt.return_data), [0, 0, 0, 0, 16, 0, 0, 0, 0, 0]);
    assert!(BATCH.iter().all(|number| is_active(&chain, *number) == (*number != POISON)));
    let miner = chain.miner();
    assert_eq!(miner.state.pre_commit_deposits, chain.deposit(), "its deposit is still there");
    let stats = chain.node(|node| node.stats.miners[&MINER].clone());
    let proven = |number| stats.sectors[&number].prove_commits;
    assert_eq!((proven(10), proven(POISON)), (1, 0));
    assert_eq!(chain.prove(&prove_params(&[(POISON, RIGHT)], true)).exit_code.value(), 0, "it can be proven later");
}

#[test]
fn a_pre_commit_that_has_expired_costs_only_its_sector() {
    for aggregated in [false, true] {
        let chain = Chain::new();
        chain.pre_committed(&[POISON]);
        chain.node(|node| node.add_null_rounds(86_400));
        chain.advance(86_401);
        let others: Vec<_> = BATCH.into_iter().filter(|number| *number != POISON).collect();
        chain.pre_committed(&others);
        let params = if aggregated { aggregate_params(&BATCH, RIGHT) } else { prove_params(&proofs(RIGHT), false) };
        let receipt = chain.prove(&params);
        assert_eq!(receipt.exit_code.value(), 0);
        assert_eq!(codes(&receipt.return_data), [0, 0, 0, 0, 16, 0, 0, 0, 0, 0]);
        assert!(BATCH.iter().all(|number| is_active(&chain, *number) == (*number != POISON)));
    }
}

#[test]
fn a_sector_without_a_pre_commit_fails_the_batch() {
    let chain = Chain::new();
    let others: Vec<_> = BATCH.into_iter().filter(|number| *number != POISON).collect();
    chain.pre_committed(&others);
    for params in [prove_params(&proofs(RIGHT), false), aggregate_params(&BATCH, RIGHT)] {
        assert_eq!(chain.prove(&params).exit_code.value(), 17);
    }
    assert!(BATCH.iter().all(|number| !is_active(&chain, *number)));
    assert_eq!(chain.prove(&aggregate_params(&others, RIGHT)).exit_code.value(), 0);
    assert_eq!(chain.prove(&prove_params(&proofs(RIGHT), false)).exit_code.value(), 17, "proven is not pre-committed");
}

#[test]
fn one_sector_whose_seed_is_not_there_fails_the_batch() {
    let chain = Chain::new();
    let others: Vec<_> = BATCH.into_iter().filter(|number| *number != POISON).collect();
    chain.pre_committed(&others);
    assert_eq!(chain.pre_commit(vec![chain.sector(POISON)]).exit_code.value(), 0);
    for params in [prove_params(&proofs(RIGHT), false), aggregate_params(&BATCH, RIGHT)] {
        assert_eq!(chain.prove(&params).exit_code.value(), 18);
    }
    assert!(BATCH.iter().all(|number| !is_active(&chain, *number)));
}

#[test]
fn a_wrong_aggregate_fails_the_batch() {
    let chain = Chain::new();
    chain.pre_committed(&BATCH);
    assert_eq!(chain.prove(&aggregate_params(&BATCH, WRONG)).exit_code.value(), 16);
    assert!(BATCH.iter().all(|number| !is_active(&chain, *number)));
    let receipt = chain.prove(&aggregate_params(&BATCH, RIGHT));
    assert_eq!(codes(&receipt.return_data), [0; 10]);
}

#[test]
fn too_little_value_for_the_pledge_of_all_fails_the_batch() {
    let chain = Chain::new();
    chain.pre_committed(&BATCH);
    let params = encode(&prove_params(&proofs(RIGHT), false));
    assert_eq!(chain.send(PROVE_COMMIT, params, TokenAmount::default()).exit_code.value(), 19);
    assert!(BATCH.iter().all(|number| !is_active(&chain, *number)));
}
