//! Executables that speak the damocles protocol, behind the built-in processor.

use std::fs;
use std::path::{Path, PathBuf};

use sealbus_schema::error::Exit;
use sealbus_schema::{ErrorClass, SealProof};
use sealbus_worker::processor::protocol::Failure;
use sealbus_worker::stage::{StageRequest, add_pieces, tree_d};
use serde_json::Value;

use crate::support::{Bench, SEED};

const SIZE: SealProof = SealProof::StackedDrg2KiBV1_1;

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/processor_v1.py")
}

/// A script that reports ready for tree D, and handles the first request with these commands.
fn scripted(bench: &Bench, request: &str) -> PathBuf {
    let tree = "\"$(dirname \"$0\")/tree\"";
    let dir = r#"$(printf '%s' "$line" | sed 's/.*"cache_dir":"\([^"]*\)".*/\1/')"#;
    let build = format!("cp {tree} \"{dir}/sc-02-data-tree-d.dat\"");
    let script = format!(
        "#!/bin/sh\nbuild() {{ {build}; }}\n{}",
        request.replace("READY", "echo 'tree_d processor ready'; read -r line")
    );
    executable(bench, "scripted.sh", &(script + "\n"))
}

/// Requests tree D. The built-in stage's own tree is moved away, and the script can find it as `tree`.
fn ask_scripted(script: &str) -> (Bench, Result<tree_d::Response, Failure>) {
    let bench = Bench::prepared(SIZE);
    fs::rename(bench.cache().join("sc-02-data-tree-d.dat"), bench.dir.path().join("tree")).expect("moved");
    let bin = scripted(&bench, script);
    let answer = ask(&bench, &bin, &[], &bench.tree_d());
    (bench, answer)
}

fn ask<R: StageRequest>(bench: &Bench, bin: &Path, args: &[&str], request: &R) -> Result<R::Response, Failure> {
    ask_with(bench, bin, &[], args, request)
}

fn ask_with<R: StageRequest>(
    bench: &Bench,
    bin: &Path,
    options: &[&str],
    args: &[&str],
    request: &R,
) -> Result<R::Response, Failure> {
    let mut all = vec!["--damocles", bin.to_str().expect("text")];
    all.extend(options);
    all.push("--");
    all.extend(args);
    bench.ask_by(&all, request)
}

/// An executable that saves the first request of a stage as `task-<stage>` and answers it.
fn answers(bench: &Bench, stage: &str, work: &str, answer: &str) -> PathBuf {
    let name = format!("answers-{stage}.sh");
    let script = format!(
        "#!/bin/sh\necho '{stage} processor ready'\nread -r line\nprintf '%s' \"$line\" > \"$(dirname \"$0\")/task-{stage}\"\n{work}\n\
         cat <<'END'\n{answer}\nEND\nread -r end\n"
    );
    executable(bench, &name, &script)
}

fn executable(bench: &Bench, name: &str, script: &str) -> PathBuf {
    let path = bench.dir.path().join(name);
    fs::write(&path, script).expect("written");
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("executable");
    path
}

/// The task that an executable of [`answers`] received.
fn task(bench: &Bench, stage: &str) -> Value {
    let line = fs::read(bench.dir.path().join(format!("task-{stage}"))).expect("a task");
    serde_json::from_slice::<Value>(&line).expect("json")["task"].take()
}

/// All values of `rows_to_discard` in a JSON value.
fn rows_in(value: &Value) -> Vec<u64> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| match (name.as_str(), value.as_u64()) {
                ("rows_to_discard", Some(rows)) => vec![rows],
                _ => rows_in(value),
            })
            .collect(),
        Value::Array(values) => values.iter().flat_map(rows_in).collect(),
        _ => Vec::new(),
    }
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
    assert!(failure.message.contains("cannot start /no/such/executable: No such file"), "{failure:?}");
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

/// PC1's files, and the answer that an old library gives for them: the built-in PC1's output with the old value in it.
fn answer_of_an_old_pc1(bench: &Bench) -> String {
    bench.ask(&bench.pc1()).expect("PC1");
    let path = bench.slot().join("pc1.json");
    let record: Value = serde_json::from_slice(&fs::read(&path).expect("record")).expect("json");
    fs::remove_file(path).expect("removed");
    let mut answer = record["output"].clone();
    answer["config"]["rows_to_discard"] = 3.into();
    serde_json::json!({ "id": 1, "output": answer }).to_string()
}

#[test]
fn the_answer_of_pc1_is_kept_and_reaches_pc2_as_it_was() {
    let bench = Bench::prepared(SIZE);
    let answer = answer_of_an_old_pc1(&bench);
    // PC1's layers still exist, as if the executable had made them.
    let copy = r#"cache=$(printf '%s' "$line" | sed 's/.*"cache_path":"\([^"]*\)".*/\1/'); cp "$(dirname "$0")"/layers/* "$cache""#;
    let layers = bench.dir.path().join("layers");
    fs::create_dir(&layers).expect("directory");
    for layer in ["sc-02-data-layer-1.dat", "sc-02-data-layer-2.dat"] {
        fs::copy(bench.cache().join(layer), layers.join(layer)).expect("copied");
    }
    ask(&bench, &answers(&bench, "pc1", copy, &answer), &[], &bench.pc1()).expect("PC1");
    let refuse = r#"{"id":1,"err_msg":"only looking"}"#;
    let pc2 = answers(&bench, "pc2", "", refuse);
    assert_eq!(ask(&bench, &pc2, &[], &bench.pc2()).expect_err("refused").code, "PROCESSOR_REFUSED");
    let theirs = serde_json::from_str::<Value>(&answer).expect("json")["output"].take();
    assert_eq!(task(&bench, "pc2")["pc1out"], theirs);
    // A configured number has priority, and the built-in PC2 uses its own library's number.
    ask_with(&bench, &pc2, &["--rows-to-discard", "5"], &[], &bench.pc2()).expect_err("refused");
    assert_eq!(rows_in(&task(&bench, "pc2")), [5, 5, 5]);
    bench.ask(&bench.pc2()).expect("PC2");
}

