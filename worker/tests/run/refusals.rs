//! What a misconfigured worker prints, and its exit status.

use std::{fs, process::Command, sync::LazyLock};

use sealbus_schema::{ErrorClass, ErrorCode, IntentKind, SealProof};

use crate::support::{Bench, MINER, Manager, Server, Worker, eventually, ports::Port};

/// The address of a server that does not exist. This process holds the port until it ends.
fn nowhere() -> String {
    static PORT: LazyLock<Port> = LazyLock::new(|| Port::hold().expect("a free port"));
    format!("nats://127.0.0.1:{}", PORT.number())
}

/// Runs the worker to its end. Returns its exit status and stderr.
fn run(bench: &Bench, command: &str, config: &str) -> (Option<i32>, String) {
    let path = bench.write_config(config);
    let output = Command::new(env!("CARGO_BIN_EXE_sealbus-worker"))
        .args(command.split(' '))
        .arg("--config")
        .arg(path)
        .env_remove("RUST_LOG")
        .output()
        .expect("runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_bad_configuration_is_refused_with_its_field_and_exit_status_78() {
    let bench = Bench::new(nowhere(), 1);
    let good = bench.config();
    for (config, expected) in [
        (good.replace("heartbeat_secs", "hartbeat_secs"), "unknown field `hartbeat_secs`"),
        (good.replace("\"slot0\"", "\"processor.sh\""), "slot[0].path"),
        (format!("{good}[[slot]]\npath = \"./slot0/\"\n"), "same directory"),
        (good.replace("path = \"store\"", "path = \"processor.sh\""), "store.path"),
        (good.replace("\"2KiB\"", "\"2KB\""), "`2KB` is not a sector size"),
        (good.replace("\"w1\"", "\"w.1\""), "`w.1` is not a worker name"),
        (good.replace("nats://127", "nats://127 0 0 1 :x"), "nats.url"),
        (good.replace("nats://127", "http://127"), "nats.url"),
    ] {
        for command in ["run", "check --offline"] {
            let (status, stderr) = run(&bench, command, &config);
            assert_eq!(status, Some(78), "{stderr}");
            assert!(stderr.contains(expected) && stderr.contains("error: "), "{expected}: {stderr}");
        }
    }
}

#[test]
fn control_groups_that_are_demanded_and_huge_pages_that_cannot_be_had_end_the_start() {
    let mut bench = Bench::new(nowhere(), 1);
    let good = bench.config();
    let no_groups = format!("{good}[cgroup]\nparent = \"slot0\"\nrequired = true\n");
    let (status, stderr) = run(&bench, "run", &no_groups);
    assert_eq!(status, Some(75), "{stderr}");
    assert!(stderr.contains("cgroup.required = true"), "{stderr}");

    bench.scripted = false;
    let labels =
        "[[processor]]\nstage = \"pc1\"\nhuge_pages = \"reserved\"\nenv = { FIL_PROOFS_USE_MULTICORE_SDR = \"1\" }\n";
    for command in ["check", "run"] {
        let (status, stderr) = run(&bench, command, &format!("{}{labels}", bench.config()));
        assert_eq!(status, Some(78), "{stderr}");
        assert!(
            stderr.contains("processor[0].huge_pages") && stderr.contains("FIL_PROOFS_USE_MULTICORE_SDR=0"),
            "{stderr}"
        );
    }
}

#[test]
fn check_warns_of_huge_pages_that_the_machine_does_not_have() {
    let mut bench = Bench::new(nowhere(), 1);
    bench.scripted = false;
    // Two layers of 64 GiB on reserved pages: no test machine has that.
    let config = bench.config().replace("2KiB", "64GiB");
    let labels = "[[processor]]\nstage = \"pc1\"\nhuge_pages = \"reserved\"\n";
    let (status, stderr) = run(&bench, "check --offline", &format!("{config}{labels}"));
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stderr.contains("warning: processor[0].huge_pages: PC1 of a 64GiB sector needs"), "{stderr}");
}

#[tokio::test]
async fn without_a_group_of_its_own_the_worker_says_why_and_goes_on() {
    let server = Server::start();
    let manager = Manager::connect(&server.url()).await;
    let mut bench = Bench::new(server.url(), 1);
    bench.more = "[cgroup]\nparent = \"slot0\"\n".to_owned();
    let _worker = bench.start();
    manager.heartbeat_with("a heartbeat", |_| true).await;
    assert!(bench.log().contains("no control groups: processors run without limits"), "{}", bench.log());
}

#[test]
fn check_prints_what_a_configuration_means() {
    let bench = Bench::new(nowhere(), 2);
    let path = bench.write_config(&bench.config());
    let output = Command::new(env!("CARGO_BIN_EXE_sealbus-worker"))
        .args(["check", "--offline", "--config"])
        .arg(path)
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("slot1") && text.contains("processor  c2 x 1"), "{text}");
    assert!(output.stderr.is_empty());
}

