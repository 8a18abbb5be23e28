//! Starts that fail.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use sealbus_schema::ErrorClass;
use sealbus_schema::error::Exit;
use sealbus_worker::processor::running::descendants::VARIABLE;
use sealbus_worker::processor::spawner::Spawner;
use sealbus_worker::processor::{GroupConfig, ProcessError};
use sealbus_worker::stage::Stage;
use serde_json::json;

use crate::bench::{dies, directory, eventually, group, is_alive, pool};

/// The first start fails in this way, the next one succeeds.
async fn greet(how: &str, change: impl FnOnce(&mut GroupConfig)) -> ProcessError {
    let dir = directory();
    let once = dir.path().join("once").display().to_string();
    let mut group = group(&["--greet", how, "--once", &once]);
    change(&mut group);
    let pool = pool(&dir, vec![group]);
    let mut guard = pool.acquire(Stage::C2).await.expect("guard");
    let error = guard.run_value(json!({ "do": "echo" })).await.expect_err("fails");
    guard.run_value(json!({ "do": "echo" })).await.expect("the next start is a good one");
    error
}

#[tokio::test]
async fn an_exit_at_the_handshake_is_a_death() {
    let error = greet("exit", |_| ()).await;
    assert_eq!((error.code().as_str(), error.class()), ("PROCESSOR_DIED", ErrorClass::Temp));
    assert_eq!((error.exit, error.stderr_tail), (Some(Exit::Status(3)), vec!["no licence".to_owned()]));
    let error = greet("half", |_| ()).await;
    assert_eq!((error.code().as_str(), error.exit), ("PROCESSOR_DIED", Some(Exit::Status(0))));
}

#[tokio::test]
async fn a_wrong_greeting_breaks_the_protocol() {
    for how in ["wrong", "old", "long"] {
        let error = greet(how, |_| ()).await;
        assert_eq!((error.code().as_str(), error.class()), ("PROCESSOR_PROTOCOL", ErrorClass::Perm), "{how}");
    }
}

#[tokio::test]
async fn no_greeting_at_all_is_given_up_in_time() {
    let error = {
        let dir = directory();
        let once = dir.path().join("once").display().to_string();
        let mut silent = group(&["--greet", "silent", "--once", &once]);
        silent.start_timeout = Duration::from_secs(2);
        let pool = pool(&dir, vec![silent]);
        let mut guard = pool.acquire(Stage::C2).await.expect("guard");
        guard.run_value(json!({ "do": "echo" })).await.expect_err("fails")
    };
    assert_eq!((error.code().as_str(), error.class()), ("PROCESSOR_TIMED_OUT", ErrorClass::Temp));
}

#[tokio::test]
async fn an_executable_that_is_not_there_is_told_as_such_also_through_the_wrapper() {
    let dir = directory();
    let mut missing = group(&[]);
    missing.bin = Some("/no/such/processor".into());
    missing.wrapper = Some(env!("CARGO_BIN_EXE_sealbus-worker").into());
    let pool = pool(&dir, vec![missing]);
    let mut guard = pool.acquire(Stage::C2).await.expect("guard");
    let error = guard.run_value(json!({})).await.expect_err("fails");
    assert_eq!((error.code().as_str(), error.class()), ("PROCESSOR_START_FAILED", ErrorClass::Crit));
    assert!(error.to_string().contains("/no/such/processor"), "{error}");
}

#[tokio::test]
async fn an_executable_started_through_the_wrapper_serves_and_keeps_its_process_id() {
    let dir = directory();
    let mut wrapped = group(&[]);
    wrapped.wrapper = Some(env!("CARGO_BIN_EXE_sealbus-worker").into());
    let pool = pool(&dir, vec![wrapped]);
    let mut guard = pool.acquire(Stage::C2).await.expect("guard");
    guard.run_value(json!({ "do": "echo" })).await.expect("answered");
    let pid = pool.snapshot()[0].pid.expect("a process");
    let name = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("command line");
    assert!(name.contains("processor.py") && !name.contains("exec-child"), "{name}");
}

#[tokio::test]
async fn an_executable_started_through_the_wrapper_dies_with_a_parent_that_is_killed() {
    let mut parent = Command::new("sh")
        .args(["-c", "SEALBUS_PARENT_PID=$$ \"$0\" exec-child -- sleep 1000 & echo $!; wait"])
        .arg(env!("CARGO_BIN_EXE_sealbus-worker"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("shell");
    let mut line = String::new();
    BufReader::new(parent.stdout.take().expect("stdout")).read_line(&mut line).expect("process id");
    let pid: u32 = line.trim().parse().expect("process id");
    let is_sleep = || std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.starts_with(b"sleep"));
    eventually("the executable itself", is_sleep).await;
    parent.kill().expect("kill");
    parent.wait().expect("wait");
    dies(pid).await;
}

#[tokio::test]
async fn what_a_killed_worker_left_behind_is_killed_at_the_next_start() {
    let link = std::fs::read_link("/proc/self/ns/pid").expect("namespace").display().to_string();
    let namespace = link.trim_start_matches("pid:[").trim_end_matches(']');
    let sleep = |mark: String| {
        Command::new("sleep").arg("1000").env(VARIABLE, mark).stdout(Stdio::null()).spawn().expect("sleep")
    };
    // No process has such a high pid.
    let mut left = sleep(format!("{namespace}.4294967294.1.0"));
    let mut elsewhere = sleep("1.4294967294.1.0".to_owned());
    let _spawner = Spawner::start().expect("spawner");
    dies(left.id()).await;
    // In this test it was our own child, so it has already been reaped.
    let _ = left.wait();
    assert!(is_alive(elsewhere.id()), "process ids of another namespace mean nothing here");
    elsewhere.kill().expect("kill");
    elsewhere.wait().expect("wait");
}