#[test]
fn pc2_after_the_built_in_pc1_is_told_what_a_library_before_17_demands() {
    let bench = Bench::prepared(SIZE);
    bench.ask(&bench.pc1()).expect("PC1");
    let refuse = r#"{"id":1,"err_msg":"only looking"}"#;
    ask(&bench, &answers(&bench, "pc2", "", refuse), &[], &bench.pc2()).expect_err("refused");
    // 64 leaves have 7 rows above them; all but the lowest and the root could be discarded.
    assert_eq!(rows_in(&task(&bench, "pc2")), [5, 5, 5]);
}

#[test]
fn a_torn_parent_cache_is_made_again_before_somebody_elses_pc1_and_one_that_changes_meanwhile_is_an_error() {
    let bench = Bench::prepared(SIZE);
    let answer = answer_of_an_old_pc1(&bench);
    let parents = bench.dir.path().join("parents");
    let cache = || {
        let mut entries = fs::read_dir(&parents).expect("list").map(|entry| entry.expect("entry").path());
        entries.find(|path| path.extension().is_some_and(|extension| extension == "cache")).expect("a cache")
    };
    let whole = fs::read(cache()).expect("cache");
    fs::remove_file(parents.join(".sealbus-2048.ready")).expect("removed");
    fs::write(cache(), vec![0; whole.len()]).expect("torn");
    ask(&bench, &answers(&bench, "pc1", "", &answer), &[], &bench.pc1()).expect("PC1 after layers that are whole");
    assert!(fs::read(cache()).expect("cache") == whole, "made again");

    fs::remove_file(bench.slot().join("pc1.json")).expect("removed");
    let spoil = format!("printf torn > '{}'", cache().display());
    let failure = ask(&bench, &answers(&bench, "pc1", &spoil, &answer), &[], &bench.pc1()).expect_err("changed");
    assert_eq!((failure.code.as_str(), failure.class), ("CHECKSUM_MISMATCH", ErrorClass::Temp));
    assert!(fs::read(cache()).expect("cache") == whole, "made again");
    assert!(!bench.slot().join("labels.json").exists() && !bench.slot().join("pc1.json").exists(), "nothing is kept");

    bench.ask(&bench.pc1()).expect("PC1");
    fs::remove_file(bench.slot().join("pc1.json")).expect("removed");
    fs::remove_dir_all(&parents).expect("removed");
    let without = answers(&bench, "pc1", "", &answer);
    ask_with(&bench, &without, &["--own-parents"], &[], &bench.pc1()).expect("PC1 without a parent cache");
    assert!(!parents.exists(), "nobody made one");
}

#[test]
fn an_executable_that_is_not_ready_in_time_or_ends_is_told_with_its_name_and_its_end() {
    let bench = Bench::prepared(SIZE);
    fs::remove_file(bench.cache().join("sc-02-data-tree-d.dat")).expect("removed");
    let mute = executable(&bench, "mute.sh", "#!/bin/sh\nread -r line\nread -r line\n");
    let failure = ask_with(&bench, &mute, &["--stable-wait-ms", "300"], &[], &bench.tree_d()).expect_err("late");
    assert_eq!((failure.code.as_str(), failure.class), ("PROCESSOR_TIMED_OUT", ErrorClass::Temp));
    assert!(failure.message.contains("mute.sh did not say \"tree_d processor ready\" within 0.3 s"), "{failure:?}");
    let (_, answer) = ask_scripted("READY; exit 3");
    assert_eq!(answer.expect_err("died").exit, Some(Exit::Status(3)));
    let (_, answer) = ask_scripted("READY; kill -9 $$");
    assert_eq!(answer.expect_err("died").exit, Some(Exit::Signal(9)));
}

#[test]
fn what_an_executable_starts_in_a_session_of_its_own_with_an_empty_environment_ends_with_it() {
    let leave = "READY; setsid env -i sh -c 'sleep 1000 & echo $! > \"$0\"; wait' \"$(dirname \"$0\")/pid\" </dev/null >/dev/null 2>&1 & \
                 while ! [ -s \"$(dirname \"$0\")/pid\" ]; do sleep 0.01; done; exit 3";
    let bench = Bench::prepared(SIZE);
    fs::rename(bench.cache().join("sc-02-data-tree-d.dat"), bench.dir.path().join("tree")).expect("moved");
    let bin = scripted(&bench, leave);
    let mut processor =
        bench.processor_by(&["--damocles", bin.to_str().expect("text")], sealbus_worker::stage::Stage::TreeD);
    processor.send(&bench.tree_d());
    assert!(processor.line().contains("PROCESSOR_DIED"));
    // The answer comes only when every process is dead, so nothing works on the sector's files any more.
    let pid = fs::read_to_string(bench.dir.path().join("pid")).expect("pid");
    let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z"), "{state}");
}
