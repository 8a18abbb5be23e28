//! Several requests on one process.

use std::sync::Arc;
use std::time::Duration;

use sealbus_schema::ErrorClass;
use sealbus_worker::processor::protocol::AnswerResult;
use sealbus_worker::processor::running::{AskOptions, Ended, Limits, Outcome, Running};
use sealbus_worker::processor::{ProcessError, ProcessFailure};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::bench::{Gate, LONG, ask, dies, directory, start, task};

const ALL: &[&str] = &["--features", "progress,cancel,concurrent,files"];
const NO_CANCEL: &[&str] = &["--features", "progress,concurrent,files"];

fn patient() -> Limits {
    Limits { stop: LONG, ..Limits::default() }
}

fn spawn(running: &Arc<Running>, task: Value) -> JoinHandle<Outcome> {
    let running = Arc::clone(running);
    tokio::spawn(async move { ask(&running, task).await })
}

fn output(outcome: Outcome) -> Value {
    match outcome.expect("answered").result {
        AnswerResult::Output(output) => output,
        AnswerResult::Error(failure) => panic!("{failure:?}"),
    }
}

/// The failure as the pool reports it.
fn told(ended: Ended) -> (String, ErrorClass) {
    let Ended { failure, exit, stderr_tail } = ended;
    let error = ProcessError { processor: "c2-0".into(), failure, exit, stderr_tail };
    (error.code().to_string(), error.class())
}

#[tokio::test]
async fn answers_reach_whoever_asked_in_whatever_order_they_come() {
    let dir = directory();
    let running = Arc::new(start(&dir, ALL, patient()).await);
    let gates: Vec<Gate> = (0..3).map(|number| Gate::new(&dir, &number.to_string())).collect();
    let mut asking = Vec::new();
    for gate in &gates {
        asking.push(spawn(&running, gate.task("wait")));
        gate.begun().await;
    }
    assert_eq!(output(ask(&running, json!({ "do": "echo", "x": 7 })).await)["x"], 7);
    for (gate, asked) in gates.iter().zip(asking).rev() {
        assert!(!asked.is_finished());
        gate.open();
        assert_eq!(output(asked.await.expect("joined")), gate.task("wait"));
    }
}

#[tokio::test]
async fn a_death_fails_all_that_the_process_worked_on() {
    let dir = directory();
    let running = Arc::new(start(&dir, ALL, patient()).await);
    let gate = Gate::new(&dir, "beside");
    let beside = spawn(&running, gate.task("wait"));
    gate.begun().await;
    let ended = ask(&running, json!({ "do": "exit" })).await.expect_err("died");
    assert_eq!(ended.stderr_tail, ["no licence"]);
    assert_eq!(told(ended), ("PROCESSOR_DIED".to_owned(), ErrorClass::Temp));
    assert_eq!(told(beside.await.expect("joined").expect_err("died")).0, "PROCESSOR_DIED");
    assert!(!running.ready().await);
    assert_eq!(told(ask(&running, json!({ "do": "echo" })).await.expect_err("over")).0, "PROCESSOR_DIED");
}

#[tokio::test]
async fn a_time_limit_of_one_leaves_those_beside_it_alone_if_the_child_obeys() {
    let dir = directory();
    let running = Arc::new(start(&dir, ALL, patient()).await);
    let gate = Gate::new(&dir, "beside");
    let beside = spawn(&running, gate.task("wait"));
    gate.begun().await;
    let options = AskOptions { limit: Duration::from_millis(300), progress: None };
    let ended = running.ask(task(json!({ "do": "obey" })), options).await.expect_err("too late");
    assert_eq!(told(ended), ("PROCESSOR_TIMED_OUT".to_owned(), ErrorClass::Temp));
    assert!(running.ready().await && !beside.is_finished());
    gate.open();
    output(beside.await.expect("joined"));
}

#[tokio::test]
async fn a_dropped_request_leaves_those_beside_it_alone_if_the_child_obeys() {
    let dir = directory();
    let running = Arc::new(start(&dir, ALL, patient()).await);
    let gate = Gate::new(&dir, "beside");
    let beside = spawn(&running, gate.task("wait"));
    gate.begun().await;
    let stopped = Gate::new(&dir, "stopped");
    let dropped = spawn(&running, stopped.task("obey"));
    stopped.begun().await;
    dropped.abort();
    assert!(dropped.await.expect_err("aborted").is_cancelled());
    assert!(running.ready().await && !beside.is_finished());
    gate.open();
    output(beside.await.expect("joined"));
}

