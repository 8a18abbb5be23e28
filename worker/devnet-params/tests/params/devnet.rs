//! A directory of devnet parameters is reproducible, safe to share, and safe to kill while it is being made.
//!
//! Uses only window and winning PoSt, which take seconds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sealbus_devnet_params::{DevnetError, DevnetReport, DevnetRequest, Kind, ProofCircuit, SectorSize};
use sealbus_params_dir::marker::{MARKER, Marker};
use sealbus_worker::params::{self, CheckRequest, Finding, Manifest};
use serde_json::json;
use tempfile::tempdir;

const CHILD_DIR: &str = "SEALBUS_TEST_DIR";

fn make(dir: &Path, kinds: &[Kind], seed: Option<u64>) -> Result<DevnetReport, DevnetError> {
    sealbus_devnet_params::make(&DevnetRequest {
        dir: dir.to_owned(),
        sector_size: SectorSize::KiB2,
        kinds: kinds.to_vec(),
        seed,
        progress: false,
    })
}

/// Checks the files of these circuits.
fn check(dir: &Path, kinds: &[Kind]) -> Vec<(String, Finding)> {
    let circuits = kinds.iter().map(|kind| ProofCircuit::new(*kind, SectorSize::KiB2).unwrap());
    let entry = json!({ "cid": "Qm", "digest": "official", "sector_size": 2048 });
    let names = circuits.flat_map(|made| [made.parameters_name(), made.verifying_key_name()]);
    let manifest: BTreeMap<_, _> = names.map(|name| (name, &entry)).collect();
    let path = dir.join("manifest.json");
    fs::write(&path, serde_json::to_vec(&manifest).unwrap()).unwrap();
    let request = CheckRequest {
        dir: dir.to_owned(),
        sector_sizes: vec![SectorSize::KiB2],
        manifest: Manifest::read(&path).unwrap(),
        again: true,
        progress: false,
    };
    let report = params::check(&request).unwrap();
    assert!(report.devnet);
    report.files.into_iter().map(|file| (file.name, file.finding)).collect()
}

