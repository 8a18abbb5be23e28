//! Control groups of the running kernel, with real processes in them. What this machine does not permit is skipped,
//! with the reason printed. `SEALBUS_TEST_CGROUP` may name a group in which groups can be created.

#![allow(clippy::disallowed_macros, reason = "for whoever reads the output")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sealbus_planner::schedule::Rules;
use sealbus_worker::cgroup::hierarchy::Place;
use sealbus_worker::cgroup::{self, CgroupRoot, Group, Limits, Unavailable};
use sealbus_worker::processor::{GroupConfig, PoolConfig, ProcessFailure, ProcessorPool};
use sealbus_worker::stage::Stage;
use sealbus_worker::topology::CpuSet;
use serde_json::json;

const WORKER: &str = env!("CARGO_BIN_EXE_sealbus-worker");
const PROC: &str = "/proc";
/// If this variable is set, the test binary plays another process.
const ROLE: &str = "SEALBUS_TEST_ROLE";
const GROUP: &str = "SEALBUS_TEST_GROUP";
const PATIENCE: Duration = Duration::from_secs(20);

/// A group for one test, in which a worker's part can be created. It is removed with everything in it at the end.
struct Given(PathBuf);

impl Given {
    /// `None` if this machine does not permit it; the reason is printed on stderr.
    fn make(name: &str) -> Option<Self> {
        let above = std::env::var_os("SEALBUS_TEST_CGROUP").map(PathBuf::from);
        let above = above.or_else(|| Some(Place::of_this_process(Path::new(PROC)).ok()??.dir));
        let Some(above) = above else {
            eprintln!("SKIPPED: no cgroup v2 hierarchy is mounted here");
            return None;
        };
        let path = above.join(format!("sealbus-test-{}-{name}", std::process::id()));
        match fs::create_dir(&path) {
            Ok(()) => Some(Self(path)),
            Err(error) => {
                eprintln!("SKIPPED: cannot make {}: {error}", path.display());
                None
            }
        }
    }

    fn root(&self) -> CgroupRoot {
        CgroupRoot::discover(Path::new(PROC), Some(&self.0), "w1").expect("discover")
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        let begun = Instant::now();
        while !remove(&self.0) && begun.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
    }
}

fn remove(path: &Path) -> bool {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove(&entry.path());
        }
    }
    fs::remove_dir(path).is_ok()
}

