//! The pool with scripted processors that misbehave.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use sealbus_schema::ErrorClass;
use sealbus_schema::error::Exit;
use sealbus_worker::processor::{GroupConfig, PoolConfig, PoolError, ProcessError, ProcessFailure, ProcessorPool};
use sealbus_worker::stage::Stage;
use serde_json::{Value, json};
use tempfile::TempDir;

const HELLO: &str = r#"echo '{"sealbus_processor":2,"stage":"c2","pid":1}'"#;
/// A processor that answers each request with its own task.
const ECHO: &str = r#"n=0; while read -r line; do n=$((n+1)); echo "{\"id\":$n,\"output\":$n}"; done"#;

fn group(dir: &TempDir, script: &str) -> GroupConfig {
    let bin = dir.path().join(format!("{}.sh", std::fs::read_dir(dir.path()).expect("list").count()));
    std::fs::write(&bin, format!("#!/bin/sh\n{script}\n")).expect("write");
    std::fs::set_permissions(&bin, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    let mut group = GroupConfig::built_in(Stage::C2, 1);
    group.bin = Some(bin);
    group.timeout = Duration::from_secs(20);
    group.start_timeout = Duration::from_secs(20);
    group.backoff = Duration::from_millis(20);
    group
}

fn pool(dir: &TempDir, groups: Vec<GroupConfig>) -> ProcessorPool {
    ProcessorPool::new(PoolConfig { groups, tmp_roots: vec![dir.path().join("tmp")] }).expect("pool")
}

async fn fail(script: &str) -> ProcessError {
    let dir = tempfile::tempdir().expect("directory");
    let pool = pool(&dir, vec![group(&dir, script)]);
    let error = ask(&pool).await.expect_err("fails");
    assert_eq!(pool.free(Stage::C2), 1);
    assert_eq!(pool.snapshot()[0].busy_since, None);
    error
}

async fn ask(pool: &ProcessorPool) -> Result<Value, ProcessError> {
    pool.acquire(Stage::C2).await.expect("guard").run_value(json!({"x": 1})).await
}

fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    // The state follows the name in brackets. A zombie only waits to be reaped.
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

async fn dies(pid: i32) {
    let until = Instant::now() + Duration::from_secs(10);
    while is_alive(pid) {
        assert!(Instant::now() < until, "process {pid} lives on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn written_pid(path: &Path) -> i32 {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(pid) = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()) {
            return pid;
        }
        assert!(Instant::now() < until, "no process id in {}", path.display());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_processor_is_kept_for_the_next_request() {
    let dir = tempfile::tempdir().expect("directory");
    let pool = pool(&dir, vec![group(&dir, &format!("{HELLO}\n{ECHO}"))]);
    assert_eq!(pool.snapshot()[0].pid, None, "started at the first request only");
    assert_eq!(ask(&pool).await.expect("answer"), 1);
    let pid = pool.snapshot()[0].pid;
    assert!(pid.is_some());
    assert_eq!(ask(&pool).await.expect("answer"), 2);
    assert_eq!(pool.snapshot()[0].pid, pid);
    assert_eq!(pool.snapshot()[0].id, "c2-0");
}

#[tokio::test]
async fn temporary_files_move_to_the_next_disk_when_theirs_is_gone_and_no_disk_is_made() {
    let dir = tempfile::tempdir().expect("directory");
    let disks = ["one", "two"].map(|name| dir.path().join(name));
    disks.iter().for_each(|disk| std::fs::create_dir(disk).expect("directory"));
    let groups = vec![group(&dir, &format!("{HELLO}\n{ECHO}"))];
    let tmp_roots = disks.iter().map(|disk| disk.join("tmp")).collect();
    let pool = ProcessorPool::new(PoolConfig { groups, tmp_roots }).expect("pool");
    ask(&pool).await.expect("answer");
    assert!(disks[0].join("tmp/c2-0").is_dir() && !disks[1].join("tmp").exists());
    std::fs::remove_dir_all(&disks[0]).expect("removes");
    assert_eq!(ask(&pool).await.expect("answer"), 1, "a new process");
    assert!(disks[1].join("tmp/c2-0").is_dir() && !disks[0].exists());
    std::fs::remove_dir_all(&disks[1]).expect("removes");
    let error = ask(&pool).await.expect_err("no disk");
    assert_eq!((error.code().as_str(), error.class()), ("PROCESSOR_START_FAILED", ErrorClass::Crit));
    assert!(error.to_string().contains("one") && error.to_string().contains("two"), "{error}");
}

#[tokio::test]
async fn an_exit_at_the_handshake_is_told_with_status_and_stderr() {
    let error = fail("echo 'no licence' >&2; exit 3").await;
    assert_eq!(
        (error.code().as_str(), error.class(), error.exit),
        ("PROCESSOR_DIED", ErrorClass::Temp, Some(Exit::Status(3)))
    );
    assert_eq!(error.stderr_tail, ["no licence"]);
}

#[tokio::test]
async fn a_wrong_greeting_is_refused() {
    for greeting in [
        "c2 processor ready",
        r#"{"sealbus_processor":3,"stage":"c2","pid":1}"#,
        r#"{"sealbus_processor":2,"stage":"pc1","pid":1}"#,
    ] {
        let error = fail(&format!("echo '{greeting}'; sleep 100")).await;
        assert_eq!(error.code().as_str(), "PROCESSOR_PROTOCOL", "{greeting}");
    }
    let error = fail("head -c 100000 /dev/zero; sleep 100").await;
    assert_eq!(error.code().as_str(), "PROCESSOR_PROTOCOL");
}

#[tokio::test]
async fn a_processor_that_never_greets_is_given_up() {
    let dir = tempfile::tempdir().expect("directory");
    let mut silent = group(&dir, "sleep 100");
    silent.start_timeout = Duration::from_millis(100);
    assert_eq!(ask(&pool(&dir, vec![silent])).await.expect_err("fails").code().as_str(), "PROCESSOR_TIMED_OUT");
}

#[tokio::test]
async fn rubbish_and_wrong_ids_are_no_answers() {
    let error = fail(&format!("{HELLO}\nread -r line; echo 'progress: 10%'; sleep 100")).await;
    assert!(matches!(error.failure, ProcessFailure::Garbage(_)), "{error}");
    assert_eq!(error.code().as_str(), "PROCESSOR_PROTOCOL");
    let error = fail(&format!("{HELLO}\nread -r line; echo '{{\"id\":9,\"output\":1}}'; sleep 100")).await;
    assert!(matches!(error.failure, ProcessFailure::WrongId { asked: 1, answered: 9 }), "{error}");
}

#[tokio::test]
async fn a_processor_that_never_answers_is_killed_at_its_time_limit() {
    let dir = tempfile::tempdir().expect("directory");
    let pid_file = dir.path().join("pid");
    let mut hangs =
        group(&dir, &format!("trap '' TERM\n{HELLO}\necho $$ > {}\nread -r line; sleep 100", pid_file.display()));
    hangs.timeout = Duration::from_millis(300);
    let pool = pool(&dir, vec![hangs]);
    let error = ask(&pool).await.expect_err("fails");
    assert_eq!((error.code().as_str(), error.class()), ("PROCESSOR_TIMED_OUT", ErrorClass::Temp));
    dies(written_pid(&pid_file).await).await;
}

#[tokio::test]
async fn a_killed_processor_costs_one_attempt_and_the_next_request_is_served() {
    let dir = tempfile::tempdir().expect("directory");
    let once = dir.path().join("once");
    let script = format!(
        "{HELLO}\nif [ ! -e {0} ]; then touch {0}; read -r line; echo dying >&2; kill -9 $$; fi\n{ECHO}",
        once.display()
    );
    let pool = pool(&dir, vec![group(&dir, &script)]);
    let mut guard = pool.acquire(Stage::C2).await.expect("guard");
    let error = guard.run_value(json!({})).await.expect_err("killed");
    assert_eq!((error.code().as_str(), error.exit), ("PROCESSOR_DIED", Some(Exit::Signal(9))));
    assert_eq!(error.stderr_tail, ["dying"]);
    assert_eq!(guard.run_value(json!({})).await.expect("answer"), 1);
    drop(guard);
    assert_eq!(pool.free(Stage::C2), 1);
}

#[tokio::test]
async fn a_processor_that_died_between_requests_is_replaced_without_an_error() {
    let dir = tempfile::tempdir().expect("directory");
    let script = format!("{HELLO}\nread -r line; echo '{{\"id\":1,\"output\":1}}'");
    let pool = pool(&dir, vec![group(&dir, &script)]);
    for _ in 0..3 {
        ask(&pool).await.expect("answer");
        let pid = pool.snapshot()[0].pid.expect("pid");
        dies(i32::try_from(pid).expect("pid")).await;
    }
}

#[tokio::test]
async fn an_exit_without_an_answer_is_found_although_a_grandchild_holds_the_pipe() {
    let dir = tempfile::tempdir().expect("directory");
    let pid_file = dir.path().join("pid");
    let script = format!("{HELLO}\nread -r line; sleep 100 & echo $! > {}; exit 5", pid_file.display());
    let pool = pool(&dir, vec![group(&dir, &script)]);
    let begin = Instant::now();
    let error = ask(&pool).await.expect_err("fails");
    assert_eq!((error.code().as_str(), error.exit), ("PROCESSOR_DIED", Some(Exit::Status(5))));
    assert!(begin.elapsed() < Duration::from_secs(10));
    dies(written_pid(&pid_file).await).await;
}

#[tokio::test]
async fn a_dropped_request_kills_the_process_and_its_children_and_frees_the_place() {
    let dir = tempfile::tempdir().expect("directory");
    let (own, child) = (dir.path().join("own"), dir.path().join("child"));
    let script =
        format!("{HELLO}\nread -r line; sleep 100 & echo $! > {}; echo $$ > {}; wait", child.display(), own.display());
    let pool = pool(&dir, vec![group(&dir, &script)]);
    let asking = tokio::spawn({
        let pool = pool.clone();
        async move { ask(&pool).await }
    });
    let (own, child) = (written_pid(&own).await, written_pid(&child).await);
    assert!(pool.snapshot()[0].busy_since.is_some());
    asking.abort();
    assert!(asking.await.expect_err("aborted").is_cancelled());
    dies(own).await;
    dies(child).await;
    assert_eq!(pool.free(Stage::C2), 1);
    assert_eq!(pool.snapshot()[0].busy_since, None);
}

#[tokio::test]
async fn an_error_of_the_stage_keeps_class_and_code_and_the_process() {
    let dir = tempfile::tempdir().expect("directory");
    let answer = r#"{"id":1,"error":{"class":"abort","code":"THEIR_CODE","message":"worthless"}}"#;
    let pool = pool(
        &dir,
        vec![group(
            &dir,
            &format!("{HELLO}\nread -r line; echo '{answer}'; read -r line; echo '{{\"id\":2,\"output\":2}}'"),
        )],
    );
    let error = ask(&pool).await.expect_err("fails");
    assert_eq!((error.code().as_str(), error.class()), ("THEIR_CODE", ErrorClass::Abort));
    assert_eq!(ask(&pool).await.expect("answer"), 2);
}

#[tokio::test]
async fn long_answers_pass_up_to_the_limit_and_stderr_is_bounded() {
    let dir = tempfile::tempdir().expect("directory");
    let big = r#"read -r line; printf '{"id":1,"output":"'; head -c 5000000 /dev/zero | tr '\0' x; echo '"}'"#;
    let noise = "i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo line $i >&2; done";
    let pool_of_big = pool(&dir, vec![group(&dir, &format!("{HELLO}\n{noise}\n{big}\nread -r line"))]);
    assert_eq!(ask(&pool_of_big).await.expect("answer").as_str().map(str::len), Some(5_000_000));
    let mut limited = group(&dir, &format!("{HELLO}\n{noise}\n{big}\nread -r line"));
    limited.answer_bytes_max = 1_000_000;
    let error = ask(&pool(&dir, vec![limited])).await.expect_err("too large");
    assert_eq!((error.code().as_str(), error.class()), ("PROCESSOR_PROTOCOL", ErrorClass::Perm));
    assert_eq!(error.stderr_tail.len(), 50);
    assert_eq!(error.stderr_tail.last().map(String::as_str), Some("line 200"));
}

#[tokio::test]
async fn restarts_are_put_off_longer_and_longer() {
    let dir = tempfile::tempdir().expect("directory");
    let mut broken = group(&dir, "exit 1");
    broken.backoff = Duration::from_millis(100);
    broken.backoff_max = Duration::from_millis(250);
    let pool = pool(&dir, vec![broken]);
    let begin = Instant::now();
    for _ in 0..4 {
        ask(&pool).await.expect_err("fails");
    }
    assert!(begin.elapsed() >= Duration::from_millis(100 + 200 + 250));
}

#[tokio::test]
async fn neighbours_go_on_while_one_processor_misbehaves() {
    let dir = tempfile::tempdir().expect("directory");
    let bad = group(&dir, &format!("{HELLO}\nread -r line; exit 1"));
    let mut good = group(&dir, &format!("{HELLO}\n{ECHO}"));
    good.count = 2;
    let pool = pool(&dir, vec![bad, good]);
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let pool = pool.clone();
        asking.spawn(async move { ask(&pool).await });
    }
    let results: Vec<_> = asking.join_all().await;
    let failures: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(
        failures.iter().all(|error| error.processor == "c2-0" && error.code().as_str() == "PROCESSOR_DIED"),
        "{failures:?}"
    );
    assert!(results.len() - failures.len() >= 30);
    assert_eq!(pool.free(Stage::C2), 3);
    assert!(pool.snapshot().iter().all(|processor| processor.busy_since.is_none()));
}

#[tokio::test]
async fn places_are_given_in_the_order_of_asking_and_room_is_not_held() {
    let dir = tempfile::tempdir().expect("directory");
    let pool = pool(&dir, vec![group(&dir, &format!("{HELLO}\n{ECHO}"))]);
    let held = pool.acquire(Stage::C2).await.expect("guard");
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for number in 0..5 {
        let mut turn = Box::pin({
            let (pool, order) = (pool.clone(), order.clone());
            async move {
                match number {
                    2 => pool.wait_for_room(Stage::C2).await.expect("room"),
                    _ => drop(pool.acquire(Stage::C2).await.expect("guard")),
                }
                order.lock().expect("order").push(number);
            }
        });
        // Polled once, so that it is in the queue.
        assert!(futures::poll!(turn.as_mut()).is_pending());
        waiting.push(turn);
    }
    assert_eq!(pool.free(Stage::C2), 0);
    drop(held);
    futures::future::join_all(waiting).await;
    assert_eq!(*order.lock().expect("order"), [0, 1, 2, 3, 4]);
    assert_eq!(pool.free(Stage::C2), 1);
}

#[tokio::test]
async fn the_environment_is_clean_and_the_temporary_directory_private_and_empty() {
    let dir = tempfile::tempdir().expect("directory");
    let mut listing = group(
        &dir,
        &format!("{HELLO}\nread -r line; touch \"$TMPDIR/left\"; env | sort >&2; ls -a \"$TMPDIR\" >&2; exit 1"),
    );
    listing.env.insert("MINE".into(), "1".into());
    let pool = pool(&dir, vec![listing]);
    for _ in 0..2 {
        let error = ask(&pool).await.expect_err("exits");
        let names: Vec<&str> =
            error.stderr_tail.iter().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
        assert!(names.contains(&"MINE") && names.contains(&"PATH") && names.contains(&"TMPDIR"));
        assert!(!names.contains(&"CARGO_MANIFEST_DIR"), "{names:?}");
        let tmp = format!("TMPDIR={}", dir.path().join("tmp/c2-0").display());
        assert!(error.stderr_tail.contains(&tmp), "{:?}", error.stderr_tail);
    }
}

#[tokio::test]
async fn what_cannot_be_started_or_served_is_said() {
    let dir = tempfile::tempdir().expect("directory");
    let mut missing = group(&dir, "");
    missing.bin = Some("/no/such/processor".into());
    let pool = pool(&dir, vec![missing]);
    let error = ask(&pool).await.expect_err("fails");
    assert_eq!((error.code().as_str(), error.class()), ("PROCESSOR_START_FAILED", ErrorClass::Crit));
    assert!(matches!(pool.acquire(Stage::Pc1).await, Err(PoolError::NoProcessor(Stage::Pc1))));
    let mut none = group(&dir, "");
    none.count = 0;
    let empty = ProcessorPool::new(PoolConfig { groups: vec![none], tmp_roots: vec![dir.path().to_owned()] });
    assert!(matches!(empty, Err(PoolError::EmptyGroup(Stage::C2))));
}
