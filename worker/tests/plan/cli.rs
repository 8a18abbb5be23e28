//! Tests of the commands `plan` and `calc`.

use std::{fs, process::Command};

fn worker(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sealbus-worker"))
        .args(arguments)
        .env_remove("RUST_LOG")
        .output()
        .expect("starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

const EPYC: &str = "package:2 numa:1(memory=549755813888) l3:8 core:4 pu:2(indexes=core)";

#[test]
fn a_described_machine_is_planned_and_explained() {
    let plan = ["plan", "--sector-size", "32GiB", "--synthetic", EPYC, "--gpus", "2", "--time", "pc1=4h"];
    let (done, text, errors) = worker(&[&plan[..], &["--explain"]].concat());
    assert!(done, "{errors}");
    for expected in ["imagined", "given", "assumed", "pc1 processors", "One more", "16 L3 caches"] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    let (done, json, errors) = worker(&[&plan[..], &["--json"]].concat());
    assert!(done, "{errors}");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(json["steady"]["sectors_per_day"].as_f64().expect("a number") > 0.0);
}

#[test]
fn a_configuration_is_written_once() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("worker.toml");
    let (file, store) = (path.to_str().expect("text"), dir.path().to_str().expect("text"));
    let plan = ["plan", "--sector-size", "32GiB", "--synthetic", EPYC, "--gpus", "2", "--write", file];
    let whole = [&plan[..], &["--miner", "f01000", "--store", store, "--name", "w1"]].concat();
    let (done, _, errors) = worker(&whole);
    assert!(done && errors.contains("wrote"), "{errors}");
    let written = fs::read_to_string(&path).expect("written");
    assert!(written.contains("miners = [\"f01000\"]") && written.contains("cpus = "), "{written}");
    fs::write(&path, "mine").expect("writes");
    let (done, _, errors) = worker(&whole);
    assert!(!done && errors.contains("--force"), "{errors}");
    assert_eq!(fs::read_to_string(&path).expect("there"), "mine");
    assert!(worker(&[&whole[..], &["--force"]].concat()).0);
    assert_eq!(fs::read_to_string(&path).expect("there"), written);
    let (done, _, errors) = worker(&plan);
    assert!(!done && errors.contains("--store"), "{errors}");
}

#[test]
fn what_is_no_plain_file_is_never_replaced() {
    let dir = tempfile::tempdir().expect("directory");
    let device = dir.path().join("device");
    std::os::unix::fs::symlink("/dev/full", &device).expect("links");
    let file = device.to_str().expect("text");
    let plan = ["plan", "--sector-size", "32GiB", "--synthetic", EPYC, "--gpus", "2", "--force", "--write", file];
    let around = ["--miner", "f01000", "--store", "/mnt/store", "--name", "w1"];
    let (good, _, err) = worker(&[&plan[..], &around].concat());
    assert!(!good && err.contains("is no plain file"), "{err}");
    assert!(fs::symlink_metadata(&device).expect("is there").is_symlink());
}

#[test]
fn mistakes_are_named() {
    let plan = ["plan", "--sector-size", "32GiB", "--synthetic", EPYC];
    for (arguments, expected) in [
        (vec!["--time", "pc9=3h"], "\"pc9\" is no phase and no wait"),
        (vec!["--time", "pc1=3x"], "the time of pc1: \"3x\" is not a time"),
        (vec!["--gpus", "a,b"], "--gpus a: the machine has no such GPU"),
        (vec!["--need", "c2=much"], "--need"),
        (vec!["--slots-on", "/d", "--disk-bytes", "1GiB"], "no place has room"),
        (vec!["--slots-on", "/d", "--disk-bytes", "2TiB", "--slots", "9"], "--slots 9: there is room for 3"),
        (vec!["--memory", "16GiB"], "sorry"),
        (vec!["--gpus", "0,0"], "--gpus 0: the machine has no such GPU"),
        (vec!["--slots-on", "/d", "--slots-on", "/d/", "--disk-bytes", "2TiB"], "--slots-on /d/: is given twice"),
        (vec!["--gpus", ","], "write a number, or ids such as 0,1"),
        (vec!["--gpus", "65"], "at most 64 are planned for"),
        (vec!["--only", "tree_d"], "is none of pc1, pc2 and c2"),
        (vec!["--times", "/dev/zero"], "it has more than"),
        (vec!["--times", "/"], "--times /"),
    ] {
        let (done, _, errors) = worker(&[&plan[..], &arguments[..]].concat());
        assert!(!done && errors.contains(expected), "{arguments:?}: {errors}");
    }
}

#[test]
fn the_calculator_prints_a_table_or_values() {
    let calc =
        ["calc", "--slots", "4-8", "--pc1", "4x3h", "--pc2", "1x10m@gpu", "--c2", "1x10m@gpu", "--lock", "gpu=1"];
    let (done, table, errors) = worker(&calc);
    assert!(done, "{errors}");
    assert_eq!(table.lines().count(), 6, "{table}");
    let (done, csv, errors) = worker(&[&calc[..], &["--csv"]].concat());
    assert!(done && csv.starts_with("slots,sectors_per_day"), "{csv}{errors}");
    let (done, _, errors) = worker(&["calc", "--slots", "4", "--pc1", "4x3h@a", "--lock", "a=18446744073709551615"]);
    assert!(!done && errors.contains("1 to 10000 holders"), "{errors}");
    let (done, _, errors) = worker(&["calc", "--slots", "4", "--pc1", "4*3h"]);
    assert!(!done && errors.contains("--pc1") && errors.contains("there is no x"), "{errors}");
}
