//! Executables that speak the protocol of damocles, behind the built-in processor that stands between.

use std::fs;
use std::path::{Path, PathBuf};

use sealbus_schema::{ErrorClass, SealProof};
use sealbus_worker::processor::protocol::Failure;
use sealbus_worker::stage::{StageRequest, add_pieces, tree_d};

use crate::support::{Bench, SEED};

const SIZE: SealProof = SealProof::StackedDrg2KiBV1_1;

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/processor_v1.py")
}

/// A script that says it is ready for tree D, and does this with the first request.
fn scripted(bench: &Bench, request: &str) -> PathBuf {
    let tree = "\"$(dirname \"$0\")/tree\"";
    let dir = r#"$(printf '%s' "$line" | sed 's/.*"cache_dir":"\([^"]*\)".*/\1/')"#;
    let build = format!("cp {tree} \"{dir}/sc-02-data-tree-d.dat\"");
    let script = format!(
        "#!/bin/sh\nbuild() {{ {build}; }}\n{}",
        request.replace("READY", "echo 'tree_d processor ready'; read -r line")
    );
    let path = bench.dir.path().join("scripted.sh");
    fs::write(&path, script + "\n").expect("written");
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("executable");
    path
}

/// Asks for tree D, with that of the built-in stage taken away; the script finds it as `tree`.
fn ask_scripted(script: &str) -> (Bench, Result<tree_d::Response, Failure>) {
    let bench = Bench::prepared(SIZE);
    fs::rename(bench.cache().join("sc-02-data-tree-d.dat"), bench.dir.path().join("tree")).expect("moved");
    let bin = scripted(&bench, script);
    let answer = ask(&bench, &bin, &[], &bench.tree_d());
    (bench, answer)
}

fn ask<R: StageRequest>(bench: &Bench, bin: &Path, args: &[&str], request: &R) -> Result<R::Response, Failure> {
    let mut all = vec!["--damocles", bin.to_str().expect("text"), "--stable-wait-ms", "100", "--"];
    all.extend(args);
    bench.ask_by(&all, request)
}

fn refused(script: &str) -> (String, ErrorClass) {
    let (bench, answer) = ask_scripted(script);
    let failure = answer.expect_err("fails");
    assert!(!bench.cache().join("sc-02-data-tree-d.dat").exists(), "nothing has its final name");
    (failure.code, failure.class)
}

fn broke_protocol() -> (String, ErrorClass) {
    ("PROCESSOR_PROTOCOL".to_owned(), ErrorClass::Perm)
}

#[test]
fn the_example_in_python_builds_the_tree_of_the_library() {
    let bench = Bench::prepared(SIZE);
    let path = bench.cache().join("sc-02-data-tree-d.dat");
    let whole = fs::read(&path).expect("tree");
    fs::remove_file(&path).expect("removed");
    let answer = ask(&bench, &example(), &["tree_d"], &bench.tree_d()).expect("tree D");
    assert!(fs::read(&path).expect("tree") == whole);
    assert_eq!(answer, bench.ask(&bench.tree_d()).expect("tree D"));
}

#[test]
fn an_answer_is_taken_after_noise_and_a_wrong_tree_is_not() {
    let (bench, answer) = ask_scripted(
        "READY; build; echo 'GPU 0: 43 C'; echo '{\"id\":1,\"err_msg\":null,\"output\":true}'; read -r end",
    );
    answer.expect("tree D");
    bench.ask(&bench.pc1()).expect("PC1 on it");
    let torn = "READY; build; printf 'x' | dd of=\"$DIR\" bs=1 seek=100 conv=notrunc 2>/dev/null; \
                echo '{\"id\":1,\"output\":true}'; read -r end";
    let dir = r#"$(printf '%s' "$line" | sed 's/.*"cache_dir":"\([^"]*\)".*/\1/')/sc-02-data-tree-d.dat"#;
    assert_eq!(refused(&torn.replace("$DIR", dir)), ("COMM_D_MISMATCH".to_owned(), ErrorClass::Perm));
}

#[test]
fn what_it_says_and_does_wrong_has_class_and_code() {
    assert_eq!(
        refused("READY; echo '{\"id\":1,\"err_msg\":\"no GPU\",\"output\":null}'; read -r end"),
        ("PROCESSOR_REFUSED".to_owned(), ErrorClass::Perm)
    );
    assert_eq!(refused("READY; echo '{\"id\":1,\"output\":false}'; read -r end").0, "PROCESSOR_REFUSED");
    for script in [
        "READY; echo '{\"id\":1}'; read -r end",
        "READY; echo '{\"id\":1,\"output\":\"yes\"}'; read -r end",
        "READY; echo '{\"id\":1,\"output\":true}'; read -r end",
        "READY; echo '{\"id\":7,\"output\":true}'; read -r end",
        "READY; echo 'loading {\"id\":1,\"output\":true}'; read -r end",
        "echo 'c2 processor ready'; read -r end",
        "echo '{\"sealbus_processor\":2,\"stage\":\"tree_d\",\"pid\":1}'; read -r end",
    ] {
        assert_eq!(refused(script), broke_protocol(), "{script}");
    }
    for script in ["exit 3", "READY; exit 3", "READY; printf '{\"id\":1,'; exit 0", "READY; sleep 5 & exit 3"] {
        assert_eq!(refused(script), ("PROCESSOR_DIED".to_owned(), ErrorClass::Temp), "{script}");
    }
}

#[test]
fn an_executable_that_changes_its_input_is_found_out() {
    let write = r#"printf x >> "$(printf '%s' "$line" | sed 's/.*"staged_file":"\([^"]*\)".*/\1/')""#;
    let script = format!("READY; build; {write}; echo '{{\"id\":1,\"output\":true}}'; read -r end");
    assert_eq!(refused(&script), broke_protocol());
}

#[test]
fn one_that_cannot_be_started_and_stages_that_are_not_served_are_told() {
    let bench = Bench::prepared(SIZE);
    fs::remove_file(bench.cache().join("sc-02-data-tree-d.dat")).expect("removed");
    let failure = ask(&bench, Path::new("/no/such/executable"), &[], &bench.tree_d()).expect_err("fails");
    assert_eq!((failure.code.as_str(), failure.class), ("PROCESSOR_START_FAILED", ErrorClass::Crit));
    let c1 = bench.c1(sealbus_schema::Commitment([1; 32]), SEED);
    assert_eq!(ask(&bench, &example(), &["c1"], &c1).expect_err("fails").code, "REQUEST_INVALID");
}

#[test]
fn pieces_of_zeros_are_staged_by_it_under_a_temporary_name() {
    let bench = Bench::prepared(SIZE);
    let before = fs::read(bench.slot().join("unsealed")).expect("unsealed");
    fs::remove_file(bench.slot().join("unsealed")).expect("removed");
    let commitment = bench.pieces[0].commitment.0;
    let answer = serde_json::json!({ "id": 1, "output": [{ "commitment": commitment, "size": 2032 }] });
    let script = format!(
        "echo 'add_pieces processor ready'; read -r line; \
         path=$(printf '%s' \"$line\" | sed 's/.*\"staged_filepath\":\"\\([^\"]*\\)\".*/\\1/'); \
         head -c 2048 /dev/zero > \"$path\"; echo '{answer}'; read -r end"
    );
    let bin = scripted(&bench, &script);
    let request = add_pieces::Request::committed_capacity(bench.slot(), SIZE);
    assert_eq!(ask(&bench, &bin, &[], &request).expect("pieces").pieces, bench.pieces);
    assert!(fs::read(bench.slot().join("unsealed")).expect("unsealed") == before);
}
