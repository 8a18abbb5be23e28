//! What a confined process can do, with the real kernel: programs that try what they should not, and stages that work.
//!
//! Where the kernel cannot confine, or not all of it, the test says so and skips that part.

#![allow(clippy::disallowed_macros, reason = "for whoever reads the output")]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sealbus_schema::{Commitment, MinerId, Randomness, SealProof, SectorId, SectorNumber, Token, identity::STORE_FILE};
use sealbus_worker::{
    bind,
    processor::{GroupConfig, PoolConfig, ProcessorPool},
    sandbox::{self, INCOMING, Kernel, Mode, Rules, rules},
    stage::{Stage, StageRequest, add_pieces, c1, pc1, pc2, transfer, tree_d},
};
use serde_json::{Value, json};
use tempfile::TempDir;

const WORKER: &str = env!("CARGO_BIN_EXE_sealbus-worker");

/// A machine's files: two sectors in their slots, a store with a sealed file, and a key.
struct Machine {
    dir: TempDir,
    kernel: Kernel,
}

impl Machine {
    /// `None`, with the reason on the screen, if this kernel cannot confine.
    fn new() -> Option<Self> {
        let kernel = sandbox::kernel();
        println!("{kernel}");
        let machine = Self { dir: tempfile::tempdir().expect("directory"), kernel };
        for dir in ["slot0/a", "slot1/b", "store/sealed", "store/.incoming", "tmp", "parents"] {
            fs::create_dir_all(machine.path(dir)).expect("directory");
        }
        for (file, text) in [
            ("key", "secret"),
            ("slot0/a/unsealed", "mine"),
            ("slot1/b/unsealed", "another's"),
            ("slot1/journal", "another's"),
            ("store/sealed/s-t01000-1", "sealed"),
        ] {
            fs::write(machine.path(file), text).expect("writes");
        }
        let identity = r#"{"format":1,"kind":"store","id":"0123456789abcdef","name":"main"}"#;
        fs::write(machine.path("store").join(STORE_FILE), identity).expect("writes");
        kernel.confines().then_some(machine)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().expect("there").join(name)
    }

    fn slots(&self) -> [PathBuf; 2] {
        ["slot0", "slot1"].map(|slot| self.path(slot))
    }

    /// The rules for `stage` of the sector in slot0/a.
    fn rules(&self, stage: Stage) -> Rules {
        let group = GroupConfig::built_in(stage, 1);
        let sandbox = rules::of(Mode::Required, &group, &self.slots(), &self.path("store"), Some(Path::new(WORKER)));
        sandbox.expect("a sandbox").rules(Some(&self.path("slot0/a")), &self.path("tmp"))
    }

    /// Whether a shell script succeeds under these rules. It runs in the machine's directory.
    fn can(&self, rules: &Rules, script: &str) -> bool {
        let arguments = bind::arguments_in(None, None, Some(rules), "/bin/sh".as_ref());
        let mut command = without_capabilities(WORKER);
        command.args(arguments).args(["-c", script]).current_dir(self.path(""));
        let output = command.output().expect("runs");
        println!("{script}: {} {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        output.status.success()
    }
}

/// A command that runs as in a worker's unit: without capabilities, even if this is root, who may look at any process.
fn without_capabilities(program: &str) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all", "--", program]);
    command
}

fn python(code: &str) -> String {
    format!("python3 -c '{code}'")
}

#[test]
fn a_processor_reaches_its_own_sector_and_neither_keys_nor_other_sectors_nor_journals() {
    let Some(machine) = Machine::new() else { return };
    for stage in [Stage::AddPieces, Stage::TreeD, Stage::Pc1, Stage::Pc2, Stage::C1] {
        let rules = machine.rules(stage);
        for allowed in [
            "cat slot0/a/unsealed",
            "echo more > slot0/a/new && mkdir slot0/a/dir && mv slot0/a/new slot0/a/dir/ && rm -r slot0/a/dir",
            "echo scratch > tmp/scratch",
            "echo > /dev/null && head -c 1 /dev/urandom",
            "ls -l /proc/self/fd /sys/devices/system/cpu",
        ] {
            assert!(machine.can(&rules, allowed), "{stage}: {allowed}");
        }
        for refused in [
            "cat key",
            "cat slot1/b/unsealed",
            "cat slot1/journal",
            "echo x > slot1/b/unsealed",
            "rm slot1/b/unsealed",
            "mv slot1/b/unsealed slot0/a/stolen",
            "ln slot1/b/unsealed slot0/a/stolen",
            "ls slot1",
            "echo x > slot0/outside",
            "mv slot0/a slot0/z",
            "cat store/sealed/s-t01000-1",
            "rm store/sealed/s-t01000-1",
            "echo x > store/sealed/s-t01000-1",
            "echo x > store/sealed/s-t01000-2",
            "cat /etc/shadow",
            "ls /root",
            "echo x > /tmp/sealbus-test-outside",
        ] {
            assert!(!machine.can(&rules, refused), "{stage}: {refused}");
        }
    }
    assert_eq!(fs::read_to_string(machine.path("slot1/b/unsealed")).expect("there"), "another's");
}