#[tokio::test]
async fn a_child_that_does_not_stop_is_killed_after_its_grace_and_those_beside_may_try_again() {
    for args in [ALL, NO_CANCEL] {
        let dir = directory();
        let limits = Limits { stop: Duration::from_secs(1), ..Limits::default() };
        let running = Arc::new(start(&dir, args, limits).await);
        let pid = running.pid().expect("a process");
        let gate = Gate::new(&dir, "beside");
        let beside = spawn(&running, gate.task("wait"));
        gate.begun().await;
        let options = AskOptions { limit: Duration::from_millis(300), progress: None };
        let ended = running.ask(task(json!({ "do": "hang" })), options).await.expect_err("too late");
        assert_eq!(told(ended).0, "PROCESSOR_TIMED_OUT");
        let beside = beside.await.expect("joined").expect_err("killed");
        assert!(matches!(beside.failure, ProcessFailure::Stopped), "{beside:?}");
        assert_eq!(told(beside), ("PROCESSOR_DIED".to_owned(), ErrorClass::Temp));
        assert!(!running.ready().await);
        dies(pid).await;
    }
}

#[tokio::test]
async fn without_cancel_the_process_goes_when_the_last_that_is_wanted_has_ended() {
    let dir = directory();
    let running = Arc::new(start(&dir, NO_CANCEL, patient()).await);
    let gate = Gate::new(&dir, "beside");
    let beside = spawn(&running, gate.task("wait"));
    gate.begun().await;
    let stopped = Gate::new(&dir, "unwanted");
    let unwanted = spawn(&running, stopped.task("wait"));
    stopped.begun().await;
    unwanted.abort();
    assert!(unwanted.await.expect_err("aborted").is_cancelled());
    gate.open();
    output(beside.await.expect("joined"));
    assert!(!running.ready().await, "what is left would never stop");
}

#[tokio::test]
async fn a_dropped_request_that_was_alone_takes_the_process_with_it() {
    let dir = directory();
    let running = Arc::new(start(&dir, NO_CANCEL, patient()).await);
    let (pid, gate) = (running.pid().expect("a process"), Gate::new(&dir, "alone"));
    let alone = spawn(&running, gate.task("wait"));
    gate.begun().await;
    alone.abort();
    assert!(alone.await.expect_err("aborted").is_cancelled());
    dies(pid).await;
    assert!(!running.ready().await);
    running.gone().wait().await;
}

#[tokio::test]
async fn a_second_answer_ends_the_process_and_costs_what_it_works_on_by_then_one_attempt() {
    let dir = directory();
    let running = Arc::new(start(&dir, ALL, patient()).await);
    let (first, beside) = (Gate::new(&dir, "first"), Gate::new(&dir, "beside"));
    let waiting = spawn(&running, beside.task("wait"));
    beside.begun().await;
    let twice = spawn(&running, first.task("twice"));
    first.open();
    assert_eq!(output(twice.await.expect("joined")), 1);
    let ended = waiting.await.expect("joined").expect_err("the process is gone");
    assert!(matches!(ended.failure, ProcessFailure::WrongId { .. }), "{ended:?}");
    assert_eq!(told(ended), ("PROCESSOR_PROTOCOL".to_owned(), ErrorClass::Perm));
}

#[tokio::test]
async fn progress_reaches_whoever_asked() {
    let dir = directory();
    let running = Arc::new(start(&dir, ALL, patient()).await);
    let gate = Gate::new(&dir, "steps");
    let (progress, mut seen) = watch::channel(None);
    let asking = tokio::spawn({
        let (running, task) = (Arc::clone(&running), task(gate.task("progress")));
        async move { running.ask(task, AskOptions { limit: LONG, progress: Some(progress) }).await }
    });
    let last = seen.wait_for(|progress| progress.as_ref().is_some_and(|progress| progress.done == 0.5)).await;
    assert_eq!(last.expect("told").as_ref().map(|progress| progress.note.clone()), Some("step 2 of 4".to_owned()));
    gate.open();
    output(asking.await.expect("joined"));
}