/// Starts a shell that enters the group, prints a line when it is ready, and then runs `script`.
fn shell(group: &Group, script: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new("sh")
        .args(["-c", &format!("echo 0 > \"$0/cgroup.procs\" && {script}"), &group.path().display().to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("shell");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout"));
    let mut line = String::new();
    lines.read_line(&mut line).expect("line");
    assert!(!line.is_empty(), "the shell did not come so far");
    (child, lines)
}

/// Starts this binary in another role.
fn play(role: &str, group: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("path"));
    command.args(["--exact", "another_process", "--nocapture"]).env(ROLE, role).env(GROUP, group);
    command
}

/// The process's group according to the kernel.
fn place_of(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroup");
    text.lines().find_map(|line| line.strip_prefix("0::")).expect("version 2").to_owned()
}

fn lacks(root: &CgroupRoot, controller: &str) -> bool {
    let lacks = !root.controllers().contains(controller);
    if lacks {
        eprintln!("SKIPPED: the controller {controller} is not available in {}", root.path().display());
    }
    lacks
}

#[test]
fn everything_that_a_processor_started_ends_with_its_group() {
    let Some(given) = Given::make("kill") else { return };
    let root = given.root();
    let group = root.create("pc1-0", &Limits::default()).expect("create");
    // One child is in its own session, where a signal to the process group does not reach it.
    let (mut child, _lines) = shell(&group, "{ sleep 1000 & setsid sleep 1000 & echo ready; wait; }");
    let begun = Instant::now();
    while group.pids().expect("pids").len() < 3 && begun.elapsed() < PATIENCE {
        std::thread::yield_now();
    }
    let pids = group.pids().expect("pids");
    assert_eq!(pids.len(), 3);
    let path = group.path().to_owned();
    group.kill_and_remove().expect("removes");
    assert!(!path.exists());
    assert_eq!(child.wait().expect("wait").signal(), Some(9));
    // They may remain as zombies until their present parent has reaped them.
    let state = |pid: u32| fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(pids.iter().all(|pid| state(*pid).is_empty() || state(*pid).contains(") Z")), "{pids:?}");
}

#[test]
fn groups_below_a_processors_group_are_removed_with_it() {
    let Some(given) = Given::make("nested") else { return };
    let root = given.root();
    let group = root.create("pc2-0", &Limits::default()).expect("create");
    fs::create_dir_all(group.path().join("a/b")).expect("groups of its own");
    let script = "echo 0 > \"$0/a/b/cgroup.procs\" && { echo ready; exec sleep 1000; }";
    let (mut child, _lines) = shell(&group, script);
    let path = group.path().to_owned();
    group.kill_and_remove().expect("removes");
    assert!(!path.exists());
    child.wait().expect("wait");
}

#[test]
fn what_a_dead_worker_left_is_killed_and_removed_by_the_next() {
    let Some(given) = Given::make("leftovers") else { return };
    let root = given.root();
    let group = root.create("c2-0", &Limits::default()).expect("create");
    root.create("c2-1", &Limits::default()).expect("create");
    let (mut child, _lines) = shell(&group, "{ echo ready; exec sleep 1000; }");
    fs::create_dir(given.0.join("of-others")).expect("another's group");
    // A killed worker removes nothing, but its lock ends.
    drop((root, group));

    let root = given.root();
    let removed = root.remove_leftovers().expect("list");
    let told: Vec<_> =
        removed.iter().map(|left| (left.name.as_str(), *left.killed.as_ref().expect("removed"))).collect();
    assert_eq!(told, [("c2-0", 1), ("c2-1", 0)]);
    assert_eq!(child.wait().expect("wait").signal(), Some(9));
    assert!(root.remove_leftovers().expect("list").is_empty());
    assert!(given.0.join("of-others").exists());
}

#[test]
fn a_second_worker_of_the_same_name_is_refused_and_kills_nothing() {
    let Some(given) = Given::make("twice") else { return };
    let root = given.root();
    let group = root.create("c2-0", &Limits::default()).expect("create");
    let (mut child, _lines) = shell(&group, "{ echo ready; exec sleep 1000; }");
    let refused = CgroupRoot::discover(Path::new(PROC), Some(&given.0), "w1").expect_err("in use");
    assert!(matches!(refused, Unavailable::InUse(_)), "{refused}");
    CgroupRoot::discover(Path::new(PROC), Some(&given.0), "w2").expect("another name");
    assert_eq!(child.try_wait().expect("wait"), None);
    group.kill_and_remove().expect("removes");
    child.wait().expect("wait");
}

#[test]
fn a_processor_that_is_started_again_gets_a_fresh_group() {
    let Some(given) = Given::make("again") else { return };
    let root = given.root();
    let group = root.create("pc1-0", &Limits::default()).expect("create");
    let (mut child, _lines) = shell(&group, "{ echo ready; exec sleep 1000; }");
    let group = root.create("pc1-0", &Limits::default()).expect("again");
    assert_eq!(child.wait().expect("wait").signal(), Some(9), "what was left of it");
    assert!(group.pids().expect("pids").is_empty());
    let mut sleeper = Command::new("sleep").arg("1000").spawn().expect("sleep");
    group.add(sleeper.id()).expect("add");
    assert_eq!(group.pids().expect("pids"), [sleeper.id()]);
    group.kill_and_remove().expect("removes");
    sleeper.wait().expect("wait");
}

#[test]
fn a_child_enters_its_group_before_it_becomes_what_it_runs() {
    let Some(given) = Given::make("enter") else { return };
    let root = given.root();
    let group = root.create("tree_d-0", &Limits::default()).expect("create");
    let output = play("enter", group.path()).output().expect("plays");
    let text = String::from_utf8_lossy(&output.stdout);
    let place = text.lines().find_map(|line| line.strip_prefix("I am in ")).expect("says where");
    assert!(place.ends_with("/sealbus-w1/tree_d-0"), "{place}");
    cgroup::enter(&given.0.join("nowhere")).expect_err("no such group");
}

#[test]
fn processor_time_is_counted_for_a_group_and_for_one_request() {
    let Some(given) = Given::make("time") else { return };
    let root = given.root();
    let group = root.create("pc1-0", &Limits::default()).expect("create");
    let spin = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo ready";
    let (mut child, _lines) = shell(&group, spin);
    child.wait().expect("wait");
    let first = group.usage().expect("usage").cpu_micros.expect("counted everywhere");
    assert!(first > 1000, "{first}");
    let meter = group.meter().expect("meter");
    let idle = meter.read().expect("read").cpu_micros.expect("counted");
    assert!(idle < first, "{idle} of {first}");
    assert!(root.usage().expect("usage").cpu_micros >= Some(first), "the whole has at least its part");
}

#[test]
fn limits_hold_or_are_named_with_the_reason() {
    let Some(given) = Given::make("limits") else { return };
    let root = given.root();
    let limits = Limits {
        cpus: Some(CpuSet::from_iter([0])),
        nodes: Some(CpuSet::from_iter([0])),
        memory_high_bytes: Some(48 << 20),
        memory_max_bytes: Some((64 << 20) + 5),
        pids_max: Some(50),
    };
    let group = root.create("pc1-0", &limits).expect("create");
    let unapplied: BTreeSet<&str> = group.unapplied().iter().map(|limit| limit.limit).collect();
    for (limit, file, expected) in [
        ("cpuset.cpus", "cpuset.cpus.effective", "0"),
        ("cpuset.mems", "cpuset.mems.effective", "0"),
        ("memory.high", "memory.high", "50331648"),
        ("memory.max", "memory.max", "67108864"),
        ("pids.max", "pids.max", "50"),
    ] {
        let controller = limit.split('.').next().expect("controller");
        assert_eq!(unapplied.contains(limit), !root.controllers().contains(controller), "{limit}: {unapplied:?}");
        if !unapplied.contains(limit) {
            assert_eq!(fs::read_to_string(group.path().join(file)).expect("file").trim(), expected);
        }
    }
    for limit in group.unapplied() {
        assert!(limit.to_string().contains("is not available here"), "{limit}");
    }
    eprintln!("controllers exercised: {:?}", root.controllers());
    if !lacks(&root, "cpuset") {
        let (mut child, _lines) = shell(&group, "{ echo ready; exec sleep 1000; }");
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("status");
        assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
        group.kill_and_remove().expect("removes");
        child.wait().expect("wait");
        let nowhere = Limits { cpus: Some(CpuSet::from_iter([4000])), ..Limits::default() };
        let group = root.create("pc1-0", &nowhere).expect("create");
        assert_eq!(group.unapplied().len(), 1, "a processing unit that the machine lacks: {:?}", group.unapplied());
    }
}

#[test]
fn a_death_for_want_of_memory_is_told_as_such() {
    let Some(given) = Given::make("memory") else { return };
    let root = given.root();
    if lacks(&root, "memory") {
        return;
    }
    let limits = Limits { memory_max_bytes: Some(32 << 20), ..Limits::default() };
    let group = root.create("pc2-0", &limits).expect("create");
    let meter = group.meter().expect("meter");
    let killed = play("eat", group.path()).status().expect("plays");
    assert_eq!(killed.signal(), Some(9));
    let told = meter.out_of_memory().expect("read").expect("it did").to_string();
    assert!(told.contains("memory.max is 33554432") && told.contains("give the processor more"), "{told}");
    let usage = meter.read().expect("read");
    assert!(usage.memory_peak_bytes.is_none_or(|peak| peak > 16 << 20), "{usage:?}");
    assert!(usage.oom_kills >= Some(1), "{usage:?}");

    let later = group.meter().expect("meter");
    assert_eq!(later.out_of_memory().expect("read"), None, "the next request is not blamed for it");
}

#[test]
fn a_worker_steps_aside_in_the_group_that_was_delegated_to_it() {
    let Some(given) = Given::make("aside") else { return };
    let start_in = |group: &Path| {
        let output = play("discover", group).output().expect("plays");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = start_in(&given.0);
    assert!(text.contains("refused") && text.contains("Delegate=yes"), "{text}");

    let marked = ["user.delegate", "trusted.delegate"]
        .iter()
        .any(|name| rustix::fs::setxattr(&given.0, *name, b"1", rustix::fs::XattrFlags::empty()).is_ok());
    if !marked {
        eprintln!("SKIPPED in part: groups cannot be marked here");
        return;
    }
    // The second group is where systemd starts a worker whose unit has DelegateSubgroup.
    for group in [given.0.clone(), given.0.join("worker")] {
        let text = start_in(&group);
        let place = text.lines().find_map(|line| line.strip_prefix("I am in ")).expect("says where");
        assert!(place.ends_with("-aside/worker"), "{place}");
        assert!(text.contains("-aside/sealbus-w1\n"), "{text}");
    }
}

#[test]
fn a_group_in_which_others_run_is_not_shared_out() {
    let Some(given) = Given::make("occupied") else { return };
    let mut stranger = Command::new("sleep").arg("1000").spawn().expect("sleep");
    fs::write(given.0.join("cgroup.procs"), stranger.id().to_string()).expect("moves");
    let occupied = CgroupRoot::discover(Path::new(PROC), Some(&given.0), "w1").expect_err("occupied");
    assert!(matches!(occupied, Unavailable::Occupied { .. }), "{occupied}");
    stranger.kill().expect("kill");
    stranger.wait().expect("wait");
}

#[test]
fn without_a_hierarchy_or_with_a_name_that_leads_elsewhere_there_are_no_groups() {
    let proc = tempfile::tempdir().expect("directory");
    fs::create_dir(proc.path().join("self")).expect("directory");
    fs::write(proc.path().join("self/mountinfo"), "25 20 0:21 / /m rw - cgroup cgroup rw,memory\n").expect("write");
    fs::write(proc.path().join("self/cgroup"), "4:memory:/\n0::/\n").expect("write");
    let none = CgroupRoot::discover(proc.path(), None, "w1").expect_err("none");
    assert!(matches!(none, Unavailable::NoHierarchy), "{none}");
    for name in ["", "..", "a/b", "a.b"] {
        let refused = CgroupRoot::discover(Path::new(PROC), None, name).expect_err(name);
        assert!(refused.to_string().contains("is no name for a group"), "{refused}");
    }
    let Some(given) = Given::make("names") else { return };
    given.root().create("../x", &Limits::default()).expect_err("leads elsewhere");
}

/// A pool with one scripted processor. It answers with the group it is in, has a child in its own session, and exits at
/// the task "die".
fn pool(dir: &Path, root: CgroupRoot, change: impl FnOnce(&mut GroupConfig)) -> ProcessorPool {
    let bin = dir.join("c2.sh");
    let script = "#!/bin/sh\nsetsid sleep 1000 >/dev/null 2>&1 &\n\
                  echo '{\"sealbus_processor\":2,\"stage\":\"c2\",\"pid\":1}'\nn=0\n\
                  while read -r line; do\n\
                  n=$((n+1)); case $line in *die*) exit 7;; esac\n\
                  echo \"{\\\"id\\\":$n,\\\"output\\\":\\\"$(grep ^0:: /proc/self/cgroup)\\\"}\"\ndone\n";
    fs::write(&bin, script).expect("write");
    fs::set_permissions(&bin, fs::Permissions::from_mode(0o755)).expect("permissions");
    let mut group = GroupConfig::built_in(Stage::C2, 1);
    (group.bin, group.wrapper) = (Some(bin), Some(WORKER.into()));
    (group.timeout, group.start_timeout, group.backoff) = (3 * PATIENCE, 3 * PATIENCE, Duration::from_millis(1));
    change(&mut group);
    let config = PoolConfig { groups: vec![group], tmp_roots: vec![dir.join("tmp")] };
    ProcessorPool::with_groups(config, Rules::default(), Some(root)).expect("pool")
}

/// Waits until a group that is being removed is gone.
async fn gone(group: &Path) -> bool {
    let waiting = async {
        while group.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_of_the_pool_is_in_a_group_of_its_own_that_ends_with_it() {
    let Some(given) = Given::make("pool") else { return };
    let dir = tempfile::tempdir().expect("directory");
    for bound in [false, true] {
        let root = given.root();
        let path = root.path().join("c2-0");
        let unit = CpuSet::from_iter(
            sealbus_worker::topology::system::System::default().given().expect("given").units.iter().take(1),
        );
        let pool = pool(dir.path(), root, |group| {
            group.cgroup.pids_max = Some(50);
            group.cpus = if bound { vec![unit] } else { Vec::new() };
        });
        let mut guard = pool.acquire(Stage::C2).await.expect("guard");
        let place = guard.run_value(json!("where")).await.expect("answers");
        assert!(place.as_str().expect("text").ends_with("/sealbus-w1/c2-0"), "{place}");
        let pids = |path: &Path| fs::read_to_string(path.join("cgroup.procs")).expect("pids").lines().count();
        assert_eq!(pids(&path), 2, "the processor, and its child");

        let died = guard.run_value(json!("die")).await.expect_err("died");
        assert!(matches!(died.failure, ProcessFailure::Exited), "{died}");
        assert!(gone(&path).await, "with the child");
        guard.run_value(json!("where")).await.expect("the next one answers");
        assert_eq!(pids(&path), 2);
        drop((guard, pool));
        assert!(gone(&path).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_of_the_pool_that_dies_for_want_of_memory_says_so() {
    let Some(given) = Given::make("pool-memory") else { return };
    let root = given.root();
    if lacks(&root, "memory") {
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    let pool = pool(dir.path(), root, |group| {
        group.cgroup.memory_max_bytes = Some(64 << 20);
        let eats =
            "#!/bin/sh\necho '{\"sealbus_processor\":2,\"stage\":\"c2\",\"pid\":1}'\nread -r line\ntail /dev/zero\n";
        fs::write(dir.path().join("c2.sh"), eats).expect("write");
    });
    let mut guard = pool.acquire(Stage::C2).await.expect("guard");
    let died = guard.run_value(json!("eat")).await.expect_err("died");
    assert!(matches!(died.failure, ProcessFailure::OutOfMemory(_)), "{died}");
    assert!(died.report().message().contains("memory.max is 67108864"), "{died}");
}

#[test]
fn a_process_that_cannot_enter_its_group_says_so_and_is_not_started() {
    let output = Command::new(WORKER)
        .args(["exec-bound", "--cgroup", "/no/such/group", "--", "echo", "started"])
        .output()
        .expect("run");
    assert_eq!(output.status.code(), Some(i32::from(sealbus_worker::bind::exec::EXIT_NOT_BOUND)));
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().last().unwrap_or_default();
    assert!(output.stdout.is_empty() && last.contains("cannot enter its control group"), "{output:?}");
    assert!(last.contains("/no/such/group"), "{last}");
}

/// Not a test: what this binary does when it plays another process.
#[test]
fn another_process() {
    let (Ok(role), Some(group)) = (std::env::var(ROLE), std::env::var_os(GROUP)) else { return };
    let group = PathBuf::from(group);
    cgroup::enter(&group).expect("enters");
    match role.as_str() {
        "enter" => {}
        "eat" => {
            let mut eaten = Vec::new();
            loop {
                eaten.push(vec![1_u8; 1 << 20]);
            }
        }
        "discover" => match CgroupRoot::discover(Path::new(PROC), None, "w1") {
            Ok(root) => println!("\n{}", root.path().display()),
            Err(refused) => println!("\nrefused: {refused}"),
        },
        other => panic!("no role {other}"),
    }
    println!("\nI am in {}", place_of(std::process::id()));
}
