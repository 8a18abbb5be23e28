use fvm_ipld_encoding::RawBytes;
use fvm_shared::address::Address;
use fvm_shared::crypto::signature::Signature;

use super::*;
use crate::chain::commitment::sealed_cid;
use crate::chain::fees::Gas;
use crate::chain::message::{self, Message};
use crate::chain::params::{
    PreCommitSectorBatchParams2, ProveCommitSectors3Params, SectorActivationManifest, SectorPreCommitInfo,
};

const GIB_32: SealProof = SealProof::StackedDrg32GiBV1_1;
const GIB_64: SealProof = SealProof::StackedDrg64GiBV1_1;
const KIB_2: SealProof = SealProof::StackedDrg2KiBV1_1;

/// The first of a row of sector numbers that all take nine bytes.
const NUMBERS: u64 = 1 << 40;

fn atto(amount: u64) -> TokenAmount {
    TokenAmount::from_atto(amount)
}

/// The bytes of a message from a BLS key with large amounts, signed.
fn signed_bytes(message: Message) -> usize {
    let gas =
        Gas { limit: BLOCK_GAS_MAX, fee_cap: TokenAmount::from_whole(900), premium: TokenAmount::from_whole(900) };
    let message = message::with_gas_and_nonce(message, gas, 1 << 40);
    fvm_ipld_encoding::to_vec(&(message, Signature::new_bls(vec![1; 96]))).unwrap().len()
}

fn built(batch: Batch, sectors: usize, proof: SealProof) -> usize {
    let from = Address::new_bls(&[3; 48]).unwrap();
    let (miner, value) = (Address::new_id(3_000_000), TokenAmount::from_whole(900));
    let numbers = NUMBERS..NUMBERS + sectors as u64;
    let activations = numbers.clone().map(SectorActivationManifest::committed_capacity);
    let message = match batch {
        Batch::PreCommits => {
            let sector = |sector_number| SectorPreCommitInfo {
                seal_proof: 8.into(),
                sector_number,
                sealed_cid: sealed_cid(&[7; 32]).unwrap(),
                seal_rand_epoch: 6_500_000,
                deal_ids: vec![],
                expiration: 10_000_000,
                unsealed_cid: None,
            };
            let params = PreCommitSectorBatchParams2 { sectors: numbers.map(sector).collect() };
            message::pre_commit(from, miner, &params, value)
        }
        Batch::Singles => {
            let proof = vec![1; PROOF_BYTES * partitions(proof)];
            let params = ProveCommitSectors3Params::batch(activations.map(|a| (a, proof.clone())).collect());
            message::prove_commit(from, miner, &params, value)
        }
        Batch::Aggregate => {
            let proof = RawBytes::new(vec![1; aggregate_bytes(sectors, proof)]);
            message::prove_commit(
                from,
                miner,
                &ProveCommitSectors3Params::aggregate(activations.collect(), proof),
                value,
            )
        }
    };
    signed_bytes(message.unwrap())
}

#[test]
fn bytes_are_those_of_messages_really_built_or_a_few_more() {
    for batch in [Batch::PreCommits, Batch::Singles, Batch::Aggregate] {
        for proof in [KIB_2, GIB_32] {
            for sectors in [4, 5, 13, 24, 33, 64, 256, 819] {
                let (model, real) = (batch.message(sectors, proof).bytes, built(batch, sectors, proof));
                assert!(model >= real && model - real < 64, "{batch:?} of {sectors}: {model}, really {real}");
            }
        }
    }
}

#[test]
fn aggregates_have_the_published_sizes() {
    let published = [
        (4, 20_116),
        (7, 23_092),
        (13, 26_068),
        (26, 29_044),
        (52, 32_020),
        (103, 34_996),
        (205, 37_972),
        (410, 40_948),
    ];
    for (index, (first, bytes)) in published.into_iter().enumerate() {
        let last = published.get(index + 1).map_or(819, |(next, _)| next - 1);
        assert_eq!(
            (aggregate_bytes(first, GIB_32), aggregate_bytes(last, GIB_32)),
            (bytes, bytes),
            "{first} to {last}"
        );
    }
    // Seen with real proofs of one partition.
    assert_eq!([4, 13, 64].map(|n| aggregate_bytes(n, KIB_2)), [8_212, 14_164, 20_116]);
}

#[test]
fn verifying_an_aggregate_costs_what_the_price_list_says() {
    let per_sector = |n: usize, proof| verify_aggregate_gas(n, proof) / n as u64;
    // Millions of gas a sector, as published: 26.4, 9.9, 2.07 and 1.09.
    assert_eq!([4, 13, 100, 819].map(|n| per_sector(n, GIB_32)), [26_448_442, 9_904_716, 2_070_291, 1_094_924]);
    assert_eq!(verify_aggregate_gas(6, GIB_64), 6 * 359_272 + 102_581_240);
    assert_eq!(verify_aggregate_gas(819, GIB_64), 819 * 359_272 + 509_880_640);
    assert_eq!(verify_aggregate_gas(51, KIB_2), verify_aggregate_gas(51, GIB_32));
}

