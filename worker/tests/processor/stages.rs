//! The built-in stages on a 2 KiB sector.

use std::fs;

use filecoin_proofs_api::{RegisteredSealProof, UnpaddedBytesAmount, seal};
use sealbus_schema::{Commitment, ErrorClass, Randomness, SealProof};
use sealbus_worker::stage::add_pieces::{self, Piece};
use sealbus_worker::stage::{c2, sector};

use crate::support::{Bench, SECTOR, SEED, TICKET, contents};

const SIZE: SealProof = SealProof::StackedDrg2KiBV1_1;

#[test]
fn labels_and_records_are_those_of_the_library() {
    let bench = Bench::prepared(SIZE);
    let comm_d = bench.ask(&bench.pc1()).expect("PC1").comm_d;
    let other = tempfile::tempdir().expect("directory");
    let out = other.path().join("sealed");
    fs::write(&out, "").expect("write");
    let piece =
        filecoin_proofs_api::PieceInfo::new(bench.pieces[0].commitment.0, UnpaddedBytesAmount(2032)).expect("piece");
    let theirs = seal::seal_pre_commit_phase1(
        RegisteredSealProof::StackedDrg2KiBV1_1,
        other.path(),
        bench.slot().join("unsealed").as_path(),
        out.as_path(),
        sector::prover_id(SECTOR.miner),
        sector::api_number(SECTOR.number),
        TICKET.0,
        &[piece],
    )
    .expect("library");
    assert_eq!(comm_d.0, theirs.comm_d);
    for name in ["sc-02-data-tree-d.dat", "sc-02-data-layer-1.dat", "sc-02-data-layer-2.dat"] {
        assert!(
            fs::read(bench.cache().join(name)).expect("ours") == fs::read(other.path().join(name)).expect("theirs"),
            "{name}"
        );
    }
    let record: serde_json::Value =
        serde_json::from_slice(&fs::read(bench.slot().join("pc1.json")).expect("record")).expect("json");
    let theirs = serde_json::to_string(&theirs).expect("json");
    let theirs = theirs.replace(&other.path().display().to_string(), &bench.cache().display().to_string());
    assert_eq!(record["output"], serde_json::from_str::<serde_json::Value>(&theirs).expect("json"));
}

#[test]
fn every_stage_answers_the_same_when_run_again() {
    let (bench, sealed) = Bench::sealed(SIZE);
    let before = contents(&bench.slot());
    assert_eq!(bench.ask(&bench.pc2()).expect("PC2"), sealed);
    assert!(contents(&bench.slot()) == before);

    // Without its record PC2 runs again completely, and its files are the same.
    fs::remove_file(bench.slot().join("pc2.json")).expect("remove");
    assert_eq!(bench.ask(&bench.pc2()).expect("PC2"), sealed);
    assert!(contents(&bench.slot()) == before);

    fs::remove_file(bench.slot().join("pc1.json")).expect("remove");
    bench.ask(&bench.pc1()).expect("PC1");
    bench.ask(&bench.tree_d()).expect("tree D");
    assert!(contents(&bench.slot()) == before);
}

#[test]
fn leftovers_of_a_killed_run_are_dropped() {
    let (bench, sealed) = Bench::sealed(SIZE);
    let before = contents(&bench.slot());
    for record in ["pc1.json", "pc2.json"] {
        fs::remove_file(bench.slot().join(record)).expect("remove");
    }
    fs::write(bench.cache().join("sc-02-data-layer-2.dat"), [1; 100]).expect("torn layer");
    fs::write(bench.cache().join("sc-02-data-layer-2..tmp"), [1; 100]).expect("torn temporary layer");
    fs::write(bench.cache().join("sc-02-data-tree-c.dat"), vec![1; 2336]).expect("torn tree of the right size");
    fs::write(bench.cache().join("p_aux"), [1; 64]).expect("half moved");
    fs::write(bench.slot().join("sealed"), vec![1; 2048]).expect("half encoded");
    fs::create_dir_all(bench.slot().join("pc2.tmp/cache")).expect("scratch");
    fs::write(bench.slot().join("pc2.tmp/sealed"), vec![1; 2048]).expect("half encoded");
    fs::write(bench.slot().join("pc2.tmp/cache/sc-02-data-tree-c.dat"), vec![1; 2336]).expect("torn tree");
    fs::write(bench.slot().join(".pc1.json.tmp"), "{").expect("torn record");
    bench.ask(&bench.pc1()).expect("PC1");
    assert_eq!(bench.ask(&bench.pc2()).expect("PC2"), sealed);
    assert!(contents(&bench.slot()) == before);
}

