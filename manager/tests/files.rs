//! Checks of stored files by the real child process, with a sector sealed by the proofs library.

use std::{
    fs::{self, File},
    io::Cursor,
    path::{Path, PathBuf},
    time::Duration,
};

use filecoin_proofs_api::{
    RegisteredPoStProof, RegisteredSealProof, SectorId as ApiSectorId, UnpaddedBytesAmount, post, seal,
};
use sealbus_manager::{
    chain::randomness::prover_id,
    child::Program,
    config::Store,
    files::{COMMAND, Request, Running},
};
use sealbus_schema::{
    Commitment, ErrorClass, ErrorCode, ErrorReport, Randomness, SealProof, SectorId,
    parts::{StoredFile, StoredSector},
};

const SEAL: RegisteredSealProof = RegisteredSealProof::StackedDrg2KiBV1_1;
const RANDOMNESS: Randomness = Randomness([5; 32]);
/// Much longer than a check of a 2 KiB sector takes.
const LONG: Duration = Duration::from_secs(120);

/// A store that contains one sector.
struct Stored {
    root: tempfile::TempDir,
    sector: SectorId,
    comm_r: Commitment,
}

impl Stored {
    fn new(number: u64) -> Stored {
        let root = tempfile::tempdir().expect("a directory");
        let sector: SectorId = format!("f01000/{number}").parse().expect("a sector");
        let at = |name: &str| root.path().join(name);
        fs::write(at("sealbus-store.json"), r#"{"format":1,"kind":"store","id":"a","name":"main"}"#).expect("writes");
        let (cache, sealed) = (at("cache").join(sector.file_name()), at("sealed").join(sector.file_name()));
        fs::create_dir_all(&cache).expect("a directory");
        fs::create_dir(at("sealed")).expect("a directory");
        File::create(&sealed).expect("a replica");
        let comm_r = Commitment(seal_into(number, &at("unsealed"), &cache, &sealed));
        Stored { root, sector, comm_r }
    }

    fn sealed(&self) -> PathBuf {
        self.root.path().join("sealed").join(self.sector.file_name())
    }

    /// The report that the worker would make of the stored files.
    fn reported(&self) -> StoredSector {
        let name = self.sector.file_name();
        let paths = ["p_aux", "t_aux", "sc-02-data-tree-r-last.dat"].map(|file| format!("cache/{name}/{file}"));
        let files = paths.into_iter().chain([format!("sealed/{name}")]).map(|path| {
            let content = fs::read(self.root.path().join(&path)).expect("reads");
            let hash = blake2b_simd::Params::new().hash_length(32).hash(&content);
            let blake2b = Commitment::try_from(hash.as_bytes()).expect("32 bytes");
            StoredFile { path, bytes: content.len() as u64, blake2b }
        });
        StoredSector { store: "main".to_owned(), files: files.collect(), identity: Some("a".to_owned()) }
    }

    fn request(&self, stored: StoredSector) -> Request {
        Request {
            sector: self.sector,
            proof: SealProof::StackedDrg2KiBV1_1,
            comm_r: self.comm_r,
            stored,
            store: Store { name: "main".to_owned(), path: self.root.path().to_owned() },
            known: Some("a".to_owned()),
            randomness: RANDOMNESS,
        }
    }
}

fn seal_into(number: u64, unsealed: &Path, cache: &Path, sealed: &Path) -> [u8; 32] {
    let data: Vec<u8> = (0..2032u32).map(|byte| (byte as u8).wrapping_mul(31)).collect();
    let file = File::options().create_new(true).read(true).write(true).open(unsealed).expect("a file");
    let size = UnpaddedBytesAmount(data.len() as u64);
    let (piece, _) = seal::add_piece(SEAL, Cursor::new(data), file, size, &[]).expect("a piece");
    let sector = ApiSectorId::from(number);
    let pc1 = seal::seal_pre_commit_phase1(SEAL, cache, unsealed, sealed, prover_id(1000), sector, [3; 32], &[piece]);
    seal::seal_pre_commit_phase2(pc1.expect("PC1"), cache, sealed).expect("PC2").comm_r
}

fn start(request: Request) -> Running {
    let checker = Program { program: env!("CARGO_BIN_EXE_sealbus-manager").into(), arguments: vec![COMMAND.into()] };
    Running::start(&checker, request).expect("starts")
}

async fn check(request: Request) -> Result<(), ErrorReport> {
    let mut running = start(request);
    let outcome = running.outcome(LONG).await;
    running.ended().await;
    outcome
}

#[tokio::test]
async fn a_flipped_bit_in_a_challenged_node_is_found_although_no_length_has_changed() {
    let stored = Stored::new(1);
    // In production the files are larger than this limit, and are then not read in full.
    let as_if_large = |mut reported: StoredSector| {
        reported.files.retain(|file| file.path.ends_with("_aux"));
        reported
    };
    let request = stored.request(as_if_large(stored.reported()));
    assert_eq!(check(request.clone()).await, Ok(()));
    let mut randomness = RANDOMNESS.0;
    randomness[31] &= 0x3f;
    let id = ApiSectorId::from(1);
    let proof = RegisteredPoStProof::StackedDrgWindow2KiBV1_2;
    let challenges = post::generate_fallback_sector_challenges(proof, &randomness, &[id], prover_id(1000));
    let leaf = challenges.expect("challenges")[&id][0] as usize;
    let whole = fs::read(stored.sealed()).expect("reads");
    let mut rotten = whole.clone();
    rotten[32 * leaf + 7] ^= 1;
    fs::write(stored.sealed(), rotten).expect("writes");
    let error = check(request.clone()).await.expect_err("a bit is another one");
    assert_eq!((error.code, error.class), (ErrorCode::FILES_UNPROVABLE, ErrorClass::Perm));
    fs::write(stored.sealed(), whole).expect("writes");
    assert_eq!(check(request).await, Ok(()));
}

#[tokio::test]
async fn files_of_another_sector_are_refused_though_they_prove_themselves() {
    let (ours, other) = (Stored::new(1), Stored::new(2));
    let request = Request { comm_r: ours.comm_r, ..other.request(other.reported()) };
    let error = check(request).await.expect_err("another sector");
    assert_eq!((&error.code, error.class), (&ErrorCode::FILES_UNPROVABLE, ErrorClass::Perm));
    assert!(error.message().contains("another sector's"), "{error:?}");
    // Another sector's file under this sector's name has another checksum than the reported one.
    let reported = ours.reported();
    fs::copy(
        other.root.path().join("cache").join(other.sector.file_name()).join("p_aux"),
        ours.root.path().join("cache").join(ours.sector.file_name()).join("p_aux"),
    )
    .expect("copies");
    let error = check(ours.request(reported)).await.expect_err("another p_aux");
    assert_eq!(error.code, ErrorCode::CHECKSUM_MISMATCH);
}

#[tokio::test]
async fn a_store_that_hangs_is_killed_at_the_limit_and_waited_for() {
    let stored = Stored::new(1);
    let request = stored.request(stored.reported());
    // Opening this pipe blocks until there is a writer.
    let identity = stored.root.path().join("sealbus-store.json");
    fs::remove_file(&identity).expect("removes");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &identity, rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
    let mut running = start(request);
    let process = PathBuf::from(format!("/proc/{}", running.id().expect("it runs")));
    let error = running.outcome(Duration::from_millis(300)).await.expect_err("it hangs");
    assert_eq!((error.code, error.class), (ErrorCode::STORE_UNAVAILABLE, ErrorClass::Temp));
    running.ended().await;
    assert!(!process.exists(), "it is gone, and nobody has to collect it");
}

#[tokio::test]
async fn a_checker_that_says_nothing_is_no_verdict_on_the_files() {
    let stored = Stored::new(1);
    let request = stored.request(stored.reported());
    for (program, class, code) in [
        ("true", ErrorClass::Perm, ErrorCode::LIBRARY_PANIC),
        ("/nowhere/at/all", ErrorClass::Temp, ErrorCode::PROCESSOR_START_FAILED),
    ] {
        let checker = Program { program: program.into(), arguments: Vec::new() };
        let outcome = match Running::start(&checker, request.clone()) {
            Ok(mut running) => running.outcome(LONG).await,
            Err(error) => Err(error),
        };
        let error = outcome.expect_err("it does not answer");
        assert_eq!((error.code, error.class), (code, class), "{program}");
    }
}