#[test]
fn the_model_meets_the_messages_that_were_measured_on_mainnet() {
    // FIP-0100: millions of gas. The last column is the difference that is allowed, in percent.
    for (batch, sectors, measured, percent) in [
        (Batch::PreCommits, 1, 16_700_000, 1),
        (Batch::PreCommits, 4, 18_600_000, 1),
        (Batch::Singles, 1, 267_500_000, 1),
        (Batch::Singles, 4, 580_000_000, 1),
        (Batch::Aggregate, 4, 517_400_000, 4),
    ] {
        let gas = batch.message(sectors, GIB_32).gas;
        assert!(gas.abs_diff(measured) * 100 <= measured * percent, "{batch:?} of {sectors}: {gas}");
    }
}

#[test]
fn the_largest_message_fits_and_one_more_sector_does_not() {
    for batch in [Batch::PreCommits, Batch::Singles, Batch::Aggregate] {
        for proof in [KIB_2, GIB_32, GIB_64] {
            let largest = batch.largest(proof);
            let fits = |n| {
                let cost = batch.message(n, proof);
                cost.bytes <= 65_536 && cost.gas * 5 / 4 <= BLOCK_GAS_MAX
            };
            assert!(fits(largest) && !fits(largest + 1), "{batch:?} {proof:?}: {largest}");
        }
    }
    assert_eq!(Batch::PreCommits.largest(GIB_32), 960);
    assert_eq!(Batch::Singles.largest(GIB_32), 33, "by its bytes");
    assert_eq!(Batch::Singles.largest(KIB_2), 76, "by its gas");
    assert_eq!(Batch::Aggregate.largest(GIB_32), 126, "by its gas");
    assert!(Batch::Aggregate.message(819, GIB_32).bytes < 65_536, "by its bytes every aggregate fits");
}

#[test]
fn what_exceeds_a_message_is_spread_evenly() {
    assert_eq!(Batch::Singles.cost(0, GIB_32), None);
    assert_eq!(Batch::Aggregate.cost(3, GIB_32), None);
    assert_eq!(Batch::Singles.cost(33, GIB_32), Some(Batch::Singles.message(33, GIB_32)));
    let (one, two) = (Batch::Singles.message(17, GIB_32), Batch::Singles.message(17, GIB_32));
    let both = Cost { messages: 2, bytes: one.bytes + two.bytes, gas: one.gas + two.gas };
    assert_eq!(Batch::Singles.cost(34, GIB_32), Some(both));
    // A rest of one sector would be too small for an aggregate of its own.
    let sectors = Batch::Aggregate.largest(GIB_32) + 1;
    let cost = Batch::Aggregate.cost(sectors, GIB_32).unwrap();
    let halves = [sectors.div_ceil(2), sectors / 2].map(|n| Batch::Aggregate.message(n, GIB_32));
    assert_eq!((cost.messages, cost.gas), (2, halves[0].gas + halves[1].gas));
}

#[test]
fn an_aggregate_is_cheaper_from_four_sectors_on_if_the_saving_is_worth_it() {
    let free = TokenAmount::default();
    let fees = (atto(100_000_000), atto(100_000));
    let choose = |n, proof, worth: &TokenAmount| cheaper(n, proof, (&fees.0, &fees.1), worth);
    for proof in [KIB_2, GIB_32, GIB_64] {
        assert_eq!(choose(3, proof, &free), Batch::Singles);
        for n in [4, 5, 13, 64, 256, 819, 2000] {
            assert_eq!(choose(n, proof, &free), Batch::Aggregate, "{n} of {proof:?}");
        }
    }
    // 100 sectors save almost 5 G units of gas: 0.5 FIL at 0.1 nanoFIL, and next to nothing at the least base fee.
    let worth = TokenAmount::from_nano(10_000_000);
    assert_eq!(choose(100, GIB_32, &worth), Batch::Aggregate);
    assert_eq!(cheaper(100, GIB_32, (&atto(100), &free), &worth), Batch::Singles);
}

#[test]
fn a_fee_counts_what_is_burnt_of_the_unused_limit() {
    let cost = Cost { messages: 1, bytes: 0, gas: 80_000_000 };
    assert_eq!(cost.fee(&atto(10), &atto(0)), atto(830_000_000));
    assert_eq!(cost.fee(&atto(0), &atto(1)), atto(100_000_000));
}