#[test]
fn a_torn_tree_d_is_built_again() {
    let bench = Bench::prepared(SIZE);
    let path = bench.cache().join("sc-02-data-tree-d.dat");
    let whole = fs::read(&path).expect("read");
    for torn in [vec![0; whole.len()], whole[..100].to_vec(), Vec::new()] {
        fs::write(&path, torn).expect("write");
        assert_eq!(bench.ask(&bench.pc1()).expect_err("refused").class, ErrorClass::Perm);
        bench.ask(&bench.tree_d()).expect("tree D");
        assert!(fs::read(&path).expect("read") == whole);
    }
}

#[test]
fn layers_of_another_ticket_or_boot_are_not_gone_on_with() {
    let bench = Bench::prepared(SIZE);
    let mut other = bench.pc1();
    other.ticket = Randomness([9; 32]);
    bench.ask(&other).expect("PC1");
    let of_other = fs::read(bench.cache().join("sc-02-data-layer-2.dat")).expect("layer");
    bench.ask(&bench.pc1()).expect("PC1");
    let labels = fs::read(bench.cache().join("sc-02-data-layer-2.dat")).expect("layer");
    assert!(labels != of_other);
    bench.ask(&bench.pc2()).expect("PC2 opens its challenges");

    fs::remove_file(bench.slot().join("pc1.json")).expect("remove");
    let marker = fs::read_to_string(bench.slot().join("labels.json")).expect("marker");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("boot");
    fs::write(bench.slot().join("labels.json"), marker.replace(boot.trim(), "earlier")).expect("write");
    fs::write(bench.cache().join("sc-02-data-layer-1.dat"), vec![0; 2048]).expect("lost in a power cut");
    bench.ask(&bench.pc1()).expect("PC1");
    assert!(fs::read(bench.cache().join("sc-02-data-layer-2.dat")).expect("layer") == labels);
}

#[test]
fn wrong_labels_are_found_by_the_check_of_pc2() {
    let bench = Bench::prepared(SIZE);
    bench.ask(&bench.pc1()).expect("PC1");
    fs::write(bench.cache().join("sc-02-data-layer-1.dat"), vec![0; 2048]).expect("write");
    let failure = bench.ask(&bench.pc2()).expect_err("refused");
    assert_eq!((failure.code.as_str(), failure.class), ("COMM_R_MISMATCH", ErrorClass::Perm));
    assert!(!bench.slot().join("sealed").exists() && !bench.slot().join("pc2.json").exists());
}

#[test]
fn c1_is_kept_for_its_seed_and_redone_for_another() {
    let (bench, sealed) = Bench::sealed(SIZE);
    let record = bench.slot().join("c1.json");
    let bytes = bench.ask(&bench.c1(sealed.comm_r, SEED)).expect("C1").bytes;
    let first = fs::read(&record).expect("read");
    assert_eq!(bytes, first.len() as u64);
    let made = fs::metadata(&record).expect("file").modified().expect("time");
    bench.ask(&bench.c1(sealed.comm_r, SEED)).expect("C1");
    assert_eq!(fs::metadata(&record).expect("file").modified().expect("time"), made);
    bench.ask(&bench.c1(sealed.comm_r, Randomness([6; 32]))).expect("C1");
    assert!(fs::read(&record).expect("read") != first);

    let failure = bench.ask(&bench.c1(Commitment([1; 32]), SEED)).expect_err("another CommR");
    assert_eq!(failure.code, "INPUT_MISMATCH");
    let c2 = c2::Request { work_dir: bench.slot(), proof: SIZE, sector: SECTOR, ticket: TICKET, seed: SEED };
    assert_eq!(bench.ask(&c2).expect_err("another seed").code, "INPUT_MISMATCH");
}

#[test]
fn missing_inputs_and_unknown_pieces_are_typed_errors() {
    let bench = Bench::prepared(SIZE);
    assert_eq!(bench.ask(&bench.pc2()).expect_err("no PC1").code, "INPUT_MISSING");
    assert_eq!(bench.ask(&bench.c1(Commitment([1; 32]), SEED)).expect_err("no PC2").code, "INPUT_MISSING");
    assert_eq!(bench.ask(&bench.transfer(Commitment([1; 32]), 1)).expect_err("no PC2").code, "INPUT_MISSING");
    let mut request = add_pieces::Request::committed_capacity(bench.slot(), SIZE);
    request.pieces = vec![Piece::Unknown];
    assert_eq!(bench.ask(&request).expect_err("unknown piece").code, "PIECE_UNSUPPORTED");
    request.work_dir = "slot".into();
    assert_eq!(bench.ask(&request).expect_err("relative path").code, "REQUEST_INVALID");
    let mut request = bench.tree_d();
    request.pieces[0].commitment = Commitment([1; 32]);
    assert_eq!(bench.ask(&request).expect_err("another piece").code, "COMM_D_MISMATCH");
}
