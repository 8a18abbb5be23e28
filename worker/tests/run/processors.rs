//! What processors do besides their work.

use std::fs;

use sealbus_schema::{ErrorClass, ErrorCode, error::Exit};
use sealbus_worker::sandbox;

use crate::support::{Bench, Manager, Server, Worker, eventually};

/// The pid of the process that a processor has left behind.
async fn left(bench: &Bench) -> String {
    let path = bench.path("control/left");
    let read = async || fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'));
    eventually("the process that was left", read).await.trim().to_owned()
}

async fn dies(pid: &str) {
    let stat = format!("/proc/{pid}/stat");
    eventually("its end", async || fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z")).then_some(()))
        .await;
}

#[tokio::test]
async fn what_has_a_session_of_its_own_and_an_empty_environment_ends_with_its_processor() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    bench.tell_processor("leave", "add_pieces");
    bench.let_die("add_pieces");
    let _worker = bench.start();
    let sector = manager.offer(1).await;
    let failed = manager.event(sector, "failed").await;
    let error = failed.error().expect("error");
    assert_eq!((error.code.clone(), error.exit), (ErrorCode::PROCESSOR_DIED, Some(Exit::Status(7))));
    assert!(error.message().contains("its last line on stderr is \"the last words of add_pieces\""), "{error:?}");
    dies(&left(&bench).await).await;
}

#[tokio::test]
async fn what_has_a_session_of_its_own_and_an_empty_environment_ends_with_a_worker_that_is_told_to_stop() {
    let server = Server::start();
    let manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    bench.tell_processor("leave", "add_pieces");
    bench.hold("tree_d");
    let worker = bench.start();
    manager.offer(1).await;
    bench.begun("tree_d", 1).await;
    let pid = left(&bench).await;
    assert!(fs::exists(format!("/proc/{pid}")).expect("looks"), "it is left alone while its processor lives");
    assert_eq!(worker.terminate().await, Some(0));
    dies(&pid).await;
}

#[tokio::test]
async fn a_flood_on_stderr_is_left_out_of_the_log_and_counted() {
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    bench.tell_processor("flood", "add_pieces");
    bench.let_die("add_pieces");
    let _worker = bench.start();
    let sector = manager.offer(1).await;
    let failed = manager.event(sector, "failed").await;
    let tail = &failed.error().expect("error").stderr_tail;
    assert!(tail.ends_with("the last words of add_pieces"), "the end is kept: {tail}");
    let log = bench.log();
    assert!(log.len() < 4_000_000, "{} bytes", log.len());
    assert!(log.contains("left out of the log"), "what was left out is counted");
}

#[tokio::test]
async fn a_processor_of_a_running_worker_reads_neither_its_configuration_nor_journals_and_changes_nothing_else() {
    println!("{}", sandbox::kernel());
    if !sandbox::kernel().confines() {
        return;
    }
    let server = Server::start();
    let mut manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 2);
    fs::create_dir(bench.path("store/sealed")).expect("directory");
    fs::write(bench.path("store/sealed/s-t01000-9"), "sealed").expect("writes");
    let root = bench.path("");
    let attempts = [
        "cat worker.toml",
        "cat slot0/journal slot1/journal",
        "cat slot0/sealbus-slot.json",
        "ls slot0 slot1",
        "echo x > slot0/mine",
        "rm slot0/journal",
        "rm store/sealed/s-t01000-9",
        "echo x > store/sealed/s-t01000-10",
        "cat worker.log",
    ];
    let lines = attempts.map(|attempt| format!("{attempt} > /dev/null && echo 'done: {attempt}'\n"));
    let script = format!("cd {}\n{}echo tried all\n", root.display(), lines.concat());
    fs::write(bench.path("control/try-pc2"), script).expect("writes");
    let config = bench.config().replace("[worker]", "[worker]\nsandbox = \"required\"");
    let _worker = Worker::start(&bench.write_config(&config), &bench.path("worker.log"));
    let sector = manager.offer(1).await;
    manager.see_through(sector, "pc2_done").await;
    let tried = fs::read_to_string(bench.path("control/tried")).expect("it tried");
    assert!(tried.contains("tried all") && !tried.contains("done: "), "{tried}");
    assert!(bench.log().contains("processors are confined"));
}

#[tokio::test]
async fn parameters_that_somebody_elses_c2_lacks_are_named_before_a_sector_is_taken() {
    let server = Server::start();
    let manager = Manager::connect(&server.url()).await;
    let bench = Bench::new(server.url(), 1);
    fs::create_dir(bench.path("no-params")).expect("directory");
    let scripted = bench.scripted_processor("c2");
    let theirs = |more: &str| {
        format!(
            "{scripted}protocol = \"damocles\"\nenv = {{ FIL_PROOFS_PARAMETER_CACHE = {:?} }}\n{more}",
            bench.path("no-params")
        )
    };
    let start = |more: &str| {
        let config = bench.config().replace(&scripted, &theirs(more));
        Worker::start(&bench.write_config(&config), &bench.path("worker.log"))
    };
    let sector = manager.offer(1).await;
    for (more, names, spares) in
        [("", ".params is missing", "nothing"), ("own_params = true\n", ".vk is missing", ".params")]
    {
        let worker = start(more);
        let what = "a slot that is blocked for that";
        let beat = manager
            .heartbeat_with(what, |beat| {
                let blocked = beat.slots[0].blocked.as_ref();
                blocked.is_some_and(|report| report.message().contains(names) && !report.message().contains(spares))
            })
            .await;
        let report = beat.slots[0].blocked.as_ref().expect("blocked");
        assert_eq!((report.code.clone(), report.class), (ErrorCode::PARAMS_MISSING, ErrorClass::Crit));
        assert!(report.message().contains("processor.sh"), "the executable is named: {}", report.message());
        worker.kill();
    }
    assert!(manager.bus.last_lease(sector).await.expect("reads").is_none(), "the sector is not claimed");
}
