//! Tests of the `sealbus-devnet-params` command.

use std::process::Command;

use tempfile::tempdir;

#[test]
fn sectors_of_real_networks_are_refused_and_nothing_is_made() {
    let dir = tempdir().unwrap();
    let out = dir.path().join("params");
    let run = Command::new(env!("CARGO_BIN_EXE_sealbus-devnet-params"))
        .args(["--sector-size", "32GiB", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    let words = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(1), "{words}");
    assert!(words.contains("sealbus-worker params fetch"), "{words}");
    assert!(!out.exists());
}
