//! Checks against a manifest.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sealbus_params_dir::{G1_BYTES, VERIFYING_KEY_BYTES};
use sealbus_worker::params::{self, CheckError, CheckReport, CheckRequest, Finding, Manifest, SectorSize};
use serde_json::json;
use tempfile::{TempDir, tempdir};

/// A made-up network's parameter file and verifying key, as published.
pub struct Published {
    dir: TempDir,
    pub files: BTreeMap<String, Vec<u8>>,
}

pub const PARAMETERS: &str = "v28-small.params";
pub const KEY: &str = "v28-small.vk";

impl Published {
    pub fn new() -> Self {
        let g1 = G1_BYTES as usize;
        // A verifying key with three inputs. Its points are filler, because checks only look at lengths and digests.
        let mut parameters = vec![7; VERIFYING_KEY_BYTES as usize - 4];
        push_points(&mut parameters, 3, g1);
        let key = parameters.clone();
        // h, l, a and b in G1, then b in G2.
        for (count, bytes) in [(511, g1), (300, g1), (280, g1), (290, g1), (290, 2 * g1)] {
            push_points(&mut parameters, count, bytes);
        }
        let files = BTreeMap::from([(PARAMETERS.to_owned(), parameters), (KEY.to_owned(), key)]);
        Self { dir: tempdir().unwrap(), files }
    }

    pub fn manifest(&self) -> Manifest {
        let entries = self.files.iter().map(|(name, bytes)| {
            let digest = &blake2b_simd::blake2b(bytes).to_hex()[..32];
            let entry = json!({ "cid": cid(name), "digest": digest, "sector_size": 2048 });
            (name.clone(), entry)
        });
        let path = self.dir.path().join("parameters.json");
        let text = serde_json::to_vec(&entries.collect::<BTreeMap<_, _>>()).unwrap();
        fs::write(&path, text).unwrap();
        Manifest::read(&path).unwrap()
    }

    /// Installs all files in a new directory.
    pub fn install(&self) -> (TempDir, PathBuf) {
        let dir = tempdir().unwrap();
        for (name, bytes) in &self.files {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        let path = dir.path().to_owned();
        (dir, path)
    }
}

/// Appends a vector in the file format: its length, big-endian, and its points.
fn push_points(file: &mut Vec<u8>, count: u32, bytes: usize) {
    file.extend(count.to_be_bytes());
    file.resize(file.len() + count as usize * bytes, count as u8);
}

pub fn cid(name: &str) -> String {
    format!("Qm{name}")
}

fn check(dir: &Path, manifest: Manifest) -> CheckReport {
    let request = CheckRequest {
        dir: dir.to_owned(),
        sector_sizes: vec![SectorSize::KiB2],
        manifest,
        again: false,
        progress: false,
    };
    params::check(&request).unwrap()
}

fn finding(report: &CheckReport, name: &str) -> Finding {
    report.files.iter().find(|file| file.name == name).unwrap().finding.clone()
}

#[test]
fn what_was_read_is_remembered_until_it_changes() {
    let published = Published::new();
    let (_keep, dir) = published.install();
    for remembered in [false, true] {
        let report = check(&dir, published.manifest());
        assert_eq!(report.bad().count(), 0);
        assert!(!report.devnet);
        assert_eq!(finding(&report, PARAMETERS), Finding::Whole { remembered });
        assert_eq!(finding(&report, KEY), Finding::Whole { remembered });
    }

    // The same length, in a new file under the old name. So the inode differs, even if the timestamp does not.
    let mut bytes = published.files[PARAMETERS].clone();
    bytes[5000] ^= 4;
    fs::write(dir.join("new"), bytes).unwrap();
    fs::rename(dir.join("new"), dir.join(PARAMETERS)).unwrap();
    let report = check(&dir, published.manifest());
    assert!(matches!(finding(&report, PARAMETERS), Finding::Corrupt { .. }));
    assert_eq!(finding(&report, KEY), Finding::Whole { remembered: true });
    assert_eq!(report.bad().count(), 1);
}

#[test]
fn a_flipped_bit_a_truncated_and_a_missing_file_each_have_their_words() {
    let published = Published::new();
    let bytes = &published.files[PARAMETERS];
    // A file truncated anywhere, in a header or among the points, is recognised by its own headers.
    for length in [0, 100, 900, 1200, bytes.len() - 1] {
        let (_keep, dir) = published.install();
        fs::write(dir.join(PARAMETERS), &bytes[..length]).unwrap();
        let found = finding(&check(&dir, published.manifest()), PARAMETERS);
        assert!(matches!(found, Finding::Truncated { .. }), "{length}: {found}");
        assert!(found.to_string().starts_with("is truncated"));
    }

    let (_keep, dir) = published.install();
    let mut long = bytes.clone();
    long.push(0);
    fs::write(dir.join(PARAMETERS), long).unwrap();
    fs::remove_file(dir.join(KEY)).unwrap();
    let report = check(&dir, published.manifest());
    assert!(finding(&report, PARAMETERS).to_string().starts_with("is too long"));
    assert_eq!(finding(&report, KEY).to_string(), "is missing");

    let mut flipped = bytes.clone();
    flipped[20] ^= 1;
    fs::write(dir.join(PARAMETERS), flipped).unwrap();
    fs::create_dir(dir.join(KEY)).unwrap();
    let report = check(&dir, published.manifest());
    assert!(finding(&report, PARAMETERS).to_string().starts_with("is corrupt"));
    assert!(finding(&report, KEY).to_string().starts_with("cannot be read"));
}

#[test]
fn a_size_without_files_is_an_error_and_not_whole() {
    let published = Published::new();
    let request = CheckRequest {
        dir: published.install().1,
        sector_sizes: vec![SectorSize::GiB32],
        manifest: published.manifest(),
        again: false,
        progress: false,
    };
    assert!(matches!(params::check(&request), Err(CheckError::NothingNamed { .. })));
}