#[test]
fn check_tells_what_is_not_there_from_what_is_wrong() {
    let bench = Bench::new(nowhere(), 1);
    let config = bench.config().replace("path = \"store\"", "path = \"gone\"");
    let path = bench.write_config(&config.replace("[nats]", "[nats]\nnkey_seed_file = \"gone.nk\""));
    let worker = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealbus-worker"));
        command.args(["check", "--config"]).arg(&path);
        command
    };
    let output = worker().output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(75), "{text}");
    for expected in ["not there now: store.path", "cannot read nats.nkey_seed_file"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    // Data that cannot be written is a failure, not a panic.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("opens");
    let output = worker().stdout(full).output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("cannot write to stdout"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_a_miner_whose_sectors_nobody_offers() {
    let server = Server::start();
    let _manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let one = bench.config();
    let two = one.replace("[\"f01000\"]", "[\"f01000\", \"f02000\"]");
    for (config, status, told) in [(one, 0, false), (two, 75, true)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealbus-worker"));
        let output = command.args(["check", "--config"]).arg(bench.write_config(&config)).output().expect("runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(status), "{text}");
        assert_eq!(text.contains("worker.miners: stream SEAL_INTENTS has no queue f02000_"), told, "{text}");
        assert!(!text.contains("has no queue f01000_"), "{text}");
    }
}

#[tokio::test]
async fn a_hang_up_and_a_log_on_a_full_disk_do_not_end_the_worker() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let mut worker = Worker::start(&bench.write_config(&bench.config()), std::path::Path::new("/dev/full"));
    manager.heartbeat_with("a heartbeat", |_| true).await;
    for signal in [rustix::process::Signal::HUP, rustix::process::Signal::USR1, rustix::process::Signal::USR2] {
        worker.signal(signal);
    }
    let sector = manager.offer(1).await;
    manager.see_through(sector, "finished").await;
    assert!(worker.is_alive());
}

#[tokio::test]
async fn without_a_slot_with_room_the_worker_stays_up_and_shows_what_is_missing() {
    let server = Server::start();
    let manager = Manager::connect(&server.url()).await;
    let shm = std::path::Path::new("/dev/shm");
    let mut bench = Bench::new(server.url(), 0);
    // A 64 GiB sector needs more than a terabyte, which a memory file system never has.
    let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.expect("directory");
    fs::create_dir(dir.path().join("quarantine")).expect("directory");
    fs::write(dir.path().join("quarantine/sealed"), vec![1; 4096]).expect("writes");
    bench.more = format!("[[slot]]\npath = {:?}\n", dir.path());
    let config = bench.config().replace("2KiB", "64GiB");
    let _worker = Worker::start(&bench.write_config(&config), &bench.path("worker.log"));
    let seen = manager.heartbeat_with("a blocked slot", |seen| seen.slots[0].blocked.is_some()).await;
    let report = seen.slots[0].blocked.as_ref().expect("blocked");
    assert_eq!((report.code.clone(), report.class), (ErrorCode::DISK_FULL, ErrorClass::Crit));
    assert_eq!((report.host.as_str(), report.slot.as_str()), ("bench", dir.path().to_str().expect("text")));
    let message = report.message();
    assert!(message.contains("bytes free") && message.contains("1168298213376"), "{message}");
    assert!(message.contains("4096 bytes in quarantine"), "{message}");
}

#[tokio::test]
async fn a_slot_with_an_unreadable_journal_is_shown_while_the_other_works() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 2);
    fs::write(bench.path("slot0/journal"), "rubbish").expect("writes");
    let _worker = bench.start();
    let sector = manager.offer(1).await;
    manager.see_through(sector, "finished").await;
    // Until a worker has read its slots' identities, none of them counts as readable.
    let settled = manager.heartbeat_with("a slot that works", |seen| seen.slots[1].identity.is_some());
    let seen = settled.await;
    assert_eq!(seen.slots[0].blocked.as_ref().expect("blocked").code, ErrorCode::JOURNAL_UNREADABLE);
    assert!(seen.slots[0].unreadable && !seen.slots[1].unreadable);
    assert!(seen.slots[1].blocked.is_none());
}

#[tokio::test]
async fn a_slot_in_use_is_waited_for_and_a_name_in_use_ends_the_older_worker() {
    let server = Server::start();
    let manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let mut first = bench.start();
    manager.heartbeat_with("a heartbeat", |_| true).await;
    let late_log = bench.path("late.log");
    let mut late = Worker::start(&bench.write_config(&bench.config()), &late_log);
    let said = || fs::read_to_string(&late_log).unwrap_or_default();
    eventually("the words", async || said().contains("slot0 is in use by another process").then_some(())).await;
    assert!(late.is_alive() && first.is_alive());
    first.kill();
    eventually("the slot", async || said().contains("serving").then_some(())).await;
    late.kill();
    let mut first = bench.start();
    manager.heartbeat_with("a heartbeat", |_| true).await;

    let other = Bench::new(server.url(), 1);
    let mut second = other.start();
    // Both send heartbeats under one name; the one that notices first gives way.
    eventually("one to give way", async || (!first.is_alive() || !second.is_alive()).then_some(())).await;
    let said = bench.log() + &other.log();
    assert!(said.contains("another process, on host bench, runs as worker w1"), "{said}");
}

