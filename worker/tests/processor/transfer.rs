//! A permanent store in bad condition.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sealbus_schema::{Commitment, ErrorClass, SealProof};

use crate::support::{Bench, contents};

#[test]
fn the_layout_is_that_of_lotus_and_the_checksums_are_of_the_contents() {
    let (bench, sealed) = Bench::sealed(SealProof::StackedDrg2KiBV1_1);
    let stored = bench.ask(&bench.transfer(sealed.comm_r, 42)).expect("transfer").files;
    let found = contents(&bench.store());
    let paths: Vec<&str> = stored.iter().map(|file| file.path.as_str()).collect();
    let cache = "cache/s-t01000-7";
    let expected = [
        &format!("{cache}/p_aux"),
        &format!("{cache}/sc-02-data-tree-r-last.dat"),
        &format!("{cache}/t_aux"),
        "sealed/s-t01000-7",
    ];
    assert_eq!(paths, expected);
    assert_eq!(found.len(), 4);
    for file in &stored {
        let bytes = &found[&file.path];
        assert_eq!(file.bytes, bytes.len() as u64);
        assert_eq!(file.blake2b.0[..], *blake2b_simd::Params::new().hash_length(32).hash(bytes).as_bytes());
    }
    assert!(found["sealed/s-t01000-7"] == fs::read(bench.slot().join("sealed")).expect("sealed"));
    assert_eq!(bench.ask(&bench.transfer(sealed.comm_r, 43)).expect("again, by another lease").files, stored);
}

#[test]
fn finished_files_can_be_read_and_removed_but_not_written() {
    let (bench, sealed) = Bench::sealed(SealProof::StackedDrg2KiBV1_1);
    let files = bench.ask(&bench.transfer(sealed.comm_r, 42)).expect("transfer").files;
    let mode = |path: &str| fs::metadata(bench.store().join(path)).expect("there").permissions().mode() & 0o777;
    for file in &files {
        assert_eq!(mode(&file.path) & 0o222, 0, "{} has the mode {:o}", file.path, mode(&file.path));
        assert_eq!(mode(&file.path) & 0o400, 0o400, "{} has the mode {:o}", file.path, mode(&file.path));
    }
    // One of an earlier version is protected when it is found.
    let replica = bench.store().join("sealed/s-t01000-7");
    fs::set_permissions(&replica, fs::Permissions::from_mode(0o644)).expect("as of old");
    bench.ask(&bench.transfer(sealed.comm_r, 43)).expect("again");
    assert_eq!(mode("sealed/s-t01000-7"), 0o444);
    for file in files {
        fs::remove_file(bench.store().join(file.path)).expect("a person removes it");
    }
}

#[test]
fn a_torn_temporary_file_is_written_again_and_one_of_another_lease_is_left_alone() {
    let (bench, sealed) = Bench::sealed(SealProof::StackedDrg2KiBV1_1);
    fs::create_dir(bench.store().join(".incoming")).expect("directory");
    let ours = bench.store().join(".incoming/sealed.s-t01000-7.42.tmp");
    let theirs = bench.store().join(".incoming/sealed.s-t01000-7.41.tmp");
    for path in [&ours, &theirs] {
        fs::write(path, [1; 100]).expect("write");
    }
    bench.ask(&bench.transfer(sealed.comm_r, 42)).expect("transfer");
    assert!(!ours.exists() && theirs.exists());
    assert!(
        fs::read(bench.store().join("sealed/s-t01000-7")).expect("read")
            == fs::read(bench.slot().join("sealed")).expect("read")
    );
}

#[test]
fn a_different_file_under_the_final_name_is_never_overwritten() {
    let (bench, sealed) = Bench::sealed(SealProof::StackedDrg2KiBV1_1);
    fs::create_dir(bench.store().join("sealed")).expect("directory");
    let path = bench.store().join("sealed/s-t01000-7");
    for other in [vec![1; 2048], vec![1; 100]] {
        fs::write(&path, &other).expect("write");
        let failure = bench.ask(&bench.transfer(sealed.comm_r, 42)).expect_err("refused");
        assert_eq!((failure.code.as_str(), failure.class), ("STORE_CONFLICT", ErrorClass::Perm));
        assert_eq!(fs::read(&path).expect("read"), other);
    }
}

#[test]
fn a_store_that_is_not_mounted_is_not_made() {
    let (bench, sealed) = Bench::sealed(SealProof::StackedDrg2KiBV1_1);
    fs::remove_dir(bench.store()).expect("remove");
    let failure = bench.ask(&bench.transfer(sealed.comm_r, 42)).expect_err("refused");
    assert_eq!((failure.code.as_str(), failure.class), ("STORE_UNAVAILABLE", ErrorClass::Temp));
    assert!(!bench.store().exists());
}

#[test]
fn a_store_whose_file_system_refuses_a_file_is_waited_for() {
    let (bench, sealed) = Bench::sealed(SealProof::StackedDrg2KiBV1_1);
    // Root may write to any directory. So a file is put in the directory's place, which stops root too.
    fs::write(bench.store().join("cache"), "in the way").expect("writes");
    let failure = bench.ask(&bench.transfer(sealed.comm_r, 42)).expect_err("refused");
    assert_eq!((failure.code.as_str(), failure.class), ("STORE_UNAVAILABLE", ErrorClass::Temp));
    fs::remove_file(bench.store().join("cache")).expect("removes");
    bench.ask(&bench.transfer(sealed.comm_r, 42)).expect("goes on");
}

#[test]
fn another_comm_r_is_refused() {
    let (bench, _) = Bench::sealed(SealProof::StackedDrg2KiBV1_1);
    let failure = bench.ask(&bench.transfer(Commitment([1; 32]), 42)).expect_err("refused");
    assert_eq!(failure.code, "INPUT_MISMATCH");
    assert!(contents(&bench.store()).is_empty());
}
