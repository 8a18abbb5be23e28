//! One request on the misbehaving processor, and one on a second processor beside it.

use std::time::Duration;

use sealbus_schema::ErrorClass;
use sealbus_schema::error::Exit;
use sealbus_worker::processor::{GroupConfig, ProcessError};
use sealbus_worker::stage::Stage;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bench::{Gate, dies, directory, group, pids_in, pool};

/// Runs `task`, which fails, on one processor while its neighbour works on something else. Then both must still take
/// requests.
async fn fail(dir: &TempDir, group_of_one: GroupConfig, task: Value) -> ProcessError {
    let pool = pool(dir, vec![group_of_one, group(&[])]);
    let mut bad = pool.acquire(Stage::C2).await.expect("guard");
    let mut neighbour = pool.acquire(Stage::C2).await.expect("guard");
    assert_eq!((bad.id(), neighbour.id()), ("c2-0", "c2-1"));
    let gate = Gate::new(dir, "neighbour");
    let beside = gate.task("wait");
    let working = tokio::spawn(async move { neighbour.run_value(beside).await });
    gate.begun().await;

    let error = bad.run_value(task).await.expect_err("fails");
    assert_eq!(error.processor, "c2-0");
    let again = bad.run_value(json!({ "do": "echo" })).await.expect("the next request is served");
    assert_eq!(again["do"], "echo");

    assert!(!working.is_finished());
    gate.open();
    working.await.expect("joined").expect("the neighbour went on");
    error
}

async fn fail_at(what: &str) -> ProcessError {
    fail(&directory(), group(&[]), json!({ "do": what })).await
}

fn told(error: &ProcessError) -> (String, ErrorClass) {
    (error.code().to_string(), error.class())
}

fn died() -> (String, ErrorClass) {
    ("PROCESSOR_DIED".to_owned(), ErrorClass::Temp)
}

fn timed_out() -> (String, ErrorClass) {
    ("PROCESSOR_TIMED_OUT".to_owned(), ErrorClass::Temp)
}

fn broke_protocol() -> (String, ErrorClass) {
    ("PROCESSOR_PROTOCOL".to_owned(), ErrorClass::Perm)
}

#[tokio::test]
async fn a_crash_is_told_with_its_signal_and_an_exit_with_its_status_and_last_words() {
    let error = fail_at("crash").await;
    assert_eq!((told(&error), error.exit), (died(), Some(Exit::Signal(11))));
    let error = fail_at("exit").await;
    assert_eq!((told(&error), error.exit), (died(), Some(Exit::Status(3))));
    assert_eq!(error.stderr_tail, ["no licence"]);
}

#[tokio::test]
async fn a_hang_ends_at_its_time_limit_also_if_sigterm_is_ignored() {
    for args in [&[][..], &["--deaf"]] {
        let dir = directory();
        let mut short = group(args);
        short.timeout = Duration::from_secs(2);
        let error = fail(&dir, short, json!({ "do": "hang" })).await;
        assert_eq!((told(&error), error.exit), (timed_out(), None));
    }
}

#[tokio::test]
async fn rubbish_and_invalid_utf8_on_stdout_are_no_answers() {
    for what in ["rubbish", "bytes"] {
        assert_eq!(told(&fail_at(what).await), broke_protocol(), "{what}");
    }
}

#[tokio::test]
async fn half_a_line_is_no_answer_whether_the_process_ends_or_hangs() {
    assert_eq!(told(&fail_at("half").await), died());
    let mut short = group(&[]);
    short.timeout = Duration::from_secs(2);
    assert_eq!(told(&fail(&directory(), short, json!({ "do": "half and hang" })).await), timed_out());
}

#[tokio::test]
async fn an_answer_to_a_request_that_was_never_made_ends_the_process() {
    assert_eq!(told(&fail_at("other").await), broke_protocol());
}

#[tokio::test]
async fn a_hundred_megabytes_in_one_line_are_not_taken_in() {
    assert_eq!(told(&fail_at("big").await), broke_protocol());
}

#[tokio::test]
async fn a_closed_stdout_counts_as_an_end() {
    assert_eq!(told(&fail_at("close").await), died());
}

#[tokio::test]
async fn children_that_are_left_behind_are_killed_also_in_a_session_of_their_own() {
    let dir = directory();
    let pids = dir.path().join("pids");
    let error = fail(&dir, group(&[]), json!({ "do": "children", "pids": pids })).await;
    assert_eq!((told(&error), error.exit), (died(), Some(Exit::Status(0))));
    for pid in pids_in(&pids) {
        dies(pid).await;
    }
}

#[tokio::test]
async fn children_of_a_processor_that_is_not_needed_any_more_are_killed_with_it() {
    let dir = directory();
    let pids = dir.path().join("pids");
    let pool = pool(&dir, vec![group(&[])]);
    let mut guard = pool.acquire(Stage::C2).await.expect("guard");
    guard.run_value(json!({ "do": "children and answer", "pids": pids })).await.expect("answered");
    drop((guard, pool));
    for pid in pids_in(&pids) {
        dies(pid).await;
    }
}

#[tokio::test]
async fn an_unknown_code_is_kept_as_a_name_and_an_unknown_class_is_for_a_person() {
    for (class, expected) in [("abort", ErrorClass::Abort), ("solar_flare", ErrorClass::Perm)] {
        let error = fail(&directory(), group(&[]), json!({ "do": "odd error", "class": class })).await;
        assert_eq!(told(&error), ("GPU_LOST_".to_owned(), expected));
        assert!(error.to_string().contains("card 3 fell off the bus"), "{error}");
    }
    // A class that is not a string does not violate the protocol.
    let error = fail(&directory(), group(&[]), json!({ "do": "odd error", "class": 7 })).await;
    assert_eq!(told(&error), broke_protocol());
}

#[tokio::test]
async fn a_late_answer_is_dropped_and_the_process_that_stopped_serves_on() {
    for what in ["late", "obey"] {
        let dir = directory();
        let mut short = group(&["--features", "cancel"]);
        short.timeout = Duration::from_secs(2);
        short.stop_timeout = crate::bench::LONG;
        let pool = pool(&dir, vec![short]);
        let mut guard = pool.acquire(Stage::C2).await.expect("guard");
        guard.run_value(json!({ "do": "echo" })).await.expect("answered");
        let pid = pool.snapshot()[0].pid;
        let error = guard.run_value(json!({ "do": what })).await.expect_err("too late");
        assert_eq!(told(&error), timed_out(), "{what}");
        guard.run_value(json!({ "do": "echo" })).await.expect("answered");
        assert_eq!(pool.snapshot()[0].pid, pid, "{what}");
    }
}

#[tokio::test]
async fn a_process_that_has_promised_signs_of_life_and_gives_none_is_killed() {
    let mut group = group(&["--features", "heartbeat"]);
    group.silence_timeout = Duration::from_secs(4);
    let error = fail(&directory(), group, json!({ "do": "freeze" })).await;
    assert_eq!(told(&error), timed_out());
    assert!(error.to_string().contains("sign of life"), "{error}");
}
