//! The misbehaving processor and the tasks for it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sealbus_worker::processor::running::{AskOptions, Launch, Limits, Outcome, Running};
use sealbus_worker::processor::spawner::Spawner;
use sealbus_worker::processor::{GroupConfig, PoolConfig, ProcessorPool};
use sealbus_worker::stage::{Json, Stage};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

/// Long enough for anything, even on a busy machine.
pub const LONG: Duration = Duration::from_secs(120);

pub fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/misbehaviour/processor.py")
}

pub fn directory() -> TempDir {
    tempfile::tempdir().expect("directory")
}

/// A group of one misbehaving processor.
pub fn group(args: &[&str]) -> GroupConfig {
    let mut group = GroupConfig::built_in(Stage::C2, 1);
    group.bin = Some(script());
    group.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    group.timeout = LONG;
    group.start_timeout = LONG;
    group.backoff = Duration::from_millis(1);
    group
}

pub fn pool(dir: &TempDir, groups: Vec<GroupConfig>) -> ProcessorPool {
    ProcessorPool::new(PoolConfig { groups, tmp_roots: vec![dir.path().join("tmp")] }).expect("pool")
}

/// Starts a process without a pool.
pub async fn start(dir: &TempDir, args: &[&str], limits: Limits) -> Running {
    let tmp_dir = dir.path().join("private");
    std::fs::create_dir_all(&tmp_dir).expect("directory");
    let mut command = Command::new(script());
    command.args(args).env("TMPDIR", &tmp_dir);
    let spawner = Spawner::start().expect("spawner");
    let launch = Launch {
        spawner: &spawner,
        command,
        bin: "processor.py".to_owned(),
        processor: "c2-0".to_owned(),
        stage: Stage::C2,
        tmp_dir,
        limits: Limits { start: LONG, ..limits },
    };
    Running::start(launch).await.expect("started")
}

/// A task in its encoded form.
pub fn task(value: Value) -> Json {
    Json::of(&value).expect("json")
}

pub async fn ask(running: &Running, task: Value) -> Outcome {
    running.ask(self::task(task), AskOptions { limit: LONG, progress: None }).await
}

/// A task that has begun, and ends when it is told to.
pub struct Gate {
    begun: PathBuf,
    go: PathBuf,
}

impl Gate {
    pub fn new(dir: &TempDir, name: &str) -> Self {
        let path = |what: &str| dir.path().join(format!("{name}-{what}"));
        Self { begun: path("begun"), go: path("go") }
    }

    pub fn task(&self, what: &str) -> Value {
        json!({ "do": what, "begun": self.begun, "go": self.go })
    }

    pub async fn begun(&self) {
        eventually("a request that has begun", || self.begun.exists()).await;
    }

    pub fn open(&self) {
        std::fs::write(&self.go, "").expect("written");
    }
}

pub async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < until, "no {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

pub async fn dies(pid: u32) {
    eventually("end of a process", || !is_alive(pid)).await;
}

pub fn pids_in(path: &Path) -> Vec<u32> {
    let text = std::fs::read_to_string(path).expect("process ids");
    text.split_whitespace().map(|pid| pid.parse().expect("a process id")).collect()
}
