//! The example processor of docs/processors.md, which does nothing wrong.

use std::path::PathBuf;
use std::time::Duration;

use sealbus_schema::ErrorClass;
use sealbus_worker::processor::{GroupConfig, ProcessorPool};
use sealbus_worker::stage::Stage;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bench::{LONG, directory, group, pool};

/// Cargo puts examples beside the directory of this test's executable.
fn example() -> PathBuf {
    let own = std::env::current_exe().expect("own path");
    let built = own.ancestors().nth(2).expect("target directory").join("examples/processor");
    assert!(built.is_file(), "{} is not built: run `cargo build --workspace --all-targets`", built.display());
    built
}

fn serving(dir: &TempDir, command: &[&str], change: impl FnOnce(&mut GroupConfig)) -> ProcessorPool {
    let mut group = group(&["c2"]);
    group.bin = Some(example());
    group.args.extend(command.iter().map(|word| (*word).to_owned()));
    change(&mut group);
    pool(dir, vec![group])
}

#[tokio::test]
async fn it_hands_tasks_to_a_command_small_and_large() {
    let dir = directory();
    let pool = serving(&dir, &["cat"], |_| ());
    for text in ["small".to_owned(), "x".repeat(5_000_000)] {
        let task = Value::from(text);
        let output = pool.acquire(Stage::C2).await.expect("guard").run_value(task.clone()).await.expect("answered");
        assert!(output == task);
    }
    assert_eq!(std::fs::read_dir(dir.path().join("tmp/c2-0")).expect("list").count(), 0, "no file is left");
}

#[tokio::test]
async fn it_types_the_failures_of_the_command() {
    let dir = directory();
    for (script, code, class) in [
        ("exit 75", "COMMAND_FAILED", ErrorClass::Temp),
        ("exit 1", "COMMAND_FAILED", ErrorClass::Perm),
        ("echo rubbish", "COMMAND_NOT_RUN", ErrorClass::Crit),
    ] {
        let pool = serving(&dir, &["sh", "-c", script], |_| ());
        let error = pool.acquire(Stage::C2).await.expect("guard").run_value(json!({})).await.expect_err("fails");
        assert_eq!((error.code().as_str(), error.class()), (code, class));
    }
}

#[tokio::test]
async fn it_stops_a_request_that_takes_too_long_and_serves_on() {
    let dir = directory();
    let pool = serving(&dir, &["sh", "-c", "read -r task; [ \"$task\" = 1 ] && exec sleep 1000; echo 2"], |group| {
        group.timeout = Duration::from_secs(3);
        group.stop_timeout = LONG;
    });
    let mut guard = pool.acquire(Stage::C2).await.expect("guard");
    let error = guard.run_value(json!(1)).await.expect_err("too long");
    assert_eq!(error.code().as_str(), "PROCESSOR_TIMED_OUT");
    let pid = pool.snapshot()[0].pid;
    assert!(pid.is_some());
    assert_eq!(guard.run_value(json!(2)).await.expect("answered"), 2);
    assert_eq!(pool.snapshot()[0].pid, pid, "the same process");
}
