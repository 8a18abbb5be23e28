//! A real 2 KiB sector: sealed here, proven with Groth16, and verified by the devnet's own verifier.
//!
//! Requires the parameters for 2 KiB sectors in `FIL_PROOFS_PARAMETER_CACHE` (from `sealbus-devnet-params`).

#[path = "devnet_support/chain.rs"]
mod chain;
#[path = "devnet_support/sealing.rs"]
mod sealing;

use std::sync::Arc;

use chain::{PROVE_COMMIT, encode, prove_params};
use fil_actor_miner_state::v19::CompactCommD;
use fvm_ipld_encoding::RawBytes;
use fvm_shared::commcid::data_commitment_v1_to_cid;
use fvm_shared::econ::TokenAmount;
use sealbus_integration_tests::devnet::{Config, Devnet, ProofsApi};
use sealing::{Sealed, require_parameters};

const SECTOR: u64 = 11;

#[test]
fn a_real_proof_is_accepted_and_the_same_with_one_flipped_bit_rejected() {
    require_parameters();
    let devnet = Devnet::new(Config::default(), Arc::new(ProofsApi)).expect("a devnet");
    let chain = chain::Chain { devnet, verifier: Arc::default() };
    chain.advance(20);
    let sealed = Sealed::new(&chain, SECTOR);
    let zero = CompactCommD::empty().get_cid(chain::PROOF).expect("CommD");
    assert_eq!(data_commitment_v1_to_cid(&sealed.output.comm_d).expect("CommD"), zero);
    assert_eq!(chain.pre_commit(vec![sealed.pre_commit(&chain)]).exit_code.value(), 0);

    chain.advance(12);
    let proof = sealed.prove(sealed.seed(&chain));
    assert_eq!(proof.len(), 192);

    for (byte, bit) in [(0, 0), (60, 3), (191, 7)] {
        let mut flipped = proof.clone();
        flipped[byte] ^= 1 << bit;
        let receipt = chain.prove(&prove_params(&[(SECTOR, &flipped)], true));
        assert_eq!(receipt.exit_code.value(), 16, "bit {bit} of byte {byte}");
        assert!(chain.on_chain_sector(SECTOR).is_none());
    }
    let params = encode(&prove_params(&[(SECTOR, &proof)], true));
    let receipt = chain.send(PROVE_COMMIT, params, TokenAmount::from_nano(10_000));
    assert_eq!(receipt.exit_code.value(), 0);
    assert_eq!(receipt.return_data, RawBytes::new(vec![0x82, 0x01, 0x80]));
    assert!(chain.on_chain_sector(SECTOR).is_some());
}
