//! A real 2 KiB sector: sealed here, proven with Groth16, and verified by the devnet's own verifier.
//!
//! Requires the parameters for 2 KiB sectors in `FIL_PROOFS_PARAMETER_CACHE` (from `sealbus-devnet-params`).

#[path = "devnet_support/chain.rs"]
mod chain;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use chain::{MINER, PROVE_COMMIT, encode, prove_params};
use fil_actor_miner_state::v19::{CompactCommD, SectorPreCommitInfo};
use filecoin_proofs_api::seal::{
    SealCommitPhase2Output, SealPreCommitPhase2Output, add_piece, seal_commit_phase1, seal_commit_phase2,
    seal_pre_commit_phase1, seal_pre_commit_phase2,
};
use filecoin_proofs_api::{PieceInfo, RegisteredSealProof, SectorId, UnpaddedBytesAmount};
use fvm_ipld_encoding::RawBytes;
use fvm_shared::commcid::{data_commitment_v1_to_cid, replica_commitment_v1_to_cid};
use fvm_shared::econ::TokenAmount;
use sealbus_integration_tests::devnet::proofs::prover_id;
use sealbus_integration_tests::devnet::randomness::{draw, miner_entropy};
use sealbus_integration_tests::devnet::{Config, Devnet, ProofsApi};

const SECTOR: u64 = 11;
const VARIABLE: &str = "FIL_PROOFS_PARAMETER_CACHE";

/// Fails with a helpful message if proofs cannot be made here.
fn require_parameters() {
    let cache = std::env::var(VARIABLE).unwrap_or_default();
    assert!(
        !cache.is_empty(),
        "{VARIABLE} is not set: make the 2 KiB parameters with `sealbus-devnet-params` and set it to their directory"
    );
    let entries = fs::read_dir(&cache).unwrap_or_else(|error| panic!("{VARIABLE}={cache}: {error}"));
    let is_porep = |name: &str| name.contains("stacked-proof-of-replication") && name.ends_with(".params");
    let found = entries.flatten().any(|entry| is_porep(&entry.file_name().to_string_lossy()));
    assert!(found, "{VARIABLE}={cache} holds no PoRep parameters: make them with `sealbus-devnet-params`");
}

/// A sector of zeros in a directory, being sealed.
struct Sealing<'a> {
    directory: &'a Path,
    ticket: [u8; 32],
    pieces: Vec<PieceInfo>,
}

impl Sealing<'_> {
    fn pre_commit(&self) -> SealPreCommitPhase2Output {
        let (cache, sealed) = (self.directory.join("cache"), self.directory.join("sealed"));
        fs::create_dir(&cache).expect("a directory");
        fs::File::create(&sealed).expect("a file");
        let phase1 = seal_pre_commit_phase1(
            RegisteredSealProof::StackedDrg2KiBV1_1,
            &cache,
            self.directory.join("unsealed"),
            &sealed,
            prover_id(MINER),
            SectorId::from(SECTOR),
            self.ticket,
            &self.pieces,
        );
        seal_pre_commit_phase2(phase1.expect("PC1"), &cache, &sealed).expect("PC2")
    }

    fn prove(&self, seed: [u8; 32], pre_commit: SealPreCommitPhase2Output) -> Vec<u8> {
        let phase1 = seal_commit_phase1(
            self.directory.join("cache"),
            self.directory.join("sealed"),
            prover_id(MINER),
            SectorId::from(SECTOR),
            self.ticket,
            seed,
            pre_commit,
            &self.pieces,
        );
        let SealCommitPhase2Output { proof } =
            seal_commit_phase2(phase1.expect("C1"), prover_id(MINER), SectorId::from(SECTOR)).expect("C2");
        proof
    }
}

fn zero_piece(directory: &Path) -> PieceInfo {
    let unpadded = UnpaddedBytesAmount(2032);
    let mut staged = fs::File::create(directory.join("unsealed")).expect("a file");
    let zeros = vec![0_u8; 2032];
    let added = add_piece(RegisteredSealProof::StackedDrg2KiBV1_1, &zeros[..], &mut staged, unpadded, &[]);
    staged.flush().expect("written");
    added.expect("a piece").0
}

#[test]
fn a_real_proof_is_accepted_and_the_same_with_one_flipped_bit_rejected() {
    require_parameters();
    let devnet = Devnet::new(Config::default(), Arc::new(ProofsApi)).expect("a devnet");
    let chain = chain::Chain { devnet, verifier: Arc::default() };
    chain.advance(20);
    let directory = tempfile::tempdir().expect("a directory");
    let entropy = miner_entropy(MINER);
    let ticket_epoch = chain.height() - 900;
    let ticket = chain.node(|node| {
        let digest = node.chain.ticket_digest(ticket_epoch, node.chain.head());
        draw(&digest.expect("a ticket"), 5, ticket_epoch, &entropy)
    });
    let sealing = Sealing { directory: directory.path(), ticket, pieces: vec![zero_piece(directory.path())] };
    let sealed = sealing.pre_commit();
    let zero = CompactCommD::empty().get_cid(chain::PROOF).expect("CommD");
    assert_eq!(data_commitment_v1_to_cid(&sealed.comm_d).expect("CommD"), zero);
    let info = SectorPreCommitInfo {
        sealed_cid: replica_commitment_v1_to_cid(&sealed.comm_r).expect("CommR"),
        seal_rand_epoch: ticket_epoch,
        ..chain.sector(SECTOR)
    };
    assert_eq!(chain.pre_commit(vec![info]).exit_code.value(), 0);

    let seed_epoch = chain.on_chain_pre_commit(SECTOR).expect("on chain").pre_commit_epoch + 10;
    chain.advance(12);
    let seed = chain.node(|node| {
        let now = node.chain.head().height();
        let digest = sealbus_integration_tests::devnet::execution::beacon_digest(node.config.seed, seed_epoch, now);
        draw(&digest.expect("a beacon entry"), 6, seed_epoch, &entropy)
    });
    let proof = sealing.prove(seed, sealed);
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
