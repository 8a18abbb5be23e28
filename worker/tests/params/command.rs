//! Tests of the `sealbus-worker params` command.

use std::process::Command;

#[test]
fn who_asks_the_worker_for_devnet_parameters_is_told_what_makes_them() {
    let asked = ["params", "devnet", "--sector-size", "2KiB", "--out", "/nowhere"];
    let run = Command::new(env!("CARGO_BIN_EXE_sealbus-worker")).args(asked).output().unwrap();
    let words = String::from_utf8(run.stderr).unwrap();
    assert!(!run.status.success() && words.contains("`sealbus-devnet-params`"), "{words}");
}