#[tokio::test]
async fn a_server_that_refuses_us_is_waited_for() {
    let server = Server::start_closed();
    let bench = Bench::new(server.url(), 1);
    let mut worker = bench.start();
    eventually("the words", async || bench.log().contains("refused our identity").then_some(())).await;
    assert!(worker.is_alive());
}

#[tokio::test]
async fn an_unreachable_server_and_a_missing_queue_are_waited_for() {
    let mut server = Server::start();
    server.stop();
    let bench = Bench::new(server.url(), 1);
    let mut worker = bench.start();
    let url = server.url();
    eventually("the warning", async || {
        let log = bench.log();
        log.contains(&format!("NATS at {url} is unreachable")).then_some(())
    })
    .await;
    assert!(worker.is_alive());
    server.start_again();
    eventually("the next warning", async || bench.log().contains("has no queue f01000_Stacked").then_some(())).await;
    let mut manager = Manager::connect(&server.url()).await;
    let sector = manager.offer(1).await;
    manager.see_through(sector, "finished").await;
    manager.assert_gapless(sector);
}

#[tokio::test]
async fn a_slot_whose_sectors_nobody_offers_is_shown_until_somebody_does() {
    let server = Server::start();
    let manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    let config = bench.config().replace("\"2KiB\"", "\"8MiB\"");
    let _worker = Worker::start(&bench.write_config(&config), &bench.path("worker.log"));
    let heartbeat = manager.heartbeat_with("a blocked slot", |beat| beat.slots[0].blocked.is_some()).await;
    let report = heartbeat.slots[0].blocked.as_ref().expect("blocked");
    assert_eq!((report.code.clone(), report.class), (ErrorCode::CONFIGURATION_WRONG, ErrorClass::Crit));
    assert!(report.message().contains("no manager serves 8MiB sectors of f01000"), "{}", report.message());
    let proof = SealProof::StackedDrg8MiBV1_1;
    manager.bus.ensure_queue(MINER, proof, IntentKind::Seal).await.expect("queue");
    manager.heartbeat_with("a free slot", |beat| beat.slots[0].blocked.is_none()).await;
}

#[tokio::test]
async fn all_slots_of_a_worker_that_nobody_serves_are_shown_however_many_there_are() {
    let server = Server::start();
    let manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 12);
    let config = bench.config().replace("\"2KiB\"", "\"8MiB\"");
    let _worker = Worker::start(&bench.write_config(&config), &bench.path("worker.log"));
    manager.heartbeat_with("blocked slots", |beat| beat.slots.iter().all(|slot| slot.blocked.is_some())).await;
    let told = bench.log().lines().filter(|line| line.contains("WARN") && line.contains("no intent")).count();
    assert!(told <= 2, "the worker says once a queue what it misses, not once a slot: {told}");
}

#[tokio::test]
async fn without_parameters_no_slot_takes_a_sector_and_the_files_are_named() {
    let server = Server::start();
    let manager = Manager::connect(&server.url()).await;
    let mut bench = Bench::new(server.url(), 1);
    bench.scripted = false;
    fs::create_dir(bench.path("no-params")).expect("directory");
    let config = bench.config().replace("[params]\n", "[params]\ncache = \"no-params\"\n");
    let sector = manager.offer(1).await;
    let _worker = Worker::start(&bench.write_config(&config), &bench.path("worker.log"));
    let heartbeat = manager.heartbeat_with("a blocked slot", |beat| beat.slots[0].blocked.is_some()).await;
    let report = heartbeat.slots[0].blocked.as_ref().expect("blocked");
    assert_eq!((report.code.clone(), report.class), (ErrorCode::PARAMS_MISSING, ErrorClass::Crit));
    assert!(report.message().contains(".params is missing"), "{}", report.message());
    assert!(manager.bus.last_lease(sector).await.expect("reads").is_none(), "the sector is not claimed");

    // The files appear again while the worker runs.
    let Ok(params) = std::env::var("SEALBUS_PARAMS") else {
        println!("skipped: SEALBUS_PARAMS does not say where the parameters are");
        return;
    };
    for entry in fs::read_dir(params).expect("list") {
        let from = entry.expect("entry").path();
        match std::os::unix::fs::symlink(&from, bench.path("no-params").join(from.file_name().expect("name"))) {
            // The memory file of an earlier check exists already.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            linked => linked.expect("links"),
        }
    }
    eventually("the claim", async || manager.bus.last_lease(sector).await.expect("reads")).await;
    manager.heartbeat_with("no blocked slot", |beat| beat.slots[0].blocked.is_none()).await;
}