#[test]
fn the_transfer_adds_files_to_the_store_and_changes_none_that_is_there() {
    let Some(machine) = Machine::new() else { return };
    let rules = machine.rules(Stage::Transfer);
    let add = "cp slot0/a/unsealed store/.incoming/x.tmp && chmod a-w store/.incoming/x.tmp && mkdir -p store/cache/s-t01000-2";
    assert!(machine.can(&rules, &format!("{add} && mv -n store/.incoming/x.tmp store/cache/s-t01000-2/p_aux")));
    assert_eq!(fs::read_to_string(machine.path("store/cache/s-t01000-2/p_aux")).expect("there"), "mine");
    assert!(machine.can(&rules, "cat store/sealed/s-t01000-1 store/cache/s-t01000-2/p_aux"));
    for refused in [
        "rm store/sealed/s-t01000-1",
        "echo x > store/sealed/s-t01000-1",
        "echo x > store/sealed/beside",
        "mv store/sealed/s-t01000-1 store/sealed/elsewhere",
        "mv store/sealed/s-t01000-1 store/.incoming/",
        "ln store/sealed/s-t01000-1 store/.incoming/writable",
        "echo x > store/.incoming/y && mv -f store/.incoming/y store/sealed/s-t01000-1",
        "rm -r store/cache/s-t01000-2",
        "mv store/sealed store/gone",
        "rm store/sealbus-store.json",
        "cat key",
        "echo x > slot0/a/unsealed",
        "rm slot0/a/unsealed",
    ] {
        assert!(!machine.can(&rules, refused), "{refused}");
    }
    assert_eq!(fs::read_to_string(machine.path("store/sealed/s-t01000-1")).expect("there"), "sealed");
}

#[test]
fn c2_only_reads_in_the_slots() {
    let Some(machine) = Machine::new() else { return };
    let rules = machine.rules(Stage::C2);
    assert!(machine.can(&rules, "cat slot0/a/unsealed slot1/b/unsealed"));
    for refused in ["echo x > slot0/a/unsealed", "rm slot1/b/unsealed", "cat key", "cat store/sealed/s-t01000-1"] {
        assert!(!machine.can(&rules, refused), "{refused}");
    }
}

#[test]
fn parameters_may_be_links_to_another_disk_and_links_of_a_sector_lead_nowhere_new() {
    let Some(machine) = Machine::new() else { return };
    for dir in ["params", "disk"] {
        fs::create_dir(machine.path(dir)).expect("directory");
    }
    fs::write(machine.path("disk/v28.params"), "parameters").expect("writes");
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(machine.path(to), machine.path(name)).expect("links");
    };
    link("disk/v28.params", "params/v28.params");
    link("key", "slot0/a/link");
    for stage in [Stage::C2, Stage::POST[1]] {
        let mut group = GroupConfig::built_in(stage, 1);
        let params = machine.path("params").display().to_string();
        group.env.insert("FIL_PROOFS_PARAMETER_CACHE".to_owned(), params);
        let sandbox = rules::of(Mode::Required, &group, &machine.slots(), &machine.path("store"), None);
        let rules = sandbox.expect("a sandbox").rules(None, &machine.path("tmp"));
        assert!(machine.can(&rules, "cat params/v28.params"), "{stage}");
        for refused in ["cat slot0/a/link", "echo x > params/new", "ls disk", "cat key"] {
            assert!(!machine.can(&rules, refused), "{stage}: {refused}");
        }
    }
}

