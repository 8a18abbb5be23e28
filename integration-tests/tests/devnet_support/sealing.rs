//! Seals real 2 KiB sectors for the devnet's miner.
//!
//! Requires the parameters for 2 KiB sectors in `FIL_PROOFS_PARAMETER_CACHE` (from `sealbus-devnet-params`).
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use fil_actor_miner_state::v19::SectorPreCommitInfo;
use filecoin_proofs_api::seal::{
    SealCommitPhase2Output, SealPreCommitPhase2Output, add_piece, seal_commit_phase1, seal_commit_phase2,
    seal_pre_commit_phase1, seal_pre_commit_phase2,
};
use filecoin_proofs_api::{
    PieceInfo, PrivateReplicaInfo, RegisteredPoStProof, RegisteredSealProof, SectorId, UnpaddedBytesAmount,
};
use fvm_shared::clock::ChainEpoch;
use fvm_shared::commcid::replica_commitment_v1_to_cid;
use sealbus_devnet_params::{Forger, Statement};
use sealbus_integration_tests::devnet::execution::beacon_digest;
use sealbus_integration_tests::devnet::proofs::prover_id;
use sealbus_integration_tests::devnet::randomness::{draw, miner_entropy};
use sealbus_schema::SectorSize;

use super::chain::{Chain, MINER};

const VARIABLE: &str = "FIL_PROOFS_PARAMETER_CACHE";

/// The directory of parameters. Fails with a helpful message if proofs cannot be made here.
pub fn require_parameters() -> PathBuf {
    let cache = std::env::var(VARIABLE).unwrap_or_default();
    assert!(
        !cache.is_empty(),
        "{VARIABLE} is not set: make the 2 KiB parameters with `sealbus-devnet-params` and set it to their directory"
    );
    let entries = fs::read_dir(&cache).unwrap_or_else(|error| panic!("{VARIABLE}={cache}: {error}"));
    let is_porep = |name: &str| name.contains("stacked-proof-of-replication") && name.ends_with(".params");
    let found = entries.flatten().any(|entry| is_porep(&entry.file_name().to_string_lossy()));
    assert!(found, "{VARIABLE}={cache} holds no PoRep parameters: make them with `sealbus-devnet-params`");
    cache.into()
}

/// A sector of zeros in a directory of its own.
pub struct Sealed {
    directory: tempfile::TempDir,
    pub number: u64,
    pub ticket_epoch: ChainEpoch,
    pub ticket: [u8; 32],
    pieces: Vec<PieceInfo>,
    pub output: SealPreCommitPhase2Output,
}

impl Sealed {
    /// Runs PC1 and PC2 with the ticket of 900 epochs ago.
    pub fn new(chain: &Chain, number: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let ticket_epoch = chain.height() - 900;
        let ticket = chain.node(|node| {
            let digest = node.chain.ticket_digest(ticket_epoch, node.chain.head());
            draw(&digest.expect("a ticket"), 5, ticket_epoch, &miner_entropy(MINER))
        });
        let pieces = vec![zero_piece(directory.path())];
        let [cache, sealed, unsealed] = ["cache", "sealed", "unsealed"].map(|name| directory.path().join(name));
        fs::create_dir(&cache).expect("a directory");
        fs::File::create(&sealed).expect("a file");
        let (prover, sector) = (prover_id(MINER), SectorId::from(number));
        let proof = RegisteredSealProof::StackedDrg2KiBV1_1;
        let phase1 = seal_pre_commit_phase1(proof, &cache, unsealed, &sealed, prover, sector, ticket, &pieces);
        let output = seal_pre_commit_phase2(phase1.expect("PC1"), &cache, &sealed).expect("PC2");
        Self { directory, number, ticket_epoch, ticket, pieces, output }
    }

    pub fn pre_commit(&self, chain: &Chain) -> SectorPreCommitInfo {
        SectorPreCommitInfo {
            sealed_cid: replica_commitment_v1_to_cid(&self.output.comm_r).expect("CommR"),
            seal_rand_epoch: self.ticket_epoch,
            ..chain.sector(self.number)
        }
    }

    /// The seed of the sector, which is pre-committed.
    pub fn seed(&self, chain: &Chain) -> [u8; 32] {
        let epoch = chain.on_chain_pre_commit(self.number).expect("on chain").pre_commit_epoch + 10;
        chain.node(|node| {
            let digest = beacon_digest(node.config.seed, epoch, node.chain.head().height());
            draw(&digest.expect("a beacon entry"), 6, epoch, &miner_entropy(MINER))
        })
    }

    /// The proof that C2 would make, forged in milliseconds.
    pub fn forge(&self, seed: [u8; 32]) -> Vec<u8> {
        let forger = Forger::new(&require_parameters(), SectorSize::KiB2).expect("our own parameters");
        let SealPreCommitPhase2Output { comm_r, comm_d, .. } = self.output;
        let (prover_id, sector, ticket) = (prover_id(MINER), self.number, self.ticket);
        forger.porep(&Statement { comm_r, comm_d, prover_id, sector, ticket, seed }).expect("a proof")
    }

    /// The replica, for a proof of spacetime.
    pub fn replica(&self, proof: RegisteredPoStProof) -> PrivateReplicaInfo {
        let [cache, sealed] = ["cache", "sealed"].map(|name| self.directory.path().join(name));
        PrivateReplicaInfo::new(proof, self.output.comm_r, cache, sealed)
    }

    /// Runs C1 and C2, which takes about half a minute.
    pub fn prove(&self, seed: [u8; 32]) -> Vec<u8> {
        let [cache, sealed] = ["cache", "sealed"].map(|name| self.directory.path().join(name));
        let (prover, sector) = (prover_id(MINER), SectorId::from(self.number));
        let output = self.output.clone();
        let phase1 = seal_commit_phase1(cache, sealed, prover, sector, self.ticket, seed, output, &self.pieces);
        let SealCommitPhase2Output { proof } = seal_commit_phase2(phase1.expect("C1"), prover, sector).expect("C2");
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
