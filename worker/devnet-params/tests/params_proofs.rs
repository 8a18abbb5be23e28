//! The proofs library can use devnet parameters for sealing, both PoSts, a replica update and an aggregate.
//!
//! These tests are slow: they prove for minutes. Seed 0 is the seed of `make params`, so those parameters are used.
//! Missing ones are generated below the build directory and kept, so later runs only prove. The library reads its
//! settings from the environment once per process. So each parameter directory gets its own process: this program
//! again, told by [`STAGE`] what to do.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;

use filecoin_proofs_api::seal::{self, SealCommitPhase2Output};
use filecoin_proofs_api::{
    PrivateReplicaInfo, PublicReplicaInfo, RegisteredAggregationProof, RegisteredPoStProof, RegisteredSealProof,
    RegisteredUpdateProof, SectorId, UnpaddedBytesAmount, post, update,
};
use sealbus_devnet_params::{DevnetRequest, Kind, SectorSize};
use serde::{Deserialize, Serialize};

const STAGE: &str = "SEALBUS_TEST_STAGE";
const PROOFS: &str = "SEALBUS_TEST_PROOFS";

const SEAL: RegisteredSealProof = RegisteredSealProof::StackedDrg2KiBV1_1;
const WINDOW: RegisteredPoStProof = RegisteredPoStProof::StackedDrgWindow2KiBV1_2;
const WINNING: RegisteredPoStProof = RegisteredPoStProof::StackedDrgWinning2KiBV1;
const UPDATE: RegisteredUpdateProof = RegisteredUpdateProof::StackedDrg2KiBV1;
const PROVER: [u8; 32] = [9; 32];
const TICKET: [u8; 32] = [1; 32];
const SEED: [u8; 32] = [2; 32];
/// The library clears the top bits of a challenge's randomness; here they are clear already.
const RANDOMNESS: [u8; 32] = [3; 32];

/// The PoSt proofs of one sector, to be verified in another process.
#[derive(Serialize, Deserialize)]
struct PostProofs {
    comm_r: [u8; 32],
    window: Vec<u8>,
    winning: Vec<u8>,
}

#[test]
fn devnet_parameters_prove_and_verify_and_another_seed_does_not() {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let ours = std::env::var_os("SEALBUS_PARAMS").map_or_else(|| root.join("params-2KiB-seed-0"), PathBuf::from);
    let others = root.join("params-2KiB-seed-1-post");
    make(&ours, 0, &Kind::ALL);
    make(&others, 1, &[Kind::WindowPoSt, Kind::WinningPoSt]);

    let work = tempfile::tempdir().expect("a temporary directory");
    let proofs = work.path().join("proofs.json");
    run_stage("prove", &ours, &proofs);
    run_stage("verify", &ours, &proofs);
    run_stage("reject", &others, &proofs);
}

/// Runs only in child processes. In the test harness's own process it does nothing.
#[test]
fn stage() {
    let Ok(stage) = std::env::var(STAGE) else {
        return;
    };
    let proofs = PathBuf::from(std::env::var_os(PROOFS).expect("where the proofs are"));
    match stage.as_str() {
        "prove" => {
            let text = serde_json::to_vec(&prove_everything()).expect("proofs as JSON");
            fs::write(proofs, text).expect("proofs can be written");
        }
        "verify" => {
            let (window, winning) = verify_posts(&proofs);
            assert!(window && winning, "proofs verify in another process");
        }
        "reject" => {
            let (window, winning) = verify_posts(&proofs);
            assert!(!window, "a window PoSt verified under another seed's key");
            assert!(!winning, "a winning PoSt verified under another seed's key");
        }
        other => panic!("no such stage: {other}"),
    }
}

fn make(dir: &Path, seed: u64, kinds: &[Kind]) {
    let request = DevnetRequest {
        dir: dir.to_owned(),
        sector_size: SectorSize::KiB2,
        kinds: kinds.to_vec(),
        seed: Some(seed),
        progress: false,
    };
    sealbus_devnet_params::make(&request).expect("parameters can be made");
}

fn run_stage(stage: &str, parameters: &Path, proofs: &Path) {
    let status = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "stage", "--nocapture"])
        .env(STAGE, stage)
        .env(PROOFS, proofs)
        .env("FIL_PROOFS_PARAMETER_CACHE", parameters)
        .status()
        .expect("this program runs again");
    assert!(status.success(), "stage {stage} with {}", parameters.display());
}

/// A sealed sector.
struct Sealed {
    dir: tempfile::TempDir,
    sector: SectorId,
    comm_r: [u8; 32],
    pieces: Vec<filecoin_proofs_api::PieceInfo>,
}

fn prove_everything() -> PostProofs {
    let sealed = seal_sector(SectorId::from(7));
    let (window, winning) = prove_posts(&sealed);
    update_sector(&sealed);
    PostProofs { comm_r: sealed.comm_r, window, winning }
}