#[test]
fn what_the_kernel_restricts_besides_files_is_restricted() {
    let Some(machine) = Machine::new() else { return };
    let open = machine.kernel.gaps();
    let rules = machine.rules(Stage::Pc2);
    let mut other = without_capabilities("sh");
    // The shell itself waits: while a process begins another program, nobody can read its environment.
    other.args(["-c", "echo runs; read -r line"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut other = other.spawn().expect("starts");
    BufReader::new(other.stdout.take().expect("stdout")).read_line(&mut String::new()).expect("runs");
    let environment = format!("tr '\\0' '\\n' < /proc/{}/environ | grep -q ^PATH=", other.id());
    let readable = without_capabilities("sh").args(["-c", &environment]).status().expect("runs").success();
    let read = machine.can(&rules, &environment);
    other.kill().and_then(|()| other.wait()).expect("ends");
    assert!(readable && !read, "another process's environment");
    let truncate = python("import os; os.truncate(\"store/sealed/s-t01000-1\", 0)");
    assert!(open.contains(&"truncating files") || !machine.can(&rules, &truncate));
    let signal = format!("kill -0 {}", std::process::id());
    assert!(open.contains(&"signals") || !machine.can(&rules, &signal));
    let server = TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = server.local_addr().expect("address").port();
    let connect = python(&format!("import socket; socket.create_connection((\"127.0.0.1\", {port}), 5)"));
    assert!(open.contains(&"TCP") || !machine.can(&rules, &connect));
    assert!(machine.can(&Rules { network: true, ..rules }, &connect));
}

/// A processor that carries out the shell script in each task, and answers with its output.
const SHELL: &str = r#"#!/bin/sh
echo '{"sealbus_processor":2,"stage":"STAGE","pid":1}'
n=0
while read -r line; do
    n=$((n+1))
    script=$(echo "$line" | sed 's/.*"script":"\([^"]*\)".*/\1/')
    echo "{\"id\":$n,\"output\":\"$(sh -c "$script" 2>/dev/null | tr -d '\n') by $$\"}"
done
"#;

fn shell(machine: &Machine, stage: Stage, concurrent: usize) -> ProcessorPool {
    let bin = machine.path(&format!("{stage}.sh"));
    fs::write(&bin, SHELL.replace("STAGE", stage.name())).expect("writes");
    fs::set_permissions(&bin, fs::Permissions::from_mode(0o755)).expect("permissions");
    let mut group = GroupConfig::built_in(stage, 1);
    (group.bin, group.wrapper, group.concurrent) = (Some(bin), Some(WORKER.into()), concurrent);
    let store = machine.path("store");
    group.sandbox = rules::of(Mode::Required, &group, &machine.slots(), &store, Some(Path::new(WORKER)));
    ProcessorPool::new(PoolConfig { groups: vec![group], tmp_roots: vec![machine.path("tmp")] }).expect("pool")
}

/// Has `script` carried out for a sector. Returns what it printed, and the processor's process id.
async fn ask(pool: &ProcessorPool, stage: Stage, sector_dir: &Path, script: &str) -> (String, String) {
    let mut guard = pool.acquire(stage).await.expect("a processor");
    guard.works_in(sector_dir);
    let answer: Value = guard.run_value(json!({ "script": script })).await.expect("an answer");
    let (printed, pid) = answer.as_str().and_then(|text| text.split_once(" by ")).expect("a pid");
    (printed.to_owned(), pid.to_owned())
}

#[tokio::test]
async fn the_process_of_a_processor_is_replaced_for_another_sector_and_kept_for_the_same() {
    let Some(machine) = Machine::new() else { return };
    let (pool, stage) = (shell(&machine, Stage::Pc2, 1), Stage::Pc2);
    let (a, b) = (machine.path("slot0/a"), machine.path("slot1/b"));
    let both = format!("cat {} {}", a.join("unsealed").display(), b.join("unsealed").display());
    let (of_a, first) = ask(&pool, stage, &a, &both).await;
    let (_, again) = ask(&pool, stage, &a, "true").await;
    let (of_b, second) = ask(&pool, stage, &b, &both).await;
    assert_eq!((of_a.as_str(), of_b.as_str()), ("mine", "another's"));
    assert!(first == again && again != second, "{first}, {again}, {second}");
    // A directory of the same name that is another one, such as on a disk that was mounted since.
    fs::rename(&b, machine.path("slot1/old")).expect("renames");
    fs::create_dir(&b).expect("creates");
    fs::write(b.join("unsealed"), "new").expect("writes");
    let (of_new, third) = ask(&pool, stage, &b, &both).await;
    assert!(of_new == "new" && third != second, "{of_new} by {third}");
}

#[tokio::test]
async fn a_process_that_sectors_share_is_kept_and_reaches_all_slots_but_no_key() {
    let Some(machine) = Machine::new() else { return };
    let (pool, stage) = (shell(&machine, Stage::C2, 1), Stage::C2);
    let (a, b, key) = (machine.path("slot0/a"), machine.path("slot1/b"), machine.path("key"));
    let all = format!("cat {} {} {}", a.join("unsealed").display(), b.join("unsealed").display(), key.display());
    let (of_a, first) = ask(&pool, stage, &a, &all).await;
    let (of_b, second) = ask(&pool, stage, &b, &all).await;
    assert_eq!((of_a.as_str(), of_b.as_str(), &first), ("mineanother's", "mineanother's", &second));
}

/// The built-in stages, confined, and a sector that they work on.
struct Sealing {
    machine: Machine,
    pool: ProcessorPool,
}

impl Sealing {
    fn new(machine: Machine) -> Self {
        for slot in machine.slots() {
            fs::write(slot.join(sealbus_schema::identity::SLOT_FILE), "{}").expect("writes");
        }
        let groups = Stage::SEALING.map(|stage| {
            let mut group = GroupConfig::built_in(stage, 1);
            group.wrapper = Some(WORKER.into());
            group.env.insert(rules::PARENTS_VARIABLE.into(), machine.path("parents").display().to_string());
            let store = machine.path("store");
            group.sandbox = rules::of(Mode::Required, &group, &machine.slots(), &store, Some(Path::new(WORKER)));
            group
        });
        let config = PoolConfig { groups: groups.into(), tmp_roots: vec![machine.path("tmp")] };
        Self { pool: ProcessorPool::new(config).expect("pool"), machine }
    }

    async fn run<R: StageRequest>(&self, request: R) -> R::Response {
        let mut guard = self.pool.acquire(R::STAGE).await.expect("a processor");
        guard.works_in(&self.machine.path("slot1/b"));
        guard.run(&request).await.unwrap_or_else(|error| panic!("{}: {error}", R::STAGE))
    }
}

#[tokio::test]
async fn the_built_in_stages_seal_while_they_are_confined() {
    let Some(machine) = Machine::new() else { return };
    let (work_dir, store_dir) = (machine.path("slot1/b"), machine.path("store"));
    let static_dirs: Vec<PathBuf> = machine.slots().map(|slot| slot.join("static")).into();
    let sealing = Sealing::new(machine);
    let proof = SealProof::StackedDrg2KiBV1_1;
    let sector = SectorId { miner: MinerId(1000), number: SectorNumber(7) };
    let (ticket, seed) = (Randomness([3; 32]), Randomness([5; 32]));
    let added = sealing.run(add_pieces::Request::committed_capacity(work_dir.clone(), proof)).await;
    let pieces = added.pieces;
    sealing.run(tree_d::Request { work_dir: work_dir.clone(), proof, pieces: pieces.clone(), static_dirs }).await;
    let kept = sealing.machine.path("slot0/static/tree-d-2KiB.dat");
    assert!(kept.exists(), "tree D of zeros is kept for all sectors of the disk");
    sealing.run(pc1::Request { work_dir: work_dir.clone(), proof, sector, ticket, pieces: pieces.clone() }).await;
    let pc2 = pc2::Request { work_dir: work_dir.clone(), proof, sector, ticket, pieces: pieces.clone() };
    let comm_r: Commitment = sealing.run(pc2).await.comm_r;
    let transfer = transfer::Request {
        work_dir: work_dir.clone(),
        store_dir: store_dir.clone(),
        store_name: "main".to_owned(),
        store_id: None,
        sector,
        token: Token(9),
        comm_r,
    };
    assert_eq!(sealing.run(transfer).await.files.len(), 4);
    assert_eq!(fs::read_dir(store_dir.join(INCOMING)).expect("there").count(), 0, "nothing is left in it");
    let opened = sealing.run(c1::Request { work_dir, proof, sector, ticket, seed, comm_r, pieces }).await;
    assert!(opened.bytes > 1000);
}
