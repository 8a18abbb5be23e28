//! Real 2 KiB sectors, proven in one ProveCommit by an aggregate of the manager's, which the devnet verifies.
//!
//! The sectors are sealed here. C2 would take half a minute for each, so most proofs are forged with the trapdoor of
//! the devnet's parameters: they verify like any other. `SEALBUS_REAL_PROOFS`, which `make nightly` sets, has C2 make
//! them.
//!
//! Requires the parameters for 2 KiB sectors in `FIL_PROOFS_PARAMETER_CACHE` (from `sealbus-devnet-params`).

#[path = "devnet_support/chain.rs"]
mod chain;
#[path = "devnet_support/sealing.rs"]
mod sealing;

use std::sync::Arc;

use chain::{Chain, MINER, PROVE_COMMIT, encode};
use fil_actors_shared::v19::BatchReturn;
use fvm_ipld_encoding::RawBytes;
use fvm_shared::econ::TokenAmount;
use fvm_shared::message::Message;
use fvm_shared::receipt::Receipt;
use sealbus_devnet_params::{Forger, SectorSize, Statement};
use sealbus_integration_tests::devnet::execution::{BLOCK_GAS_LIMIT, gas_used};
use sealbus_integration_tests::devnet::proofs::prover_id;
use sealbus_integration_tests::devnet::{Config, Devnet, ProofsApi};
use sealbus_manager::aggregates::{Member, Request, make};
use sealbus_manager::chain::cost::Batch;
use sealbus_manager::chain::params::{ProveCommitSectors3Params, SectorActivationManifest};
use sealbus_manager::proofs::{Library, Porep};
use sealbus_schema::{Commitment, MinerId, ProofBytes, Randomness, SealProof, SectorNumber};
use sealing::{Sealed, require_parameters};

const PROOF: SealProof = SealProof::StackedDrg2KiBV1_1;

fn message(chain: &Chain, params: &ProveCommitSectors3Params) -> Message {
    let value = TokenAmount::from_whole(1);
    Message { gas_limit: BLOCK_GAS_LIMIT, ..chain.message(chain.worker(), PROVE_COMMIT, encode(params), value) }
}

fn send(chain: &Chain, params: &ProveCommitSectors3Params) -> Receipt {
    let cid = chain.push(message(chain, params)).expect("the mempool takes it");
    chain.advance(2);
    chain.search(&cid).expect("it was executed").receipt
}

/// A sector that can be proven now.
fn member(sealed: &Sealed, seed: [u8; 32], proof: Vec<u8>) -> Member {
    let porep = Porep {
        comm_r: Commitment(sealed.output.comm_r),
        comm_d: Commitment(sealed.output.comm_d),
        ticket: Randomness(sealed.ticket),
        seed: Randomness(seed),
        proof: ProofBytes(proof),
    };
    Member { number: SectorNumber(sealed.number), porep }
}

fn prove_together(count: u64) {
    let forger = Forger::new(&require_parameters(), SectorSize::KiB2).expect("a known trapdoor");
    let devnet = Devnet::new(Config::default(), Arc::new(ProofsApi)).expect("a devnet");
    let chain = Chain { devnet, verifier: Arc::default() };
    chain.advance(20);
    let sectors: Vec<Sealed> = (1..=count).map(|number| Sealed::new(&chain, number)).collect();
    let pre_commits = sectors.iter().map(|sector| sector.pre_commit(&chain)).collect();
    assert_eq!(chain.pre_commit(pre_commits).exit_code.value(), 0);
    chain.advance(12);

    let really = std::env::var_os("SEALBUS_REAL_PROOFS").is_some();
    let prove = |sector: &Sealed| {
        let seed = sector.seed(&chain);
        let proof = if really {
            sector.prove(seed)
        } else {
            let (Sealed { number, ticket, output, .. }, prover_id) = (sector, prover_id(MINER));
            let (comm_r, comm_d) = (output.comm_r, output.comm_d);
            let statement = Statement { comm_r, comm_d, prover_id, sector: *number, ticket: *ticket, seed };
            forger.porep(&statement).expect("a forged proof")
        };
        member(sector, seed, proof)
    };
    let members: Vec<Member> = sectors.iter().map(prove).collect();
    let request = Request { miner: MinerId(MINER), proof: PROOF, sectors: members.clone() };
    let aggregate = make(&request, &Library).expect("an aggregate").0;

    let activations: Vec<_> = (1..=count).map(SectorActivationManifest::committed_capacity).collect();
    let params =
        |proof: &[u8]| ProveCommitSectors3Params::aggregate(activations.clone(), RawBytes::new(proof.to_vec()));
    for byte in [7, aggregate.len() / 2, aggregate.len() - 7] {
        let mut flipped = aggregate.clone();
        flipped[byte] ^= 1;
        assert_eq!(send(&chain, &params(&flipped)).exit_code.value(), 16, "byte {byte}");
    }
    let mut reversed = params(&aggregate);
    reversed.sector_activations.reverse();
    assert_eq!(send(&chain, &reversed).exit_code.value(), 16, "another order");
    let mut fewer = params(&aggregate);
    fewer.sector_activations.pop();
    assert_eq!(send(&chain, &fewer).exit_code.value(), 16, "one sector less");

    let singles = activations.iter().cloned().zip(members).map(|(a, member)| (a, member.porep.proof.0));
    let singles = message(&chain, &ProveCommitSectors3Params::batch(singles.collect()));
    let together = message(&chain, &params(&aggregate));
    let receipt = send(&chain, &params(&aggregate));
    assert_eq!(receipt.exit_code.value(), 0);
    let batch: BatchReturn = receipt.return_data.deserialize().expect("a batch return");
    assert_eq!((batch.success_count, batch.fail_codes.len()), (count as u32, 0));
    assert!((1..=count).all(|number| chain.on_chain_sector(number).is_some()));

    // The devnet charges less for the state than the model does. What aggregation changes is the same in both.
    let model = |batch: Batch| batch.message(count as usize, PROOF);
    let bytes = |message: &Message| message.params.len() as i64;
    let saved_bytes = model(Batch::Singles).bytes as i64 - model(Batch::Aggregate).bytes as i64;
    assert!((saved_bytes - (bytes(&singles) - bytes(&together))).abs() < 8);
    let saved_gas = model(Batch::Singles).gas as i64 - model(Batch::Aggregate).gas as i64;
    let really_saved = gas_used(&singles) as i64 - receipt.gas_used as i64;
    assert!((saved_gas - really_saved).abs() < 8 * 1_300, "{saved_gas} in the model, {really_saved} on the devnet");
}

#[test]
fn four_real_sectors_are_proven_by_one_aggregate() {
    prove_together(4);
}

#[test]
fn thirteen_real_sectors_are_proven_by_one_aggregate() {
    prove_together(13);
}

#[test]
fn sixty_four_real_sectors_are_proven_by_one_aggregate() {
    prove_together(64);
}
