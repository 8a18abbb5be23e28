//! Tree D of committed capacity: compared with a built one, shared, damaged, and interrupted while it is created.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use sealbus_schema::SealProof;
use sealbus_worker::stage::Stage;
use sealbus_worker::stage::static_tree_d::{self, Origin, ZeroTree};
use sealbus_worker::stage::{add_pieces, tree_d};

use crate::support::{Bench, SEED, contents};

const SIZE: SealProof = SealProof::StackedDrg2KiBV1_1;
const TREE_D: &str = "sc-02-data-tree-d.dat";

/// A file of zeros, and directories for trees.
struct Zeros {
    dir: tempfile::TempDir,
    proof: SealProof,
    tree: ZeroTree,
}

impl Zeros {
    fn of(proof: SealProof) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let data = File::create(dir.path().join("unsealed")).expect("data");
        data.set_len(proof.sector_size().bytes()).expect("size");
        Self { dir, proof, tree: ZeroTree::of(proof).expect("tree") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Calls [`static_tree_d::provide`] with a single directory.
    fn provide(&self, to: &str) -> Option<Origin> {
        let dirs = [self.path("static")];
        static_tree_d::provide(self.proof, self.tree.root(), &self.path("unsealed"), &dirs, &self.path(to))
            .expect("provides")
    }

    fn kept(&self) -> PathBuf {
        self.path("static").join(format!("tree-d-{}.dat", self.proof.sector_size()))
    }
}

/// The file that the library builds from leaves of zeros.
fn built_by_the_library(proof: SealProof) -> Vec<u8> {
    use filecoin_hashers::{Domain, Hasher};
    use filecoin_proofs::constants::DefaultPieceHasher;
    use filecoin_proofs::types::StoreConfig;
    use storage_proofs_core::{cache_key::CacheKey, merkle::BinaryMerkleTree};

    let dir = tempfile::tempdir().expect("directory");
    let leaves = proof.sector_size().bytes() as usize / 32;
    let node = <DefaultPieceHasher as Hasher>::Domain::try_from_bytes(&[0; 32]).expect("node");
    let config = StoreConfig::new(dir.path(), CacheKey::CommDTree.to_string(), 0);
    BinaryMerkleTree::<DefaultPieceHasher>::try_from_iter_with_config((0..leaves).map(|_| Ok(node)), config)
        .expect("tree");
    fs::read(dir.path().join(TREE_D)).expect("read")
}

#[test]
fn it_is_byte_for_byte_what_the_library_builds() {
    for proof in [SIZE, SealProof::StackedDrg8MiBV1_1] {
        let zeros = Zeros::of(proof);
        let origin = zeros.provide("tree").expect("zeros");
        assert!(matches!(origin, Origin::Linked(_) | Origin::Cloned(_)), "{origin:?}");
        assert!(fs::read(zeros.path("tree")).expect("tree") == built_by_the_library(proof));
    }
}

#[test]
fn its_leaves_take_no_room_and_sectors_share_the_rest() {
    let zeros = Zeros::of(SealProof::StackedDrg8MiBV1_1);
    zeros.provide("tree").expect("zeros");
    let again = zeros.provide("another").expect("zeros");
    let [kept, one, other] =
        [zeros.kept(), zeros.path("tree"), zeros.path("another")].map(|path| fs::metadata(path).expect("file"));
    assert!(kept.blocks() * 512 < kept.len() * 3 / 4, "{} of {} bytes", kept.blocks() * 512, kept.len());
    match again {
        Origin::Linked(_) => assert_eq!((one.ino(), other.ino()), (kept.ino(), kept.ino())),
        Origin::Cloned(_) => assert!(one.ino() != kept.ino()),
        Origin::Written => panic!("not shared"),
    }
}

#[test]
fn data_that_is_not_all_zeros_gets_a_tree_of_its_own_and_written_zeros_are_recognised() {
    let zeros = Zeros::of(SIZE);
    let mut data = OpenOptions::new().write(true).open(zeros.path("unsealed")).expect("data");
    data.write_all(&[0; 2048]).expect("zeros that are no hole");
    assert!(zeros.provide("tree").is_some());
    data.write_all_at(&[1], 2047).expect("one byte");
    assert_eq!(zeros.provide("another"), None);
    assert!(!zeros.path("another").exists());

    let bench = Bench::prepared(SIZE);
    fs::write(bench.slot().join("unsealed"), [1; 2048]).expect("write");
    fs::remove_file(bench.cache().join(TREE_D)).expect("remove");
    let failure = bench.ask(&bench.tree_d()).expect_err("not what the pieces say");
    assert_eq!(failure.code, "COMM_D_MISMATCH");
}

#[test]
fn a_torn_or_foreign_file_is_made_again() {
    let zeros = Zeros::of(SIZE);
    zeros.provide("tree").expect("zeros");
    let whole = fs::read(zeros.kept()).expect("read");
    let mut lost_page = whole.clone();
    lost_page[2048..2080].fill(0);
    let mut damages = vec![whole[..100].to_vec(), Vec::new(), vec![0; whole.len()], lost_page];
    damages.push([whole.clone(), vec![0; 32]].concat());
    for damage in damages {
        // Renamed over the kept file, so sectors with the old one keep it.
        let foreign = zeros.path("foreign");
        fs::write(&foreign, damage).expect("write");
        fs::rename(&foreign, zeros.kept()).expect("rename");
        fs::remove_file(zeros.path("tree")).expect("remove");
        zeros.provide("tree").expect("zeros");
        assert!(fs::read(zeros.kept()).expect("read") == whole);
        assert!(fs::read(zeros.path("tree")).expect("read") == whole);
    }
    fs::remove_file(zeros.kept()).expect("remove");
    fs::create_dir(zeros.kept()).expect("a directory in its place");
    fs::write(zeros.path("static").join(".tree-d-2KiB.tmp"), "half").expect("of a killed maker");
    fs::remove_file(zeros.path("tree")).expect("remove");
    zeros.provide("tree").expect("zeros");
    assert!(fs::read(zeros.kept()).expect("read") == whole);
    assert!(!zeros.path("static").join(".tree-d-2KiB.tmp").exists());
}

#[test]
fn without_a_directory_on_its_file_system_a_sector_writes_its_own() {
    let zeros = Zeros::of(SIZE);
    let missing = zeros.path("not").join("there");
    let elsewhere = PathBuf::from("/dev/shm/");
    let dirs = match fs::metadata(&elsewhere) {
        Ok(found) if found.dev() != fs::metadata(zeros.dir.path()).expect("directory").dev() => {
            vec![elsewhere, missing]
        }
        _ => {
            eprintln!("SKIPPED in part: /dev/shm is no other file system here");
            vec![missing]
        }
    };
    let to = zeros.path("tree");
    let origin = static_tree_d::provide(SIZE, zeros.tree.root(), &zeros.path("unsealed"), &dirs, &to).expect("writes");
    assert_eq!(origin, Some(Origin::Written));
    assert!(fs::read(to).expect("read") == built_by_the_library(SIZE));
}

#[test]
fn a_directory_on_another_file_system_is_passed_over_for_one_on_the_same() {
    let zeros = Zeros::of(SIZE);
    let dirs = [PathBuf::from("/proc"), zeros.path("one"), zeros.path("two")];
    for (to, expected) in [("first", "one"), ("second", "one")] {
        static_tree_d::provide(SIZE, zeros.tree.root(), &zeros.path("unsealed"), &dirs, &zeros.path(to))
            .expect("makes");
        assert!(zeros.path(expected).join("tree-d-2KiB.dat").exists());
    }
    assert!(!zeros.path("two").exists());
}

#[test]
fn nobody_writes_to_the_shared_file_in_the_life_of_a_sector() {
    let (bench, sealed) = Bench::sealed(SIZE);
    let kept = bench.dir.path().join("static/tree-d-2KiB.dat");
    let seen = |path: &Path| {
        let found = fs::metadata(path).expect("file");
        (found.mtime(), found.mtime_nsec(), found.mode() & 0o777, fs::read(path).expect("read"))
    };
    let before = seen(&kept);
    assert_eq!(before.2, 0o444);
    bench.ask(&bench.c1(sealed.comm_r, SEED)).expect("C1");
    bench.ask(&bench.transfer(sealed.comm_r, 1)).expect("transfer");
    assert!(seen(&kept) == before);
    // Cleaning the slot removes the sector's link, not the kept file.
    fs::remove_dir_all(bench.slot()).expect("cleans");
    assert!(seen(&kept) == before);
}

#[test]
fn killed_at_any_moment_it_comes_out_whole() {
    let proof = SealProof::StackedDrg8MiBV1_1;
    let dir = tempfile::tempdir().expect("directory");
    for name in ["slot", "tmp", "parents"] {
        fs::create_dir(dir.path().join(name)).expect("directory");
    }
    let mut bench = Bench { dir, proof, pieces: Vec::new() };
    bench.pieces = bench.ask(&add_pieces::Request::committed_capacity(bench.slot(), proof)).expect("pieces").pieces;
    let request: tree_d::Request = bench.tree_d();
    let temporary = bench.dir.path().join("static/.tree-d-8MiB.tmp");
    let kept = bench.dir.path().join("static/tree-d-8MiB.dat");
    let final_name = bench.cache().join(TREE_D);
    let mut killed = 0;
    // Moments that are visible from outside: the temporary file exists, the kept file exists, the sector's own link
    // exists.
    for moment in [&temporary, &kept, &final_name] {
        for _ in 0..3 {
            for path in [bench.dir.path().join("static"), bench.cache()] {
                let _ = fs::remove_dir_all(path);
            }
            let mut processor = bench.processor(Stage::TreeD);
            processor.send(&request);
            while !moment.exists() && !final_name.exists() {
                std::hint::spin_loop();
            }
            killed += usize::from(!processor.kill());
            bench.ask(&request).expect("whatever was left");
            assert!(fs::read(&final_name).expect("read") == built_by_the_library_once());
            assert!(!temporary.exists() && !bench.slot().join("tree_d.tmp").exists());
        }
    }
    assert!(killed > 0, "at least one was killed in the middle");
    let left: Vec<String> = contents(&bench.dir.path().join("static")).into_keys().collect();
    assert_eq!(left, [".lock", "tree-d-8MiB.dat"]);
}

fn built_by_the_library_once() -> &'static [u8] {
    static BUILT: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    BUILT.get_or_init(|| built_by_the_library(SealProof::StackedDrg8MiBV1_1))
}