fn seal_sector(sector: SectorId) -> Sealed {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (cache, unsealed, replica) = (dir.path().join("cache"), dir.path().join("unsealed"), dir.path().join("sealed"));
    fs::create_dir(&cache).expect("a cache directory");
    let pieces = stage_data(&unsealed, 5);
    File::create(&replica).expect("a replica");

    let pc1 = seal::seal_pre_commit_phase1(SEAL, &cache, &unsealed, &replica, PROVER, sector, TICKET, &pieces);
    let pc2 = seal::seal_pre_commit_phase2(pc1.expect("PC1"), &cache, &replica).expect("PC2");
    let (comm_r, comm_d) = (pc2.comm_r, pc2.comm_d);
    let c1 = seal::seal_commit_phase1(&cache, &replica, PROVER, sector, TICKET, SEED, pc2, &pieces);
    let c2 = seal::seal_commit_phase2(c1.expect("C1"), PROVER, sector).expect("C2");
    assert!(
        seal::verify_seal(SEAL, comm_r, comm_d, PROVER, sector, TICKET, SEED, &c2.proof)
            .expect("a verdict on the PoRep")
    );
    aggregate(comm_r, comm_d, sector, &c2);
    Sealed { dir, sector, comm_r, pieces }
}

/// One proof repeated four times. SnarkPack treats it like four different ones.
fn aggregate(comm_r: [u8; 32], comm_d: [u8; 32], sector: SectorId, proof: &SealCommitPhase2Output) {
    let version = RegisteredAggregationProof::SnarkPackV2;
    let (comm_rs, seeds, proofs) = ([comm_r; 4], [SEED; 4], vec![proof.clone(); 4]);
    let aggregate = seal::aggregate_seal_commit_proofs(SEAL, version, &comm_rs, &seeds, &proofs).expect("an aggregate");
    let inputs = seal::get_seal_inputs(SEAL, comm_r, comm_d, PROVER, sector, TICKET, SEED);
    let inputs = vec![inputs.expect("the proof's inputs"); 4].concat();
    assert!(
        seal::verify_aggregate_seal_commit_proofs(SEAL, version, aggregate, &comm_rs, &seeds, inputs)
            .expect("a verdict on the aggregate")
    );
}

fn prove_posts(sealed: &Sealed) -> (Vec<u8>, Vec<u8>) {
    let replicas = |proof| {
        let (cache, replica) = (sealed.dir.path().join("cache"), sealed.dir.path().join("sealed"));
        let replica = PrivateReplicaInfo::new(proof, sealed.comm_r, cache, replica);
        BTreeMap::from([(sealed.sector, replica)])
    };
    let window = post::generate_window_post(&RANDOMNESS, &replicas(WINDOW), PROVER);
    let winning = post::generate_winning_post(&RANDOMNESS, &replicas(WINNING), PROVER);
    let only = |mut proofs: Vec<(RegisteredPoStProof, Vec<u8>)>| proofs.remove(0).1;
    (only(window.expect("a window PoSt")), only(winning.expect("a winning PoSt")))
}

fn verify_posts(proofs: &Path) -> (bool, bool) {
    let text = fs::read(proofs).expect("the proofs");
    let proofs: PostProofs = serde_json::from_slice(&text).expect("proofs as JSON");
    let replicas = |proof| BTreeMap::from([(SectorId::from(7), PublicReplicaInfo::new(proof, proofs.comm_r))]);
    let window = [(WINDOW, proofs.window.as_slice())];
    let window = post::verify_window_post(&RANDOMNESS, &window, &replicas(WINDOW), PROVER);
    let winning = post::verify_winning_post(&RANDOMNESS, &proofs.winning, &replicas(WINNING), PROVER);
    (window.expect("a verdict on the window PoSt"), winning.expect("a verdict on the winning PoSt"))
}

fn update_sector(sealed: &Sealed) {
    let path = |name: &str| sealed.dir.path().join(name);
    let (new_replica, new_cache) = (path("updated"), path("updated-cache"));
    fs::create_dir(&new_cache).expect("a cache directory");
    File::create(&new_replica).and_then(|file| file.set_len(SectorSize::KiB2.bytes())).expect("a replica");
    let pieces = stage_data(&path("new-data"), 77);
    assert_ne!(pieces[0].commitment, sealed.pieces[0].commitment);

    let encoded = update::empty_sector_update_encode_into(
        UPDATE,
        &new_replica,
        &new_cache,
        path("sealed"),
        path("cache"),
        path("new-data"),
        &pieces,
    );
    let encoded = encoded.expect("an encoded replica");
    let proof = update::generate_empty_sector_update_proof(
        UPDATE,
        sealed.comm_r,
        encoded.comm_r_new,
        encoded.comm_d_new,
        path("sealed"),
        path("cache"),
        &new_replica,
        &new_cache,
    );
    let proof = proof.expect("an update proof").0;
    let verify = |comm_d_new| {
        update::verify_empty_sector_update_proof(UPDATE, &proof, sealed.comm_r, encoded.comm_r_new, comm_d_new)
            .expect("a verdict on the update")
    };
    assert!(verify(encoded.comm_d_new));
    assert!(!verify([0; 32]), "a proof of other data verified");
}

/// Fills a sector's unsealed file with a single piece.
fn stage_data(path: &Path, salt: u8) -> Vec<filecoin_proofs_api::PieceInfo> {
    let data: Vec<u8> = (0..2032u32).map(|byte| (byte as u8).wrapping_mul(31) ^ salt).collect();
    let file = File::options().create_new(true).read(true).write(true).open(path).expect("a file");
    let size = UnpaddedBytesAmount(data.len() as u64);
    let (piece, _) = seal::add_piece(SEAL, Cursor::new(data), file, size, &[]).expect("a piece can be added");
    vec![piece]
}
