//! Runs the built manager's commands for tests, and insists on how they end.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::cluster::own_binary;

/// Runs a command with this configuration.
pub fn command(config: &Path, arguments: &[&str]) -> Output {
    let program = own_binary("sealbus-manager").expect("built");
    let output = Command::new(program).args(arguments).arg("--config").arg(config).stdin(Stdio::null()).output();
    output.expect("runs")
}

/// Runs a command that must succeed, and returns what it prints.
pub fn done(config: &Path, arguments: &[&str]) -> String {
    let output = command(config, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command that must fail with this exit code, and say each of these words.
pub fn refused(config: &Path, arguments: &[&str], code: i32, words: &[&str]) {
    let output = command(config, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{arguments:?}: `{word}` is not in: {said}");
    }
}
