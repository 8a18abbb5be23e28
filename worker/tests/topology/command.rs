//! Tests of the `sealbus-worker topology` command.

use std::process::{Command, Output};

use sealbus_worker::topology::{Machine, Source, load};

use super::{assert_whole, file};

fn topology(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealbus-worker"));
    command.arg("topology").args(arguments).output().expect("run")
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

#[test]
fn the_tree_is_for_people_and_the_json_is_the_machine() {
    let text = stdout(&topology(&[]));
    assert!(text.starts_with("this machine: ") && text.contains("\npackage 0\n"), "{text}");
    let json = stdout(&topology(&["--json"]));
    let machine: Machine = serde_json::from_str(&json).expect("a machine");
    assert_whole(&machine);
    // The number of free huge pages may change; the rest does not.
    assert_eq!(machine.cores, load(Source::ThisMachine).expect("machine").cores);
}

#[test]
fn what_is_exported_is_read_again() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("machine.xml");
    let path = path.to_str().expect("a path");
    for source in [&[][..], &["--synthetic", "package:2 l3:2 core:4 pu:2"], &["--xml", "restricted"]] {
        let restricted = file("restricted.xml");
        let restricted = restricted.to_str().expect("a path");
        let source: Vec<&str> = source.iter().map(|it| if *it == "restricted" { restricted } else { it }).collect();
        let first = stdout(&topology(&[&source[..], &["--json", "--export-xml", path]].concat()));
        let again = stdout(&topology(&["--json", "--xml", path]));
        let parse = |json: &str| serde_json::from_str::<Machine>(json).expect("a machine");
        let (first, again) = (parse(&first), parse(&again));
        assert_eq!((first.cores, first.caches, first.gpus), (again.cores, again.caches, again.gpus));
        assert_eq!((first.present, first.nodes_present), (again.present, again.nodes_present));
    }
}

#[test]
fn a_machine_can_be_looked_at_as_if_less_were_given() {
    let text = stdout(&topology(&["--synthetic", "l3:2 core:2 pu:2", "--cpus", "2-7"]));
    assert!(text.contains("L3 16 MiB: core 0, threads 2-3 (1 of its 2 cores)"), "{text}");
    assert!(text.ends_with("not for the worker, by its cpuset or affinity: threads 0-1\n"), "{text}");
    let output = topology(&["--synthetic", "pu:2", "--cpus", "2"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
}

#[test]
fn a_wrong_description_is_one_error_on_stderr_and_the_library_is_silent() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("machine.xml");
    let whole = std::fs::read_to_string(file("uneven.xml")).expect("file");
    // Two cores claim the same place. Without our checks the library would complain on stderr.
    let text = whole.replace("0x00000101", "0x00001010");
    std::fs::write(&path, text).expect("file");
    for arguments in [["--xml", path.to_str().expect("a path")], ["--synthetic", "core:2 quark:3"]] {
        let output = topology(&arguments);
        let stderr = String::from_utf8(output.stderr).expect("text");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{stderr}");
        assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{stderr}");
    }
}
