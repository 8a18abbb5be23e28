//! Large values in files, and the measured cost of requests.

use std::time::Duration;

use sealbus_worker::processor::protocol::AnswerResult;
use sealbus_worker::processor::running::{Limits, Running};
use sealbus_worker::processor::{ProcessFailure, running::Outcome};
use serde_json::{Value, json};

use crate::bench::{ask, directory, start};

const FILES: &[&str] = &["--features", "files,concurrent"];

fn output(outcome: Outcome) -> Value {
    match outcome.expect("answered").result {
        AnswerResult::Output(output) => output,
        AnswerResult::Error(failure) => panic!("{failure:?}"),
    }
}

async fn files_left(running: &Running) -> Value {
    output(ask(running, json!({ "do": "list" })).await)
}

#[tokio::test]
async fn a_large_task_goes_through_a_file_to_a_child_that_reads_files_and_through_the_pipe_to_others() {
    let text = "x".repeat(5_000_000);
    for args in [FILES, &[]] {
        let dir = directory();
        let running = start(&dir, args, Limits::default()).await;
        let length = output(ask(&running, json!({ "do": "length", "text": text })).await);
        assert_eq!(length, 5_000_000);
        assert_eq!(files_left(&running).await, json!([]), "the file is gone");
    }
}

#[tokio::test]
async fn an_output_is_taken_out_of_a_file_which_is_gone_afterwards() {
    let dir = directory();
    let running = start(&dir, FILES, Limits::default()).await;
    let text = output(ask(&running, json!({ "do": "file", "bytes": 20_000_000 })).await);
    assert_eq!(text.as_str().map(str::len), Some(20_000_000));
    assert_eq!(files_left(&running).await, json!([]));
}

#[tokio::test]
async fn a_file_elsewhere_or_beyond_the_limit_is_not_read() {
    let dir = directory();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "\"secret\"").expect("written");
    for task in [
        json!({ "do": "file", "dir": dir.path() }),
        json!({ "do": "file", "target": secret }),
        json!({ "do": "file", "bytes": 2000 }),
    ] {
        let dir = directory();
        let running = start(&dir, FILES, Limits { file_bytes: 1000, ..Limits::default() }).await;
        let ended = ask(&running, task.clone()).await.expect_err("refused");
        assert!(matches!(ended.failure, ProcessFailure::BadFile(_)), "{task}: {ended:?}");
    }
    assert!(secret.exists());
}

#[tokio::test]
async fn what_a_request_cost_is_told_with_its_answer() {
    let dir = directory();
    let running = start(&dir, FILES, Limits::default()).await;
    let bytes = 64 << 20;
    let spun = ask(&running, json!({ "do": "spin", "seconds": 0.5, "bytes": bytes })).await.expect("answered");
    assert!(spun.usage.cpu_user + spun.usage.cpu_system >= Duration::from_millis(400), "{:?}", spun.usage);
    assert!(spun.usage.peak_rss_bytes >= bytes, "{:?}", spun.usage);
    let idle = ask(&running, json!({ "do": "echo" })).await.expect("answered");
    assert!(idle.usage.cpu_user < spun.usage.cpu_user, "{:?}", idle.usage);
    assert!(idle.usage.peak_rss_bytes < spun.usage.peak_rss_bytes, "{:?}", idle.usage);
}