/// The library's files, with their contents.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), path))
        .filter(|(name, _)| name.starts_with("v28-"))
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Generates parameters in another process: this program, restricted to [`child`].
fn spawn_child(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "devnet::child"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Runs only in a child process. In the test harness's own process it does nothing.
#[test]
fn child() {
    if let Some(dir) = std::env::var_os(CHILD_DIR) {
        make(&PathBuf::from(dir), &[Kind::WinningPoSt, Kind::WindowPoSt], Some(3)).unwrap();
    }
}

#[test]
fn two_processes_at_once_and_a_kill_half_way_leave_the_same_bytes() {
    // Two processes at once.
    let dir = tempdir().unwrap();
    let children = [spawn_child(dir.path()), spawn_child(dir.path())];
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let together = files(dir.path());
    assert_eq!(together.len(), 7, "three files a circuit, and the SRS");

    // One process that is killed after it has begun to write, then another.
    let dir = tempdir().unwrap();
    let mut child = spawn_child(dir.path());
    while !fs::read_dir(dir.path()).unwrap().any(|entry| {
        let entry = entry.unwrap();
        let begun = entry.file_name().to_string_lossy().ends_with(".params.partial");
        begun && entry.metadata().is_ok_and(|metadata| metadata.len() > 0)
    }) {
        assert!(child.try_wait().unwrap().is_none(), "the child ended before it was killed");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let left = files(dir.path());
    assert!(left.iter().any(|(name, _)| name.ends_with(".params.partial")));
    for file in left.iter().filter(|(name, _)| !name.ends_with(".partial")) {
        assert!(together.contains(file), "{} was taken for whole", file.0);
    }
    for (name, finding) in check(dir.path(), &[Kind::WinningPoSt, Kind::WindowPoSt]) {
        let there = left.iter().any(|(file, _)| *file == name);
        let whole = matches!(finding, Finding::Whole { .. });
        assert!(whole == there && (there || finding == Finding::Missing), "{name} {finding}");
        assert!(!(name.ends_with(".params") && whole), "{name} cannot be whole yet");
    }

    assert!(spawn_child(dir.path()).wait().unwrap().success());
    assert!(files(dir.path()) == together, "the same seed gave other bytes");
}

#[test]
fn whole_files_are_kept_and_bad_ones_made_again() {
    let dir = tempdir().unwrap();
    let made = make(dir.path(), &[Kind::WindowPoSt], Some(3)).unwrap();
    assert_eq!((made.made.len(), made.kept.len(), made.seed), (4, 0, 3));
    let before = files(dir.path());
    assert!(check(dir.path(), &[Kind::WindowPoSt]).iter().all(|(_, finding)| matches!(finding, Finding::Whole { .. })));

    let again = make(dir.path(), &[Kind::WindowPoSt], None).unwrap();
    assert_eq!((again.made.len(), again.kept.len(), again.seed), (0, 4, 3));

    // Verifying keys are derived from parameter files; parameters and the SRS are derived from the seed.
    for extension in ["vk", "meta", "params", "srs"] {
        let (name, bytes) = before.iter().find(|(name, _)| name.ends_with(extension)).unwrap();
        let mut bytes = bytes.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(dir.path().join(name), bytes).unwrap();
        let mended = make(dir.path(), &[Kind::WindowPoSt], None).unwrap();
        assert_eq!((mended.made.len(), mended.kept.len()), (1, 3), "{extension}");
        assert!(files(dir.path()) == before, "{extension}");
    }
}

#[test]
fn a_directory_from_before_there_was_an_srs_gets_one() {
    let dir = tempdir().unwrap();
    make(dir.path(), &[Kind::WindowPoSt], Some(3)).unwrap();
    let before = files(dir.path());
    let (srs, _) = before.iter().find(|(name, _)| name.ends_with(".srs")).unwrap();
    fs::remove_file(dir.path().join(srs)).unwrap();
    let mut marker = Marker::load(dir.path()).unwrap().unwrap();
    assert!(marker.files.remove(srs).is_some());
    marker.save().unwrap();

    let mended = make(dir.path(), &[Kind::WindowPoSt], None).unwrap();
    let made: Vec<_> = mended.made.iter().map(|file| &file.name).collect();
    assert_eq!((made, mended.kept.len()), (vec![srs], 3));
    assert!(files(dir.path()) == before);
}

#[test]
fn check_tells_a_flipped_bit_from_a_truncated_and_a_missing_file_of_a_devnet() {
    let dir = tempdir().unwrap();
    make(dir.path(), &[Kind::WindowPoSt], Some(3)).unwrap();
    // A circuit for which the devnet has no parameters counts as missing.
    let winning = ProofCircuit::new(Kind::WinningPoSt, SectorSize::KiB2).unwrap();
    let found = check(dir.path(), &[Kind::WindowPoSt, Kind::WinningPoSt]);
    assert!(found.contains(&(winning.parameters_name(), Finding::Missing)));

    let name = |extension: &str| {
        let files = files(dir.path());
        files.into_iter().find(|(name, _)| name.ends_with(extension)).unwrap()
    };
    let (parameters, mut bytes) = name(".params");
    let last = bytes.len() - 1;
    bytes[last] ^= 0x80;
    fs::write(dir.path().join(&parameters), &bytes).unwrap();
    let (key, bytes) = name(".vk");
    fs::write(dir.path().join(&key), &bytes[..bytes.len() - 1]).unwrap();
    let (srs, _) = name(".srs");
    fs::remove_file(dir.path().join(&srs)).unwrap();

    for (name, finding) in check(dir.path(), &[Kind::WindowPoSt]) {
        let words = finding.to_string();
        if name == parameters {
            assert!(matches!(finding, Finding::Corrupt { .. }), "{words}");
            assert!(words.starts_with("is corrupt"));
        } else if name == key {
            assert!(matches!(finding, Finding::Truncated { .. }), "{words}");
            assert!(words.starts_with("is truncated"));
        } else if name == srs {
            assert_eq!(finding, Finding::Missing);
            assert_eq!(words, "is missing");
        } else {
            assert!(matches!(finding, Finding::Whole { .. }), "{name} {words}");
        }
    }
}

#[test]
fn a_second_sector_size_goes_beside_the_first() {
    let dir = tempdir().unwrap();
    make(dir.path(), &[Kind::WindowPoSt], None).unwrap();
    let before = files(dir.path());
    let report = sealbus_devnet_params::make(&DevnetRequest {
        dir: dir.path().to_owned(),
        sector_size: SectorSize::MiB8,
        kinds: vec![Kind::WindowPoSt],
        seed: None,
        progress: false,
    });
    let report = report.unwrap();
    assert_eq!((report.made.len(), report.kept.len()), (3, 1), "one SRS serves all");
    assert_eq!(files(dir.path()).len(), 7);
    assert!(before.iter().all(|file| files(dir.path()).contains(file)));
}

#[test]
fn other_parameters_and_other_seeds_are_refused() {
    let dir = tempdir().unwrap();
    let official = "v28-stacked-proof-of-replication-merkletree-poseidon_hasher-8-8-0-sha256_hasher-82a357d2f2ca81dc61bb45f4a762807aedee1b0a53fd6c4e77b46a01bfef7820.vk";
    fs::write(dir.path().join(official), "an official key").unwrap();
    let refused = make(dir.path(), &[Kind::WindowPoSt], None).unwrap_err();
    assert!(matches!(&refused, DevnetError::ForeignFile { name, .. } if name == official));
    assert!(refused.to_string().contains("may be official"));
    assert_eq!(fs::read(dir.path().join(official)).unwrap(), b"an official key");

    // A partial download also counts.
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("v28-fil-inner-product-v1.srs.partial"), "half of it").unwrap();
    let refused = make(dir.path(), &[], None).unwrap_err();
    assert!(matches!(refused, DevnetError::ForeignFile { .. }));

    let dir = tempdir().unwrap();
    make(dir.path(), &[], Some(1)).unwrap();
    let marker: Marker = serde_json::from_slice(&fs::read(dir.path().join(MARKER)).unwrap()).unwrap();
    assert_eq!(marker.seed, 1);
    let text = fs::read_to_string(dir.path().join(MARKER)).unwrap();
    assert!(text.contains("Whoever has the seed can forge proofs"));
    let refused = make(dir.path(), &[], Some(2)).unwrap_err();
    assert!(matches!(refused, DevnetError::OtherSeed { made: 1, asked: 2, .. }));
}
